"""How fast light curves are read and padded: galaxyml against pandas, and what all of PLAsTiCC would take.

Both ways are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/light_curves.py

(a) reading a CSV file: `pandas.read_csv` (its C parser, all in memory) against the store, which also checks, orders and
writes the rows; (b) padded batches: a loop over pandas' groupby against one gather.
"""

import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pyarrow import csv

from galaxyml.data.light_curves.columns import LightCurves, open_curves
from galaxyml.data.light_curves.store import build

OBJECTS, EACH, BATCH, ROUNDS = 30_000, 130, 256, 3
ALL = 453_653_104  # observations of the whole challenge


def write(path: Path, mixed: Path) -> int:
    """Writes observations as the official files have them, in order and in random order; gives their number."""
    rng = np.random.default_rng(0)
    count = OBJECTS * EACH
    table = {
        "object_id": np.repeat(np.sort(rng.choice(10**8, OBJECTS, replace=False)), EACH),
        "mjd": (59580 + np.cumsum(rng.integers(10, 160_000, (OBJECTS, EACH)), 1).ravel() * 1e-4).round(4),
        "passband": rng.integers(0, 6, count),
        "flux": rng.normal(0, 50, count).round(6),
        "flux_err": (rng.gamma(2, 10, count) + 0.001).round(6),
        "detected": rng.integers(0, 2, count),
    }
    csv.write_csv(pa.table(table), path)
    csv.write_csv(pa.table(table).take(rng.permutation(count)), mixed)
    return count


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


def alternate(ways: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Median seconds on the clock and of the processor of each way, run in turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first warms up
                times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {
        name: (statistics.median(clock for clock, _ in found), statistics.median(processor for _, processor in found))
        for name, found in times.items()
    }


def report(title: str, found: dict[str, tuple[float, float]], rows: int) -> None:
    """Prints medians, and the first way's as a multiple of the others'."""
    print(f"\n{title}")
    first = next(iter(found.values()))
    for name, (clock, processor) in found.items():
        print(
            f"  {name:<31}{clock:8.3f} s, processor {processor:.3f} s,{rows / clock / 1e6:6.2f} million rows a second, "
            f"{first[0] / clock:.2f} times as fast as the first (processor {first[1] / processor:.2f})"
        )


def groupby(table: pd.DataFrame, wanted: set[int]) -> dict[str, torch.Tensor]:
    """A padded batch the plain way: one group an object, copied into place."""
    groups = list(table[table["object_id"].isin(wanted)].groupby("object_id"))
    longest = max(len(group) for _, group in groups)
    batch = {name: torch.zeros(len(groups), longest) for name in ("mjd", "passband", "flux", "flux_err", "detected")}
    batch["mask"] = torch.zeros(len(groups), longest, dtype=torch.bool)
    for row, (_, group) in enumerate(groups):
        batch["mask"][row, : len(group)] = True
        for name in ("mjd", "passband", "flux", "flux_err", "detected"):
            batch[name][row, : len(group)] = torch.from_numpy(group[name].to_numpy().astype(np.float32))
    return batch


def pad(table: pd.DataFrame, curves: LightCurves) -> dict[str, Callable[[], object]]:
    """Every object once, in batches."""
    table = table[table["object_id"].isin(curves.ids)]

    def plain() -> None:
        for start in range(0, len(curves), BATCH):
            groupby(table, set(curves.ids[start : start + BATCH]))

    def all_at_once() -> None:
        groups = [group for _, group in table.groupby("object_id")]
        for group in groups:
            for name in table.columns:
                torch.from_numpy(group[name].to_numpy().astype(np.float32))

    def ours() -> None:
        for start in range(0, len(curves), BATCH):
            curves.padded(np.arange(start, min(start + BATCH, len(curves))))

    return {"pandas, groupby once, unpadded": all_at_once, "pandas, groupby a batch": plain, "galaxyml": ours}


def main() -> None:
    """Measures reading in order and out of order, and padding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, mixed, work = folder / "curves.csv", folder / "mixed.csv", folder / "work"
        with ProcessPoolExecutor(1, get_context("spawn")) as other:  # its memory is not ours
            rows = other.submit(write, path, mixed).result()
        size = path.stat().st_size
        print(f"{os.cpu_count()} processors, {rows:,} observations, {size / 1e6:.0f} MB, medians of {ROUNDS} rounds")

        def ours(path: Path = path) -> None:
            shutil.rmtree(work, ignore_errors=True)
            build([path], work, None)

        before = peak()
        ours()
        in_order = peak()
        start = time.perf_counter()
        ours(mixed)
        sorting, sorted_too = time.perf_counter() - start, peak()
        found = alternate({"pandas.read_csv": lambda: pd.read_csv(path, engine="c"), "galaxyml": ours})
        report("Reading", found, rows)
        clock = found["galaxyml"][0]
        disk = sum(file.stat().st_size for file in (work / "rows").iterdir())
        print(
            f"  peak memory: {before:.0f} MB before, {in_order:.0f} MB after reading {size / 1e6:.0f} MB, "
            f"{sorted_too:.0f} MB after rows in random order, which took {sorting / clock:.1f} times as long\n"
            f"  all {ALL:,} rows: {ALL / rows * clock / 60:.1f} minutes and {ALL / rows * disk / 1e9:.1f} GB of disk, "
            f"{ALL / rows * disk / 1e9 - 8 * ALL / 1e9:.1f} GB afterwards"
        )
        table = pd.read_csv(path)
        curves = open_curves([path], folder / "cache")
        part = curves.take(np.arange(10 * BATCH))
        report("Padding", alternate(pad(table, part)), len(part.mjd))


if __name__ == "__main__":
    main()
