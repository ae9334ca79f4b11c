"""How long a search among a million objects takes, and how much memory.

    .venv/bin/python benchmarks/alike.py

(a) exact, of features in memory; (b) exact, of features on disk, in blocks; (c) by an index, where FAISS is installed.
Memory is the largest of a process of its own, besides what it had when it began to search.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from galaxyml.evaluation.nearest import Nearest, in_blocks
from galaxyml.inference.nearest_index import NearestIndex

ROWS, WIDTH, COUNT, ROUNDS = 1_000_000, 96, 10, 5


def write(path: Path) -> None:
    """Writes random rows around 2,000 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2000, WIDTH)).astype(np.float32)
    features = np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, WIDTH))
    for start in range(0, ROWS, 100_000):
        noise = rng.standard_normal((100_000, WIDTH), np.float32)
        features[start : start + 100_000] = centres[rng.integers(2000, size=100_000)] + 0.5 * noise
    features.flush()


def blocks(path: Path) -> Iterator[np.ndarray]:
    """Features on disk, read some rows at a time."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        rows = 40_000
        while len(values := np.fromfile(file, np.float32, rows * WIDTH)):
            yield values.reshape(-1, WIDTH)


def memory(peak: bool) -> float:
    """Memory of this process in MB, the largest so far or as it is."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


def exact(path: Path, on_disk: bool) -> tuple[float, float, float]:
    """Seconds until a set can be asked, seconds a query, and MB."""
    features = None if on_disk else np.load(path)
    before = memory(peak=False)
    began = time.perf_counter()
    nearest = Nearest(partial(blocks, path) if features is None else features)
    ready = time.perf_counter() - began
    queries = next(blocks(path))[:ROUNDS]
    times = []
    for query in queries:
        began = time.perf_counter()
        nearest.query(query[None], COUNT)
        times.append(time.perf_counter() - began)
    return ready, statistics.median(times), memory(peak=True) - before


def recall(path: Path, index: NearestIndex) -> float:
    """Share of the nearest that an index finds."""
    features = np.load(path, mmap_mode="r")
    queries = features[:: ROWS // 100] + np.float32(0.05)
    rows, _ = Nearest(partial(in_blocks, features)).query(queries, COUNT)
    found = index.query(queries, COUNT)
    return float(np.mean([len({*ours} & {*theirs}) / COUNT for ours, theirs in zip(found, rows, strict=True)]))


def main() -> None:
    """Measures each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "features.npy"
        write(path)
        print(f"{ROWS:,} rows of {WIDTH}, the {COUNT} nearest of one, medians of {ROUNDS}")
        for what, on_disk in (("in memory", False), ("on disk", True)):
            with ProcessPoolExecutor(1, get_context("spawn")) as other:
                ready, seconds, megabytes = other.submit(exact, path, on_disk).result()
            print(f"  exact, {what:<10}{ready:6.2f} s once, {seconds:.2f} s a query, {megabytes:.0f} MB")
        if find_spec("faiss") is None:
            print("  index: FAISS is not installed (galaxyml[index])")
            return
        began = time.perf_counter()
        index = NearestIndex.open(Path(name) / "index", "now", partial(blocks, path))
        made = time.perf_counter() - began
        began = time.perf_counter()
        index.query(next(blocks(path))[:1], COUNT)
        seconds = time.perf_counter() - began
        print(f"  index           {made:6.2f} s once, {seconds:.2f} s a query, recall {recall(path, index):.3f}")


if __name__ == "__main__":
    main()
