"""Predicted numbers beside the true ones, and how good they are, each beside the trivial predictor's."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.bootstrap import draws, with_ends
from galaxyml.evaluation.scored import TIE, ScoredPredictions, only_wanted, per_column, under
from galaxyml.evaluation.words import Words
from galaxyml.kinds.numbers.metrics import by_column, over_columns, resampled
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir

WORDS = Words(
    targets="numbers",
    main="r2",
    headline=("r2", "pearson", "nrmse"),
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


@dataclass(frozen=True)
class ScoreNumbers:
    """R2, Pearson's correlation and errors of each number and over all of them, with bootstrap intervals.

    Attributes:
        columns: The numbers, K of them.
        resamples: Of the bootstrap, over objects.
    """

    columns: list[str]
    resamples: int

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split.

        Returns:
            Numbers by `<split>/<metric>[/<column>]`; `mean_` marks those of the mean over the training objects, `_low`
            and `_high` the ends of 95 % of bootstrap resamples.

        Raises:
            UserError: If a prediction is not finite.
        """
        scores: dict[str, float] = {}
        catalog = run.catalog()
        known, fold = catalog[self.columns].to_numpy(np.float64), catalog["fold"].to_numpy()
        for split in ("val", "test"):
            if (table := run.predictions(split)) is None:
                continue
            predicted = table[self.columns].to_numpy(np.float64)
            if not np.isfinite(predicted).all():
                raise diverged(run.path)
            rows = pd.Index(catalog["id"]).get_indexer(table["id"])
            scores |= under(split, self._score(predicted, known[rows], self.resamples))
            means = self._score(out_of_fold_means(known, fold, rows), known[rows], 0)
            # Within a fold means are constant; joined over folds they only anticorrelate with what they leave out.
            means = {key: 0.0 if key.startswith("pearson") else value for key, value in means.items()}
            means = {
                f"mean_{key}": value for key, value in means.items() if not key.startswith(("bias", "nmad", "r2/"))
            }
            scores |= under(split, means)
        return {key: value for key, value in scores.items() if np.isfinite(value)}

    def _score(self, predicted: np.ndarray, target: np.ndarray, resamples: int) -> dict[str, float]:
        drawn = resampled(predicted, target, draws(len(target), resamples, seed=0))
        of_sample = {name: values[None] for name, values in by_column(predicted, target).items()}
        by_name = of_sample | {name: values for name, values in drawn.items() if name in of_sample}
        scores: dict[str, float] = {}
        for key, values in (over_columns(drawn) | per_column(by_name, self.columns)).items():
            scores |= with_ends(key, values) if len(values) > 1 else {key: float(values[0])}
        return scores
