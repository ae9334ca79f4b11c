"""Shards made by an array of jobs of SLURM, by submitit; their nodes share the folder."""

import json
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from galaxyml.inference.shards.engine import Engine
from galaxyml.inference.shards.folder import Result, ShardFolder
from galaxyml.inference.shards.worker import Order, ShardWorker, worker_of
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import write_json
from galaxyml.sweeps.cluster import POLL_SECONDS, extra
from galaxyml.sweeps.slurm import GONE, SlurmLauncher
from galaxyml.sweeps.worker import Slot

JOBS = 8  # of an array
FOLDER, STOP = "slurm", "stop"  # logs and ids of jobs; a file there that lets jobs end behind their shards


@dataclass(frozen=True)
class ArrayTask:
    """What one job of the array does; submitit puts it back into the queue when its time is up.

    Attributes:
        order: See there.
        shards: Their numbers.
    """

    order: Order
    shards: tuple[int, ...]

    def __call__(self) -> None:
        """Makes the shards that are not there yet."""
        self.order.set_up_process()
        folder = ShardFolder(self.order.folder)
        worker: ShardWorker | None = None
        for shard in self.shards:
            if (self.order.folder / FOLDER / STOP).exists():
                return
            if not folder.part(shard).is_file():
                worker = worker or worker_of(self.order)
                worker.predict(shard)

    def checkpoint(self) -> Any:
        """What goes into the queue in its place: the same, as shards that are there are left out."""
        from submitit.helpers import DelayedSubmission

        logging.getLogger("submitit").setLevel(logging.ERROR)
        return DelayedSubmission(self)


class OnSlurm(Engine):
    """An array of jobs. If this process is killed they go on, and the same command waits for them.

    Args:
        workers: How many jobs; None for `JOBS`.
        options: Of `galaxyml.sweeps.slurm.SlurmLauncher`.
    """

    def __init__(self, workers: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.launcher = SlurmLauncher(**{"gpus_per_node": 0, "cpus_per_task": 1, **(options or {})})
        self.workers = workers or JOBS
        self.ids: set[str] = set()

    def make(self, order: Order, shards: Sequence[int]) -> Iterator[Result | None]:
        folder = order.folder / FOLDER
        folder.mkdir(exist_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        self.folder = folder
        self.launcher.connect()
        self.ids = {*self._before()} & self.launcher.queued
        if not self.ids:
            self._submit(order, shards)
        missing, gone = {*shards}, 0.0
        made = ShardFolder(order.folder)
        while missing:
            found = missing - {*made.missing()}
            missing -= found
            for shard in sorted(found):
                yield _result(made, shard)
            if not missing:
                break
            self.launcher.read_queue()
            if self.ids & self.launcher.queued:
                gone = 0.0
            elif (folder / STOP).exists():
                return
            else:  # they may be on their way back into the queue, and the folder may be a moment behind
                gone = gone or time.monotonic()
                if time.monotonic() - gone > GONE:
                    raise UserError(
                        f"SLURM ended the jobs with {len(missing):,} shards to be made; see {folder}. The same command "
                        "goes on with them."
                    )
            yield None
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        (self.folder / STOP).touch()
        subprocess.run(["scancel", "--state=PENDING", *self.ids], check=False)

    def kill(self) -> None:
        subprocess.run(["scancel", *self.ids], check=False)

    def _before(self) -> list[str]:
        """Ids of the jobs that a command before this one has submitted."""
        file = self.folder / "jobs.json"
        return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []

    def _submit(self, order: Order, shards: Sequence[int]) -> None:
        count = min(self.workers, len(shards))
        threads = int(self.launcher.parameters["cpus_per_task"])
        order = replace(order, slot=Slot("SLURM", None, threads))
        executor = extra("submitit", "slurm").AutoExecutor(folder=self.folder / "%j", cluster="slurm")
        executor.update_parameters(**self.launcher.parameters)
        try:
            with executor.batch():
                jobs = [executor.submit(ArrayTask(order, tuple(shards[start::count]))) for start in range(count)]
        except Exception as error:  # submitit's, or those of the sbatch that it runs
            raise UserError(f"SLURM does not take these jobs: {str(error).splitlines()[0]}") from error
        self.ids = {job.job_id for job in jobs}
        write_json(self.folder / "jobs.json", sorted(self.ids))


def _result(folder: ShardFolder, shard: int) -> Result:
    rows = int(pq.read_metadata(folder.part(shard)).num_rows)
    return Result(shard, rows, folder.manifest.rows_of(shard) - rows, 0.0)
