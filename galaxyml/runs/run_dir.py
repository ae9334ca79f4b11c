"""A run's folder, every file of which this module reads and writes."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from galaxyml.runs.errors import UsageError, UserError, shorten
from galaxyml.runs.files import atomic_write, file_lock, write_json, write_text
from galaxyml.runs.provenance import origin
from galaxyml.runs.run_config import check_same, read_config
from galaxyml.runs.run_lock import holder

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

NAMED = {"val": "validation", "test": "test", "survey": "survey"}  # splits in sentences
CAPTION = "Description"  # the word that PNG has for it
ROWS_AT_ONCE = 50_000  # of a table that is read batch by batch
TableWriter = Callable[[pd.DataFrame], None]
STATES = ("waiting", "preparing", "training", "predicting", "finished", "failed", "stopped", "pruned")


def state_in_words(status: Mapping[str, Any]) -> str:
    """The state of a run, with what it is doing while it is preparing.

    Args:
        status: As `RunDir.status` has it.

    >>> state_in_words({"state": "preparing", "doing": "reading the data"}), state_in_words({"state": "training"})
    ('preparing (reading the data)', 'training')
    """
    state = str(status["state"])
    return f"{state} ({doing})" if state == "preparing" and (doing := status.get("doing")) else state


@dataclass(frozen=True)
class PlannedJob:
    """One run that a sweep consists of.

    Attributes:
        overrides: What the user changed of the configuration.
        fold: The fold that it holds out.
        group: What was swept besides the fold, such as `seed-1`; runs that differ in the fold alone share it.
        trial: Of a search, the number of the trial that it belongs to.
    """

    overrides: list[str]
    fold: int
    group: str = ""
    trial: int | None = None


class RunDir:
    """The folder of a run, or of a sweep whose folds were joined.

    Args:
        path: The folder; it need not exist yet.
        draws: Whether figures are drawn for it; None for what its configuration says.
    """

    def __init__(self, path: Path | str, draws: bool | None = None) -> None:
        self.path = Path(path)
        self._draws = draws

    @property
    def name(self) -> str:
        """Name of the folder, such as `fold-0`."""
        return self.path.name

    @property
    def group(self) -> str:
        """Name of what was swept besides the fold, such as `seed-1`; runs that differ in the fold alone share it."""
        path = self.path / "provenance.json"
        return self.provenance()["group"] if path.is_file() else str(self.config.get("group") or "")

    # --- configuration

    @property
    def started(self) -> bool:
        """Whether there is the configuration of a run."""
        return self._config_file.is_file()

    @property
    def has_progress(self) -> bool:
        """Whether there are checkpoints or results, which another configuration would spoil."""
        begun = self.last_checkpoint is not None or any(self.path.glob("phases/*/checkpoints/last.ckpt"))
        return self.started and (self.finished or begun)

    @property
    def finished(self) -> bool:
        """Whether the run is complete: its metrics are written last."""
        return (self.path / "metrics.json").is_file()

    @property
    def config(self) -> DictConfig:
        """The configuration that the run began with."""
        if not self.started:
            raise UsageError(self._no_run())
        return read_config(self._config_file)

    @property
    def draws(self) -> bool:
        """Whether figures are drawn for the run, as `figures=false` forbids."""
        if self._draws is not None:
            return self._draws
        return not self.started or bool(self.config.get("figures", True))

    def start(self, config: DictConfig, overrides: list[str]) -> None:
        """Writes the configuration; of a run that has progress, or a process at work, only if it computes the same.

        What a process works on keeps the configuration that it began with.

        Raises:
            UserError: If it does not; the message names the keys that differ, and no file is changed.
        """
        in_use = self.started and holder(self.path) is not None
        if in_use or self.has_progress:
            check_same(self.path, self.config, config)
        if in_use:
            return
        write_text(self.path / ".hydra" / "overrides.yaml", yaml.safe_dump(overrides))
        write_text(self._config_file, OmegaConf.to_yaml(config))

    def copy_config(self, runs: Sequence["RunDir"]) -> None:
        """Copies the configuration of runs that are joined, and the tables that all of them were made from."""
        write_text(self._config_file, OmegaConf.to_yaml(runs[0].config))
        for name in runs[0].provenance()["data"].get("artifacts", []):
            self.write_table(name, pd.read_csv(runs[0].path / "tables" / f"{name}.csv", dtype=str))

    @property
    def overrides(self) -> list[str]:
        """Overrides that the user gave, such as `optim.lr=0.001`."""
        path = self.path / ".hydra" / "overrides.yaml"
        return yaml.safe_load(path.read_text(encoding="utf-8")) or [] if path.is_file() else []

    def _no_run(self) -> str:
        """That the folder is not a run's, and which may be meant."""
        if not self.path.exists():
            return f"{self.path} is not there. Give the folder of a run or of a sweep, such as multirun/galaxyzoo/demo."
        joined = sorted(path.parents[1] for path in self.path.glob("joined/*/.hydra/config.yaml"))
        if joined:
            return f"{self.path} is a sweep over more than the fold. Give one of what it has joined: {shorten(joined)}."
        if runs := sorted(path.parents[1] for path in self.path.glob("*/.hydra/config.yaml")):
            if not any(RunDir(run).finished for run in runs):
                return f"{self.path} is not finished. {next_time(self.name, map(RunDir, runs))}"
            return (
                f"{self.path} is not the folder of a run, nor of a sweep that was joined; it holds runs. Give one of "
                f"them: {shorten(runs)}."
            )
        if sweeps := sorted({path.parents[2] for path in self.path.glob("*/*/.hydra/config.yaml")}):
            return f"{self.path} is not the folder of a run; it holds sweeps. Give one of them: {shorten(sweeps)}."
        return f"{self.path} is not the folder of a run: it has no .hydra/config.yaml. Runs are in multirun/TASK/NAME."

    @property
    def _config_file(self) -> Path:
        return self.path / ".hydra" / "config.yaml"

    # --- progress

    def status(self) -> dict[str, Any]:
        """Progress of the run: `state` (one of `STATES`) and what `update_status` was given; {} if never begun."""
        return self._json_or_empty("status.json")

    def update_status(self, **changes: Any) -> None:
        """Updates `status.json`, for whoever looks on.

        Args:
            **changes: `state`, and what it is `doing` while it is preparing; `phase` and `phases` (names), `epoch`
                (finished ones) and `epochs` of it; `monitor` (a metric's name) and `value` (its last one); `left`
                (seconds until the end of the phase); `place` (such as `GPU 1`), `host`, `pid`; `began` and `ended`
                (seconds since 1970); `reason` (of a failure).
        """
        write_json(self.path / "status.json", {**self.status(), **changes})

    def jobs(self) -> dict[str, PlannedJob]:
        """The runs that a sweep consists of, whether they have begun or not, by the names of their folders."""
        jobs = self._json_or_empty("jobs.json").get("jobs", {})
        return {name: PlannedJob(**job) for name, job in jobs.items()}

    def plan(self, jobs: dict[str, PlannedJob]) -> None:
        """Adds runs to those that a sweep consists of; see `jobs`. Those that have progress stay as they are."""
        path = self.path / "jobs.json"
        with file_lock(path):  # commands of single runs, and searches, add to it at the same time
            planned = self.jobs()
            begun = {name for name in planned.keys() & jobs.keys() if RunDir(self.path / name).has_progress}
            if new := {name: job for name, job in jobs.items() if name not in begun}:
                write_json(path, {"jobs": {name: asdict(job) for name, job in (planned | new).items()}})

    def logger_run_id(self, service: str) -> str | None:
        """Id of the run in a logging service, such as `wandb`; None if it has none."""
        return self._json_or_empty("loggers.json").get(service)

    def write_logger_run_id(self, service: str, run_id: str) -> None:
        """Writes the id of the run in a logging service."""
        write_json(self.path / "loggers.json", {**self._json_or_empty("loggers.json"), service: run_id})

    # --- provenance

    def provenance(self) -> dict[str, Any]:
        """Seed, versions, commit, device, fold and group, and the data's folder, digests and notes."""
        return self._json("provenance.json")

    def write_provenance(
        self,
        seed: int,
        device: str,
        data: dict[str, Any],
        joined: Sequence["RunDir"] = (),
        models: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Writes what is needed to repeat the run; of a sweep also which runs were joined.

        Args:
            seed: The run's seed.
            device: What it ran on, in words.
            data: What it learnt from.
            joined: Runs that were joined.
            models: Where the model's first weights come from; of joined runs, what these have.

        Raises:
            UserError: If the run was begun on tables that have changed since.
        """
        kept = {}
        if self.has_progress:
            self.check_data(data["source"], data["sha256"])
            kept = {key: value for key, value in self.provenance().items() if key in ("hardware", "start")}
        config = self.config if self.started else OmegaConf.create()
        content = origin(seed, device) | kept | {"data": data, "group": str(config.get("group") or "")}
        for model in (*models, *(model for run in joined for model in run.provenance().get("models", []))):
            if model not in content.setdefault("models", []):
                content["models"].append(model)
        content["fold"] = None if joined else config.get("fold")
        content["joined"] = [os.path.relpath(run.path, self.path) for run in joined]
        write_json(self.path / "provenance.json", content)

    def write_hardware(self, phase: str, record: dict[str, Any]) -> None:
        """Adds device, precision and kernels of a phase of the fit to the provenance."""
        content = self.provenance()
        content["hardware"] = {**content.get("hardware", {}), phase: record}
        write_json(self.path / "provenance.json", content)

    def write_start(self, record: dict[str, Any]) -> None:
        """Adds what the net began with to the provenance."""
        write_json(self.path / "provenance.json", self.provenance() | {"start": record})

    def check_data(self, source: str, digests: dict[str, str]) -> None:
        """Raises UserError if the run was made from other tables."""
        before = self.provenance()["data"]
        names = {**before["sha256"], **digests}
        changed = sorted(name for name in names if before["sha256"].get(name) != digests.get(name))
        if before["source"] != source:
            changed = [f"{before['source']} then, {source} now"]
        if changed:
            raise UserError(
                f"{self.path} was made from other data: {shorten(changed)} changed since. "
                "Choose another name=…, or delete the folder to start anew."
            )

    # --- tables

    def catalog(self) -> pd.DataFrame:
        """One row an object: `id`, `image`, `split`, `fold` and the targets."""
        return pd.read_parquet(self._required("catalog.parquet"))

    def write_catalog(self, catalog: pd.DataFrame) -> None:
        """Writes the catalog."""
        with atomic_write(self.path / "catalog.parquet") as draft:
            catalog.to_parquet(draft, index=False)

    def predictions(self, split: str, by: str = "") -> pd.DataFrame | None:
        """Predictions of one split: `id` and one column an output; None if there are none.

        Args:
            split: `val` or `test`, or another of `galaxyml.data.catalog.SPLITS`.
            by: `net` for the model's output before any stage, or the folder of other tables.
        """
        return pd.read_parquet(self._predictions(split, by)) if self.has_predictions(split, by) else None

    def write_predictions(self, split: str, predictions: pd.DataFrame, by: str = "") -> None:
        """Writes predictions; arguments as for `predictions`."""
        with atomic_write(self._predictions(split, by)) as draft:
            predictions.to_parquet(draft, index=False)

    @contextmanager
    def predictions_writer(self, split: str, by: str = "") -> Iterator[TableWriter]:
        """Writes predictions table by table, whole or not at all; arguments as for `predictions`.

        Yields:
            Takes a table; all have the same columns.
        """
        with atomic_write(self._predictions(split, by)) as draft, ExitStack() as stack:
            file: pq.ParquetWriter | None = None

            def write(predictions: pd.DataFrame) -> None:
                nonlocal file
                table = pa.Table.from_pandas(predictions, preserve_index=False)
                if file is None:
                    file = stack.enter_context(pq.ParquetWriter(draft, table.schema))
                file.write_table(table)

            yield write

    def has_predictions(self, split: str, by: str = "") -> bool:
        """Whether there are any; arguments as for `predictions`."""
        return self._predictions(split, by).is_file()

    def tables_of_predictions(self, split: str) -> list[str]:
        """Tables of predictions of a split: what `predictions` takes as `by`."""
        folder = self.path / "predictions"
        return sorted(
            path.parent.relative_to(folder).as_posix().removeprefix(".") for path in folder.rglob(f"{split}.parquet")
        )

    def predictions_in_batches(self, split: str, by: str = "") -> Iterator[pd.DataFrame]:
        """Predictions, at most 50,000 rows at a time; arguments as for `predictions`."""
        if self.has_predictions(split, by):
            with pq.ParquetFile(self._predictions(split, by)) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    yield batch.to_pandas()

    def history(self) -> pd.DataFrame | None:
        """One row an epoch: `epoch` and what was logged; None for a sweep."""
        path = self.path / "history.csv"
        return pd.read_csv(path) if path.is_file() else None

    def histories(self) -> dict[str, pd.DataFrame]:
        """The history of each model, by its name."""
        named = {f"{net.path.parent.name}/{net.name}" if self.is_ensemble else net.name: net for net in self.nets()}
        return {name: history for name, net in named.items() if (history := net.history()) is not None}

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Writes one row an epoch."""
        with atomic_write(self.path / "history.csv") as draft:
            pd.DataFrame(rows).to_csv(draft, index=False)

    def metrics(self) -> dict[str, Any]:
        """Numbers by `<split>/<metric>[/<column>]`, and the `verdict` on them; a sweep's also have `folds`."""
        return self._json("metrics.json")

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Writes the metrics, which marks the run as finished."""
        write_json(self.path / "metrics.json", metrics)

    def reached(self, metrics: Mapping[str, Any], monitor: str, mode: str, which: str) -> float | None:
        """The monitored metric of a run: a stage's, or else what was logged of the epoch that predicts.

        Args:
            metrics: Those of its stages.
            monitor: The metric's name.
            mode: Whether it is to be `min` or `max`.
            which: The epoch that predicts, `best` or `last`.

        Returns:
            None if there is neither.
        """
        if (value := metrics.get(monitor)) is not None:
            return float(value)
        history = self.history()
        if history is None or monitor not in history or (logged := history[monitor].dropna()).empty:
            return None
        if which == "last":
            return float(logged.iloc[-1])
        return float(logged.min() if mode == "min" else logged.max())

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Writes a table for people, `tables/<name>.csv`."""
        with atomic_write(self.path / "tables" / f"{name}.csv") as draft:
            table.to_csv(draft, index=False)

    def table_rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table for people; none if there is no such table."""
        path = self.path / "tables" / f"{name}.csv"
        rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
        return [{str(key): value for key, value in row.items()} for row in rows]

    def tables(self) -> list[Path]:
        """All tables for people, in the order of their names."""
        return sorted((self.path / "tables").glob("*.csv"))

    # --- what stages have fitted, for other images

    def fitted_values(self, name: str) -> dict[str, Any]:
        """Numbers that a stage has fitted to the validation split, such as `calibration`."""
        return self._json(f"fitted/{name}.json")

    def write_fitted(self, name: str, content: dict[str, Any]) -> None:
        """Writes what a stage has fitted."""
        write_json(self.path / "fitted" / f"{name}.json", content)

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays that were fitted, such as `familiar`; None if there are none."""
        path = self.path / "fitted" / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path) as file:
            return dict(file)

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes arrays that were fitted."""
        with atomic_write(self.path / "fitted" / f"{name}.npz") as draft:
            np.savez(draft, allow_pickle=False, **arrays)

    # --- everything else

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def fitted(self) -> Path:
        """A file that is there once the fit has come to its end."""
        return self.checkpoints / "fitted"

    @property
    def last_checkpoint(self) -> Path | None:
        """Checkpoint to carry on from; None at the beginning."""
        path = self.checkpoints / "last.ckpt"
        return path if path.is_file() else None

    def figures(self) -> list[Path]:
        """All figures, in the order of their names."""
        return sorted((self.path / "figures").glob("*.png"))

    def write_figure(self, name: str, figure: "Figure", caption: str) -> None:
        """Writes a figure as PNG under its name, with a caption of a sentence or two inside the file.

        What a link cannot hold is replaced in the name.
        """
        with atomic_write(self.path / "figures" / f"{re.sub(r'[^A-Za-z0-9_.=,-]+', '_', name)}.png") as draft:
            fast = {"compress_level": 1}  # a third larger, and images of galaxies in less than half the time
            fitting = "tight" if figure.get_layout_engine() else None  # which draws it twice
            figure.savefig(draft, dpi=110, bbox_inches=fitting, metadata={CAPTION: caption}, pil_kwargs=fast)

    def source(self, name: str) -> Path:
        """A file of the data: a table, or an image."""
        return Path(self.provenance()["data"]["folder"]) / name

    def weights(self, which: str) -> "dict[str, Tensor]":
        """The module's weights after its `best` or `last` epoch, by name.

        Raises:
            UserError: If they are not there.
        """
        import torch

        if missing := self.missing_weights(which):
            raise UserError(missing)
        return torch.load(self._weights(which), map_location="cpu", weights_only=True)["state_dict"]

    def missing_weights(self, which: str) -> str | None:
        """That the weights of a fitted run are not there, in a sentence, and what to do; None if they are."""
        path = self._weights(which)
        if path.is_file():
            return None
        return (
            f"{path} is not there: the run's weights were deleted, or its folder was copied without them. "
            f"Copy them there, or delete {self.path} and give the command of the run again, which trains anew."
        )

    def phase(self, name: str) -> "RunDir":
        """Folder of a phase that another one follows: checkpoints, history and curves."""
        return RunDir(self.path / "phases" / name)

    def members(self) -> list["RunDir"]:
        """The runs that were joined; none for a run by itself."""
        return [RunDir(self.path / name) for name in self.provenance()["joined"]]

    def nets(self) -> list["RunDir"]:
        """The runs whose models predict: those that were joined, or the run itself.

        Raises:
            UserError: If one of them is not there any more.
        """
        members = self.members()
        if gone := [member.path for member in members if not member.path.is_dir()]:
            raise UserError(
                f"{self.path} was joined from {gone[0]}, which is not there. Take its runs along, to the same place "
                "beside it, or move it as one file: python -m galaxyml bundle makes that."
            )
        return members or [self]

    def shares(self) -> list[float]:
        """Weight of each of the models, summing to 1."""
        count = len(self.nets())
        return self._json("fitted/shares.json")["nets"] if self.is_ensemble else [1 / count] * count

    @property
    def is_ensemble(self) -> bool:
        """Whether models, not only folds, were joined."""
        return (self.path / "fitted" / "shares.json").is_file()

    def children(self) -> list["RunDir"]:
        """The runs in this folder, if it is a sweep's; other sweeps in it are none."""
        runs = [RunDir(path.parents[1]) for path in sorted(self.path.glob("*/.hydra/config.yaml"))]
        return [run for run in runs if not (run.path / "jobs.json").is_file()]

    def _json(self, name: str) -> dict[str, Any]:
        return json.loads(self._required(name).read_text(encoding="utf-8"))

    def _json_or_empty(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _weights(self, which: str) -> Path:
        return self.checkpoints / f"{which}.ckpt"

    def _predictions(self, split: str, by: str) -> Path:
        return self.path / "predictions" / by / f"{split}.parquet"

    def _required(self, name: str) -> Path:
        if not self.path.exists():
            raise UsageError(self._no_run())
        if not (self.path / name).is_file():
            if not self._config_file.is_file():
                raise UsageError(self._no_run())
            state = self.status().get("state", "not begun")
            how = f" ({state})" if state != "finished" else ""  # as where somebody has deleted the file
            raise UsageError(f"{self.path} is not finished{how}: it has no {name}. The command of the run finishes it.")
        return self.path / name


def next_time(name: str, runs: Iterable[RunDir]) -> str:
    """What the same command does with stopped runs of some name: it carries on, or starts anew without a checkpoint."""
    does = "carries on" if any(run.has_progress for run in runs) else "starts anew"
    return f"The same command with {shlex.quote(f'name={name}')} {does}."


def caption(figure: Path) -> str:
    """The caption of a figure that `RunDir.write_figure` has written; '' of another."""
    with Image.open(figure) as opened:
        return str(getattr(opened, "text", {}).get(CAPTION, ""))
