"""How good predicted numbers are: pure functions, and a metric that collects an epoch's.

Numbers of different units are put together in standard deviations of their truth.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from galaxyml.evaluation.correlation import CENTRE, measures, resampled_sums
from galaxyml.evaluation.plots import scatter_grid

MOST = 12  # numbers that a figure has room for
NMAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


def by_column(predicted: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """How good each number is; (N, K) twice -> (K,) each.

    - `r2`: 1 - squared errors / squared distances to the mean. The best value is 1; the column's mean has 0.
    - `pearson`: Pearson's correlation, in [-1, 1]; 0 where the predictions are constant.
    - `rmse`, `mae`: root mean squared, and mean absolute error, in the number's unit. The best value is 0.
    - `bias`: mean of predicted minus true, in its unit. The best value is 0.
    - `nmad`: 1.4826 times the median absolute deviation of the errors from their median, the scatter without outliers,
      in its unit (Hoaglin, Mosteller & Tukey 1983). The best value is 0.
    """
    error = predicted.astype(np.float64) - target
    sums = _sums(predicted, target, deviation(target), np.ones((1, len(target)), np.uint8))
    agreement = measures(sums)
    return {
        "r2": agreement["r2"][0],
        "pearson": agreement["pearson"][0],
        "rmse": np.sqrt(np.square(error).mean(axis=0)),
        "mae": np.abs(error).mean(axis=0),
        "bias": error.mean(axis=0),
        "nmad": NMAD * np.median(np.abs(error - np.median(error, axis=0)), axis=0),
    }


def resampled(predicted: np.ndarray, target: np.ndarray, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of resamples that are sums over objects, by column.

    Args:
        predicted: Shape (N, K).
        target: Shape (N, K).
        drawn: How often each object is drawn, shape (R, N).

    Returns:
        `r2`, `pearson`, `rmse` and `mae` as `by_column` has them, and `nrmse`, the RMSE in standard deviations of all
        truth; shape (R, K) each.
    """
    unit = deviation(target)
    metrics = measures(_sums(predicted, target, unit, drawn))
    nrmse = np.sqrt(metrics["mse"])
    without_unit = {"r2": metrics["r2"], "pearson": metrics["pearson"], "nrmse": nrmse}
    return without_unit | {"rmse": nrmse * unit, "mae": metrics["mae"] * unit}


def over_columns(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means over the columns of what has no unit: `r2`, `pearson`, `nrmse`; (..., K) -> (...)."""
    return {name: metrics[name].mean(axis=-1) for name in ("r2", "pearson", "nrmse")}


def deviation(target: np.ndarray) -> np.ndarray:
    """Standard deviations of the columns, (N, K) -> (K,); 1 where the truth is constant."""
    spread = target.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


class NumberMetrics(Metric):
    """R2, Pearson's correlation and RMSE of an epoch's predicted numbers.

    Args:
        columns: Names of the K numbers.
    """

    full_state_update = False
    predicted: list[Tensor]
    target: list[Tensor]

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self.columns = list(columns)
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch; both of shape (N, K)."""
        self.predicted.append(outputs.detach().float())
        self.target.append(targets.float())

    def compute(self) -> dict[str, float]:
        """`r2`, `pearson` and `nrmse`, means over the columns, and `rmse/<column>`; -inf, 0 and inf once diverged."""
        predicted, target = self._collected()
        if not np.isfinite(predicted).all():
            return {"r2": -np.inf, "pearson": 0.0, "nrmse": np.inf}
        metrics = resampled(predicted, target, np.ones((1, len(target)), np.uint8))
        means = {name: float(np.nan_to_num(values[0])) for name, values in over_columns(metrics).items()}
        columns = zip(self.columns, metrics["rmse"][0], strict=True)
        return means | {f"rmse/{name}": float(value) for name, value in columns}

    def figures(self) -> dict[str, Figure]:
        """Predicted against true numbers, by title."""
        return {"predicted against true": scatter_grid(*self._collected(), self.columns[:MOST])}

    def _collected(self) -> tuple[np.ndarray, np.ndarray]:
        predicted, target = (dim_zero_cat(batches).double().cpu().numpy() for batches in (self.predicted, self.target))
        return predicted, target


def _sums(predicted: np.ndarray, target: np.ndarray, unit: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Moments of standardised numbers, which lose no digits to their units."""
    centre = target.mean(axis=0)
    # Moments are taken about the middle of the fractions that they are made for.
    x, y = ((values.astype(np.float64) - centre) / unit + CENTRE for values in (predicted, target))
    return resampled_sums(x, y, np.ones(target.shape), drawn)
