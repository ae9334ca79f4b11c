"""Predicted numbers beside the true ones."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np

from galaxyml.evaluation.scored import TIE, ScoredPredictions, only_wanted, per_column
from galaxyml.kinds.numbers.metrics import over_columns, resampled


@dataclass(frozen=True)
class ScoredNumbers(ScoredPredictions):
    """Numbers of any unit, all known of each galaxy."""

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        columns = resampled(self.predicted, self.target, drawn)
        metrics = over_columns(columns)
        columns.pop("nrmse")  # an RMSE has the number's unit, which is enough
        return only_wanted(metrics | per_column(columns, self.columns), wanted)

    def _gaps(self, other: Self) -> np.ndarray:
        return np.abs(self.target - other.target) > TIE * np.maximum(np.abs(self.target), np.abs(other.target))
