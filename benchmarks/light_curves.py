"""How fast light curves are read and padded: galaxyml against pandas, and what all of PLAsTiCC would take.

Both ways are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/light_curves.py

Other work on the machine lengthens what the clock says; the processor's time, and the ratio of each pair of turns, tell
more there.

(a) reading a CSV file: `pandas.read_csv` (its C parser, all in memory) against the store, which also checks, orders and
writes the rows, with plain lines parsed by pandas and by the compiled loop of large files, whose loading is told apart;
(b) padded batches: a loop over pandas' groupby against one gather.
"""

import importlib
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

from galaxyml.data.light_curves import store
from galaxyml.data.light_curves.columns import LightCurves, open_curves

OBJECTS, EACH, BATCH, ROUNDS = 30_000, 130, 256, 5
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


Times = dict[str, list[tuple[float, float]]]


def alternate(ways: dict[str, Callable[[], object]]) -> Times:
    """Seconds on the clock and of the processor of each way, all of them run in every turn."""
    times: Times = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first warms up
                times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return times


def report(title: str, found: Times, rows: int) -> None:
    """Prints medians of seconds, and of how many times as fast as the first each way was in the same turn."""
    print(f"\n{title}")
    first = next(iter(found.values()))
    for name, times in found.items():
        clock, processor = (statistics.median(column) for column in zip(*times, strict=True))
        faster, cheaper = (
            statistics.median(plain[kind] / own[kind] for plain, own in zip(first, times, strict=True))
            for kind in (0, 1)
        )
        print(
            f"  {name:<31}{clock:8.3f} s, processor {processor:.3f} s,{rows / clock / 1e6:6.2f} million rows a second, "
            f"{faster:.2f} times as fast as the first (processor {cheaper:.2f})"
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

        def ours(path: Path = path, compiled: bool = True) -> None:
            shutil.rmtree(work, ignore_errors=True)
            store.COMPILED = 0 if compiled else 1 << 60
            store.build([path], work, None)

        before = peak()
        ours(compiled=False)
        by_pandas = peak()
        start = time.process_time()
        importlib.import_module("galaxyml.data.light_curves.plain_lines")
        loading = time.process_time() - start
        ours()
        in_order = peak()
        start = time.perf_counter()
        ours(mixed)
        sorting, sorted_too = time.perf_counter() - start, peak()
        found = alternate(
            {
                "pandas.read_csv": lambda: pd.read_csv(path, engine="c"),
                "galaxyml, lines by pandas": lambda: ours(compiled=False),
                "galaxyml": ours,
            }
        )
        report("Reading", found, rows)
        clock = statistics.median(clock for clock, _ in found["galaxyml"])
        disk = sum(file.stat().st_size for file in (work / "rows").iterdir())
        print(
            f"  loading the compiled loop took {loading:.1f} s of the processor\n"
            f"  peak memory: {before:.0f} MB before, {by_pandas:.0f} MB after reading {size / 1e6:.0f} MB by pandas, "
            f"{in_order:.0f} MB by the compiled loop,\n"
            f"  {sorted_too:.0f} MB after rows in random order, which took {sorting / clock:.1f} times as long\n"
            f"  all {ALL:,} rows: {ALL / rows * clock / 60:.1f} minutes and {ALL / rows * disk / 1e9:.1f} GB of disk, "
            f"{ALL / rows * disk / 1e9 - 8 * ALL / 1e9:.1f} GB afterwards"
        )
        table = pd.read_csv(path)
        curves = open_curves([path], folder / "cache")
        part = curves.take(np.arange(10 * BATCH))
        report("Padding", alternate(pad(table, part)), len(part.mjd))


if __name__ == "__main__":
    main()
