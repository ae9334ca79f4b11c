"""The jobs of a sweep, one row each: what was swept, how far each is, and what it reached."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_config import HARDWARE, PLACES
from galaxyml.runs.run_dir import PlannedJob, RunDir
from galaxyml.runs.run_lock import holder

RUNNING = ("preparing", "training", "predicting")
NOT_BEGUN = "not begun"
ENDED = ("finished", "pruned")  # as they should
LAST = ["epochs", "best_epoch", "seconds", "device", "reason"]  # columns of `sweep.csv`, at its end
_SEED = re.compile(r"(^|_)seed-\d+(?=_|$)")


@dataclass(frozen=True)
class Job:
    """One run of a sweep, begun or not.

    Attributes:
        run: Its folder, which need not be there.
        overrides: What the user gave, by key.
        fold: The fold that it holds out.
        group: What was swept besides the fold; its runs are joined.
    """

    run: RunDir
    overrides: dict[str, str]
    fold: int | None = None
    group: str = ""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.run.name

    @property
    def combination(self) -> str:
        """The swept values besides fold and seed; `all` where there are none."""
        return combination(self.group)

    @cached_property
    def config(self) -> DictConfig | None:
        """The configuration that it began with; None before that."""
        return self.run.config if self.run.started else None

    @property
    def seed(self) -> int | None:
        """Its seed, if that is known."""
        given = self.overrides.get("seed", "" if self.config is None else str(self.config.get("seed")))
        return int(given) if given.isdigit() else None

    @cached_property
    def status(self) -> dict[str, Any]:
        """The status that it wrote last."""
        return self.run.status()

    @cached_property
    def state(self) -> str:
        """One of `galaxyml.runs.run_dir.STATES`, or `not begun`; a job whose process is gone counts as stopped."""
        if self.run.finished:
            return "finished"
        written = self.status.get("state")
        if written is None:
            return "stopped" if self.run.started else NOT_BEGUN
        gone = written in RUNNING and holder(self.run.path) is None
        return "stopped" if written == "finished" or gone else written

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch; empty before the first."""
        history = self.run.history()
        return pd.DataFrame({"epoch": []}) if history is None else history

    def curve(self, monitor: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """A metric epoch by epoch, through all phases of the fit.

        Returns:
            Epochs, counted from 1 through the phases, and values, shape (E,) each; and after which epochs a phase
            followed on another.
        """
        phases = [self.run.phase(name).history() for name in self.status.get("phases", [])[:-1]]
        epochs: list[np.ndarray] = []
        values: list[np.ndarray] = []
        ends = [0]
        for history in [*(phase for phase in phases if phase is not None), self.history]:
            logged = history.reindex(columns=["epoch", monitor]).dropna()
            epochs.append(logged["epoch"].to_numpy(int) + 1 + ends[-1])
            values.append(logged[monitor].to_numpy(float))
            ends.append(ends[-1] + len(history))
        return np.concatenate(epochs), np.concatenate(values), ends[1:-1]

    @property
    def log(self) -> Path | None:
        """Its own log, the one that was written last; None if there is none."""
        logs = sorted(self.run.path.glob("*.log"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        return logs[-1] if logs else None

    def why(self) -> str:
        """How far it is, or what became of it, in a few words."""
        if self.state == "failed":
            return str(self.status.get("reason") or "no reason was told")
        if self.state == NOT_BEGUN:
            return ""
        if self.state == "stopped" and self.status.get("reason"):
            return str(self.status["reason"])
        epochs = self.config.get("epochs") if self.config is not None else self.status.get("epochs")
        done = len(self.history)
        return f"epoch {done} of {epochs}" if epochs and self.state not in ("waiting", "finished") else ""

    def reached(self, monitor: str, mode: str) -> float | None:
        """The monitored metric: a finished run's, or what the epoch had that predicts, or the last one so far."""
        if not self.run.finished:
            return self.run.reached({}, monitor, mode, "last")
        which = self.config.get("predict_with", "last") if self.config is not None else "last"
        return self.run.reached(self.run.metrics(), monitor, mode, which)

    def best_epoch(self, monitor: str, mode: str) -> int | None:
        """The epoch, counted from 1, with the best monitored metric so far."""
        logged = self.history.reindex(columns=["epoch", monitor]).dropna()
        if logged.empty:
            return None
        values = logged[monitor].to_numpy()
        return int(logged["epoch"].iloc[values.argmin() if mode == "min" else values.argmax()]) + 1


def combination(group: str) -> str:
    """A group of runs without its seed.

    >>> combination("loss-focal_seed-1"), combination("seed-1")
    ('loss-focal', 'all')
    """
    return _SEED.sub("", group).strip("_") or "all"


def by_combination(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Jobs by what was swept besides fold and seed."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.combination, []).append(job)
    return groups


def read_jobs(sweep: RunDir, requested: Sequence[str] = ()) -> list[Job]:
    """All runs that a sweep consists of, begun or not: those of its plan first, then any others that are there.

    Args:
        sweep: The folder.
        requested: Names of more.
    """
    planned = sweep.jobs()
    names = dict.fromkeys([*planned, *(run.name for run in sweep.children()), *requested])
    jobs = []
    for name in names:
        run, planned_job = RunDir(sweep.path / name), planned.get(name)
        if planned_job is None and run.started:
            planned_job = PlannedJob(run.overrides, run.config.get("fold"), run.group)
        if planned_job is None:
            jobs.append(Job(run, {}))
        else:
            fold = planned_job.fold if isinstance(planned_job.fold, int) else None  # which was refused
            jobs.append(Job(run, _by_key(planned_job.overrides or run.overrides), fold, planned_job.group))
    return sorted(jobs, key=lambda job: _natural(job.name))


def swept(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """The keys that differ between jobs, besides fold, seed and where they run, with their values by job.

    A key that a job was not given has the value of its configuration, or '' where that is more than a value.
    """
    places = (*PLACES, *(f"trainer.{key}" for key in HARDWARE))
    below = tuple(f"{place}." for place in places)
    keys = [
        key
        for key in dict.fromkeys(key for job in jobs for key in job.overrides)
        if key not in ("fold", "seed", "trainer", *places) and not key.startswith(below)
    ]
    columns = {key: [_value(job, key) for job in jobs] for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def table(jobs: Sequence[Job]) -> pd.DataFrame:
    """One row a job.

    Returns:
        `folder`, `combination`, what was swept, `fold`, `seed`, `state`, the metrics (the monitored one first; of a run
        that is not finished its last value), `epochs` that were made, the `best_epoch`, `seconds` from beginning to
        end, `device` and the `reason` of a failure.
    """
    judged_by = monitored(jobs)
    monitor, mode = judged_by or ("", "")
    columns = swept(jobs)
    rows: list[dict[str, Any]] = []
    for number, job in enumerate(jobs):
        row: dict[str, Any] = {"folder": job.name, "combination": job.combination}
        row |= {key: values[number] for key, values in columns.items()}
        row |= {"fold": job.fold, "seed": job.seed, "state": job.state}
        if judged_by is not None:
            row[monitor] = job.reached(monitor, mode)
        metrics = job.run.metrics() if job.run.finished else {}
        row |= {name: metrics[name] for name in metrics if name.count("/") == 1 and name != monitor}
        rows.append(row | dict(zip(LAST, _outcome(job, monitor, mode), strict=True)))
    frame = pd.DataFrame(rows)
    frame = frame[[*(name for name in frame if name not in LAST), *LAST]]  # of which one may have been swept, too
    return frame.astype(dict.fromkeys(("fold", "seed", "epochs", "best_epoch"), "Int64"))


def _outcome(job: Job, monitor: str, mode: str) -> tuple[Any, ...]:
    """Values of the columns `LAST`."""
    reason = " ".join(str(job.status.get("reason") or "").split())
    return len(job.history), job.best_epoch(monitor, mode), seconds(job), device(job), reason


def write(sweep: RunDir, jobs: Sequence[Job]) -> None:
    """Writes `sweep.csv`."""
    with atomic_write(sweep.path / "sweep.csv") as draft:
        table(jobs).to_csv(draft, index=False)


def monitored(jobs: Sequence[Job]) -> tuple[str, str] | None:
    """The metric that the jobs are judged by, and whether it is to be `min` or `max`; None if none has begun."""
    configs = [job.config for job in jobs if job.config is not None]
    return (str(configs[0].monitor), str(configs[0].mode)) if configs else None


def device(job: Job) -> str:
    """The device that it ran on, or runs on; '' if that is not known."""
    try:
        return str(job.run.provenance()["device"])
    except UserError:
        return str(job.status.get("place") or "")


def seconds(job: Job) -> float | None:
    """From beginning to end, if both are known."""
    began, ended = job.status.get("began"), job.status.get("ended")
    return None if began is None or ended is None else float(ended - began)


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    r"""`+optim.lr=0.1` -> `optim.lr`: `0.1`; `model=hf-hub\:A/B`, as Hydra writes it, -> `model`: `hf-hub:A/B`."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    return {key: value.replace("\\:", ":").strip("'") for key, _, value in pairs}


def _value(job: Job, key: str) -> str:
    if key in job.overrides:
        return job.overrides[key]
    if job.config is None:
        return ""
    try:
        value = OmegaConf.select(job.config, key)
    except Exception:  # an interpolation into what only Hydra knows
        return ""
    return "" if OmegaConf.is_config(value) or (value is None and "." not in key) else str(value)


def _natural(name: str) -> list[Any]:
    """A key that puts fold-10 after fold-9."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]
