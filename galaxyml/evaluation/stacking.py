"""Weights of the mean of several predictors, at least 0 and summing to 1, that predict known objects best."""

import numpy as np
from scipy.optimize import minimize, nnls

SETTLED = 1e-14  # change of the log loss that ends the search


def least_squares_weights(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights of the mean of several predictors that has the least squared error.

    For weights w that sum to 1 the squared error is w Q w with the mean products Q of the predictors' errors. The v at
    least 0 that minimises v Q v + (1 - sum v)^2 is a multiple of them (Breiman 1996, doi:10.1007/BF00117832, stacks
    regressions by such weights).

    Args:
        outputs: Of G predictors, shape (G, N, K).
        targets: Shape (N, K); NaN marks what is not known.

    Returns:
        Shape (G,); of equal predictors any weights are as good, and those of a perfect one are 1.
    """
    known = ~np.isnan(targets)
    errors = (outputs - targets)[:, known].astype(np.float64)
    products = errors @ errors.T / max(errors.shape[1], 1)
    scale = np.trace(products) / len(products)
    if scale == 0:
        return np.full(len(outputs), 1 / len(outputs))
    values, vectors = np.linalg.eigh(products / scale)
    root = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    system = np.vstack([root, np.ones(len(outputs))])
    weights, _ = nnls(system, np.append(np.zeros(len(outputs)), 1.0))
    return weights / weights.sum()


def log_loss_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights of the mean of several predictors' probabilities that has the least log loss.

    The log loss is convex in them, so that any minimum is the least.

    Args:
        probabilities: Of G predictors for K classes, shape (G, N, K).
        labels: Class indices, shape (N,); -1 marks what is not known.

    Returns:
        Shape (G,).
    """
    known = np.flatnonzero(labels >= 0)
    of_truth = np.maximum(probabilities[:, known, labels[known]].astype(np.float64), np.finfo(np.float64).tiny)
    count = len(probabilities)
    weights = np.full(count, 1 / count)
    if not len(known):
        return weights

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mean = np.maximum(weights @ of_truth, np.finfo(np.float64).tiny)
        return float(-np.log(mean).mean()), -(of_truth / mean).mean(axis=1)

    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}
    options = {"ftol": SETTLED, "maxiter": 1000}
    found = minimize(
        loss, weights, jac=True, method="SLSQP", bounds=[(0, 1)] * count, constraints=sums, options=options
    )
    weights = found.x.clip(min=0)
    return weights / weights.sum()
