"""What predictions in shards cost, a stage at a time, and whether the whole is their sum; memory by the number of rows.

    .venv/bin/python benchmarks/shards.py            # 200,000 images a turn, ten minutes
    .venv/bin/python benchmarks/shards.py 1000000    # and once this many, killed twice: 15 minutes more

Images are JPEGs of 64 px of the simulated sky, a few thousand distinct ones inside a parquet file; the net is `tiny`,
hardly trained, with one view. Stages are timed here with one thread, alternately, medians of three turns; the
whole is the command `galaxyml predict` with 1 and with 2 workers, its start aside (a run of fewer rows is subtracted).
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
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.store import frame_all
from galaxyml.data.images.views import plain
from galaxyml.inference import load
from galaxyml.inference.image_predictor import MANY, ImagePredictor
from galaxyml.inference.predict import SHARD_ROWS
from galaxyml.inference.shards.manifest import write_manifest
from galaxyml.sky import population, render

SIDE, DISTINCT, TURNS = 64, 3000, 3
ROWS, FEW, SHARD = 200_000, 50_000, 5_000  # rows, of those that are subtracted, and of a shard
STAGED = 24_000  # rows of a stage, but for
LIST = "list"
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


def command(run: Path, images: Path, out: Path, workers: int, rows: int = SHARD_ROWS) -> list[str]:
    """The command that predicts into a folder, so many rows a shard."""
    asked = ["predict", str(run), str(images), "--out", f"{out}/", f"--workers={workers}", f"--shard-rows={rows}"]
    return [sys.executable, "-m", "galaxyml", *asked]


def predict(folder: Path, run: Path, images: Path, workers: int) -> float:
    """Seconds of the command."""
    began = time.perf_counter()
    asked = command(run, images, folder / f"out-{time.monotonic_ns()}", workers, SHARD)
    subprocess.run(asked, stdout=subprocess.DEVNULL, cwd=folder, check=True)
    return time.perf_counter() - began


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


def stages(predictor: ImagePredictor, images: Path, rows: int, folder: Path) -> dict[str, Callable[[], object]]:
    """What is done for each image."""
    torch.set_num_threads(1)
    names = [f"{images}#{row}" for row in range(rows)]
    (framing,) = predictor.framings
    contents = [value["bytes"] for value in pq.read_table(images, columns=["image"]).column(0)[:rows].to_pylist()]
    paths = []
    for number, content in enumerate(contents[:FILES]):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(content)
    framed = torch.from_numpy(np.stack(list(frame_all(Path(), names, framing, 1))))
    model = predictor.members[0].model

    def net() -> None:
        with torch.inference_mode():
            for batch in framed.split(32):
                model(plain(batch, framing.size).contiguous(memory_format=torch.channels_last))

    return {
        LIST: lambda: write_manifest([str(images)], folder / "manifest.parquet", 20_000),
        "decode (Pillow alone)": lambda: [np.asarray(Image.open(io.BytesIO(content))) for content in contents],
        "open, decode and check a file": lambda: [open_image(path) for _ in range(rows // FILES) for path in paths],
        "read, decode and frame": lambda: [None for _ in frame_all(Path(), names, framing, 1)],
        "net": net,
        "net, looks, stages and table": lambda: [
            predictor.predict_framed(names[start : start + 4096], [framed[start : start + 4096]])
            for start in range(0, rows, 4096)
        ],
    }


def main() -> None:
    """Prints the rates."""
    large = int(sys.argv[1]) if len(sys.argv) > 1 else 0
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
        write_images(images, ROWS)
        write_images(few, FEW)
        predictor = load(run)
        assert isinstance(predictor, ImagePredictor)
        predictor.looked_at = MANY  # as in each process of the command before long
        seconds: dict[str, list[float]] = {}
        for _ in range(TURNS):
            for stage, run_stage in stages(predictor, images, STAGED, folder).items():
                began = time.process_time()
                run_stage()
                rows = ROWS if stage == LIST else STAGED
                seconds.setdefault(stage, []).append((time.process_time() - began) / rows)
            for workers in (1, 2):
                whole = predict(folder, run, images, workers) - predict(folder, run, few, workers)
                seconds.setdefault(f"whole, {workers} workers", []).append(whole / (ROWS - FEW))
        medians = {stage: statistics.median(turns) for stage, turns in seconds.items()}
        for stage, each in medians.items():
            print(f"{stage}: {1e6 * each:.0f} us an image, {1 / each:,.0f} images/s")
        sum_of_both = medians["read, decode and frame"] + medians["net"]
        for workers in (1, 2):
            ratio = sum_of_both / workers / medians[f"whole, {workers} workers"]
            print(f"{workers} workers: {ratio:.2f} of the speed that decoding and the net add up to")
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
