"""The runs of a sweep side by side on one machine: a fresh process for each, and a slot for each GPU."""

import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig, open_dict

from galaxyml.runs import signals
from galaxyml.runs.errors import UserError
from galaxyml.sweeps import checks, forkserver
from galaxyml.sweeps.run_job import MEMORY, Outcome, ended
from galaxyml.sweeps.serial import SerialLauncher, folder_of, prepare
from galaxyml.sweeps.worker import Job, Slot, work

POLL_SECONDS = 0.25  # between two looks at how far jobs are
MEMORY_A_JOB = 3 * 2**30  # bytes that a machine without a GPU should have free for each of its slots


@dataclass
class _Running:
    """A job that is running."""

    number: int  # among all jobs
    process: BaseProcess  # the leader of its group
    answer: Connection
    slot: Slot
    began: float  # seconds since 1970


class PoolLauncher(SerialLauncher):
    """Runs side by side, each in a fresh process with a GPU of its own, or with its part of the CPU.

    One run alone stays in this process. A process is forked from one that has imported everything, so that it starts
    within a fraction of a second. What a run prints goes to its own log.

    Args:
        gpus: Which GPUs are used, as CUDA_VISIBLE_DEVICES has them; `auto` for all that are visible, [] for none.
        gpus_per_job: GPUs of one run: a whole number, or a share such as 0.5 for two runs on each.
        processes: Runs at once where there is no GPU; `auto` for one a core, if there is memory for them.
        retry_out_of_memory: Whether a run for which a GPU has too little memory is tried once more, with half the
            batch and twice as many batches a step.
    """

    def __init__(
        self,
        gpus: Any = "auto",
        gpus_per_job: float = 1,
        processes: Any = "auto",
        retry_out_of_memory: bool = False,
    ) -> None:
        self.gpus, self.gpus_per_job, self.processes = gpus, gpus_per_job, processes
        self.retry_out_of_memory = retry_out_of_memory

    @property
    def slots(self) -> int:
        return len(self.slots_for(10**6))

    def refusal(self, jobs: Sequence[checks.Job]) -> str | None:
        self._check()
        if self._in_this_process(len(jobs)):
            return super().refusal(jobs)
        self.slots_for(len(jobs))
        return forkserver.ask(partial(checks.refusal, jobs))

    def launch_all(self, configs: Sequence[DictConfig]) -> list[JobReturn]:
        self._check()
        if self._in_this_process(len(configs)):
            return super().launch_all(configs)
        pool = _Pool(self, configs)
        with signals.watched():
            return pool.run()

    def _in_this_process(self, jobs: int) -> bool:
        return jobs == 1 or not hasattr(os, "fork")  # as on Windows

    def slots_for(self, jobs: int) -> list[Slot]:
        """The slots for so many jobs.

        Raises:
            UserError: If the settings are impossible, or a run asks for more GPUs than there are.
        """
        self._check()
        gpus = self._gpus()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not gpus:
            count = min(jobs, self.processes if self.processes != "auto" else min(cores, _memory_for()))
            threads = max(1, cores // count)
            return [Slot(f"CPU {number}", None, threads) for number in range(1, count + 1)]
        if self.gpus_per_job < 1:
            groups: list[tuple[str, ...]] = [(gpu,) for _ in range(round(1 / self.gpus_per_job)) for gpu in gpus]
        else:
            size = int(self.gpus_per_job)
            groups = [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
            if not groups:
                raise UserError(
                    f"hydra.launcher.gpus_per_job={size}: there are {len(gpus)} GPUs ({', '.join(gpus)}). "
                    f"Give {len(gpus)} or less."
                )
        groups = groups[:jobs]
        return [Slot(f"GPU {'+'.join(group)}", group, max(1, cores // len(groups))) for group in groups]

    def _gpus(self) -> list[str]:
        """Names of the GPUs that are used."""
        if self.gpus != "auto":
            return [str(gpu) for gpu in self.gpus]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = forkserver.ask(visible_gpus)
        names = [str(number) for number in range(count)] if visible is None else visible.split(",")
        return [name.strip() for name in names[:count]]

    def _check(self) -> None:
        if self.gpus != "auto" and (isinstance(self.gpus, str) or not hasattr(self.gpus, "__iter__")):
            raise UserError(
                f"hydra.launcher.gpus={self.gpus}: it must be auto, or a list such as [0,1]; [] for the CPU alone."
            )
        each = self.gpus_per_job
        if type(each) not in (int, float) or not each > 0 or (each > 1 and each != int(each)):
            raise UserError(
                f"hydra.launcher.gpus_per_job={each}: it must be a whole number of GPUs, or a share of one as 0.5."
            )
        count = self.processes
        if count != "auto" and (type(count) is not int or count < 1):
            raise UserError(f"hydra.launcher.processes={count}: it must be auto, or a whole number, 1 or more.")


class _Pool:
    """The jobs of one command, while they run."""

    def __init__(self, launcher: PoolLauncher, configs: Sequence[DictConfig]) -> None:
        from galaxyml.runs.run_dir import RunDir
        from galaxyml.sweeps.live_table import Board

        self.launcher, self.configs = launcher, list(configs)
        self.runs = [RunDir(folder_of(config)) for config in configs]
        self.board = Board(self.runs)
        self.waiting = deque(range(len(configs)))
        self.running: list[_Running] = []
        self.values: dict[int, float | None] = {}  # of the jobs that have ended
        self.retried: set[int] = set()
        self.stopping: int | None = None  # number of the signal that ends it all
        self.bad_data = False  # whether a file was bad that all jobs need

    def run(self) -> list[JobReturn]:
        """Runs all of them.

        Raises:
            UserError: If a job asks for more GPUs than there are.
            Stop: If a signal came.
            SystemExit: If a file was bad that all jobs need.
        """
        slots = self.launcher.slots_for(len(self.configs))
        self.free = deque(slots)
        context = forkserver.context()
        with self.board.shown(len(slots)):
            while self.running or (self.waiting and not self.ending):
                try:
                    while self.waiting and self.free and not self.ending:
                        self._start(context, self.waiting.popleft())
                    self._wait()
                except signals.Stop as stop:
                    self._stop(stop.number)
        if self.stopping is not None:
            from galaxyml.runs.run_dir import next_time

            self.board.say(next_time(self.configs[0].name, self.runs))
            raise signals.Stop(self.stopping)
        if self.bad_data:
            sys.exit(1)
        return [self.launcher.returned(config, self.values[number]) for number, config in enumerate(self.configs)]

    @property
    def ending(self) -> bool:
        """Whether no more jobs are started."""
        return self.bad_data or self.stopping is not None

    def _start(self, context: Any, number: int) -> None:
        """Starts a job on a free slot, unless its folder holds another run."""
        try:
            run = prepare(self.configs[number])
        except UserError as error:
            self._end(number, Outcome("failed", None, str(error)))
            return
        slot = self.free.popleft()
        answer, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(Job(run.path, slot), sender), name=run.name)
        began = time.time()
        process.start()
        sender.close()
        self.running.append(_Running(number, process, answer, slot, began))
        self.board.started(number, slot.name, process.pid)

    def _wait(self) -> None:
        """Waits a moment, or until a job has ended."""
        wait([job.process.sentinel for job in self.running], timeout=POLL_SECONDS)
        for job in [job for job in self.running if not job.process.is_alive()]:
            self.running.remove(job)
            job.process.join()
            _kill_group(job.process)
            self.free.append(job.slot)
            outcome: Outcome | None = None
            with suppress(EOFError, OSError):
                outcome = job.answer.recv() if job.answer.poll() else None
            job.answer.close()
            self._end(job.number, outcome or ended(self.runs[job.number], job.process.exitcode, job.began))
        self.board.look()

    def _end(self, number: int, outcome: Outcome) -> None:
        self.values[number] = outcome.value
        self.bad_data = self.bad_data or outcome.bad_data
        if outcome.reason != MEMORY or not self._retry(number):
            self.board.ended(number, outcome.state, outcome.reason)

    def _retry(self, number: int) -> bool:
        """Puts a job that had too little memory into the queue again, where that is wanted."""
        before = self.configs[number]
        size, batches = before.batch_size, before.trainer.get("accumulate_grad_batches", 1)
        if not self.launcher.retry_out_of_memory or number in self.retried or size < 2:
            return False
        smaller = [f"batch_size={size // 2}", f"trainer.accumulate_grad_batches={2 * batches}"]
        config = self.launcher.composed([*before.hydra.overrides.task, *smaller], before.hydra.job.num)
        with open_dict(config):  # in the same folder
            config.hydra.runtime.output_dir = before.hydra.runtime.output_dir
            config.hydra.job.override_dirname = before.hydra.job.override_dirname
        self.configs[number] = config
        self.retried.add(number)
        self.waiting.appendleft(number)
        self.board.say(f"{self.runs[number].name}: {MEMORY}; once more with {' '.join(smaller)}")
        return True

    def _stop(self, number: int) -> None:
        """Hands a signal on to all jobs; the second one kills them."""
        if self.running and self.stopping is None:
            self.board.say("stopping: each run keeps what it has reached; a second signal ends them at once")
        for job in self.running:
            if self.stopping is not None:
                _kill_group(job.process)
            elif job.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(job.process.pid, number)
        self.stopping = self.stopping or number


def visible_gpus() -> int:
    """Number of GPUs that this process sees."""
    import torch

    return torch.cuda.device_count()


def _memory_for() -> int:
    """Number of jobs that there is memory for, at least 1; 2 where the system does not say."""
    file = Path("/proc/meminfo")
    kibibytes = re.search(r"MemAvailable: *(\d+)", file.read_text(encoding="ascii")) if file.is_file() else None
    return max(1, int(kibibytes[1]) * 1024 // MEMORY_A_JOB) if kibibytes else 2


def _kill_group(process: BaseProcess) -> None:
    """Ends a job's process and all that it has started."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
