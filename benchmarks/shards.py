"""What predictions in shards cost, a stage at a time, and whether the whole is their sum; memory by the number of rows.

    .venv/bin/python benchmarks/shards.py            # some minutes
    .venv/bin/python benchmarks/shards.py 1000000    # and once this many, killed twice: 15 minutes more
    .venv/bin/python benchmarks/shards.py ray        # Ray's workers against processes, and what a shard costs by itself

Images are JPEGs of 64 px of the simulated sky, a few thousand distinct ones inside a parquet file; the net is `tiny`,
hardly trained, with one view. A process times, by turns, decoding, the net and others alone, and whole shards as the
command has them made; one process by itself, and two at once. Medians over turns.
"""

import io
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.store import frame_all
from galaxyml.data.images.views import plain
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.inference import load
from galaxyml.inference.image_predictor import MANY, ImagePredictor
from galaxyml.inference.predict import SHARD_ROWS
from galaxyml.inference.prediction_folder import MANIFEST
from galaxyml.inference.shards.folder import ShardFolder
from galaxyml.inference.shards.manifest import write_manifest
from galaxyml.inference.shards.worker import ImageWorker, Order
from galaxyml.sky import population, render
from galaxyml.sweeps.worker import Slot

SIDE, DISTINCT, TURNS, RAY_TURNS = 64, 3000, 5, 3
ROWS, FEW, SHARD = 100_000, 50_000, 5_000  # rows, of those that are subtracted, and of a shard
STAGED = 5_000  # rows of a stage, and of a shard that is timed
BOTH = ("read, decode and frame", "net")  # what a shard should take no longer than
WHOLE = "a shard as a whole"
SMALL = 250  # rows of a shard, of which there are then 200
FILES = 1_000  # images in files of their own
TRAIN = "task=spirals model=tiny source=simulated scale=smoke size=64 crop=1 predict_views=1 figures=false name=tiny"


def write_images(path: Path, rows: int) -> None:
    """Writes a parquet file with images inside."""
    contents = []
    for start in range(0, DISTINCT, 500):
        for pixels in render(population(500, seed=start), SIDE).numpy():
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            contents.append(buffer.getvalue())
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    with pq.ParquetWriter(path, pa.schema({"id": pa.string(), "image": kind})) as writer:
        for first in range(0, rows, 10_000):
            numbers = range(first, min(first + 10_000, rows))
            images = [{"bytes": contents[number % DISTINCT], "path": None} for number in numbers]
            ids = pa.array([f"g{number}" for number in numbers])
            writer.write_table(pa.table({"id": ids, "image": pa.array(images, kind)}))


def command(
    run: Path, images: Path, out: Path, workers: int, rows: int = SHARD_ROWS, on: Sequence[str] = ()
) -> list[str]:
    """The command that predicts into a folder, so many rows a shard."""
    asked = ["predict", str(run), str(images), "--out", f"{out}/", f"--workers={workers}", f"--shard-rows={rows}"]
    return [sys.executable, "-m", "galaxyml", *asked, *on]


def predict(folder: Path, run: Path, images: Path, workers: int, rows: int = SHARD, on: Sequence[str] = ()) -> float:
    """Seconds of the command."""
    began = time.perf_counter()
    asked = command(run, images, folder / f"out-{time.monotonic_ns()}", workers, rows, on)
    subprocess.run(asked, stdout=subprocess.DEVNULL, cwd=folder, check=True)
    return time.perf_counter() - began


def compare_with_ray(folder: Path, run: Path, images: Path, few: Path) -> None:
    """Prints what an image and a shard cost on Ray and in processes, by turns."""
    engines = {"here": [], "ray": ["--on", "ray", "--engine", "address=local"]}
    seconds: dict[str, list[float]] = {}
    for _ in range(RAY_TURNS):
        for name, on in engines.items():
            whole = predict(folder, run, images, 2, on=on) - predict(folder, run, few, 2, on=on)
            seconds.setdefault(f"an image {name}", []).append(whole / (ROWS - FEW))
        for name, on in engines.items():
            many, large = (predict(folder, run, few, 2, rows, on) for rows in (SMALL, FEW // 2))
            seconds.setdefault(f"a shard {name}", []).append((many - large) / (FEW // SMALL - 2))
    medians = {name: statistics.median(turns) for name, turns in seconds.items()}
    for name, each in medians.items():
        print(f"{name}: {1e6 * each:.0f} us ({', '.join(f'{1e6 * turn:.0f}' for turn in seconds[name])})")
    print(f"Ray takes {medians['an image ray'] / medians['an image here']:.2f} of the time of processes")


def predict_killed(out: Path, run: Path, images: Path, kills: Sequence[int]) -> tuple[float, float]:
    """Seconds of the command with 2 workers, killed after so many shards; the peak memory of a process in MB."""
    began, most = time.perf_counter(), 0.0
    for shards in (*kills, None):
        process = subprocess.Popen(command(run, images, out, 2), stdout=subprocess.DEVNULL, cwd=out.parent)
        while process.poll() is None:
            time.sleep(0.2)
            most = max(most, *(_peak(number) for number in _descendants(process.pid)))
            if shards is not None and len([*out.glob("predictions/part-*.parquet")]) >= shards:
                process.kill()
                process.wait()
        assert process.returncode == (0 if shards is None else -signal.SIGKILL)
    return time.perf_counter() - began, most


def _descendants(process: int) -> list[int]:
    """Numbers of a process and of all that it has started, and those have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [process]
    for number in found:
        found += [child for child, parent in parents.items() if parent == number]
    return found


def _peak(process: int) -> float:
    """Largest memory of a process so far, in MB; 0 of one that has gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found.group(1)) / 1024 if found else 0.0


def check_tiled(out: Path, rows: int) -> None:
    """Makes sure that each row is there once, in order, with the numbers of the first row of the same image."""
    table = pd.read_parquet(out / "predictions")
    assert table["id"].tolist() == [f"g{number}" for number in range(rows)]
    numbers = table.select_dtypes("number").to_numpy()
    for first in range(DISTINCT, rows, DISTINCT):
        some = numbers[first : first + DISTINCT]
        np.testing.assert_array_equal(some, numbers[: len(some)])


def stages(predictor: ImagePredictor, images: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """What is done for each of `STAGED` images, alone and as a whole."""
    names = [f"{images}#{row}" for row in range(STAGED)]
    (framing,) = predictor.framings
    contents = [value["bytes"] for value in pq.read_table(images, columns=["image"]).column(0)[:STAGED].to_pylist()]
    paths = [folder / f"{number}.jpg" for number in range(FILES)]
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    out = ShardFolder(folder)
    write_manifest([str(images)], out.path / MANIFEST, STAGED)
    options: dict[str, Any] = {"interval": "95", "features": "none", "encoder": None, "curves": {}}
    worker = ImageWorker(Order(folder, "", options, str(folder), slot=Slot("", None, 1)), predictor)
    framed = torch.from_numpy(np.stack(list(frame_all(Path(), names, framing, 1))))
    model = predictor.members[0].model

    def net() -> None:
        with torch.inference_mode():
            for batch in framed.split(32):
                model(plain(batch, framing.size).contiguous(memory_format=torch.channels_last))

    return {
        "decode (Pillow alone)": lambda: [np.asarray(Image.open(io.BytesIO(content))) for content in contents],
        "open, decode and check a file": lambda: [open_image(path) for _ in range(STAGED // FILES) for path in paths],
        BOTH[0]: lambda: [None for _ in frame_all(Path(), names, framing, 1)],
        BOTH[1]: net,
        "looks": lambda: [appearance(batch, many=True) for batch in framed.split(64)],
        "net, looks, stages and table": lambda: predictor.predict_framed(names, [framed]),
        WHOLE: lambda: worker.predict(0),
    }


def timed(run: Path, images: Path, folder: Path, number: int) -> dict[str, list[float]]:
    """Seconds an image of each stage in each turn, in a process of its own."""
    torch.set_num_threads(1)
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    predictor.looked_at = MANY  # as in each process of the command before long
    own = folder / f"process-{number}"
    own.mkdir()
    seconds: dict[str, list[float]] = {}
    for turn in range(TURNS + 1):
        for name, stage in stages(predictor, images, own).items():
            began = time.perf_counter()
            stage()
            if turn:  # the first compiles
                seconds.setdefault(name, []).append((time.perf_counter() - began) / STAGED)
    return seconds


def time_stages(folder: Path, run: Path, images: Path) -> None:
    """Prints what stages cost, and how much of the speed of decoding and the net a shard has."""
    for processes in (1, 2):
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            numbers = [10 * processes + number for number in range(processes)]
            each = [*pool.map(timed, *zip(*[(run, images, folder, number) for number in numbers], strict=True))]
        print(f"{processes} process{'es at once' if processes > 1 else ''}:")
        for name in each[0]:
            print(f"  {name}: {1e6 * statistics.median([turn for own in each for turn in own[name]]):.0f} us an image")
        ratios = [
            sum(parts) / whole
            for own in each
            for *parts, whole in zip(*(own[name] for name in (*BOTH, WHOLE)), strict=True)
        ]
        print(
            f"  {statistics.median(ratios):.2f} of the speed that decoding and the net add up to, in single turns "
            f"{min(ratios):.2f} to {max(ratios):.2f}"
        )


def main() -> None:
    """Prints the rates."""
    with_ray = sys.argv[1:] == ["ray"]
    large = int(sys.argv[1]) if len(sys.argv) > 1 and not with_ray else 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {"GALAXYML_CACHE": str(folder / "cache")}
        subprocess.run(
            [sys.executable, "-m", "galaxyml", *TRAIN.split()],
            cwd=folder,
            check=True,
            env=environment,
            capture_output=True,
        )
        run = folder / "multirun" / "spirals" / "tiny"
        images, few = folder / "images.parquet", folder / "few.parquet"
        write_images(images, ROWS if with_ray else STAGED)
        write_images(few, FEW)
        if with_ray:
            compare_with_ray(folder, run, images, few)
            return
        time_stages(folder, run, images)
        if large:
            for rows in (large // 10, large):
                write_images(images, rows)
                out, shards = folder / f"killed-{rows}", -(-rows // SHARD_ROWS)
                took, most = predict_killed(out, run, images, [shards // 3, 2 * shards // 3])
                check_tiled(out, rows)
                print(
                    f"{rows:,} rows, killed twice: {rows / took:,.0f} images/s with three starts, {most:.0f} MB in the "
                    "largest process, each row as it should be"
                )


if __name__ == "__main__":
    main()
