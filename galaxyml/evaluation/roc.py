"""Area under the ROC curve of classes, of objects that count as often as they are drawn."""

import numpy as np


def one_vs_rest_auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against all others, ties counting half (Hanley & McNeil 1982).

    Args:
        labels: From 0 to K - 1, shape (N,).
        probabilities: Shape (N, K).
        weights: How often each object counts, in each of R resamples, shape (N, R).

    Returns:
        In [0, 1], shape (R, K); chance is 0.5. NaN where a class is absent or is all there is.
    """
    areas = np.full((weights.shape[1], probabilities.shape[1]), np.nan)
    total = weights.sum(0)
    for k, scores in enumerate(probabilities.T):
        order = np.argsort(scores)
        first = np.diff(scores[order], prepend=np.nan) != 0  # False where a score equals the one before
        groups = np.add.reduceat(weights[order], np.flatnonzero(first), axis=0)
        up_to = groups.cumsum(axis=0)
        positive = labels[order] == k
        having, group = weights[order[positive]], first.cumsum()[positive] - 1
        midranks = up_to[group] - groups[group] / 2
        n = having.sum(0)
        others = total - n
        wins = np.einsum("nr,nr->r", having, midranks) - n * n / 2
        np.divide(wins, n * others, out=areas[:, k], where=n * others > 0)
    return areas
