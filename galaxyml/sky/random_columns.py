"""Random numbers that stay the same for the first galaxies, however many are drawn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Column = NDArray[Any]


class RandomColumns:
    """Columns of random numbers, one number a galaxy, each column from a stream of its own.

    The first m numbers of a column do not depend on the length n of the columns.

    Args:
        n: Length of the columns.
        seed: Seed of all streams; the k-th call of any method has the k-th stream.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self._source = np.random.SeedSequence(seed)

    def uniform(self, low: float | Column = 0.0, high: float | Column = 1.0) -> Column:
        """Evenly distributed in [low, high)."""
        numbers = np.random.default_rng(self._source.spawn(1)[0]).random(self.n)
        return np.asarray(low + (np.asarray(high) - low) * numbers)

    def normal(self, mean: float | Column = 0.0, spread: float | Column = 1.0) -> Column:
        """Normally distributed, by the inverse of the cumulative distribution, cut at 3.5 standard deviations."""
        return np.asarray(mean + spread * np.clip(ndtri(self.uniform()), -3.5, 3.5))

    def lognormal(self, median: float | Column, spread: float) -> Column:
        """Positive, with normally distributed natural logarithm of standard deviation `spread`."""
        return np.asarray(median * np.exp(self.normal(0.0, spread)))

    def choice(self, probabilities: list[float]) -> NDArray[np.int64]:
        """Indices drawn with the given probabilities, which need not sum to 1."""
        edges = np.cumsum(probabilities) / np.sum(probabilities)
        return np.minimum(np.searchsorted(edges, self.uniform(), side="right"), len(probabilities) - 1)

    def whole(self, high: int) -> NDArray[np.int64]:
        """Whole numbers in [0, high)."""
        return (self.uniform() * high).astype(np.int64)
