"""The process of one job of a pool: forked from one that has imported everything, and a leader of its own group."""

import logging
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobRuntime, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

import galaxyml.sweeps.finish  # noqa: F401 - registers the name of a run's folder
from galaxyml.runs.signals import Stop, install
from galaxyml.sweeps import forkserver
from galaxyml.sweeps.run_job import PLACE, failures


@dataclass(frozen=True)
class Slot:
    """Where one job runs at a time.

    Attributes:
        name: Such as `GPU 1`.
        gpus: What the job sees of GPUs, as CUDA_VISIBLE_DEVICES has it; None for what it sees by itself.
        threads: Of the CPU; None for what it has by itself.
    """

    name: str
    gpus: tuple[str, ...] | None
    threads: int | None


@dataclass(frozen=True)
class Task:
    """What a process is told.

    Attributes:
        config: Composed, with Hydra's part.
        task_function: Takes the configuration.
        environment: All of it; None for the process' own.
        folder: Working folder.
        path: Where modules are found.
        command: What the user typed, for the record.
        slot: Where it runs.
    """

    config: DictConfig
    task_function: Any
    environment: dict[str, str] | None
    folder: str
    path: list[str]
    command: list[str]
    slot: Slot


def work(task: Task, answer: Connection) -> None:
    """Runs a job and answers `(how, what)`, or nothing if it dies.

    That is ("returned", value), ("stopped", ""), or the reason of a failure after "failed", "exit" (for which all jobs
    would fail), or "broke" (before the run itself began).
    """
    try:
        install()
        os.setsid()  # what it starts can be ended with it, and a Ctrl-C in the terminal goes to the launcher alone
        forkserver.end_with_parent(signal.SIGTERM)
        settle(task)
        value = run(task).return_value
        name = Path(task.config.hydra.runtime.output_dir).name
        answer.send(("returned", value) if value is not None else ("failed", failures.get(name, "")))
    except Stop as stop:
        answer.send(("stopped", str(stop)))
        sys.exit(stop.status)
    except SystemExit:
        name = Path(task.config.hydra.runtime.output_dir).name
        answer.send(("exit", failures.get(name, "")))
        raise
    except Exception as error:  # before the run itself began, which tells its own
        answer.send(("broke", f"{type(error).__name__}: {error}"))
        raise
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()


def run(task: Task) -> JobReturn:
    """Runs the job as Hydra does; its console is its log."""
    with open_dict(task.config):  # the console is the same file
        handlers = task.config.hydra.job_logging.root.handlers
        task.config.hydra.job_logging.root.handlers = [name for name in handlers if name != "console"]
    setup_globals()
    JobRuntime.instance().set("name", task.config.hydra.job.name)
    return run_job(
        # Its callbacks are called by the launcher, in the process that knows all jobs; of the rest nothing is asked.
        hydra_context=HydraContext(config_loader=None, callbacks=Callbacks()),  # type: ignore[arg-type]
        task_function=task.task_function,
        config=task.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def settle(task: Task) -> None:
    """Makes a process the job's own: its output, its environment, its GPUs and its threads."""
    log = Path(task.config.hydra.runtime.output_dir) / f"{task.config.hydra.job.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if task.environment is not None:
        os.environ.clear()
        os.environ.update(task.environment)
    os.environ[PLACE] = task.slot.name
    if task.slot.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.slot.gpus)
    os.chdir(task.folder)
    sys.path[:] = task.path
    sys.orig_argv = task.command

    if task.slot.threads is not None:
        import torch
        from threadpoolctl import threadpool_limits

        os.environ["OMP_NUM_THREADS"] = str(task.slot.threads)  # for processes that it starts
        torch.set_num_threads(task.slot.threads)
        threadpool_limits(task.slot.threads)
