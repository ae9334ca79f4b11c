"""Predicted fractions beside those of the volunteers."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from galaxyml.evaluation.correlation import measures, resampled_sums
from galaxyml.evaluation.scored import ScoredPredictions, only_wanted, per_column
from galaxyml.evaluation.words import Words

WORDS = Words(
    targets="vote fractions",
    main="rmse",
    known="with votes",
    labels={"rmse": "RMSE", "pearson": "Pearson"},
    by_column={
        "rmse": "RMSE",
        "mean_rmse": "baseline (column mean)",
        "pearson": "Pearson",
        "coverage_50": "in 50 % interval",
        "coverage_80": "in 80 %",
        "coverage_95": "in 95 %",
    },
    variants={
        "net_": "model output",
        "normalised_": "after normalising",
        "projected_": "after projecting",
        "mean_": "baseline (column mean)",
    },
    baselines=("mean_",),
    wide=("normalised_", "projected_"),
)


@dataclass(frozen=True)
class ScoredFractions(ScoredPredictions):
    """Fractions of all volunteers' votes, all columns known of each galaxy."""

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        if wanted is not None and set(wanted) == {"rmse"}:  # one number a galaxy instead of seven a column
            weights = drawn.astype(np.float64)
            squared = weights @ ((self.predicted - self.target) ** 2).mean(axis=1) / weights.sum(axis=1)
            return {"rmse": np.sqrt(squared)}
        columns = measures(resampled_sums(self.predicted, self.target, np.ones_like(self.target), drawn))
        pearson = np.nan_to_num(columns["pearson"])  # of a constant target
        metrics = {"rmse": np.sqrt(columns["mse"].mean(axis=1)), "pearson": pearson.mean(axis=1)}
        metrics |= per_column({"rmse": np.sqrt(columns["mse"]), "pearson": pearson}, self.columns)
        return only_wanted(metrics, wanted)
