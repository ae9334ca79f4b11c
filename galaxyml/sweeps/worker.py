"""The process of one job of a pool: forked from one that has imported everything, and a leader of its own group."""

import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from galaxyml.runs.errors import UserError
from galaxyml.runs.provenance import COMMAND, PLACE, command_line
from galaxyml.runs.signals import Stop, install
from galaxyml.sweeps import forkserver
from galaxyml.sweeps.run_job import LOG, Outcome, run_job
from galaxyml.sweeps.serial import command, has_several_processes


@dataclass(frozen=True)
class Slot:
    """Where one job runs at a time.

    Attributes:
        name: Such as `GPU 1`.
        gpus: What the job sees of GPUs, as CUDA_VISIBLE_DEVICES has it; None for what it sees by itself.
        threads: Of the CPU; None for what it has by itself.
    """

    name: str = ""
    gpus: tuple[str, ...] | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """A job as a process of another machine, or one that was forked from another, has to know it.

    Attributes:
        run: The run's folder, an absolute path.
        slot: Where it runs.
        environment: All of it; None for the process' own.
        folder: Working folder.
        path: Where modules are found.
        typed: What the user typed, for the record.
    """

    run: Path
    slot: Slot = Slot()
    environment: dict[str, str] | None = field(default_factory=lambda: dict(os.environ))
    folder: str = field(default_factory=os.getcwd)
    path: list[str] = field(default_factory=lambda: list(sys.path))
    typed: list[str] = field(default_factory=command_line)

    def set_up_process(self) -> None:
        """Makes this process the job's own: its output, its environment, its GPUs and its threads."""
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / LOG).open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if self.environment is not None:
            os.environ.clear()
            os.environ.update(self.environment)
        os.environ |= {PLACE: self.slot.name, COMMAND: json.dumps(self.typed)}
        if self.slot.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.slot.gpus)
        os.chdir(self.folder)
        sys.path[:] = self.path
        if self.slot.threads is not None:
            import torch
            from threadpoolctl import threadpool_limits

            os.environ["OMP_NUM_THREADS"] = str(self.slot.threads)  # for processes that it starts
            torch.set_num_threads(self.slot.threads)
            threadpool_limits(self.slot.threads)


def work(job: Job, answer: Connection) -> None:
    """Runs a job and answers its `Outcome`; the launcher reads that of a job that answers none from its folder."""
    try:
        install()
        os.setsid()  # what it starts can be ended with it, and a Ctrl-C in the terminal goes to the launcher alone
        forkserver.end_with_parent(signal.SIGTERM)
        job.set_up_process()
        from galaxyml.runs.run_dir import RunDir

        run = RunDir(job.run)
        if has_several_processes(run.config):
            os.execv(sys.executable, command(run))
        try:
            outcome = run_job(run.path)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            outcome = Outcome("failed", None, str(error))
        answer.send(outcome)
        sys.exit(outcome.status)
    except Stop as stop:
        sys.exit(stop.status)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
