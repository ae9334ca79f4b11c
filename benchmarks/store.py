"""The store of images by the number of rows: making and opening it, whose memory it takes, reading it warm and cold.

    .venv/bin/python benchmarks/store.py                      # 100,000 rows, some minutes
    .venv/bin/python benchmarks/store.py 100000 1000000       # needs 14 GB of disk in --folder, and half an hour

Rows are JPEGs of 64 px inside a parquet file: the simulated sky's, a few thousand, tiled; each row has its own
quantisation, so that no two have equal pixels. The store is made by a process that is killed after a third of it, and
then by two at once. Two folds fit the net `tiny` at once, then two DDP ranks one fold, on CPUs, for a fraction of an
epoch. Memory is the largest that is a process's own (Private_Dirty of /proc/PID/smaps_rollup: clean pages are the page
cache's, which one process may be the only one to have mapped), beside its share of all (Pss).

Reading is that of batches in random order from the whole store, alternately by galaxyml and by an ordinary memory map.
Cold is a store that has left the page cache: of one much larger than memory nearly every row is. Linux only.
"""

import argparse
import io
import json
import mmap
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from galaxyml import Images, SupervisedModule
from galaxyml.data.images.decode import address
from galaxyml.data.images.store import Framing, ImageStore, open_store
from galaxyml.sky import population, render

SIDE, DISTINCT, BATCH, BATCHES, TURNS = 64, 3000, 256, 50, 3
FILE = "train.parquet"
VARIED = range(1, 7)  # coefficients, in the order of a JPEG, whose quantisation is one row's own


class Sky:
    """Contents of JPEGs, all different."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.kinds: list[str] = []
        for start in range(0, DISTINCT, 500):
            drawn = population(500, seed=start)
            self.kinds += drawn["kind"].tolist()
            for pixels in render(drawn, SIDE).numpy():
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
                self.contents.append(buffer.getvalue())
        self.tables = [content.index(b"\xff\xdb") + 5 for content in self.contents]

    def content(self, row: int) -> bytes:
        """The file of one row: the digits of row // DISTINCT in base 3 are added to the quantisation."""
        number, distinct = divmod(row, DISTINCT)
        content = bytearray(self.contents[distinct])
        for coefficient in VARIED:
            number, digit = divmod(number, 3)
            content[self.tables[distinct] + coefficient] += digit
        return bytes(content)

    def write(self, path: Path, rows: int) -> None:
        """A parquet file with images inside."""
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        schema = pa.schema({"id": pa.string(), "image": kind, "kind": pa.string()})
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
            for first in range(0, rows, 10_000):
                numbers = range(first, min(first + 10_000, rows))
                contents = pa.array([self.content(number) for number in numbers], pa.binary())
                images = pa.StructArray.from_arrays([contents, pa.nulls(len(numbers), pa.string())], fields=list(kind))
                ids = [f"g{number}" for number in numbers]
                kinds = [self.kinds[number % DISTINCT] for number in numbers]
                writer.write_table(pa.table({"id": ids, "image": images, "kind": kinds}))


def opened(folder: Path) -> ImageStore:
    """The store, which is made first if need be."""
    rows = pq.ParquetFile(folder / "sky" / FILE).metadata.num_rows
    names = [address(FILE, row) for row in range(rows)]
    return open_store(folder / "sky", names, Framing(SIDE), folder / "cache")


# --- what processes do: each prints a line of JSON


def open_only(folder: Path) -> dict[str, float]:
    """Seconds to open a store, or to make it."""
    began, cpu = time.perf_counter(), time.process_time()
    store = opened(folder)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert len(store) == len(np.unique(store.digests)), "rows with equal pixels"
    return {"rows": len(store), "seconds": seconds, "cpu": cpu}


def fit(folder: Path, fold: int, ranks: int) -> dict[str, float]:
    """Rows a second of a fit, and this process's memory in MB."""
    most: dict[str, float] = {}
    threading.Thread(target=_watch, args=(most,), daemon=True).start()
    torch.set_num_threads(1)
    began = time.perf_counter()
    data = Images(
        folder / "sky",
        columns=["kind"],
        size=SIDE,
        crop=1,
        margin=1,
        fold=fold,
        batch_size=BATCH,
        cache_dir=str(folder / "cache"),
    )
    data.setup("fit")
    prepared = time.perf_counter() - began
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=1,
        limit_train_batches=BATCHES,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    model = SupervisedModule.for_data(data, net="tiny")
    began = time.perf_counter()
    trainer.fit(model, data)
    seconds = time.perf_counter() - began
    return {"prepared": prepared, "rate": BATCH * BATCHES / seconds, **most}


def _watch(most: dict[str, float]) -> None:
    """Keeps the largest of each kind of memory, in MB."""
    while True:
        sizes: dict[str, float] = {}
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
            name, size, _ = line.split()
            sizes[name] = int(size) / 1024
        now = {"private": sizes["Private_Dirty:"], "pss": sizes["Pss:"], "rss": sizes["Rss:"]}
        most |= {name: max(size, most.get(name, 0)) for name, size in now.items()}
        time.sleep(0.1)


# --- what is measured


def start(folder: Path, *role: object) -> subprocess.Popen[str]:
    """A process of this script."""
    command = [sys.executable, __file__, "--folder", str(folder), "--role", *map(str, role)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def results(*processes: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    """What processes have measured, in all their ranks, and what they have said."""
    texts = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes), texts
    lines = [line for text in texts for line in text.splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")], "\n".join(lines)


def make(folder: Path, rows: int) -> None:
    """Makes the store, killed once, then by two processes."""
    first = start(folder, "open")
    while not any(
        json.loads(state.read_text())["done"] > rows / 3 for state in (folder / "cache").rglob(".*.decoding/state.json")
    ):
        assert first.poll() is None, "made before it was killed: give more rows"
        time.sleep(1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    found, said = results(start(folder, "open"), start(folder, "open"))
    there = next(int(number.replace(",", "")) for number in re.findall(r"([\d,]+) of [\d,]+ are there", said))
    seconds, cpu = max(one["seconds"] for one in found), max(one["cpu"] for one in found)
    waited = said.count("this one waits for it")
    stores = len(list((folder / "cache" / "images").glob("[!.]*")))
    left = rows - there
    print(
        f"  making: {left / seconds:,.0f} rows/s, {1e6 * cpu / left:.0f} us of processor time a row; {there:,} rows "
        f"were there from the process that was killed; {waited} of 2 waited; stores made: {stores}",
        flush=True,
    )


def read(folder: Path) -> None:
    """Batches in random order, warm and cold."""
    torch.set_num_threads(1)
    path = next((folder / "cache" / "images").glob("[!.]*/pixels.u8"))
    rows = path.stat().st_size // (SIDE * SIDE * 3)

    def plain() -> Callable[[torch.Tensor], torch.Tensor]:
        pixels = torch.from_numpy(np.memmap(path, np.uint8, "c").reshape(rows, SIDE, SIDE, 3))
        return lambda chosen: pixels.index_select(0, chosen)

    ways: dict[str, Callable[[], Callable[[torch.Tensor], torch.Tensor]]]
    ways = {"a memory map": plain, "galaxyml": lambda: opened(folder).gather}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for turn in range(TURNS):
        for state in ("cold", "warm"):
            for name, way in ways.items():
                gather = way()
                if state == "cold":
                    with path.open("rb") as file:  # nothing of it is mapped yet
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                drawing = torch.Generator().manual_seed(turn)
                batches = torch.randperm(rows, generator=drawing)[: BATCH * BATCHES // 2].split(BATCH)
                if state == "warm":
                    for batch in batches:
                        gather(batch)
                before, cpu, began = _bytes_read(), time.process_time(), time.perf_counter()
                for batch in batches:
                    gather(batch)
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
                count = sum(map(len, batches))
                measured = (count / seconds, 1e6 * cpu / count, (_bytes_read() - before) / count / 1024)
                found.setdefault(f"{state}, {name}", []).append(measured)
                del gather
    for name, turns in found.items():
        rate, cpu, read_kb = (statistics.median(values) for values in zip(*turns, strict=True))
        print(
            f"  reading {name}: {rate:,.0f} rows/s, {cpu:.1f} us of processor time and {read_kb:.0f} KB read a row",
            flush=True,
        )


def _bytes_read() -> int:
    """Bytes that this process has had read from disk."""
    return int(Path("/proc/self/io").read_text().split("read_bytes: ")[1].split()[0])


def measure(folder: Path, rows: int) -> None:
    """Prints all about one number of rows."""
    (folder / "sky").mkdir(parents=True, exist_ok=True)
    if not (folder / "sky" / FILE).is_file():
        Sky().write(folder / "sky" / FILE, rows)
    print(f"{rows:,} rows, a store of {rows * SIDE * SIDE * 3 / 1e9:.1f} GB", flush=True)
    if not list((folder / "cache").glob("images/[!.]*")):
        make(folder, rows)
    (again,), _ = results(start(folder, "open"))
    print(f"  opening again: {again['seconds']:.1f} s ({again['cpu']:.1f} s of processor time)", flush=True)
    read(folder)
    for name, processes in {
        "two folds at once": [("fit", 0, 1), ("fit", 1, 1)],
        "two ranks": [("fit", 0, 2)],
    }.items():
        found, _ = results(*(start(folder, *role) for role in processes))
        memory = ", ".join(f"{one['private']:.0f} MB own ({one['pss']:.0f} Pss, {one['rss']:.0f} RSS)" for one in found)
        rates = [one["rate"] for one in found]
        prepared = max(one["prepared"] for one in found)
        of_all = sum(rates) if len(processes) > 1 else min(rates)
        print(f"  {name}: ready after {prepared:.0f} s, {of_all:,.0f} rows/s together; each {memory}", flush=True)


def main() -> None:
    """Measures each number of rows, or is one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", help="default 100,000")
    parser.add_argument("--folder", type=Path, help="of all files, which are kept; default a temporary one")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        name, *numbers = given.role
        roles: dict[str, Callable[..., dict[str, float]]] = {"open": open_only, "fit": fit}
        print(json.dumps(roles[name](given.folder, *map(int, numbers))), flush=True)
        return
    memory = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE / 1e9
    print(f"{os.cpu_count()} CPUs, {memory:.0f} GB of memory")
    with tempfile.TemporaryDirectory() as temporary:
        for rows in given.rows or [100_000]:
            measure((given.folder or Path(temporary)) / str(rows), rows)


if __name__ == "__main__":
    main()
