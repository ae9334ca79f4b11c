"""A kind of target: one object that knows everything that depends on it."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import BasePredictionWriter
from omegaconf import DictConfig
from torch import Tensor, nn
from torchmetrics import Metric

from galaxyml.data.catalog import as_text
from galaxyml.data.tables.reading import Rows
from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.evaluation.scored import ScoredPredictions
from galaxyml.evaluation.stacking import least_squares_weights
from galaxyml.evaluation.words import Words
from galaxyml.kinds.view import Row, View, numbers_view
from galaxyml.runs.errors import UserError, diverged, shorten
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.predictions import PredictionTables
from galaxyml.training.specs import plain
from galaxyml.trees.questions import Questions, odd_columns

LEAST = 1e-4  # fraction from which on odds are told
DESCRIBED = 12  # targets that people colour objects by
Scored = TypeVar("Scored", bound=ScoredPredictions)


class Stage(Protocol):
    """A step after the fit, on the tables of a run: constraints, calibration, intervals, scores, figures."""

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Reads and writes the run's tables; returns numbers by `<split>/<metric>[/<column>]`."""


@runtime_checkable
class CombiningStage(Stage, Protocol):
    """A stage that also turns outputs for new images into what people read."""

    def combine(self, run: RunDir, nets: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Turns the outputs of a run's nets for the same images into the next table.

        Args:
            run: The run, or the sweep.
            nets: The outputs.
            table: That of the stages before, one row an image.
        """


class Kind(ABC):
    """The kind of a task's targets, and all that follows from it.

    A kind is a folder of `galaxyml.kinds`, and `conf/kind/<name>.yaml` builds it for the command.

    Attributes:
        name: Also the folder's.
        averaged: Whether the outputs of several fits may be averaged, as an ensemble does.
        stacked: The table of predictions that weights of such a mean are fitted to, as `RunDir.predictions` takes it.
        outputs: Names of what a model outputs, K of them.
        spec: The kind as plain values, from which it can be built again.
        words: What reports say.
        promise: How sure predictions are, in a few sentences.
    """

    name: ClassVar[str]
    averaged: ClassVar[bool] = True
    stacked: ClassVar[str] = "net"
    outputs: list[str]
    words: Words
    spec: dict[str, Any]
    promise: ClassVar[str] = "How sure: there are no intervals; the run's report tells how far numbers are off."

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        kind = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind(kind, *arguments, **options).arguments
        given.pop("self")
        kind.spec = {"_target_": f"{cls.__module__}.{cls.__qualname__}", **plain(given)}
        return kind

    def __reduce__(self) -> Any:
        return object.__new__, (type(self),), vars(self)  # copied and pickled as it is; `__new__` asks for arguments

    @property
    def score_names(self) -> list[str] | None:
        """What each score of a net means, in their order; None if it depends on the training set."""
        return self.outputs

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

    def read_targets(self, rows: Rows, columns: list[str], notes: list[str]) -> pd.DataFrame:
        """Targets from a table of labels, as the `target_columns` of a catalog.

        Args:
            rows: The table as text, by `id`; no cell of the `source_columns` is empty.
            columns: What of it is to be predicted.
            notes: Gets sentences about what a user should know.

        Returns:
            A row each, without one number where it turns out that nothing is known.

        Raises:
            UserError: If a value cannot be a target, or such targets do not fit into a table.
        """
        raise UserError(f"kind={self.name}: a table of labels cannot hold {self.words.targets}.")

    def source_columns(self, columns: list[str], header: Sequence[str]) -> list[str]:
        """Columns of a table of labels without which nothing is known of an object.

        Args:
            columns: What is to be predicted.
            header: All columns of the table.
        """
        return columns

    @property
    def target_columns(self) -> list[str]:
        """Columns of a catalog that hold the targets."""
        return self.outputs

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """Targets of a catalog's rows as a loss takes them; here float32 of shape (N, K), NaN where not known."""
        return torch.tensor(catalog[self.target_columns].to_numpy(np.float32))

    def example_targets(self) -> Tensor:
        """Possible targets of a few objects that do not exist, as `target_tensor` has them, to try losses on."""
        return torch.tensor([[0.0], [1.0]]).expand(-1, len(self.outputs))

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """Numbers in which all parts of a split should look alike, shape (N, K)."""
        return catalog[self.target_columns].to_numpy(np.float64)

    def describe(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """Objects as text, one row each: their id, and columns that a person would colour them by."""
        return as_text(catalog, ["id", "survey", *self.target_columns[:DESCRIBED]])

    def prediction_writer(self, run: RunDir) -> BasePredictionWriter:
        """Writes a model's predictions into the folder of its run."""
        return PredictionTables(run, self.outputs)

    @abstractmethod
    def stages(self) -> list[Stage]:
        """Stages that turn the predictions of a finished fit into numbers, figures and tables, in this order."""

    @abstractmethod
    def caption(self, output: Any, target: Any) -> str:
        """A few short lines about one object, from its outputs (K,) and its target."""

    @abstractmethod
    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredPredictions | None:
        """The predictions of a finished run beside their targets; None if there are none, or no target is known.

        Args:
            run: The run, or the sweep whose folds were joined.
            split: One of `galaxyml.evaluation.scored.SPLITS`.
            least: Galaxies that must have been asked for a feature to be measured; None for what the run was scored by.

        Raises:
            UserError: If a prediction is not finite.
        """

    def column_means(self, run: RunDir, scored: Any) -> ScoredPredictions | None:
        """The baseline's predictions of the same objects, where it gives the mean of each column; None otherwise.

        Args:
            run: The run.
            scored: As `scored` has it.
        """
        return None

    def in_words(self, column: str) -> tuple[str, str]:
        """The question that a column of `metrics.json` answers, '' for none, and its answer, as people say them."""
        return "", column

    def targets_like_outputs(self, catalog: pd.DataFrame) -> np.ndarray | None:
        """Targets that outputs estimate number by number, shape (N, K), NaN where not known; None if none do."""
        return None

    def ensemble_weights(self, predicted: np.ndarray, catalog: pd.DataFrame) -> np.ndarray | None:
        """Weights of the mean of several models, at least 0 and summing to 1, that predict known objects best.

        Args:
            predicted: The table `stacked` of G models' predictions, shape (G, N, K).
            catalog: The rows of these N objects.

        Returns:
            Shape (G,), here with the least squared error; None if targets are not numbers like the outputs.
        """
        targets = self.targets_like_outputs(catalog)
        if targets is None:
            return None
        unit = self.unit(targets)
        return least_squares_weights(predicted / unit, targets / unit)

    def unit(self, targets: np.ndarray) -> np.ndarray:
        """Units of the columns' errors where columns are put together, shape (K,)."""
        return np.ones(targets.shape[1])

    def _odd_columns(self) -> list[str]:
        questions = self.questions()
        return odd_columns(questions) if questions is not None else []

    @property
    def says_odd(self) -> bool:
        """Whether outputs say that something is odd, or no galaxy at all; see `odds_of_odd`."""
        return bool(self._odd_columns())

    def odds_of_odd(self, table: pd.DataFrame) -> np.ndarray | None:
        """How odd predictions say that objects are, from their table.

        Returns:
            Logarithms of the odds that something is odd, or no galaxy at all, as if one were asked after the other;
            shape (N,). None where they do not say it.
        """
        if not (columns := self._odd_columns()):
            return None
        ordinary = (1 - table[columns].to_numpy(np.float64).clip(LEAST, 1 - LEAST)).prod(axis=1)
        return np.log((1 - ordinary) / ordinary)

    def view(self, row: Row) -> View:
        """View of one object for a page, from its row in a table of predictions."""
        return numbers_view(row, self.outputs)

    def output_names(self) -> Mapping[str, str]:
        """Names for people of the outputs that may be explained."""
        return {name: name for name in self.outputs}

    def questions(self) -> Questions | None:
        """The questions that outputs answer, in the order in which volunteers are asked; None of other outputs."""
        return None

    def known(self, row: Row) -> str:
        """The target of an object in a few words, from its row in a catalog."""
        return ", ".join(f"{name} {row[name]:.3g}" for name in self.outputs[:3] if name in row)


def of_config(config: DictConfig) -> Kind:
    """The kind of target that a run's configuration names.

    Raises:
        UserError: If it names none.
    """
    if config.get("kind") is None:
        raise UserError("The configuration has no kind of target (kind=…): it was made by an earlier version.")
    kind: Kind = instantiate(config.kind)
    return kind


def stages_of(config: DictConfig, draw: bool = True) -> list[Stage]:
    """Stages after the fit: those of the kind of target, then those that a configuration adds by `stages`.

    Args:
        config: The configuration.
        draw: Whether with those that have an `only_draws`; with `figures=false` they are left out anyway.
    """
    stages = [*of_config(config).stages(), *instantiate(config.get("stages") or [])]
    draw = draw and config.get("figures", True)
    return [stage for stage in stages if draw or not getattr(stage, "only_draws", False)]


def of_run(run: RunDir) -> Kind:
    """The kind of target of a run or a sweep."""
    return of_config(run.config)


def load_scored(run: RunDir, split: str, least: int | None = None) -> ScoredPredictions | None:
    """The predictions of a finished run beside their targets, see `Kind.scored`.

    Raises:
        UserError: If the run is not finished, or a prediction is not finite.
    """
    if not run.finished and (parts := sorted(path.name for path in (run.path / "joined").glob("*") if path.is_dir())):
        raise UserError(
            f"{run.path} holds several combinations ({shorten(parts)}): name one or more of them, such as "
            f"{run.path / 'joined' / parts[0]}."
        )
    run.metrics()  # only of a finished run
    return of_run(run).scored(run, split, least)


def check_whole(lowest: int, **numbers: Any) -> None:
    """Makes sure that options are whole numbers and not below the lowest one possible.

    Raises:
        UserError: If one is not; the message names it.
    """
    for name, value in numbers.items():
        if not isinstance(value, int) or value < lowest:
            raise UserError(f"{name}={value}: it must be a whole number, {lowest} or more.")


def with_column_means(scored: Scored, run: RunDir) -> Scored:
    """The same objects, of which each column is predicted by its mean over the other folds."""
    catalog = run.catalog()
    rows = pd.Index(catalog["id"].astype(str)).get_indexer(pd.Index(scored.ids))
    known = catalog[list(scored.columns)].to_numpy(np.float64)
    return replace(scored, predicted=out_of_fold_means(known, catalog["fold"].to_numpy(), rows))


def scored_columns(kind: type[Scored], run: RunDir, split: str, words: Words, columns: list[str]) -> Scored | None:
    """Predicted numbers beside the catalog's columns of the same names, of objects of which all are known.

    Returns:
        Scored predictions of a class that has no attributes of its own; None if there are none.

    Raises:
        UserError: If a prediction is not finite.
    """
    table = run.predictions(split)
    if table is None:
        return None
    catalog = run.catalog()
    rows = pd.Index(catalog["id"]).get_indexer(table["id"])
    targets = catalog[columns].to_numpy(np.float64)[rows]
    known = ~np.isnan(targets).any(axis=1)
    if not known.any():
        return None
    predicted = table[columns].to_numpy(np.float64)[known]
    if not np.isfinite(predicted).all():
        raise diverged(run.path)
    ids, strata = table["id"].to_numpy()[known].astype(str), np.zeros(known.sum(), np.int8)
    return kind(run.path, words, tuple(columns), ids, strata, predicted, targets[known])
