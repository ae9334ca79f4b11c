"""Bootstrap resamples as counts: how often each object is drawn (Efron & Tibshirani 1993, ch. 13).

Sums over resamples are then products of matrices, and whatever is measured on the same counts is paired.
"""

from collections.abc import Iterator

import numpy as np

COUNTS_AT_ONCE = 80_000_000  # of resamples times objects, a byte each


def draws(count: int, resamples: int, seed: int) -> np.ndarray:
    """Counts of how often each object is drawn; the sample itself comes first.

    Returns:
        Shape (1 + resamples, count); uint8, as no object is drawn more than 255 times.
    """
    return np.concatenate(list(stratified(np.zeros(count, np.int8), resamples, seed)))


def stratified(strata: np.ndarray, resamples: int, seed: int, at_once: int = COUNTS_AT_ONCE) -> Iterator[np.ndarray]:
    """Resamples in which each stratum has as many objects as in the sample; the sample itself comes first.

    Args:
        strata: What each object belongs to, such as its survey, shape (N,).
        resamples: How many.
        seed: Of the draws.
        at_once: Counts that fit into memory; what is drawn does not depend on it.

    Yields:
        How often each object is drawn, uint8 of shape (r, N).
    """
    rng = np.random.default_rng(seed)
    _, member = np.unique(strata, return_inverse=True)
    inside = [np.flatnonzero(member == number) for number in range(member.max(initial=-1) + 1)]
    rows = max(at_once // max(len(strata), 1), 1)
    for start in range(0, 1 + resamples, rows):
        drawn = np.ones((min(rows, 1 + resamples - start), len(strata)), np.uint8)
        for row in drawn[1:] if not start else drawn:
            for own in inside:
                row[own] = np.bincount(rng.integers(0, len(own), len(own)), minlength=len(own))
        yield drawn


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """A value and the ends of its percentile interval, which are NaN without resamples.

    It says how far the value would move with other galaxies of the same kind, not with another training.

    Args:
        values: The sample's and its resamples', shape (1 + R,). Resamples that do not define it are left out.
        level: Share of the resamples within the interval.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    if not len(drawn) or np.isnan(values[0]):
        return float(values[0]), np.nan, np.nan
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(values[0]), float(low), float(high)


def with_ends(key: str, values: np.ndarray) -> dict[str, float]:
    """A metric and the ends of its interval: of `f1/Merging` also `f1_low/Merging` and `f1_high/Merging`.

    Args:
        key: The metric, and its column, if it has one.
        values: As for `interval`.
    """
    value, low, high = interval(values)
    return {key: value} | ends(key, low, high)


def ends(key: str, low: float, high: float) -> dict[str, float]:
    """The ends of a metric's interval under their keys, see `with_ends`."""
    name, slash, column = key.partition("/")
    return {f"{name}_low{slash}{column}": low, f"{name}_high{slash}{column}": high}
