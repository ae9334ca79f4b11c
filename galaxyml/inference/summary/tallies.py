"""What is kept of a stream of rows: counts, histograms, a map of the sky, the first of a ranking; all of fixed size."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BINS = 50  # of shares in [0, 1]
ORDER = 9  # of the HEALPix pixels that objects are counted in: 3 million of 7 arcminutes
# Leading bits of a float32 that tell its bin: the sign, 8 of the exponent and 9 of the mantissa, 0.2 % wide.
_BITS = 18
_SHIFT = np.uint32(32 - _BITS)
DISTINCT = 10_000  # reasons that are told apart


class ShareHistogram:
    """Shares in [0, 1], counted in `BINS` equal bins, of which each but the last has no upper end.

    Attributes:
        counts: Shape (BINS,).
        total: Sum of the shares.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.total = 0.0

    def add(self, values: np.ndarray) -> None:
        """Counts shares, of which those that are not numbers are left out."""
        values = values[np.isfinite(values)]
        bins = np.clip(np.floor(values * BINS), 0, BINS - 1).astype(np.int64)
        self.counts += np.bincount(bins, minlength=BINS)
        self.total += float(values.sum())

    @property
    def mean(self) -> float:
        """NaN of none."""
        return self.total / self.counts.sum() if self.counts.any() else float("nan")


class NumberHistogram:
    """Numbers of any size, whose range nobody knows before all are read, counted in bins that are 0.2 % wide.

    Attributes:
        count: How many numbers.
        low: The lowest.
        high: The highest.
    """

    def __init__(self) -> None:
        self.bins = np.zeros(2**_BITS, np.int64)
        self.count, self.low, self.high = 0, np.inf, -np.inf
        self._mean, self._squares = 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Counts numbers, of which those that are not finite are left out."""
        values = values[np.isfinite(values)].astype(np.float64)
        if not len(values):
            return
        with np.errstate(over="ignore"):
            bits = (values + 0.0).astype(np.float32).view(np.uint32)  # -0 becomes 0
        np.add.at(self.bins, (bits >> _SHIFT).astype(np.int64), 1)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        # Chan, Golub & LeVeque 1983, eq. 2.1: squares about the mean add without cancelling.
        with np.errstate(over="ignore"):
            mean, count = float(values.mean()), self.count + len(values)
            apart = np.float64(mean - self._mean)
            self._squares += float(((values - mean) ** 2).sum() + apart**2 * (self.count * len(values) / count))
        self._mean += (mean - self._mean) * len(values) / count
        self.count = count

    @property
    def mean(self) -> float:
        """NaN of none."""
        return self._mean if self.count else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation of the population; NaN of none."""
        return float(np.sqrt(self._squares / self.count)) if self.count else float("nan")

    def quantile(self, share: float) -> float:
        """The number that a share of all do not exceed, to 0.2 %; NaN of none."""
        if not self.count:
            return float("nan")
        middles, counts = self._in_order()
        position = int(np.searchsorted(np.cumsum(counts), share * self.count))
        return float(np.clip(middles[min(position, len(middles) - 1)], self.low, self.high))

    def binned(self, edges: np.ndarray) -> np.ndarray:
        """Numbers in other bins, as far as they can be told apart; those outside are left out, shape (B,)."""
        middles, counts = self._in_order()
        return np.histogram(np.clip(middles, self.low, self.high), edges, weights=counts)[0]

    def _in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the bins that are not empty, ascending, and their counts."""
        bins = np.flatnonzero(self.bins)
        ends = [(bins.astype(np.uint32) << _SHIFT).view(np.float32).astype(np.float64)]
        ends.append(((bins.astype(np.uint32) << _SHIFT) | np.uint32(2 ** (32 - _BITS) - 1)).view(np.float32))
        with np.errstate(invalid="ignore"):
            middles = (ends[0] + ends[1].astype(np.float64)) / 2
        middles = np.where(np.isfinite(middles), middles, np.where(bins < len(self.bins) // 2, np.inf, -np.inf))
        order = np.argsort(middles, kind="stable")
        return middles[order], self.bins[bins][order]


@dataclass
class Top:
    """The first objects of a ranking; of equal ones those that come first.

    Attributes:
        size: How many are kept.
        scores: Of those that are kept, the highest first, shape (n,).
        rows: Their places in the whole, shape (n,).
        objects: What is known of them.
    """

    size: int
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    objects: list[Any] = field(default_factory=list)

    def add(self, scores: np.ndarray, start: int, describe: Callable[[int], Any]) -> None:
        """Takes more objects, which come after all that were taken before.

        Args:
            scores: Shape (N,); those of NaN are left out.
            start: Place of the first in the whole.
            describe: Gives what is known of an object, by its index; called for those alone that are kept for now.
        """
        least = self.scores[-1] if len(self.scores) == self.size else -np.inf
        better = np.flatnonzero(scores > least)
        if len(better) > self.size:  # most of a first batch
            last = np.partition(scores[better], len(better) - self.size)[len(better) - self.size]
            above, equal = better[scores[better] > last], better[scores[better] == last]
            better = np.sort(np.concatenate([above, equal[: self.size - len(above)]]))
        if not len(better):
            return
        merged = np.concatenate([self.scores, scores[better]])
        kept = np.argsort(-merged, kind="stable")[: self.size]
        before = len(self.scores)
        rows = np.concatenate([self.rows, start + better])
        self.objects = [
            self.objects[place] if place < before else describe(int(better[place - before])) for place in kept
        ]
        self.scores, self.rows = merged[kept], rows[kept]


class SkyCounts:
    """Objects by HEALPix pixel of order `ORDER`, nested.

    Attributes:
        counts: Shape (12 * 4**ORDER,).
        unlike: Of these, those that are out of distribution.
        without: Objects without a position.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(12 * 4**ORDER, np.int64)
        self.unlike = np.zeros_like(self.counts)
        self.without = 0

    def add(self, ra: np.ndarray, dec: np.ndarray, unlike: np.ndarray | None) -> None:
        """Counts objects.

        Args:
            ra: Right ascension in degrees, shape (N,).
            dec: Declination in degrees, shape (N,).
            unlike: Whether each is out of distribution, shape (N,); None where that is not known.
        """
        from galaxyml.inference.healpix import has_position, pixels

        known = has_position(ra, dec)
        self.without += int((~known).sum())
        found = pixels(ra[known], dec[known], ORDER)
        np.add.at(self.counts, found, 1)
        if unlike is not None:
            np.add.at(self.unlike, found[unlike[known]], 1)


class Reasons:
    """Why objects failed, without their own names, so that like reasons are one.

    Attributes:
        counts: By reason.
        others: Those that came when there were too many to tell apart.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.others = 0

    def add(self, reason: str, names: Sequence[str]) -> None:
        """Counts an object.

        Args:
            reason: A sentence.
            names: What the object is called in it, and its file.
        """
        for name in sorted((name for name in names if name), key=len, reverse=True):
            reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "", reason)
        reason = " ".join(reason.split()).lstrip(":,; ").rstrip(".") or "no reason given"
        if reason in self.counts or len(self.counts) < DISTINCT:
            self.counts[reason] += 1
        else:
            self.others += 1
