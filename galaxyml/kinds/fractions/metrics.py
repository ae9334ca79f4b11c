"""How good predicted fractions are: pure functions, and a metric that collects their sums over an epoch."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from galaxyml.evaluation.plots import bars


def rmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Root mean squared error over all values, the score of the Kaggle challenge. The best value is 0.

    Args:
        outputs: Shape (N, K).
        targets: Shape (N, K); NaN marks what is not known.
    """
    return float(np.sqrt(np.nanmean((outputs - targets) ** 2)))


def column_rmse(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Root mean squared error of each column; (N, K) twice -> (K,)."""
    return np.sqrt(np.nanmean((outputs - targets) ** 2, axis=0))


def pearson(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column, in [-1, 1]; 0 where outputs or targets are constant (never NaN).

    Args:
        outputs: Shape (N, K).
        targets: Shape (N, K), rows of NaN are left out.

    Returns:
        Shape (K,).
    """
    known = ~np.isnan(targets).any(axis=1)
    x, y = outputs[known].astype(np.float64), targets[known].astype(np.float64)
    count = max(len(x), 1)
    return _correlation(count, x.sum(0), y.sum(0), (x * x).sum(0), (y * y).sum(0), (x * y).sum(0))


class FractionMetrics(Metric):
    """RMSE and mean Pearson correlation of predicted fractions, from sums that each step adds to.

    Args:
        columns: Names of the K columns.
    """

    full_state_update = False
    known: Tensor
    sums: Tensor

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self.columns = list(columns)
        # Per column: squared errors, x, y, x x, y y, x y; in double precision, where sums lose nothing that matters.
        self.add_state("sums", torch.zeros(6, len(self.columns), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("known", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch; both of shape (N, K), rows of NaN targets are left out."""
        rows = ~targets.isnan().any(dim=1)
        x, y = outputs[rows].double(), targets[rows].double()
        self.sums += torch.stack([((x - y) ** 2), x, y, x * x, y * y, x * y]).sum(1)
        self.known += rows.sum()

    def compute(self) -> dict[str, float]:
        """`rmse`, `pearson` (mean over columns) and `rmse/<column>`."""
        squared, *sums = np.nan_to_num(self.sums.cpu().numpy(), nan=np.inf)
        count = max(float(self.known), 1.0)
        found = {"rmse": float(np.sqrt(squared.mean() / count)), "pearson": float(_correlation(count, *sums).mean())}
        columns = np.sqrt(squared / count)
        return found | {f"rmse/{name}": float(value) for name, value in zip(self.columns, columns, strict=True)}

    def figures(self) -> dict[str, Figure]:
        """The error of each column of what was collected so far, by title."""
        found = {name.removeprefix("rmse/"): value for name, value in self.compute().items() if "/" in name}
        return {"rmse by column": bars(list(found), np.array(list(found.values())))}


def _correlation(
    count: float, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    """Pearson's correlation from sums; variances below rounding count as 0."""
    if not np.isfinite([x, y, xx, yy, xy]).all():  # of a net that has diverged
        return np.zeros_like(x)
    x_variance, y_variance = xx - x * x / count, yy - y * y / count
    varies = (x_variance > 1e-12 * np.maximum(xx, 1e-300)) & (y_variance > 1e-12 * np.maximum(yy, 1e-300))
    scale = np.sqrt(np.where(varies, x_variance * y_variance, 1.0))
    return np.clip(np.where(varies, (xy - x * y / count) / scale, 0.0), -1.0, 1.0)
