"""Predictions of a split beside their targets, so that runs can be compared object by object."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.words import Words
from galaxyml.runs.errors import UsageError, UserError, shorten

SPLITS = ("val", "test", "survey")
TIE = 1e-6  # fractions of votes that are nearer than this are the same
LOWER = ("rmse", "nrmse", "mae", "mse", "nll", "brier", "ece")  # measures whose best value is 0


def lower_is_better(metric: str) -> bool:
    """Whether a metric such as `rmse` or `f1/Merging` is best at its lowest."""
    return metric.partition("/")[0] in LOWER


@dataclass(frozen=True)
class ScoredPredictions(ABC):
    """Objects of a split whose targets are known, N of them, and what one run predicted.

    Attributes:
        path: The run's folder.
        words: Of the kind of target.
        columns: Names of the K columns.
        ids: Of the objects, as text, shape (N,).
        strata: What is resampled apart, shape (N,).
        predicted: Shape (N, K).
        target: Shape (N, K), or (N,) for classes and anomalies.
    """

    path: Path
    words: Words
    columns: tuple[str, ...]
    ids: np.ndarray
    strata: np.ndarray
    predicted: np.ndarray
    target: np.ndarray

    @abstractmethod
    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The metrics of resamples.

        Args:
            drawn: How often each object is drawn, shape (R, N).
            wanted: Metrics that are needed, without their columns, such as `rmse`; None for all.

        Returns:
            By metric, as in `metrics.json` without the split, shape (R,) each; NaN where it is not defined.
        """

    def counts(self) -> dict[str, int]:
        """Numbers of objects of those metrics of `measure` that are not measured on all of them."""
        return {}

    def take(self, rows: np.ndarray) -> Self:
        """Some of the objects, by position."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)})

    def concat(self, others: Sequence[Self]) -> Self:
        """These objects and those of other runs, such as the other folds, each object once.

        Raises:
            UserError: If an object is there twice.
        """
        names = [field.name for field in fields(self) if isinstance(getattr(self, field.name), np.ndarray)]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(run, name) for run in (self, *others)]) for name in names
        }
        joined = replace(self, **arrays)
        if len(np.unique(joined.ids)) < len(joined.ids):
            raise UserError(f"{self.path} and {others[0].path}: their validation folds overlap.")
        return joined

    def only(self, columns: Sequence[str]) -> Self:
        """Some of the columns, in this order."""
        index = [self.columns.index(name) for name in columns]
        return replace(self, columns=tuple(columns), predicted=self.predicted[:, index], target=self.target[:, index])

    def alongside(self, runs: Sequence[Self]) -> Self:
        """The same, ready to be compared with other runs on the same objects and columns."""
        return self

    def disagreement(self, other: Self) -> str | None:
        """Difference of the targets from another run's of the same objects and columns, in words; None without."""
        gap = self._gaps(other).reshape(len(self.ids), -1)
        if not gap.any():
            return None
        row, column = np.argwhere(gap)[0]
        first, second = (run._shown(row, column) for run in (self, other))
        of = f"{self.columns[column]} of {self.ids[row]}" if self.target.ndim > 1 else self.ids[row]
        return (
            f"different targets for {gap.any(axis=1).sum():,} of {len(gap):,} {self.words.noun}: {of} is {first} in "
            f"the first and {second} in the second"
        )

    def _gaps(self, other: Self) -> np.ndarray:
        """Targets that are not another run's, bool of shape (N, K) or (N,)."""
        return (np.abs(self.target - other.target) > TIE) | (np.isnan(self.target) != np.isnan(other.target))

    def _shown(self, row: int, column: int) -> str:
        """One target, for people."""
        return f"{self.target[row, column]:.6g}"


def per_column(values: dict[str, np.ndarray], columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Metrics of each column: `f1` of shape (R, K) becomes `f1/<column>`, shape (R,), K times."""
    return {f"{name}/{column}": values[name][:, k] for name in values for k, column in enumerate(columns)}


def under(split: str, metrics: dict[str, float]) -> dict[str, float]:
    """Metrics as `metrics.json` has them: `<split>/<metric>[/<column>]`."""
    return {f"{split}/{key}": value for key, value in metrics.items()}


def only_wanted(values: dict[str, np.ndarray], wanted: Collection[str] | None) -> dict[str, np.ndarray]:
    """Those metrics that `ScoredPredictions.measure` is asked for."""
    return {key: values[key] for key in values if wanted is None or key.partition("/")[0] in wanted}


def aligned(runs: Sequence[ScoredPredictions], split: str) -> list[ScoredPredictions]:
    """The objects and columns that all predicted, in the same order.

    Args:
        runs: Of one split.
        split: Its name, for messages.

    Raises:
        UserError: If the runs are of different kinds, or share no object or column, or differ in the targets.
    """
    first = runs[0]
    words = first.words
    for other in runs:
        if type(other) is not type(first):
            raise UsageError(
                f"{first.path} predicts {words.targets}, {other.path} {other.words.targets}: compare runs of one kind."
            )
    columns = [name for name in first.columns if all(name in other.columns for other in runs)]
    if not columns:
        other = next(run for run in runs if not set(run.columns) & set(first.columns))
        raise UsageError(
            f"{first.path} and {other.path} share no {words.column}: the first has {shorten(first.columns)}, the "
            f"second {shorten(other.columns)}. Compare runs that predict the same."
        )
    runs = [run if run.columns == tuple(columns) else run.only(columns) for run in runs]
    ids = runs[0].ids
    for other in runs[1:]:
        ids = np.intersect1d(ids, other.ids)
        if not len(ids):
            raise UsageError(
                f"{first.path} and {other.path} have no {split} {words.one} in common: the first has "
                f"{shorten(list(first.ids), shown=2)}, the second {shorten(list(other.ids), shown=2)}. "
                "Compare runs that were tested on the same survey and split."
            )
    ids = np.sort(ids)
    runs = [run.take(pd.Index(run.ids).get_indexer(ids)) for run in runs]
    runs = [run.alongside(runs) for run in runs]
    for other in runs[1:]:
        if differs := runs[0].disagreement(other):
            raise UsageError(
                f"{first.path} and {other.path} have {differs}. Compare runs that were made from the same tables."
            )
    return list(runs)
