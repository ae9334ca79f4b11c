"""Lightning's loggers, by `logger=…`: each groups the runs of a sweep, and a run that is carried on stays one entry."""

import logging
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor

from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import file_lock
from galaxyml.runs.run_config import PLACES, flat
from galaxyml.runs.run_dir import RunDir

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NEEDS = {"WandB": "wandb", "MLflow": "mlflow"}  # class -> package, which is also the extra
ALWAYS = ("batch_size", "epochs", "fold", "optim.lr", "seed", "size")  # what a table of runs shows of each
BASELINE = "baseline"  # what the trivial predictor's metrics go by: baseline/rmse beside val/rmse
FEATURES = "features"  # what TensorBoard's projector shows
SECONDS_BUSY = 300  # that a process waits for others which write to the same database


def check_logger(config: DictConfig) -> None:
    """Makes sure that the package of the chosen logger is there.

    Raises:
        UserError: If it is not.
    """
    package = NEEDS.get(str((config.get("logger") or {}).get("_target_")).rpartition(".")[2])
    if package and find_spec(package) is None:
        raise UserError(
            f"logger={package} needs a package that is not installed: pip install 'galaxyml[{package}]'. "
            "Without it there are logger=tensorboard, csv and none."
        )


def settings(config: DictConfig) -> dict[str, Any]:
    """Every number and word of a configuration, by its dotted key, without references and names of classes."""
    values = {key: value for key, value in flat(config).items() if isinstance(value, int | float | str | bool)}
    return {key: value for key, value in values.items() if "${" not in str(value) and "_target_" not in key}


def distinguishing_settings(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Settings of a configuration that tell runs apart: `ALWAYS`, and what the user gave.

    Args:
        config: The configuration.
        overrides: What the user gave, such as `optim.lr=0.001` or `model=tiny`.
    """
    given = {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in overrides)}
    own = {key: value for key, value in settings(config).items() if key in ALWAYS or key in given}
    choices = {key: value for key, value in given.items() if isinstance(config.get(key), DictConfig)}
    return {key: value for key, value in {**choices, **own}.items() if key not in PLACES}


class TensorBoard(TensorBoardLogger):
    """TensorBoard's files, in the run's folder.

    Args:
        folder: Folder of the fit: the run's, or that of a phase.
        run: Folder of the run.
        config: The run's.
    """

    def __init__(self, folder: RunDir, run: RunDir, config: DictConfig) -> None:
        super().__init__(folder.path, name="", version="tensorboard", default_hp_metric=False)
        self.config, self.overrides = config, run.overrides
        self.baseline: SummaryWriter | None = None

    def log_baseline(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs the trivial predictor's metrics under the model's names, so that its lines stand in the same charts.

        TensorBoard draws what has the same name together if it is of different runs, which are folders to it.
        """
        from torch.utils.tensorboard import SummaryWriter

        if self.baseline is None:
            self.baseline = SummaryWriter(os.path.join(self.log_dir, BASELINE))
        for name, value in metrics.items():
            self.baseline.add_scalar(name, value, step)

    def add_figure(self, name: str, figure: Figure, step: int) -> None:
        """Shows a figure."""
        self.experiment.add_figure(name, figure, step)

    def add_features(self, features: Tensor, metadata: pd.DataFrame, images: Tensor, step: int) -> None:
        """Shows objects in the projector.

        Args:
            features: Shape (N, F).
            metadata: Of the objects, as text, N rows.
            images: In [0, 1], shape (N, 3, S, S).
            step: Of the net that saw them.
        """
        # Those of a run that was broken off at this step; it would warn that they are there.
        shutil.rmtree(Path(self.log_dir) / f"{step:05d}" / FEATURES, ignore_errors=True)
        rows: list[Any] = metadata.to_numpy().tolist()
        names: list[str] | None = list(metadata.columns)
        if len(metadata.columns) == 1:  # of one column it takes no name
            rows, names = metadata.iloc[:, 0].tolist(), None
        self.experiment.add_embedding(features, rows, images, step, FEATURES, metadata_header=names)

    def log_final(self, reached: dict[str, float]) -> None:
        """Fills the table of runs: what tells them apart, and what it led to."""
        self.log_hyperparams(distinguishing_settings(self.config, self.overrides), reached)
        self.finalize("success")

    def finalize(self, status: str) -> None:
        if self.baseline is not None:
            self.baseline.close()
            self.baseline = None
        super().finalize(status)


class CSV(CSVLogger):
    """A table with a row for each time that something was logged; arguments as for `TensorBoard`."""

    def __init__(self, folder: RunDir, run: RunDir, config: DictConfig) -> None:
        super().__init__(folder.path, name="", version="csv")
        self.path = folder.path / "csv" / "metrics.csv"
        self.before = pd.read_csv(self.path).to_dict("records") if self.path.is_file() else []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        before, self.before = self.before, []
        if before:  # Lightning would begin a new file; what a broken run did after its checkpoint comes again
            self.path.unlink()
            (self.path.parent / self.experiment.NAME_HPARAMS_FILE).unlink(missing_ok=True)
            for row in before:
                if step is None or row["step"] < step:
                    logged = {str(name): value for name, value in row.items() if name != "step" and value == value}
                    super().log_metrics(logged, int(row["step"]))
        super().log_metrics(metrics, step)

    def save(self) -> None:
        if not self.before:
            super().save()

    def log_final(self, reached: dict[str, float]) -> None:
        """Writes what is not yet written."""
        self.save()


class WandB(WandbLogger):
    """Weights & Biases, one run for each of ours, and a group for each sweep; more arguments as for `TensorBoard`.

    Args:
        project: Name of the project.
        entity: Of a team; None for the user's own.
        mode: `online`, `offline` or `disabled`; None for what WANDB_MODE says, or else for online where there is a key.
    """

    def __init__(
        self, folder: RunDir, run: RunDir, config: DictConfig, project: str, entity: str | None, mode: str | None
    ) -> None:
        import wandb

        mode = mode or os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        if mode not in ("online", "offline", "disabled"):
            raise UserError(f"logger.mode={mode}: it must be online, offline, or disabled.")
        folder.path.mkdir(parents=True, exist_ok=True)
        run_id = folder.logger_run_id("wandb") or uuid.uuid4().hex[:8]
        folder.write_logger_run_id("wandb", run_id)
        super().__init__(
            name=_title(folder, run),
            project=project,
            save_dir=str(folder.path),  # it makes a folder `wandb` there
            id=run_id,
            entity=entity,
            group=_sweep(config),
            tags=[config.task],
            config=settings(config),
            mode=mode,
            resume="allow" if mode == "online" else None,  # syncing joins what has the same id
            # Several runs follow each other in a process, and Lightning would take the second for the first.
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        del self._wandb_init["anonymous"]  # Lightning always gives it, and wandb warns that it does nothing

    def add_figure(self, name: str, figure: Figure, step: int) -> None:
        """Shows a figure."""
        import wandb

        self.experiment.log({name: wandb.Image(figure), "trainer/global_step": step})

    def log_final(self, reached: dict[str, float]) -> None:
        """Keeps what was reached, and ends the run there."""
        self.experiment.summary.update(reached)
        self.experiment.finish()

    def finalize(self, status: str) -> None:
        if status == "failed" and self._experiment is not None:  # the public `experiment` would begin a run
            self._experiment.finish(exit_code=1)


class MLflow(MLFlowLogger):
    """MLflow, one run for each of ours, and an experiment for each sweep; more arguments as for `TensorBoard`.

    Args:
        uri: Of a server or a database; None for `mlflow.db` in the sweep's folder.
    """

    def __init__(self, folder: RunDir, run: RunDir, config: DictConfig, uri: str | None) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)  # it tells of each table that it makes
        warnings.filterwarnings("ignore", message=".*noload.*")  # SQLAlchemy's, about MLflow's code
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        sweep, experiment = run.path.parent.resolve(), _sweep(config)
        store = uri or f"sqlite:///{sweep / 'mlflow.db'}?timeout={SECONDS_BUSY}"
        with file_lock(sweep / "mlflow.db"):  # two processes would both make the tables, or the experiment
            client = MlflowClient(store)
            if client.get_experiment_by_name(experiment) is None:  # Lightning would warn that there is none
                client.create_experiment(experiment, None if uri else (sweep / "mlflow").as_uri())
        run_id = folder.logger_run_id("mlflow")
        try:
            client.update_run(run_id or "", status="RUNNING")
        except MlflowException:  # there is none, or it was deleted there
            run_id = None
        tags = {"group": run.group, "folder": str(run.path)}
        super().__init__(experiment, _title(folder, run), store, tags, run_id=run_id)
        if run_id is None:
            folder.write_logger_run_id("mlflow", str(self.run_id))
            self.log_hyperparams(settings(config))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({_plain(name): value for name, value in metrics.items()}, step)

    def add_figure(self, name: str, figure: Figure, step: int) -> None:
        """Shows a figure."""
        self.experiment.log_figure(self.run_id, figure, f"{_plain(name)}/{step:07d}.png")

    def log_final(self, reached: dict[str, float]) -> None:
        """Keeps what was reached, and ends the run there."""
        self.log_metrics(reached)
        super().finalize("success")

    def finalize(self, status: str = "success") -> None:
        if status == "failed":
            super().finalize(status)


SHOWING = (TensorBoard, WandB, MLflow)  # loggers that take figures


def build_logger(folder: RunDir, run: RunDir, config: DictConfig) -> Logger | None:
    """The logger that a configuration names; None if it names none, and in all but the first of a run's processes.

    Args:
        folder: Folder of the fit: the run's, or that of a phase.
        run: Folder of the run.
        config: The run's.
    """
    if config.get("logger") is None or not ranks.is_rank_zero():
        return None
    return instantiate(config.logger)(folder, run, config)


def log_final(loggers: list[Logger], reached: dict[str, float]) -> None:
    """Logs what a fit has led to, after which nothing more is logged of it."""
    for logger in loggers:
        if isinstance(logger, (*SHOWING, CSV)):
            logger.log_final(reached)


def _sweep(config: DictConfig) -> str:
    return f"{config.task}/{config.name}"


def _title(folder: RunDir, run: RunDir) -> str:
    return run.name if folder.path == run.path else f"{run.name} {folder.name}"


def _plain(name: str) -> str:
    """A metric's name as MLflow takes it."""
    return re.sub(r"[^\w/. -]", "", name, flags=re.ASCII)


def _has_key() -> bool:
    """Whether the user is logged in at Weights & Biases; it would ask otherwise."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc().authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
