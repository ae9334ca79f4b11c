"""The answers of few labels: a logistic regression that begins with what is believed before any label."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

PENALTY = 3.0  # precision of the weights' prior
SPREAD = 0.2  # standard deviation of the prior of the slope of what is believed
FEW = 4.0  # standard deviation of the prior of the answers' frequencies, in nats


@dataclass(frozen=True)
class Posterior:
    """The most probable regression.

    Attributes:
        weights: Of the columns, shape (D, K).
        constants: Of the answers, shape (K,).
        slope: Of what is believed of the target.
        target: Which of the answers that is.
    """

    weights: np.ndarray
    constants: np.ndarray
    slope: float
    target: int

    def odds(self, columns: np.ndarray, belief: np.ndarray) -> np.ndarray:
        """Logarithms of probabilities but for a constant an object; (N, D), (N,) -> (N, K)."""
        odds: np.ndarray = columns @ self.weights + self.constants
        odds[:, self.target] += self.slope * belief
        return odds

    def probabilities(self, columns: np.ndarray, belief: np.ndarray) -> np.ndarray:
        """Of each answer, shape (N, K)."""
        odds = self.odds(columns, belief)
        return np.exp(odds - logsumexp(odds, axis=1, keepdims=True))


def fit_posterior(
    columns: np.ndarray, belief: np.ndarray, given: np.ndarray, answers: int, target: int, penalty: float = PENALTY
) -> Posterior:
    """Fits a regression to few labels.

    The logarithm of the odds of an answer is linear in the columns, with a Gaussian prior about 0 for the weights; that
    of the target also has what is believed of the object before any label, in nats, with a prior about 1 for its slope.
    So without labels it says what was believed, and many labels overrule that.

    Args:
        columns: Of the labelled objects, shape (N, D).
        belief: Shape (N,).
        given: The answers, numbers from 0 to K - 1, shape (N,).
        answers: How many there are, K.
        target: The answer that the belief is of.
        penalty: Precision of the weights' prior.

    Returns:
        Where the posterior probability is largest.
    """
    count, width = columns.shape
    one = np.eye(answers)[given]

    def unpacked(values: np.ndarray) -> Posterior:
        weights = values[: width * answers].reshape(width, answers)
        return Posterior(weights, values[width * answers : -1], float(values[-1]), target)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        at = unpacked(values)
        odds = at.odds(columns, belief)
        total = logsumexp(odds, axis=1, keepdims=True)
        away = np.exp(odds - total) - one
        value = float((total[:, 0] - odds[np.arange(count), given]).sum())
        value += penalty * float((at.weights**2).sum()) / 2 + float((at.constants**2).sum()) / FEW**2 / 2
        value += (at.slope - 1) ** 2 / SPREAD**2 / 2
        slopes = np.array([float(away[:, target] @ belief) + (at.slope - 1) / SPREAD**2])
        of_weights = (columns.T @ away + penalty * at.weights).ravel()
        return value, np.concatenate([of_weights, away.sum(axis=0) + at.constants / FEW**2, slopes])

    begin = np.zeros(width * answers + answers + 1)
    begin[-1] = 1.0
    return unpacked(minimize(loss, begin, jac=True, method="L-BFGS-B").x)
