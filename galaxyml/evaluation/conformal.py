"""Intervals of predicted fractions that hold the truth as often as they say.

Fractions lie in [0, 1], N galaxies in rows and K columns. NaN marks a true fraction that is not known, which counts
nowhere. Every column is calibrated by itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from scipy.optimize import nnls

LEVELS = (0.5, 0.8, 0.95)
ROUNDS = 3  # in which the variance is fitted again; the coefficients hardly move after two
LEAST = 0.01  # share of the mean squared error that no galaxy is expected to be below: a tenth of the error
LEAST_SHRINK = 0.5


@dataclass(frozen=True)
class Intervals:
    """Predicted fraction plus and minus q s, with an error s of each galaxy and a quantile q of the residuals in it.

    Locally weighted split conformal prediction (Lei et al. 2018, doi:10.1080/01621459.2017.1307116, sec. 5.2; Vovk,
    Gammerman & Shafer 2005). Whatever the residuals look like, the interval of a new galaxy holds the truth with at
    least the probability asked, on average over draws of it and of those that it was fitted on, if they could be
    swapped for each other and s were known beforehand. The three numbers behind s are fitted on the same galaxies,
    which costs a little where they are few: about 0.6 % of the 95 % where there are 100, 0.2 % where there are 300.

    Fractions of exactly 0 or 1 have quantiles of their own (Mondrian conformal prediction, Vovk et al. 2005, sec. 4.5;
    Angelopoulos & Bates 2023, sec. 4.1), those of all galaxies where they are too few. A tree makes many of them in
    rare columns. Where the truth is then exactly 0 in most cases as well, the interval of 50 % is the one point 0 and
    holds more than 50 %, so that the column as a whole is covered more often than asked. Calibrated together with these
    galaxies, the others would have intervals that are too narrow, down to no width at all.

    Attributes:
        levels: Probabilities that the truth is in the interval, in (0, 1), shape (L,).
        variance: c of the squared error s^2 = c0 + c1 p (1 - p) + c2 u^2, shape (3, K).
        quantiles: q, in units of s, of fractions within (0, 1) and of those at its ends, shape (2, L, K); inf where
            there are too few galaxies for the level, whose interval is all of [0, 1], or of all numbers.
        bounded: Whether these are fractions in [0, 1]. Numbers of any size have c1 = 0, and no ends.
    """

    levels: np.ndarray
    variance: np.ndarray
    quantiles: np.ndarray
    bounded: np.ndarray

    @classmethod
    def fit(
        cls,
        predicted: np.ndarray,
        spread: np.ndarray,
        target: np.ndarray,
        levels: Sequence[float] | np.ndarray = LEVELS,
        bounded: bool = True,
    ) -> Self:
        """Calibrates each column on galaxies that the net has not learnt from.

        Args:
            predicted: Predicted fractions p, shape (N, K); what is outside of [0, 1] counts as its nearer end.
            spread: Standard deviation u of the prediction over views of the galaxy, shape (N, K); 0 where it has one.
            target: Shape (N, K).
            levels: L probabilities, in (0, 1).
            bounded: Whether they are fractions; numbers of any size otherwise.
        """
        predicted = _within(predicted, bounded)
        levels = np.asarray(levels, np.float64)
        variance = np.empty((3, predicted.shape[1]))
        quantiles = np.empty((2, len(levels), predicted.shape[1]))
        for k in range(predicted.shape[1]):
            known = ~np.isnan(target[:, k])
            p, u = predicted[known, k], spread[known, k]
            residuals = np.abs(target[known, k] - p)
            # The unit of a number may be any.
            scale = 1.0 if bounded or not residuals.any() else np.sqrt(np.square(residuals).mean())
            variance[:, k] = fit_variance(p, u / scale, (residuals / scale) ** 2, bounded)
            variance[0, k] *= scale**2
            scores = residuals / error(p, u, variance[:, k], bounded)
            of_all = conformal_quantiles(scores, levels)
            at_end = _at_end(p, bounded)
            for group, inside in enumerate((~at_end, at_end)):
                own = conformal_quantiles(scores[inside], levels)
                quantiles[group, :, k] = np.where(np.isfinite(own), own, of_all)
        return cls(levels, variance, quantiles, np.array(bounded))

    def __call__(
        self, predicted: np.ndarray, spread: np.ndarray, shrink: float | np.ndarray = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the intervals, shape (L, N, K) each; a row does not know of others.

        Those of fractions lie within [0, 1].

        Args:
            predicted: Predicted fractions, shape (N, K).
            spread: As in `fit`.
            shrink: Factor on their widths, one for all or of shape (K,); see `shrinkage`.
        """
        bounded = bool(self.bounded)
        p = _within(predicted, bounded)
        s, at_end = error(p, spread, self.variance, bounded) * shrink, _at_end(p, bounded)
        lowest, highest = (0, 1) if bounded else (-np.inf, np.inf)
        low, high = np.empty((2, len(self.levels), *p.shape))
        for number, (q_within, q_at_end) in enumerate(zip(*self.quantiles, strict=True)):
            half = np.where(at_end, q_at_end, q_within) * s
            np.maximum(p - half, lowest, out=low[number])
            np.minimum(p + half, highest, out=high[number])
        return low, high

    def at(self, levels: slice) -> Self:
        """The intervals of some of the levels."""
        return type(self)(self.levels[levels], self.variance, self.quantiles[:, levels], self.bounded)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `of_arrays` needs."""
        return dict(vars(self))

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The counterpart of `arrays`; other arrays may stand beside its own."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def error(predicted: np.ndarray, spread: np.ndarray, variance: np.ndarray, bounded: bool = True) -> np.ndarray:
    """Expected error sqrt(c0 + c1 p (1 - p) + c2 u^2) of fractions p in [0, 1], shape (N, K) or (N,); positive.

    Numbers that are not `bounded` have no second term.
    """
    # Term by term: a product of matrices adds up a row in an order that depends on how many there are.
    binomial = predicted * (1 - predicted) if bounded else 0.0
    return np.sqrt(variance[0] + variance[1] * binomial + variance[2] * np.square(spread, dtype=np.float64))


def fit_variance(predicted: np.ndarray, spread: np.ndarray, squares: np.ndarray, bounded: bool = True) -> np.ndarray:
    """Coefficients c, none negative, of the squared error expected at fraction p and spread u; see `Intervals`.

    The fraction of one answer among n volunteers has variance p (1 - p) / n. Squared residuals are heavy-tailed, with a
    standard deviation in proportion to s^2, so that least squares is repeated with weights 1 / s^4 of the round before
    (Davidian & Carroll 1987, JASA 82, 1079). Without these the few largest decide.

    Args:
        predicted: Fractions in [0, 1] of one column, shape (N,).
        spread: Shape (N,).
        squares: Squared residuals, shape (N,).
        bounded: Whether they are fractions; numbers of any size have no second term.

    Returns:
        Shape (3,), c0 being at least 1 % of the mean square, and above 0; (1, 0, 0) for no galaxies.
    """
    if not len(squares):
        return np.array([1.0, 0.0, 0.0])
    least = LEAST * squares.mean() + 1e-12
    binomial = predicted * (1 - predicted) if bounded else np.zeros(len(predicted))
    terms = np.stack([np.ones(len(predicted)), binomial, np.square(spread, dtype=np.float64)], axis=1)
    weights = np.ones(len(predicted))
    coefficients = np.zeros(3)
    for _ in range(1 + ROUNDS):
        coefficients, _ = nnls(terms * weights[:, None], (squares - least) * weights)
        coefficients[0] += least
        weights = least / (terms @ coefficients)
    return coefficients


def conformal_quantiles(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles ceil((n + 1) level) / n of n scores (Angelopoulos & Bates 2023, sec. 1), shape (L,).

    The score of one more galaxy is at or below them with at least the probability `level`, and where no two are equal
    at most 1 / (n + 1) more; inf where n is too small for the level.
    """
    ranks = np.ceil((len(scores) + 1) * levels - 1e-9).astype(int)  # 100 x 0.55 is 55.00000000000001
    index = np.minimum(ranks - 1, len(scores))
    return np.partition(np.append(scores, np.inf), index)[index]


def fewest(level: float) -> int:
    """The least number of scores that has a finite quantile of a level in (0, 1).

    >>> fewest(0.95), fewest(0.5)
    (19, 1)
    """
    return math.ceil(level / (1 - level) - 1e-9)


def shrinkage(between: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Ratio of the errors of the mean over nets to those of one net, column by column.

    For the mean m over nets f and any truth y, mean (y - f)^2 = (y - m)^2 + mean (f - m)^2 (Krogh & Vedelsby 1995). So
    what galaxies without truth show of the last term is what the mean gains over out-of-fold residuals of single nets.

    Args:
        between: Standard deviation over the nets, shape (N, K).
        residuals: Target minus prediction of a net that has not learnt from the galaxy, of other galaxies of the same
            kind, shape (M, K); NaN where the truth is not known.

    Returns:
        Ratio of root mean squares, within [0.5, 1], shape (K,); 1 where no residual is known.
    """
    known = ~np.isnan(residuals)
    mean_square = np.square(np.where(known, residuals, 0.0)).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    gain = np.square(between, dtype=np.float64).mean(axis=0) / np.where(mean_square > 0, mean_square, np.inf)
    return np.sqrt(np.clip(1 - gain, LEAST_SHRINK**2, 1))


def covered(low: np.ndarray, high: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of the known fractions that are in their interval, (L, N, K) and (N, K) -> (L, K); NaN if none is known."""
    known = (~np.isnan(target)).sum(axis=0)
    return ((low <= target) & (target <= high)).sum(axis=1) / np.where(known > 0, known, np.nan)


def widths(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Mean width of the intervals of each column, (L, N, K) -> (L, K)."""
    return (high - low).mean(axis=1)


def _within(predicted: np.ndarray, bounded: bool) -> np.ndarray:
    values = np.asarray(predicted, np.float64)
    return np.clip(values, 0, 1) if bounded else values


def _at_end(predicted: np.ndarray, bounded: bool) -> np.ndarray:
    return (predicted <= 0) | (predicted >= 1) if bounded else np.zeros(predicted.shape, bool)
