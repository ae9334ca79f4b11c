"""The runs of a sweep as jobs of SLURM, by submitit."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import file_lock, write_json
from galaxyml.sweeps.cluster import ClusterLauncher, extra, run_on_node
from galaxyml.sweeps.worker import Job

GONE = 20.0  # seconds after which a job that the queue does not have any more has ended


def on_node(job: Job) -> float | None:
    """Runs a run in each of its processes on a node; it goes on where a job was broken off.

    Before its time is up SLURM sends SIGUSR2, and SIGTERM when another job takes its place; both end the fit with a
    checkpoint, and the job is put into the queue again.
    """
    signals.ENDING[:] = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2]
    logging.getLogger("submitit").setLevel(logging.ERROR)  # it reports every signal that it does not mind
    try:
        return run_on_node(job)  # whose handlers replace submitit's, which look for a checkpoint of its own kind
    except signals.Stop as stop:
        job_id = _job_id()
        if stop.number == signal.SIGUSR2 or _preempted(job_id):
            print(f"{stop}: the job goes back into the queue.", flush=True)
            for number in signals.ENDING:
                signal.signal(number, signal.SIG_IGN)
            if os.environ.get("SLURM_PROCID", "0") == "0":
                subprocess.run(["scontrol", "requeue", job_id], check=False)
            time.sleep(60)  # SLURM ends it
        sys.exit(stop.status)


class SlurmLauncher(ClusterLauncher):
    """Each run a job of SLURM. If this process is killed, the jobs go on, and the same command waits for them again.

    Args:
        partition: SLURM's, as the cluster names it; None for its default.
        gpus_per_node: GPUs of a run on each of its nodes.
        nodes: Nodes of a run.
        tasks_per_node: Processes of a run on each node; with `trainer=ddp` as many as GPUs.
        cpus_per_task: Cores of a process.
        mem_gb: Memory of a node in GB; None for the cluster's default.
        timeout_min: Minutes after which a job is put into the queue again, going on from its checkpoint.
        signal_delay_s: Seconds before that in which it keeps the checkpoint.
        at_once: Most jobs that run at once; None for no limit.
        setup: Shell lines that come before a run, such as `module load cuda`.
        options: More of sbatch's options by their names, such as `{account: astro, constraint: a100}`.
    """

    def __init__(
        self,
        partition: str | None = None,
        gpus_per_node: int = 1,
        nodes: int = 1,
        tasks_per_node: int = 1,
        cpus_per_task: int = 4,
        mem_gb: float | None = None,
        timeout_min: int = 1440,
        signal_delay_s: int = 120,
        at_once: int | None = None,
        setup: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.at_once = at_once
        self.parameters: dict[str, Any] = {  # of which submitit takes None as not given
            "name": "galaxyml",
            "nodes": nodes,
            "tasks_per_node": tasks_per_node,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node or None,
            "mem_gb": mem_gb,
            "timeout_min": timeout_min,
            "slurm_partition": partition,
            "slurm_signal_delay_s": signal_delay_s,
            "slurm_setup": list(setup),
            "slurm_array_parallelism": at_once,
            "slurm_additional_parameters": {"requeue": True, **(options or {})},
        }

    @property
    def slots(self) -> int:
        return self.at_once or 32

    def connect(self) -> None:
        extra("submitit", "slurm")
        self.read_queue()

    def submit(self, jobs: dict[int, Job]) -> None:
        sweep = Path(self.config.hydra.sweep.dir)
        self.ids_file = sweep / "slurm" / "jobs.json"
        before = self._submitted_before()
        self.read_queue()
        names = {number: job.run.name for number, job in jobs.items()}
        self.ids = {number: before[name] for number, name in names.items() if before.get(name) in self.queued}
        new = [number for number in jobs if number not in self.ids]
        if new:
            executor = extra("submitit", "slurm").AutoExecutor(folder=sweep / "slurm" / "%j", cluster="slurm")
            executor.update_parameters(**self.parameters)
            try:
                with executor.batch():
                    submitted = [executor.submit(on_node, jobs[number]) for number in new]
            except Exception as error:  # submitit's, or those of the sbatch that it runs
                raise UserError(f"SLURM does not take these jobs: {str(error).splitlines()[0]}") from error
            self.ids |= {number: job.job_id for number, job in zip(new, submitted, strict=True)}
        with file_lock(self.ids_file):  # other commands add to it, too
            own = {name: self.ids[number] for number, name in names.items()}
            write_json(self.ids_file, self._submitted_before() | own)
        self.queued |= set(self.ids.values())
        self.gone: dict[int, float] = {}  # since when jobs are not in the queue any more

    def _submitted_before(self) -> dict[str, str]:
        """Ids of jobs by the names of their runs, as this and other commands have submitted them."""
        return json.loads(self.ids_file.read_text(encoding="utf-8")) if self.ids_file.is_file() else {}

    def ended(self, number: int) -> str | None:
        if time.monotonic() - self.queue_read > 1:
            self.read_queue()
        job = self.ids[number]
        if job in self.queued:
            self.gone.pop(number, None)
            return None
        # It may be on its way back into the queue, and the folder may be a moment behind.
        since = self.gone.setdefault(number, time.monotonic())
        if not self.has_ended(number) and time.monotonic() - since < GONE:
            return None
        return f"SLURM ended job {job}; see {self.ids_file.parent / job.split('_')[0]}"

    def stop(self) -> None:
        subprocess.run(["scancel", *self.ids.values()], check=False)

    def read_queue(self) -> None:
        """Takes over which of this user's jobs wait or run.

        Raises:
            UserError: If there is no SLURM here.
        """
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except FileNotFoundError as error:
            raise UserError("SLURM has no squeue here. Give this command on a machine of the cluster.") from error
        except subprocess.CalledProcessError as error:
            raise UserError(f"SLURM's squeue says: {error.stderr.strip()}") from error
        self.queue_read, self.queued = time.monotonic(), set(shown.split())


def _job_id() -> str:
    """This job's id, with its number in an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def _preempted(job: str) -> bool:
    """Whether SLURM ends a job to give its place to another."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False).stdout
    match = re.search(r"PreemptTime=(\S+)", shown)
    return match is not None and match[1] != "None"
