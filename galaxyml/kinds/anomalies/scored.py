"""Anomaly scores beside what is known of the objects."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.scored import ScoredPredictions, only_wanted
from galaxyml.kinds.anomalies import metrics


@dataclass(frozen=True)
class ScoredAnomalies(ScoredPredictions):
    """Scores of objects of known and of unknown classes; `target` is whether an object is of an unknown one.

    Unknown and known objects are resampled apart (see `galaxyml.kinds.anomalies.metrics.bootstrap`).

    Attributes:
        names: True class of each object, shape (N,).
    """

    names: np.ndarray

    def only(self, columns: Sequence[str]) -> Self:
        return self

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        names = wanted if wanted is not None else ("roc_auc", "pr_auc", *(f"purity_{k}" for k in metrics.KS))
        ks = [int(name.removeprefix("purity_")) for name in names if name.startswith("purity_")]
        return only_wanted(metrics.weighted(self.predicted[:, 0], self.target, drawn, self.names, ks), names)

    def counts(self) -> dict[str, int]:
        support = pd.Series(self.names[self.target]).value_counts()
        return {f"{key}/{name}": int(count) for key in ("roc_auc", "pr_auc") for name, count in support.items()}

    def _gaps(self, other: Self) -> np.ndarray:
        return (self.target != other.target) | (self.names != other.names)

    def _shown(self, row: int, column: int) -> str:
        return f"{self.names[row]} ({'unknown' if self.target[row] else 'known'})"
