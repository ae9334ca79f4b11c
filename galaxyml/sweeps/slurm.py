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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import write_json
from galaxyml.sweeps.cluster import ClusterLauncher, extra
from galaxyml.sweeps.serial import run_prepared
from galaxyml.sweeps.worker import Job

GONE = 20.0  # seconds after which a job that the queue does not have any more has ended


@dataclass(frozen=True)
class OnNode:
    """What runs on a node, once for each process of a run; it goes on where a job was broken off.

    Before its time is up SLURM sends SIGUSR2, and SIGTERM when another job takes its place; both end the fit with a
    checkpoint, and the job is put into the queue again.
    """

    job: Job

    def __call__(self) -> Any:
        signals.ENDING[:] = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2]
        signals.install()  # in the place of submitit's, which would look for a checkpoint of its own kind
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it tells every signal that it does not mind
        self.job.settle()
        try:
            from galaxyml.runs.run_dir import RunDir

            return run_prepared(RunDir(self.job.run)).value
        except signals.Stop as stop:
            job = _job_id()
            if stop.number == signal.SIGUSR2 or _preempted(job):
                print(f"{stop}: the job goes back into the queue.", flush=True)
                for number in signals.ENDING:
                    signal.signal(number, signal.SIG_IGN)
                if os.environ.get("SLURM_PROCID", "0") == "0":
                    subprocess.run(["scontrol", "requeue", job], check=False)
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
        more = dict(options or {}) | ({"requeue": True} if "requeue" not in (options or {}) else {})
        self.parameters: dict[str, Any] = {
            "name": "galaxyml",
            "nodes": nodes,
            "tasks_per_node": tasks_per_node,
            "cpus_per_task": cpus_per_task,
            "timeout_min": timeout_min,
            "slurm_signal_delay_s": signal_delay_s,
            "slurm_setup": list(setup),
            "slurm_additional_parameters": more,
        }
        if gpus_per_node:
            self.parameters["gpus_per_node"] = gpus_per_node
        if partition is not None:
            self.parameters["slurm_partition"] = partition
        if mem_gb is not None:
            self.parameters["mem_gb"] = mem_gb
        if at_once is not None:
            self.parameters["slurm_array_parallelism"] = at_once

    @property
    def slots(self) -> int:
        return int(self.parameters.get("slurm_array_parallelism", 32))

    def submit(self, jobs: dict[int, Job]) -> None:
        sweep = Path(self.config.hydra.sweep.dir)
        self.ids_file = sweep / "slurm" / "jobs.json"
        before = json.loads(self.ids_file.read_text(encoding="utf-8")) if self.ids_file.is_file() else {}
        queued = _queue()
        names = {number: job.run.name for number, job in jobs.items()}
        self.ids = {number: before[name] for number, name in names.items() if before.get(name) in queued}
        new = [number for number in jobs if number not in self.ids]
        if new:
            executor = extra("submitit", "slurm").AutoExecutor(folder=sweep / "slurm" / "%j", cluster="slurm")
            executor.update_parameters(**self.parameters)
            try:
                with executor.batch():
                    submitted = [executor.submit(OnNode(jobs[number])) for number in new]
            except Exception as error:  # submitit's, or those of the sbatch that it runs
                raise UserError(f"SLURM does not take these jobs: {str(error).splitlines()[0]}") from error
            self.ids |= {number: job.job_id for number, job in zip(new, submitted, strict=True)}
        write_json(self.ids_file, before | {name: self.ids[number] for number, name in names.items()})
        self.gone: dict[int, float] = {}
        self.looked, self.queued = time.monotonic(), queued | set(self.ids.values())

    def ended(self, number: int) -> str | None:
        if time.monotonic() - self.looked > 1:
            self.looked, self.queued = time.monotonic(), _queue()
        job = self.ids[number]
        if job in self.queued:
            self.gone.pop(number, None)
            return None
        # It may be on its way back into the queue, and the folder may be a moment behind.
        since = self.gone.setdefault(number, time.monotonic())
        if not self.has_ended(number) and time.monotonic() - since < GONE:
            return None
        return f"SLURM ended job {job}; see {self.ids_file.parent / job.split('_')[0]}"

    def stop(self, number: int) -> None:
        subprocess.run(["scancel", *self.ids.values()], check=False)


def _queue() -> set[str]:
    """Ids of this user's jobs that wait or run.

    Raises:
        UserError: If there is no SLURM here.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    except FileNotFoundError as error:
        raise UserError(
            "hydra/launcher=slurm: there is no squeue here. Submit from a machine of the cluster, or leave it out."
        ) from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"hydra/launcher=slurm: squeue says: {error.stderr.strip()}") from error


def _job_id() -> str:
    """This job's id, with its place in an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def _preempted(job: str) -> bool:
    """Whether SLURM ends a job to give its place to another."""
    said = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False).stdout
    found = re.search(r"PreemptTime=(\S+)", said)
    return found is not None and found.group(1) != "None"
