"""Predicted numbers beside the true ones."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np

from galaxyml.evaluation.scored import TIE, ScoredPredictions, only_wanted, per_column
from galaxyml.evaluation.words import Words
from galaxyml.kinds.numbers.metrics import over_columns, resampled

WORDS = Words(
    targets="numbers",
    main="r2",
    known="with numbers",
    labels={
        "r2": "R2",
        "pearson": "Pearson",
        "rmse": "RMSE",
        "nrmse": "RMSE / standard deviation",
        "mae": "MAE",
        "nmad": "NMAD",
    },
    by_column={
        "rmse": "RMSE",
        "mean_rmse": "baseline (column mean)",
        "pearson": "Pearson",
        "r2": "R2",
        "mae": "MAE",
        "bias": "bias",
        "nmad": "NMAD",
        "coverage_50": "in 50 % interval",
        "coverage_80": "in 80 %",
        "coverage_95": "in 95 %",
        "width_95": "width of it",
    },
    variants={"mean_": "baseline (column mean)"},
    baselines=("mean_",),
)


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
