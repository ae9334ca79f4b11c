"""A kind of target: one object that knows everything that depends on it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torchmetrics import Metric

from galaxyml.evaluation.joined import Said
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir


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
    """

    name: ClassVar[str]
    monitor: ClassVar[str]
    mode: ClassVar[str]
    outputs: list[str]

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
