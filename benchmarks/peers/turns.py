"""Ways of doing the same work, run in turns in one process, and what a file of results says of the machine.

Nothing of galaxyml or Lightning is imported here: scripts of the peers that are measured as a whole use it, too.
"""

import argparse
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

BATCH = 64
# A Trainer that does no more than train: what is compared is an epoch.
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}
PACKAGES = ["torch", "torchvision", "lightning", "timm", "pandas", "scikit-learn", "galaxyml"]
PACKAGES += ["zoobot", "galaxy-datasets", "astro-parsnip", "lcdata"]
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")  # that change what a net costs

# Turns that are not timed. Workers that are forked in the first one share memory with this process, which copies what
# it writes to in the next.
WARM = 2

Way = Callable[[], float | None]


@dataclass(frozen=True)
class Comparison:
    """Ways of doing the same work.

    Attributes:
        work: What they do.
        ways: By name; those of galaxyml begin with its name. Each gives what it has measured, or None for its time.
        goals: Smallest ratio that is aimed at, by the names of a way of galaxyml and of another.
        unit: Of what is measured, `s` or `MB`.
        note: What the numbers do not say.
        enough: Turns that are enough, where each takes long or they hardly differ.
    """

    work: str
    ways: Mapping[str, Way]
    goals: Mapping[tuple[str, str], float] = field(default_factory=dict)
    unit: str = "s"
    note: str = ""
    enough: int | None = None

    def measure(self, rounds: int) -> list[dict[str, Any]]:
        """Every way of galaxyml beside every other, after as many turns of all as `rounds`, and some to warm up.

        Args:
            rounds: Turns that are timed, unless fewer are enough.

        Returns:
            Of each pair the median, smallest and largest `ratio` of what the other took to what galaxyml took in the
            same turn: more than 1 where galaxyml takes less.
        """
        found: dict[str, list[float]] = {name: [] for name in self.ways}
        for turn in range(min(rounds, self.enough or rounds) + WARM):
            for name, way in self.ways.items():
                start = time.perf_counter()
                value = way()
                if turn >= WARM:
                    found[name].append(time.perf_counter() - start if value is None else value)
        others = [name for name in found if not name.startswith("galaxyml")]
        return [self._pair(own, other, found) for own in found if own not in others for other in others]

    def _pair(self, own: str, other: str, found: dict[str, list[float]]) -> dict[str, Any]:
        ratios = [theirs / ours for ours, theirs in zip(found[own], found[other], strict=True)]
        return {
            "rounds": len(ratios),
            "work": self.work,
            "way": own,
            "against": other,
            "ratio": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
            "goal": self.goals.get((own, other)),
            "unit": self.unit,
            "took": statistics.median(found[own]),
            "other_took": statistics.median(found[other]),
            "note": self.note,
        }


def told(row: Mapping[str, Any]) -> str:
    """A ratio with its spread, and its goal if there is one."""
    goal = "" if row["goal"] is None else f", goal {row['goal']:g}"
    return f"{number(row['ratio'])} ({number(row['low'])} to {number(row['high'])}{goal})"


def number(value: float) -> str:
    """Three digits at most behind the point, as few as are worth it."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def setting() -> dict[str, Any]:
    """Machine, versions and date of a measurement, without a name of the machine."""
    path = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", path.read_text(encoding="utf-8"))) if path.is_file() else set()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(pages / 1e9),
            "features": [feature for feature in FEATURES if feature in flags],
        },
        "versions": versions(PACKAGES),
        "date": date.today().isoformat(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def script_arguments(description: str | None) -> tuple[argparse.Namespace, list[Path]]:
    """Arguments of a peer's script that is measured as a whole, and the images of its folder."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="a folder with JPEGs")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=112, help="side in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--first", action="store_true", help="end after the first training step")
    given = parser.parse_args()
    return given, sorted(given.folder.glob("*.jpg"))[: given.images]
