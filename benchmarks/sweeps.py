"""A sweep side by side against one after another, and what each job costs besides its own work.

`python benchmarks/sweeps.py` (minutes). Both ways alternate; seconds are medians, the ratio is of them. A job's
overhead is the time in which its slot was not at work: slots times the time from the first job to the end of the last
one, less what the jobs say that they took, by the number of jobs. What comes before the first job stands beside it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIXED = "task=galaxyzoo model=tiny source=simulated scale=smoke trainer=cpu"


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=500, help="of each of the five folds: half a minute")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=20, help="short ones")
    given = parser.parse_args()
    ways = {"serial": "hydra/launcher=serial", "2 slots": "hydra.launcher.processes=2"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sweep(work, "name=warm epochs=1 hydra/launcher=serial -m fold=0")  # the sky is drawn
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(given.repeats):
            for way, launcher in ways.items():
                name = f"{way[0]}{repeat}"
                seconds[way].append(sweep(work, f"name={name} epochs={given.epochs} {launcher} -m fold=0,1,2,3,4"))
        medians = {way: statistics.median(found) for way, found in seconds.items()}
        for way, found in seconds.items():
            print(f"five folds, {way:<8} {medians[way]:6.1f} s  ({', '.join(f'{value:.1f}' for value in found)})")
        print(f"ratio {medians['2 slots'] / medians['serial']:.2f}")

        began = time.time()
        line = f"name=many epochs=1 hydra.launcher.processes=2 -m seed={','.join(map(str, range(given.jobs)))}"
        sweep(work, line)
        told = [json.loads(path.read_text()) for path in work.glob("multirun/galaxyzoo/many/fold-*/status.json")]
        first, last = min(job["began"] for job in told), max(job["ended"] for job in told)
        own = sum(job["ended"] - job["began"] for job in told)
        print(f"{len(told)} jobs of {own / len(told):.1f} s: {first - began:.1f} s until the first begins, ", end="")
        print(f"then {(2 * (last - first) - own) / len(told):.2f} s a job besides its own work")


def sweep(work: Path, line: str) -> float:
    """Runs a command; gives its seconds."""
    began = time.monotonic()
    command = [sys.executable, "-m", "galaxyml", *FIXED.split(), *line.split()]
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
