"""How unusual the objects of a set are among each other, without any label of theirs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 6
COMPONENTS = 30  # principal, of small images and of features
REFERENCES = 20_000  # objects that others are compared with, at most
WEIGHT = 0.5  # of what is unusual in pixels, beside what a net says


@dataclass(frozen=True)
class Unusual:
    """Scores of N objects.

    Attributes:
        score: Higher is more unusual, shape (N,).
        families: What each family of numbers adds to it, shape (N,) each, by name.
    """

    score: np.ndarray
    families: Mapping[str, np.ndarray]

    @property
    def reasons(self) -> np.ndarray:
        """The family that adds most to each object's score, beyond what it adds to half of the objects; shape (N,)."""
        names, added = np.array(list(self.families)), np.stack(list(self.families.values()))
        return names[np.argmax(added - np.median(added, axis=1, keepdims=True), axis=0)]


def unusual(
    features: np.ndarray,
    odds: np.ndarray | None = None,
    asymmetry: np.ndarray | None = None,
    thumbnails: np.ndarray | None = None,
    seed: int = 0,
    known: np.ndarray | None = None,
) -> Unusual:
    """Adds up what is unusual about objects.

    What a net says itself counts most, if it was asked: the logarithm of the odds that an object is odd. Otherwise it
    is how far its nearest neighbours are by the net's features. To that comes, at half the weight and only where it
    is above the ordinary, how asymmetric it is and how far its neighbours are by its pixels. Numbers without a scale
    of their own count by their rank, as normal scores.

    Args:
        features: What a net makes of N objects, shape (N, F).
        odds: What it says of them, in nats, shape (N,).
        asymmetry: Shape (N,), as `galaxyml.evaluation.morphology.asymmetry`.
        thumbnails: Small images, shape (N, P).
        seed: Of the draw of those that others are compared with, where there are very many.
        known: Which of them others are compared with, bool of shape (N,); None for all.
    """
    families = {}
    if odds is not None:
        families["answers"] = np.asarray(odds, np.float64)
    else:
        families["features"] = normal_scores(isolation(features, seed, known=known))
    if asymmetry is not None:
        families["asymmetry"] = WEIGHT * normal_scores(asymmetry).clip(min=0)
    if thumbnails is not None:
        families["pixels"] = WEIGHT * normal_scores(isolation(thumbnails, seed, False, known)).clip(min=0)
    return Unusual(np.sum(list(families.values()), axis=0), families)


def isolation(
    values: np.ndarray, seed: int = 0, standardised: bool = True, known: np.ndarray | None = None
) -> np.ndarray:
    """Mean distance of objects to their nearest neighbours among each other, in principal components; (N, F) -> (N,).

    Args:
        values: Of the objects.
        seed: Of the draw of `REFERENCES` objects that all are compared with, where there are more.
        standardised: Whether each column counts in units of its own spread.
        known: Which objects all are compared with, bool of shape (N,); None for all of them.
    """
    values = np.asarray(values, np.float32)
    rows = np.arange(len(values)) if known is None else np.flatnonzero(known)
    if len(rows) < 3:
        return np.zeros(len(values))
    if len(rows) > REFERENCES:
        rows = np.sort(np.random.default_rng(seed).choice(rows, REFERENCES, replace=False))
    mean, spread = values[rows].mean(axis=0), np.ones(values.shape[1], np.float32)
    if standardised:
        spread = values[rows].std(axis=0)
        spread[spread == 0] = 1
    scaled = (values - mean) / spread
    scaled = principal(scaled, rows, seed)
    count = min(NEIGHBOURS, len(rows) - 1)
    neighbours = NearestNeighbors(n_neighbors=count + 1).fit(scaled[rows])
    distances, found = neighbours.kneighbors(scaled)
    is_itself = rows[found] == np.arange(len(values))[:, None]
    own = np.where(is_itself.any(axis=1)[:, None], is_itself, np.arange(count + 1) == count)  # else the farthest
    return distances[~own].reshape(len(values), count).mean(axis=1)


def principal(values: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """The first `COMPONENTS` principal components of values that have more columns; (N, F) -> (N, at most F).

    Args:
        values: Of N objects.
        rows: Of those whose components they are.
        seed: Of the randomised decomposition.
    """
    most = min(COMPONENTS, len(rows) - 1)
    if most >= values.shape[1]:
        return values
    with np.errstate(invalid="ignore"):  # of what is constant, the share of the variance is 0/0
        return PCA(most, svd_solver="randomized", random_state=seed).fit(values[rows]).transform(values)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Ranks as quantiles of the standard normal distribution, equal values alike; (N,) -> (N,).

    >>> normal_scores(np.array([3.0, 1.0, 2.0])).round(2).tolist()
    [0.97, -0.97, 0.0]
    """
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = count.cumsum() - (count - 1) / 2
    return ndtri((rank[group] - 0.5) / len(values))
