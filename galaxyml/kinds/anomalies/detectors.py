"""Detectors of objects of no known class: they learn from known objects alone and score any others.

Every detector has `fit(x, labels)`, which learns from known objects, and `score(x)`, which is higher the less an object
is like them. What a detector is given, a net's latents or plain features, shape (N, F), is its caller's choice; a value
that is NaN or infinite counts as the training median. The score of an object never depends on which others are scored
along with it.
"""

import copy
import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from galaxyml.evaluation.out_of_distribution import MahalanobisFit
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.progress import track
from galaxyml.runs.seeds import derive

FEWEST = 5  # known objects, of a class or in all, that can say what is usual
AT_ONCE = 20_000  # objects scored at a time: 6 MB of 40 columns
FARTHEST = 1e30  # standard deviations: forests work in single precision, other distances are squared


@dataclass(frozen=True)
class Standard:
    """Columns in units of their own spread among the training objects.

    Attributes:
        middle: Training median, shape (F,); 0 where no training value is finite.
        knee: Half of the training objects' interquartile range, shape (F,): farther from the median than that, values
            grow with their logarithm only (asinh). Inf where they are not compressed.
        center: Mean of the training objects, compressed if so, shape (F,).
        scale: Their standard deviation, shape (F,); 1 where a column is constant.
    """

    middle: np.ndarray
    knee: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, train: np.ndarray, columns: str) -> Self:
        """Learns from training objects.

        Args:
            train: Values, shape (N, F); NaN and infinite ones do not count.
            columns: `raw` leaves them as they are, `scaled` gives them mean 0 and standard deviation 1, `compressed`
                does so after compression: a few bright objects then do not make all others look alike.
        """
        values = np.asarray(train, np.float64)
        finite = np.isfinite(values)
        middle = np.nanmedian(np.where(finite, values, np.where(finite.any(axis=0), np.nan, 0.0)), axis=0)
        zeros, ones = np.zeros_like(middle), np.ones_like(middle)
        raw = cls(middle, np.full_like(middle, np.inf), zeros, ones)
        if columns == "raw":
            return raw
        values, knee = raw(train), raw.knee
        varies = values.max(axis=0) > values.min(axis=0)  # the standard deviation of equal values is 0 but for rounding
        if columns == "compressed":
            lower, upper = np.quantile(values, [0.25, 0.75], axis=0)
            knee = np.where(upper > lower, (upper - lower) / 2, values.std(axis=0))  # a flag that few objects have
            knee = np.where(varies, knee, np.inf)
        values = cls(middle, knee, zeros, ones)(values)
        return cls(middle, knee, values.mean(axis=0), np.where(varies, values.std(axis=0), 1.0))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Standardised values, in double precision and finite, shape (N, F) -> (N, F)."""
        values = np.asarray(x, np.float64)
        values = np.where(np.isfinite(values), values, self.middle)
        squeezed = np.isfinite(self.knee)
        values[:, squeezed] = np.arcsinh((values[:, squeezed] - self.middle[squeezed]) / self.knee[squeezed])
        return ((values - self.center) / self.scale).clip(-FARTHEST, FARTHEST)


class Detector(ABC):
    """Base of all detectors: checks, standardised columns, scores in chunks.

    Attributes:
        columns: How they are standardised, see `Standard.fit`.
    """

    columns = "compressed"

    def fit(self, x: np.ndarray, labels: np.ndarray) -> Self:
        """Learns what known objects are like.

        Args:
            x: Training objects, shape (N, F).
            labels: Their classes, int64 of shape (N,).

        Raises:
            UserError: There are fewer than five objects, or no columns.
        """
        if not x.shape[1]:
            raise UserError(f"{type(self).__name__} learns from a table with at least one column; it was given none.")
        if len(x) < FEWEST:
            raise UserError(
                f"{type(self).__name__} was given {len(x)} known object{'s' * (len(x) != 1)} to learn from; it needs "
                f"{FEWEST} or more. Leave fewer classes out, or train on more objects."
            )
        self.standard_ = Standard.fit(x, self.columns)
        self._learn(self.standard_(x), labels)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        """How unlike the known objects others are, (N, F) -> (N,) in double precision; higher is more unlike.

        Args:
            x: With the columns that the detector learnt from. It may be a memory map: a chunk is read at a time.
        """
        starts = range(0, len(x), AT_ONCE)
        scores = np.empty(len(x))
        for start in track(starts, f"Scoring by {type(self).__name__}", len(starts)):
            chunk = slice(start, start + AT_ONCE)
            scores[chunk] = self._judge(self.standard_(x[chunk]))
        return scores

    @abstractmethod
    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        """Learns from standardised training objects, shapes (N, F) and (N,)."""

    @abstractmethod
    def _judge(self, z: np.ndarray) -> np.ndarray:
        """Scores standardised objects, (N, F) -> (N,)."""


class Forest(Detector):
    """Isolation forest: how few random cuts set an object apart (Liu, Ting & Zhou 2008, eq. 2); scores in (0, 1).

    Args:
        trees: How many.
        samples: Training objects that each tree sees, at most.
        seed: Of its random numbers.
    """

    columns = "scaled"

    def __init__(self, trees: int = 500, samples: int = 256, seed: int = 0) -> None:
        self.trees, self.samples, self.seed = trees, samples, seed

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        self.forest_ = self._grow(z, derive(self.seed, "forest"))

    def _judge(self, z: np.ndarray) -> np.ndarray:
        return -self.forest_.score_samples(z)  # scikit-learn's is higher for usual objects

    def _grow(self, z: np.ndarray, seed: int) -> IsolationForest:
        forest = IsolationForest(n_estimators=self.trees, max_samples=min(self.samples, len(z)), random_state=seed)
        return forest.fit(z)


class ClassForests(Forest):
    """An isolation forest for each known class; an object is as unlike as the class it is most like says.

    Multi-class isolation forests (Gupta, Muthukrishna & Lochner 2025, RASTI 4, rzae054, arXiv:2403.14742). Beyond the
    paper: classes of fewer than five objects share a forest, and go without one if they have fewer than five together.

    Args:
        trees: How many a class.
        samples: Training objects that each tree sees, at most.
        seed: Of its random numbers.
    """

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        classes, class_of, count = np.unique(labels, return_inverse=True, return_counts=True)
        groups = {str(classes[k]): class_of == k for k in np.flatnonzero(count >= FEWEST)}
        rare = (count < FEWEST)[class_of]
        if rare.sum() >= FEWEST:
            groups["rare"] = rare
        if not groups:
            raise UserError(
                f"ClassForests needs a class of {FEWEST} or more objects; the largest of {len(classes)} has "
                f"{count.max()}. Use Forest, or train on more objects."
            )
        self.forests_ = {name: self._grow(z[group], derive(self.seed, name)) for name, group in groups.items()}

    def _judge(self, z: np.ndarray) -> np.ndarray:
        return np.min([-forest.score_samples(z) for forest in self.forests_.values()], axis=0)


class Neighbours(Detector):
    """Mean distance to the nearest training objects, in standard deviations of the compressed columns.

    Args:
        k: How many neighbours.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = k

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        if not 1 <= self.k <= len(z):
            raise UserError(f"Neighbours: k is {self.k}; it lies between 1 and the {len(z)} training objects.")
        self.neighbours_ = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(z)

    def _judge(self, z: np.ndarray) -> np.ndarray:
        return self.neighbours_.kneighbors(z)[0].mean(axis=1)


class Mahalanobis(Detector):
    """Mahalanobis' distance to the nearest known class (Lee et al. 2018, arXiv:1807.03888, eq. 1 and 2).

    The covariance is that about the means of the classes, one for all, shrunk as Ledoit & Wolf 2004 do, so that few
    objects suffice.
    """

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        classes, group = np.unique(labels, return_inverse=True)
        means = np.stack([z[group == k].mean(axis=0) for k in range(len(classes))])
        precision = LedoitWolf(assume_centered=True).fit(z - means[group]).precision_
        self.classes_ = [MahalanobisFit(mean, precision, np.array(1.0)) for mean in means]

    def _judge(self, z: np.ndarray) -> np.ndarray:
        return np.min([fitted.distance(z) for fitted in self.classes_], axis=0)


class ClassifierUncertainty(Detector):
    """1 minus the largest probability of a classifier, in [0, 1 - 1/K] (Hendrycks & Gimpel 2017, arXiv:1610.02136).

    Its input is the logits of the K known classes, or the logarithms of their probabilities, shape (N, K), as they are.
    """

    columns = "raw"

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        if z.shape[1] < 2:
            raise UserError(
                "ClassifierUncertainty reads the scores of two classes or more; there is one column, which is none. "
                "Choose another detector=…."
            )

    def _judge(self, z: np.ndarray) -> np.ndarray:
        ordered = np.sort(z, axis=1)
        others = np.exp(ordered[:, :-1] - ordered[:, -1:]).sum(axis=1)
        return others / (1 + others)  # 1 - p itself would round to 0 where p is near 1


# Detectors of pyod that judge each object alone, or can (ECOD), and print nothing.
PYOD = ("ABOD", "CBLOF", "ECOD", "GMM", "HBOS", "IForest", "INNE", "KDE", "KNN", "LODA", "LOF", "OCSVM")


class Pyod(Detector):
    """A detector of pyod for tables (Zhao, Nasrullah & Li 2019, JMLR 20, 96), by its name there.

    pyod's ECOD (Li et al. 2022, arXiv:2201.00382) ranks objects together with those that are scored along with them: a
    night with many odd objects would look usual. Its score is taken here as pyod gives it to an object that is scored
    alone.

    Args:
        name: Such as `ECOD`, `OCSVM` or `LOF`.
        seed: Of its random numbers, where it has any.
        **options: Of the detector.

    Raises:
        UserError: If there is no such detector, or it has no such option.
    """

    def __init__(self, name: str = "ECOD", seed: int = 0, **options: Any) -> None:
        if name not in PYOD:
            raise UserError(f"pyod has no detector '{name}' that is used here. {did_you_mean(name, PYOD)}")
        self.kind = getattr(importlib.import_module(f"pyod.models.{name.lower()}"), name)
        parameters = inspect.signature(self.kind).parameters
        if unknown := [option for option in options if option not in parameters]:
            raise UserError(f"pyod's {name} has no option '{unknown[0]}'. {did_you_mean(unknown[0], parameters)}")
        self.name, self.seed, self.options = name, seed, options

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        if self.name == "ECOD":
            self.sorted_ = np.sort(z, axis=0)
            return
        random = "random_state" in inspect.signature(self.kind).parameters
        seed = {"random_state": derive(self.seed, "pyod")} if random else {}
        self.detector_ = self.kind(**seed | self.options).fit(z)

    def _judge(self, z: np.ndarray) -> np.ndarray:
        if self.name != "ECOD":
            return self.detector_.decision_function(z)
        total = len(self.sorted_) + 1  # the object itself is one of those that it is ranked among
        scores = np.zeros(len(z))
        for train, values in zip(self.sorted_.T, z.T, strict=True):
            left = np.searchsorted(train, values, "right") + 1
            right = total - np.searchsorted(train, values, "left")
            scores -= np.log(np.minimum(left, right) / total)
        return scores


@dataclass(frozen=True)
class EmpiricalTail:
    """Scores of any scale as -log of the share of known objects, not seen in training, that score as high, in nats.

    The share is counted up to the 90 % quantile of the known objects' scores. Beyond it falls off exponentially, by
    their mean excess, so that objects more extreme than all known ones still differ.

    Attributes:
        levels: Scores of known objects up to that quantile, ascending, shape (L,).
        nats: -log of the share that is as high, shape (L,), ascending.
        excess: Mean of the scores beyond the last level, less that level; positive.
    """

    levels: np.ndarray
    nats: np.ndarray
    excess: float

    @classmethod
    def fit(cls, scores: np.ndarray) -> Self:
        """Learns from the scores of known objects that the detector did not learn from, shape (N,)."""
        levels, count = np.unique(np.asarray(scores, np.float64), return_counts=True)
        share = 1 - (count.cumsum() - count / 2) / count.sum()  # ties count half
        last = max(int((share >= 0.1).sum()), 1)
        beyond, weights = levels[last:] - levels[last - 1], count[last:]
        # Where all scores are alike, as constant latents give them, anything higher is beyond the scale.
        excess = float(np.average(beyond, weights=weights)) if len(beyond) else max(abs(levels[-1]), 1.0) * 1e-6
        return cls(levels[:last], -np.log(share[:last]), excess)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Nats of scores, (N,) -> (N,); they never fall as scores rise."""
        within = np.interp(scores, self.levels, self.nats)
        return within + np.maximum(scores - self.levels[-1], 0) / self.excess


def cross_fitted_scores(detector: Detector, x: np.ndarray, labels: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Scores of known objects, each by a detector that learnt from the others.

    A detector knows its own training objects too well (each is its own nearest neighbour), so that their scores say
    nothing of what is usual.

    Args:
        detector: Left as it is.
        x: Known objects, shape (N, F).
        labels: Their classes, shape (N,); each class is spread evenly over the parts.
        parts: How many; each is scored by a detector that learnt from the other ones.
        seed: Of the draw of the parts.

    Returns:
        Shape (N,).
    """
    return cross_fitted(detector, x, labels, parts, seed, x[:0])[0]


def cross_fitted(
    detector: Detector, x: np.ndarray, labels: np.ndarray, parts: int, seed: int, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as of `cross_fitted_scores`, and those of other objects by the same detectors.

    A detector that learnt from more objects has nearer ones to compare with: scores of the two compare only if those of
    the others are the mean over the detectors of the parts.

    Args:
        detector: As for `cross_fitted_scores`, as are the next four.
        x: Known objects, shape (N, F).
        labels: Their classes, shape (N,).
        parts: How many.
        seed: Of the draw of the parts.
        others: Objects that no detector learns from, shape (M, F).

    Returns:
        Shapes (N,) and (M,).
    """
    order = np.random.default_rng(derive(seed, "parts")).permutation(len(x))
    order = order[np.argsort(labels[order], kind="stable")]
    part_of = np.empty(len(x), np.int64)
    part_of[order] = np.arange(len(x)) % parts
    scores, of_others = np.empty(len(x)), np.zeros(len(others))
    for part in range(parts):
        inside = part_of == part
        fitted = copy.deepcopy(detector).fit(x[~inside], labels[~inside])
        scores[inside] = fitted.score(x[inside])
        of_others += fitted.score(others) / parts if len(others) else 0
    return scores, of_others


class Blend(Detector):
    """Mean surprise of several detectors: each score is seen against those of known objects that it did not learn from.

    An object's own part is left out for that (`cross_fitted_scores`); the detectors that score others learn from all
    training objects. What a net that has seen them made of them, its latents say, stays in-sample.

    Args:
        detectors: The members, by name or not, which are left as they are.
        parts: Of the cross-fit.
        seed: Of the parts.
    """

    columns = "raw"

    def __init__(self, detectors: Mapping[str, Detector] | Sequence[Detector], parts: int = 5, seed: int = 0) -> None:
        self.detectors = list(detectors.values() if isinstance(detectors, Mapping) else detectors)
        if not self.detectors:
            raise UserError("Blend needs a detector or more; its list is empty.")
        if parts < 2:
            raise UserError(f"Blend: parts is {parts}; it is 2 or more.")
        self.parts, self.seed = parts, seed

    def _learn(self, z: np.ndarray, labels: np.ndarray) -> None:
        unseen = [cross_fitted_scores(each, z, labels, self.parts, self.seed) for each in self.detectors]
        self.members_ = [
            (copy.deepcopy(each).fit(z, labels), EmpiricalTail.fit(scores))
            for each, scores in zip(self.detectors, unseen, strict=True)
        ]

    def _judge(self, z: np.ndarray) -> np.ndarray:
        return np.mean([tail(fitted._judge(fitted.standard_(z))) for fitted, tail in self.members_], axis=0)
