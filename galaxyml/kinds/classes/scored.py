"""Predicted classes beside the true ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from galaxyml.evaluation.scored import ScoredPredictions, per_column
from galaxyml.kinds.classes import metrics
from galaxyml.runs.errors import UserError, shorten


@dataclass(frozen=True)
class ScoredClasses(ScoredPredictions):
    """Probabilities of classes that exclude each other; `target` is the class' place, 0 to K - 1."""

    def only(self, columns: Sequence[str]) -> Self:
        if set(columns) != set(self.columns):
            raise UserError(
                f"{self.path} tells other classes apart than the others: {shorten(self.columns)}. "
                "Compare runs with the same classes."
            )
        order = np.array([self.columns.index(name) for name in columns])
        target = np.argsort(order)[self.target]
        return replace(self, columns=tuple(columns), predicted=self.predicted[:, order], target=target)

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        values = metrics.weighted(self.target, self.predicted, drawn, wanted)
        means = {name: each for name, each in values.items() if each.ndim == 1}
        return means | per_column({name: each for name, each in values.items() if each.ndim > 1}, self.columns)

    def counts(self) -> dict[str, int]:
        support = np.bincount(self.target, minlength=len(self.columns))
        return {
            f"{name}/{column}": int(support[k])
            for name in ("precision", "recall", "f1", "auc")
            for k, column in enumerate(self.columns)
        }

    def _gaps(self, other: Self) -> np.ndarray:
        return self.target != other.target

    def _shown(self, row: int, column: int) -> str:
        return self.columns[self.target[row]]
