"""How good predicted fractions are: pure functions, and a metric that collects their sums over an epoch."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from galaxyml.evaluation.correlation import MOMENTS, measures, summed, weighted_sums
from galaxyml.evaluation.plots import bars


def rmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Root mean squared error over all values, the score of the Kaggle challenge. The best value is 0.

    Args:
        outputs: Shape (N, K).
        targets: Shape (N, K); NaN marks what is not known.
    """
    return float(np.sqrt(np.nanmean((outputs - targets) ** 2)))


def column_rmse(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Root mean squared error of each column; (N, K) twice -> (K,), NaN where no target is known."""
    known = ~np.isnan(targets)
    squared = np.where(known, (outputs - targets) ** 2, 0.0).sum(axis=0)
    return np.sqrt(np.divide(squared, known.sum(axis=0), out=np.full(len(squared), np.nan), where=known.any(axis=0)))


def pearson(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column, in [-1, 1]; 0 where outputs or targets are constant (never NaN).

    Args:
        outputs: Shape (N, K).
        targets: Shape (N, K), rows of NaN are left out.

    Returns:
        Shape (K,).
    """
    known = ~np.isnan(targets).any(axis=1)
    sums = summed(outputs[known], targets[known], np.ones_like(targets[known]))
    return np.nan_to_num(measures(sums)["pearson"])


class FractionMetrics(Metric):
    """RMSE and mean Pearson correlation of predicted fractions, from sums that each step adds to.

    Args:
        columns: Names of the K columns.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self.columns = list(columns)
        # In double precision, where sums lose nothing that matters.
        self.add_state("sums", torch.zeros(MOMENTS, len(self.columns), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch; both of shape (N, K), rows of NaN targets are left out."""
        known = ~targets.isnan().any(dim=1, keepdim=True)
        self.sums += weighted_sums(outputs, targets, known.expand_as(targets))

    def compute(self) -> dict[str, float]:
        """`rmse`, `pearson` (mean over columns) and `rmse/<column>`; inf and 0 once a model has diverged."""
        sums = self.sums.cpu().numpy()
        with np.errstate(invalid="ignore"):
            values = measures(sums)
        diverged = ~np.isfinite(sums).all(0)
        squared = np.where(diverged, np.inf, np.nan_to_num(values["mse"]))
        pearson = np.where(diverged.any(), 0.0, np.nan_to_num(values["pearson"]))
        metrics = {"rmse": float(np.sqrt(squared.mean())), "pearson": float(pearson.mean())}
        columns = zip(self.columns, np.sqrt(squared), strict=True)
        return metrics | {f"rmse/{name}": float(value) for name, value in columns}

    def figures(self) -> dict[str, Figure]:
        """The error of each column of what was collected so far, by title."""
        errors = {name.removeprefix("rmse/"): value for name, value in self.compute().items() if "/" in name}
        return {"rmse by column": bars(list(errors), np.array(list(errors.values())))}
