"""Nearest neighbours by the cosine of standardised features: exact, and in blocks, so that memory does not grow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from galaxyml.runs.errors import DataError, UserError

BLOCK, ROWS = 2**22, 2**16  # numbers, and rows, that are worked on at a time: 16 MB in single precision
QUERIES = 256  # at a time
SAME = 1 - 1e-6  # similarity from which on two objects have the same features
Blocks = Callable[[], Iterable[np.ndarray]]


def rows_of_block(width: int) -> int:
    """How many rows of so many features are worked on at a time."""
    return min(max(BLOCK // max(width, 1), 1), ROWS)


def in_blocks(features: np.ndarray, rows: int | None = None) -> Iterator[np.ndarray]:
    """Features, some rows at a time.

    Args:
        features: Shape (N, F).
        rows: At a time; None for as many as `BLOCK` says.
    """
    rows = rows_of_block(features.shape[1]) if rows is None else rows
    for start in range(0, len(features), rows):
        yield features[start : start + rows]


@dataclass(frozen=True)
class Standardisation:
    """What standardises features: the mean and the standard deviation of some rows.

    Attributes:
        count: Number of these rows, N.
        mean: Shape (F,).
        spread: Standard deviation, 1 where it is 0, shape (F,).
    """

    count: int
    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, blocks: Iterable[np.ndarray]) -> Self:
        """Mean and spread of features that come in blocks, merged as Chan et al. 1979 do (STAN-CS-79-773, eq. 2.1).

        Args:
            blocks: Float, of shape (n, F) each; taken in single precision.

        Raises:
            DataError: If there is no row, or a feature is not finite.
        """
        count = 0
        mean = square = np.zeros(0)
        for block in blocks:
            values = np.asarray(block, np.float32).astype(np.float64)
            if not len(values):
                continue
            own = values.mean(axis=0)
            if not np.isfinite(own).all():
                row = count + int(np.isfinite(values).all(axis=1).argmin())
                raise DataError(f"Row {row:,} of the features is not finite, so that it is like nothing. Leave it out.")
            values -= own
            own_square = np.einsum("nf,nf->f", values, values)
            away = own - mean if count else own
            total = count + len(values)
            square = square + own_square + away**2 * count * len(values) / total if count else own_square
            mean = mean + away * len(values) / total if count else own
            count = total
        if not count:
            raise DataError("There are no features to search: the set has no object.")
        spread = np.sqrt(square / count)
        return cls(count, mean, np.where(spread > 0, spread, 1.0))

    def unit(self, block: np.ndarray) -> np.ndarray:
        """Standardised rows scaled to length 1, in single precision; of a row that is the mean zeros; (n, F)."""
        vectors = np.empty(block.shape, np.float32)
        np.subtract(np.asarray(block, np.float32), self.mean, out=vectors, casting="same_kind")
        vectors /= self.spread.astype(np.float32)
        lengths = np.sqrt(np.einsum("nf,nf->n", vectors, vectors))
        vectors /= np.where(lengths > 0, lengths, 1)[:, None]
        return vectors

    def cosines(self, features: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Cosines of standardised rows and a standardised query, in double precision.

        Each row is summed up by itself, so that its cosine does not depend on the others.

        Args:
            features: Shape (n, F).
            query: Shape (F,).

        Returns:
            Shape (n,), in [-1, 1]. What is the mean itself has no direction: it is 1 to its like, and 0 to all others.
        """
        rows = (np.asarray(features, np.float32) - self.mean) / self.spread
        wanted = (np.asarray(query, np.float32) - self.mean) / self.spread
        lengths = np.sqrt((rows * rows).sum(axis=1))
        length = np.sqrt((wanted * wanted).sum())
        if not length:
            return np.where(lengths > 0, 0.0, 1.0)
        return ((rows * (wanted / length)).sum(axis=1) / np.where(lengths > 0, lengths, 1)).clip(-1, 1)


class Nearest:
    """Finds the rows that are most like others: by the cosine of features that are standardised over all these rows.

    All rows are compared, as a product of matrices in single precision; those that it cannot tell from the nearest ones
    are compared again in double precision. So the answer is exact, does not depend on the size of blocks, and equal
    rows come in their order.

    Args:
        features: Of N rows, float of shape (N, F), which may be mapped from a file; or a function that gives them in
            blocks, anew at each call, of what is larger than memory. They are compared in single precision.
        block: Rows at a time; None for as many as 16 MB hold.

    Attributes:
        standard: Mean and spread of the rows.

    Raises:
        DataError: If there is no row, or a feature is not finite.

    >>> features = np.array([[0.0, 1.0], [1.0, 0.0], [4.0, 5.0], [5.0, 4.0]])
    >>> rows, similarities = Nearest(features).query(features[2:3], count=2)
    >>> rows, similarities.round(2)
    (array([[2, 3]]), array([[1.  , 0.88]]))
    """

    def __init__(self, features: np.ndarray | Blocks, block: int | None = None) -> None:
        self._blocks: Blocks = features if callable(features) else lambda: in_blocks(features, block)
        self.standard = Standardisation.fit(self._blocks())

    def __len__(self) -> int:
        return self.standard.count

    def query(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each of Q queries.

        Args:
            features: Of the queries, shape (Q, F).
            count: How many are wanted, k; all N rows where there are no more.

        Returns:
            Rows, int64 of shape (Q, k), the most alike first, equal ones in their order; and their similarities,
            cosines in [-1, 1], of the same shape.

        Raises:
            UserError: If `count` is less than 1, or queries have another number of features.
        """
        queries = check_queries(features, count, len(self.standard.mean))
        count = min(count, len(self))
        parts = [self._query(some, count) for some in in_blocks(queries, QUERIES)]
        rows = [np.stack([found.rows for found in part]) for part in parts] or [np.empty((0, count), np.int64)]
        cosines = [np.stack([found.cosines for found in part]) for part in parts] or [np.empty((0, count))]
        return np.concatenate(rows), np.concatenate(cosines)

    def _query(self, queries: np.ndarray, count: int) -> "list[_Found]":
        wanted = self.standard.unit(queries)
        # Largest error of a cosine in single precision: each of F products and sums, and the lengths.
        slack = 4 * queries.shape[1] * float(np.finfo(np.float32).eps)
        found = [_Found(np.empty(0, np.int64), np.empty(0)) for _ in queries]
        start = 0
        for block in self._blocks():
            for number, cosines in enumerate(wanted @ self.standard.unit(block).T):
                near = _near(cosines, found[number].floor(count), count, slack)
                exact = self.standard.cosines(block[near], queries[number])
                found[number] = found[number].joined(start + near, exact, count)
            start += len(block)
        return found


@dataclass(frozen=True)
class _Found:
    """The nearest rows so far, and their cosines, the most alike first."""

    rows: np.ndarray
    cosines: np.ndarray

    def floor(self, count: int) -> float:
        """Cosine that a row needs to be among so many."""
        return float(self.cosines[-1]) if len(self.cosines) == count else -np.inf

    def joined(self, rows: np.ndarray, cosines: np.ndarray, count: int) -> "_Found":
        """The nearest of these and of others."""
        rows, cosines = np.concatenate([self.rows, rows]), np.concatenate([self.cosines, cosines])
        order = np.lexsort((rows, -cosines))[:count]
        return _Found(rows[order], cosines[order])


def _near(cosines: np.ndarray, floor: float, count: int, slack: float) -> np.ndarray:
    """Places of the cosines that may be among the highest, and exceed a floor, given how far off they may be."""
    near = np.flatnonzero(cosines >= floor - slack)
    if len(near) > count:
        lowest = np.partition(cosines[near], len(near) - count)[len(near) - count]
        near = near[cosines[near] >= lowest - 2 * slack]
    return near


def check_queries(features: np.ndarray, count: int, width: int) -> np.ndarray:
    """Queries in single precision, shape (Q, F).

    Raises:
        UserError: If `count` is less than 1, or they have another number of features than `width`, or infinite ones.
    """
    if count < 1:
        raise UserError(f"count={count}: it must be a whole number, 1 or more.")
    queries = np.asarray(features, np.float32)
    if queries.ndim != 2 or queries.shape[1] != width:
        raise UserError(f"The queries have the shape {queries.shape}; each needs a row of {width:,} features.")
    if not (finite := np.isfinite(queries).all(axis=1)).all():
        raise DataError(f"Query {int(finite.argmin()):,} has features that are not finite, so that it is like nothing.")
    return queries
