"""A kind of target: one object that knows everything that depends on it."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import BasePredictionWriter
from omegaconf import DictConfig
from torch import Tensor, nn
from torchmetrics import Metric

from galaxyml.data.catalog import as_text
from galaxyml.evaluation.joined import Said
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.predictions import PredictionTables
from galaxyml.training.specs import plain

DESCRIBED = 12  # targets that people colour objects by


class Stage(Protocol):
    """A step after the fit, on the tables of a run: constraints, calibration, intervals, scores, figures."""

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Reads and writes the run's tables; returns numbers by `<split>/<metric>[/<column>]`."""


@runtime_checkable
class CombiningStage(Stage, Protocol):
    """A stage that also turns outputs for new images into what people read."""

    def combine(self, run: RunDir, said: Said, table: pd.DataFrame) -> pd.DataFrame:
        """What the stage makes of the outputs of a run's nets for the same images.

        Args:
            run: The run, or the sweep.
            said: The outputs.
            table: What the stages before have made of them, one row an image.
        """


class Kind(ABC):
    """What the targets of a task are, and all that follows from it.

    A kind is a folder of `galaxyml.kinds`, and `conf/kind/<name>.yaml` builds it for the command.

    Attributes:
        name: Also the folder's.
        monitor: The metric that epochs and trials are judged by.
        mode: Whether that is to be `min` or `max`.
        outputs: Names of what a model outputs, K of them.
        spec: The kind as plain values, from which it can be built again.
    """

    name: ClassVar[str]
    monitor: ClassVar[str]
    mode: ClassVar[str]
    outputs: list[str]
    spec: dict[str, Any]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        kind = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind(kind, *arguments, **options).arguments
        given.pop("self")
        kind.spec = {"_target_": f"{cls.__module__}.{cls.__qualname__}", **plain(given)}
        return kind

    def __reduce__(self) -> Any:
        return object.__new__, (type(self),), vars(self)  # copied and pickled as it is; `__new__` asks for arguments

    def head(self) -> nn.Module | None:
        """Turns a model's scores into outputs, both (N, K); None to take them as they are."""
        return None

    @abstractmethod
    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        """A loss (outputs, targets) -> scalar: the usual one of this kind, or another one fitted to it.

        Raises:
            UserError: If the other one does not suit this kind.
        """

    @abstractmethod
    def metrics(self) -> Metric:
        """Collects an epoch's outputs and targets; computes numbers by name, and may draw `figures()`."""

    @abstractmethod
    def baseline(self, targets: Tensor) -> Tensor:
        """Outputs of a predictor that sees no object, shape (K,), from the targets of the training split."""

    @property
    def target_columns(self) -> list[str]:
        """Columns of a catalog that hold the targets."""
        return self.outputs

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """Targets of a catalog's rows as a loss takes them; here float32 of shape (N, K), NaN where not known."""
        return torch.tensor(catalog[self.target_columns].to_numpy(np.float32))

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """Numbers in which all parts of a split should look alike, shape (N, K)."""
        return catalog[self.target_columns].to_numpy(np.float64)

    def describe(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """What is known of some objects as text, one row each: their id, and what a person would colour them by."""
        return as_text(catalog, ["id", "survey", *self.target_columns[:DESCRIBED]])

    def prediction_writer(self, run: RunDir) -> BasePredictionWriter:
        """What keeps a model's predictions in the folder of its run."""
        return PredictionTables(run)

    @abstractmethod
    def stages(self) -> list[Stage]:
        """What turns the predictions of a finished fit into numbers, figures and tables, in this order."""

    @abstractmethod
    def caption(self, output: Any, target: Any) -> str:
        """A few short lines about one object, from its outputs (K,) and its target."""


def of_config(config: DictConfig) -> Kind:
    """The kind of target that a run's configuration names.

    Raises:
        UserError: If it names none.
    """
    if config.get("kind") is None:
        raise UserError("The configuration has no kind of target (kind=…): it was made by an earlier version.")
    kind: Kind = instantiate(config.kind)
    return kind


def stages_of(config: DictConfig) -> list[Stage]:
    """What follows the fit: the stages of the kind of target, then those that a configuration adds by `stages`."""
    return [*of_config(config).stages(), *instantiate(config.get("stages") or [])]


def of_run(run: RunDir) -> Kind:
    """The kind of target of a run or a sweep; errors as for `of_config`."""
    return of_config(run.config)
