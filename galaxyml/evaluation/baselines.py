"""Predictors that see no object, which every table of numbers has beside the model."""

import numpy as np


def out_of_fold_means(
    values: np.ndarray, fold: np.ndarray, rows: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Means over the objects of all other folds.

    Args:
        values: Of M objects, shape (M, K); NaN where not known.
        fold: Of these, shape (M,); -1 for objects that are in no fold.
        rows: The N objects whose baseline is wanted, as positions among the M.
        weights: Shape (M, K) or (M, 1); None for equal ones. A value of weight 0 may be anything.

    Returns:
        Shape (N, K); 0.5 where nothing has a weight.
    """
    weights = np.where(np.isnan(values), 0.0, 1.0 if weights is None else weights)
    weighted = np.where(weights > 0, weights * values, 0.0)
    means = {}
    for number in np.unique(fold[rows]):
        others = (fold >= 0) & (fold != number)
        total = np.broadcast_to(weights[others].sum(0), values.shape[1:])
        means[number] = np.divide(weighted[others].sum(0), total, out=np.full(len(total), 0.5), where=total > 0)
    return np.stack([means[number] for number in fold[rows]])
