"""What the page costs: seconds from an upload to its answer, one by one and fifty at once.

    .venv/bin/python benchmarks/page.py multirun/galaxyzoo/demo

The run is any finished one of images. Uploads come over HTTP as a browser's do, all of them different. The first
answer warms the page up and is not counted; goals are a second for each of the others, and that none of fifty is lost.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from gradio_client import Client, handle_file

from galaxyml.page.serving import served
from galaxyml.sky.population import population, rows
from galaxyml.sky.render import draw_image

ONE_BY_ONE, AT_ONCE = 12, 50


def images(folder: Path, count: int) -> list[Path]:
    """Writes so many simulated galaxies."""
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path, galaxy in zip(paths, rows(population(count, 3)), strict=True):
        draw_image(galaxy).save(path)
    return paths


def main() -> None:
    """Serves the run's page and asks it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, nargs="?", default=Path("multirun/galaxyzoo/demo"))
    run = parser.parse_args().run
    if not run.exists():
        print(f"{run} is not there; `make demo` makes one.")
        return
    with tempfile.TemporaryDirectory() as name:
        shown = images(Path(name), 1 + ONE_BY_ONE + AT_ONCE)
        begun = time.perf_counter()
        with served([run]) as address:
            print(f"{run}: {os.cpu_count()} cores; the page is there after {time.perf_counter() - begun:.1f} s")
            client = Client(address, verbose=False, analytics_enabled=False)
            first, *later = [_one(client, path) for path in shown[: 1 + ONE_BY_ONE]]
            print(f"first answer: numbers after {first[0]:.2f} s, all after {first[1]:.2f} s")
            for place, what in enumerate(("numbers", "with reasons and neighbours")):
                each = [seconds[place] for seconds in later]
                print(f"later, {what}: median {statistics.median(each):.2f} s, longest {max(each):.2f} s")
            begun = time.perf_counter()
            jobs = [client.submit(handle_file(path), api_name="/ask") for path in shown[1 + ONE_BY_ONE :]]
            answered = sum("gx-verdict" in str(job.outputs()[0]) for job in jobs if job.result(timeout=600))
            seconds = time.perf_counter() - begun
            print(f"{AT_ONCE} at once: {answered} answered in {seconds:.1f} s, {seconds / AT_ONCE:.2f} s each")


def _one(client: Client, path: Path) -> tuple[float, float]:
    """Seconds from the upload to the numbers, and to all of the answer."""
    begun = time.perf_counter()
    job = client.submit(handle_file(path), api_name="/ask")
    while not job.outputs() and not job.done():
        time.sleep(0.002)
    numbers = time.perf_counter() - begun
    job.result()
    return numbers, time.perf_counter() - begun


if __name__ == "__main__":
    main()
