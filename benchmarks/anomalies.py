"""How well `task=anomalies` finds odd galaxies among others without any label, by several nets, and how long it takes.

    .venv/bin/python benchmarks/anomalies.py                                        # the simulated sky alone
    .venv/bin/python benchmarks/anomalies.py --galaxyzoo FOLDER --pretrained tf_efficientnet_lite0
    .venv/bin/python benchmarks/anomalies.py --pretrained tf_efficientnet_lite0=FILE    # weights of timm's in a file
    .venv/bin/python benchmarks/anomalies.py --time 6000                            # seconds of one command alone

Simulated: 6,000 galaxies of which 1 % are mergers, rings, lensed arcs or artifacts. Kaggle's: odd is the fraction
Class6.1 above 0.8, and above 0.5. Nets are `sky`, which knows no real label, an autoencoder that each command trains on
its own images, and those of `--pretrained` with ImageNet's weights. Numbers are read from each run's metrics.json and
printed as one table in Markdown: the score and each detector by net, then rows that need no net, once.

Commands run one after another in an empty folder, with a cache of their own which later commands find filled; their
seconds stand below the table. `--time N` draws N galaxies, and then runs one command on their folder, without a table,
in a home that is empty: neither decoded images nor features are there. The report is part of its time, drawing is not.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from galaxyml.sky import write_anomalies

COUNT, SHARE, SEED = 6000, 0.01, 7
LEVELS = (0.8, 0.5)
# In metrics.json: a split, and whose number it is, nothing for the score that ranks.
KEY = re.compile(r"(?P<split>\w+)/(?:(?P<row>\w+)_)?roc_auc")
TRIVIAL = ("random", "brightness", "size", "bytes", "asymmetry")  # words in names of rows that need no net


@dataclass(frozen=True)
class Measured:
    """What one command has found.

    Attributes:
        prevalence: Share of the objects that are odd.
        rows: ROC AUC and PR AUC by row, `score` first.
        line: The command's words.
        seconds: That it took.
    """

    prevalence: float
    rows: dict[str, tuple[float, float]]
    line: str
    seconds: float


def measure(work: Path, words: Sequence[str], name: str) -> Measured:
    """Runs a command in a folder and reads the numbers of its run."""
    words = ["task=anomalies", *words, f"name={name}"]
    seconds = timed(work, words, {"GALAXYML_CACHE": str(work / "cache")})
    prevalence, rows = read(json.loads(written(work, name, "metrics.json").read_text(encoding="utf-8")))
    return Measured(prevalence, rows, " ".join(words), seconds)


def timed(work: Path, words: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds of a command, which is run in a folder; what it has said is shown if it fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "galaxyml", *words]
    ended = subprocess.run(
        command, cwd=work, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if ended.returncode:
        raise SystemExit(f"galaxyml {' '.join(words)}\n{ended.stdout}{ended.stderr}")
    print(f"{seconds:.0f} s: galaxyml {' '.join(words)}", file=sys.stderr, flush=True)
    return seconds


def written(work: Path, name: str, file: str) -> Path:
    """A file of a run: of the sweep where it is there, otherwise of the fold."""
    found = sorted((work / "multirun" / "anomalies" / name).rglob(file), key=lambda path: (len(path.parts), path))
    if not found:
        raise SystemExit(f"{name}: the command ended well, but has written no {file}.")
    return found[0]


def read(metrics: Mapping[str, float]) -> tuple[float, dict[str, tuple[float, float]]]:
    """The prevalence, and ROC AUC and PR AUC by row, of a run's numbers."""
    keys = [match for match in map(KEY.fullmatch, metrics) if match]
    splits = [match["split"] for match in keys if match["row"] is None]
    if not splits:
        raise SystemExit(f"There is no roc_auc among {', '.join(metrics) or 'no numbers at all'}.")
    split = "test" if "test" in splits else splits[0]
    rows = {match["row"]: match.group() for match in keys if match["split"] == split}
    rows = {None: rows.pop(None), **rows}
    return metrics[f"{split}/prevalence"], {
        row or "score": (metrics[key], metrics.get(f"{key.removesuffix('roc_auc')}pr_auc", float("nan")))
        for row, key in rows.items()
    }


def table(measured: Mapping[tuple[str, str], Measured]) -> str:
    """All numbers in Markdown, by data set and net: rows of each net, then those that need none."""
    sets, nets = (list(dict.fromkeys(names)) for names in zip(*measured, strict=True))
    cells: dict[str, dict[str, tuple[float, float]]] = {}
    of_none: dict[str, dict[str, tuple[float, float]]] = {}
    for net in nets:
        for data in sets:
            for row, pair in measured[data, net].rows.items():
                if is_trivial(row):
                    of_none.setdefault(row.replace("_", " "), {}).setdefault(data, pair)
                else:
                    cells.setdefault(f"{net}, {row.replace('_', ' ')}", {})[data] = pair
    titles = [f"{data}: ROC AUC | PR AUC (prevalence {measured[data, nets[0]].prevalence:.3f})" for data in sets]
    lines = [f"| | {' | '.join(titles)} |", "| --- |" + " --- |" * (2 * len(sets))]
    missing = (float("nan"), float("nan"))
    for row, by_set in (cells | of_none).items():
        pairs = [by_set.get(data, missing) for data in sets]
        shown = ["" if pd.isna(value) else f"{value:.3f}" for pair in pairs for value in pair]
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines)


def is_trivial(row: str) -> bool:
    """Whether a row needs no net, by a word of its name."""
    return any(word in TRIVIAL for word in row.split("_"))


def compare(data: Mapping[str, Sequence[str]], nets: Mapping[str, Sequence[str]], work: Path) -> None:
    """Prints the table and the seconds of each command.

    Args:
        data: What is added to the command for each data set, by its title.
        nets: The same for each net.
        work: Folder that runs are written to.
    """
    measured = {
        (title, net): measure(work, [*where, *how], re.sub(r"\W+", "_", f"{number}_{net}"))
        for number, (title, where) in enumerate(data.items())
        for net, how in nets.items()
    }
    print(table(measured))
    print("\n| command | seconds |\n| --- | --- |")
    for one in measured.values():
        print(f"| `{one.line}` | {one.seconds:.0f} |")


def time_one(count: int, work: Path) -> None:
    """Prints the seconds of one command on a folder of simulated images, in a home that is empty."""
    write_anomalies(work / "sky", count, SEED, SHARE)
    home = work / "home"
    home.mkdir()
    for name in ("GALAXYML_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        os.environ.pop(name, None)
    seconds = timed(work, ["task=anomalies", f"data_dir={work / 'sky' / 'images'}", "name=timed"], {"HOME": str(home)})
    ranked = len(pd.read_csv(written(work, "timed", "anomalies.csv")))
    report = written(work, "timed", "report.html")
    if ranked != count:
        raise SystemExit(f"anomalies.csv has {ranked:,} of {count:,} images.")
    print(
        f"{count:,} images: {seconds:.1f} s from the command to the sheet, {1000 * seconds / count:.1f} ms an image, "
        f"on {os.cpu_count()} cores; report.html has {report.stat().st_size / 1e6:.1f} MB"
    )


def main() -> None:
    """Prints the table, or the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxyzoo", type=Path, help="folder with images and training_solutions_rev1.csv")
    parser.add_argument(
        "--pretrained", nargs="+", default=[], metavar="NET[=FILE]", help="nets of timm, or hf-hub:OWNER/NAME"
    )
    parser.add_argument("--epochs", type=int, default=30, help="of the autoencoder")
    parser.add_argument("--time", type=int, metavar="N", help="only the seconds of one command on N images")
    given = parser.parse_args()
    nets: dict[str, list[str]] = {
        "sky": [],
        "autoencoder": ["model=tiny", "tune=all", "start=null", f"epochs={given.epochs}"],
    }
    for name, _, file in (word.partition("=") for word in given.pretrained):
        weights = ["model.pretrained=true"] if ":" not in name else []  # what is of the hub comes with its own
        nets[name] = [f"model={name}", *([f"model.weights={Path(file).resolve()}", "start=null"] if file else weights)]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if given.time is not None:
            time_one(given.time, work)
            return
        data: dict[str, list[str]] = {}
        if given.galaxyzoo is not None:
            place = [f"data_dir={given.galaxyzoo.resolve()}", "labels=training_solutions_rev1.csv"]
            truth = {level: ["truth.column=Class6.1", f"truth.odd={level}"] for level in LEVELS}
            data = {f"Class6.1 > {level}": [*place, *words] for level, words in truth.items()}
        write_anomalies(work / "sky", COUNT, SEED, SHARE)
        compare({**data, f"simulated, {100 * SHARE:g} %": [f"data_dir={work / 'sky'}"]}, nets, work)


if __name__ == "__main__":
    main()
