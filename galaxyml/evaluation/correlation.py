"""Agreement of predicted numbers with known ones: Pearson's r, R2, MAE and MSE, of columns, weighted, resampled.

Values have shape (N, K). NaN in the targets marks what is not known and is left out. `votes`, shape (N, K), are
weights: how many votes a fraction is made of, or 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from galaxyml.evaluation.bootstrap import draws

MOMENTS = 7  # sums that every measure follows from
CENTRE = 0.5  # of fractions: moments about it lose fewer digits than those about 0
GALAXIES_AT_ONCE = 2048
LEAST = 20  # galaxies that a correlation is given for


def asked(target: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Whether a galaxy's fraction is known and has a vote; (N, F) twice -> bool of shape (N, F)."""
    return ~np.isnan(target) & (votes > 0)


def _terms(weight: Any, x: Any, y: Any) -> tuple[Any, ...]:
    """Terms of the `MOMENTS` sums, of arrays or tensors of one shape."""
    wx, wy = weight * x, weight * y
    return weight, wx, wy, wx * x, wy * y, wx * y, weight * abs(x - y)


def moments(predicted: np.ndarray, target: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Terms that each galaxy adds to the sums that `measures` takes; three of shape (N, F) -> (N, 7, F)."""
    counted = asked(target, votes)
    x, y = (np.where(counted, np.asarray(values, np.float64) - CENTRE, 0.0) for values in (predicted, target))
    return np.stack(_terms(np.where(counted, votes, 0.0), x, y), axis=1)


def weighted_sums(predicted: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Moments of a batch added up, as `measures` takes them; three of shape (N, K) -> (7, K), in double precision.

    Args:
        predicted: Any numbers where the weight is 0.
        targets: Any numbers where the weight is 0.
        weight: 0 for what is left out.
    """
    weight = weight.double()
    x, y = (torch.where(weight > 0, values.double() - CENTRE, 0.0) for values in (predicted, targets))
    return torch.stack([term.sum(0) for term in _terms(weight, x, y)])


def measures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure of each column, from sums of moments.

    - `pearson`: weighted correlation, in [-1, 1]; 0 where only the predictions are constant. The best value is 1.
    - `r2`: 1 - weighted squared errors / weighted squared distances to the columns' own mean. The best value is 1; the
      column's true mean has 0, and what is worse than that is negative.
    - `mae`, `mse`: weighted means of absolute and squared errors. The best value is 0.

    Args:
        sums: Shape (..., 7, F).

    Returns:
        Each of shape (..., F). All are NaN where nobody was asked, the first two also where the targets are constant.
    """
    weight, x, y, xx, yy, xy, absolute = np.moveaxis(np.asarray(sums, np.float64), -2, 0)
    total = np.where(weight > 0, weight, np.nan)
    x_spread, y_spread = xx - x * x / total, yy - y * y / total
    x_varies, y_varies = x_spread > 1e-12 * xx, y_spread > 1e-12 * yy
    squared = np.maximum(xx - 2 * xy + yy, 0.0)
    truth = np.where(y_varies, y_spread, np.nan)
    scale = np.sqrt(np.where(x_varies, x_spread, 1.0) * truth)
    r = np.where(x_varies | np.isnan(x_spread), (xy - x * y / total) / scale, 0.0 * truth)
    return {"pearson": np.clip(r, -1, 1), "r2": 1 - squared / truth, "mae": absolute / total, "mse": squared / total}


def by_column(predicted: np.ndarray, target: np.ndarray, votes: np.ndarray, least: int = 1) -> dict[str, np.ndarray]:
    """`measures` of each column, and `rmse`, the root of `mse`; three of shape (N, F) -> (F,) each.

    Args:
        predicted: Predicted fractions.
        target: Fractions of votes; NaN where not asked.
        votes: The votes of each fraction's question.
        least: Galaxies that must have been asked; with fewer, everything is NaN.
    """
    enough = asked(target, votes).sum(0) >= least
    by_measure = measures(summed(predicted, target, votes))
    by_measure["rmse"] = np.sqrt(by_measure["mse"])
    return {name: np.where(enough, values, np.nan) for name, values in by_measure.items()}


def flattened(sums: np.ndarray) -> np.ndarray:
    """Correlation over the known values of all columns at once, from sums of moments; (..., 7, F) -> (...).

    It is high for a constant a column, as the columns' means differ; read it beside that of the means.
    """
    return measures(sums.sum(-1, keepdims=True))["pearson"][..., 0]


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    return np.where(count > 0, np.where(defined, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def resampled_sums(predicted: np.ndarray, target: np.ndarray, votes: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Moments added up over resamples of the galaxies.

    Args:
        predicted: Predicted fractions, shape (N, F).
        target: Shape (N, F); NaN where not asked.
        votes: Shape (N, F).
        drawn: How often each galaxy is drawn, shape (R, N).

    Returns:
        Shape (R, 7, F), as `measures` takes it.
    """
    count, columns = target.shape
    sums = np.zeros((len(drawn), MOMENTS * columns))
    for start in range(0, count, GALAXIES_AT_ONCE):
        rows = slice(start, start + GALAXIES_AT_ONCE)
        added = moments(predicted[rows], target[rows], votes[rows]).reshape(-1, MOMENTS * columns)
        sums += drawn[:, rows].astype(np.float64) @ added
    return sums.reshape(-1, MOMENTS, columns)


def summed(predicted: np.ndarray, target: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Moments added up over the galaxies; three of shape (N, F) -> (7, F)."""
    return resampled_sums(predicted, target, votes, np.ones((1, len(target)), np.uint8))[0]


class Resampled:
    """Measures of some galaxies and of their bootstrap resamples (Efron & Tibshirani 1993, ch. 13).

    Several nets' outputs of the same galaxies are measured on the same resamples, so that their differences are paired.
    Galaxies of two surveys are two samples, resampled apart. Every array begins with the sample itself, and R resamples
    follow; sums, means and differences of such arrays are such arrays, and `interval` reads them.

    Args:
        predicted: Predicted fractions by what they are called, such as `""` and `head`, shape (N, F) each.
        target: Shape (N, F); NaN where not asked.
        votes: Shape (N, F).
        resamples: R, or how often each galaxy is drawn, uint8 of shape (1 + R, N), ones first (`bootstrap.draws`).
        least: Galaxies that must have been asked for a column to be measured.
        seed: Of the draws, where they are not given.

    Attributes:
        asked: How many galaxies were asked, shape (F,).
        votes: How many votes they have, shape (F,).
        defined: Whether a column is measured: enough galaxies, and not all the same, shape (F,).
        stages: What the outputs are called.
    """

    def __init__(
        self,
        predicted: Mapping[str, np.ndarray],
        target: np.ndarray,
        votes: np.ndarray,
        resamples: int | np.ndarray = 1000,
        least: int = LEAST,
        seed: int = 0,
    ) -> None:
        drawn = draws(len(target), resamples, seed) if isinstance(resamples, int) else resamples
        self._sums = {by: resampled_sums(values, target, votes, drawn) for by, values in predicted.items()}
        self._measures = {by: measures(sums) for by, sums in self._sums.items()}
        self.stages = list(predicted)
        counted = asked(target, votes)
        self.asked = counted.sum(0)
        self.votes = np.where(counted, votes, 0.0).sum(0)
        highest = np.where(counted, target, -np.inf).max(0, initial=-np.inf)
        lowest = np.where(counted, target, np.inf).min(0, initial=np.inf)
        self.defined = (self.asked >= least) & (highest > lowest)

    def column(self, measure: str, by: str = "") -> np.ndarray:
        """One of `measures` (or `rmse`), shape (1 + R, F); NaN for columns that are not measured."""
        if measure == "rmse":
            return np.sqrt(self.column("mse", by))
        return np.where(self.defined, self._measures[by][measure], np.nan)

    def mean(self, measure: str, columns: np.ndarray, by: str = "") -> np.ndarray:
        """Mean of a measure over columns, or `flattened_pearson`, the correlation over all of them; shape (1 + R,).

        Args:
            measure: `rmse` is the root of the mean `mse`.
            columns: Which to take, bool of shape (F,); those that are not measured are left out.
            by: Whose outputs.
        """
        chosen = columns & self.defined
        if measure == "rmse":
            return np.sqrt(self.mean("mse", columns, by))
        if measure == "flattened_pearson":
            return flattened(self._sums[by][..., chosen])
        return mean_defined(self._measures[by][measure][:, chosen])
