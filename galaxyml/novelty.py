"""How unlike a picture is to those that a net was trained on, by what the net makes of it."""

from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from sklearn.covariance import LedoitWolf

MOST = 10_000  # training pictures that are looked at


@dataclass(frozen=True)
class Familiar:
    """The training set as the net sees it.

    The distance of a picture is Mahalanobis' to the training pictures (Lee et al. 2018, arXiv:1807.03888, without its
    classes), between features of length 1, whose covariance is shrunk as Ledoit & Wolf 2004 do, so that few pictures
    suffice. It is given in units of what only a given share of validation pictures exceeds: above 1, a picture is
    unlike the training set.

    Attributes:
        mean: Of the training features, shape (F,).
        precision: Inverse of their covariance, shape (F, F).
        threshold: Distance that the share of validation pictures exceeds.
    """

    mean: np.ndarray
    precision: np.ndarray
    threshold: np.ndarray

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, flagged: float) -> Self:
        """Keeps what is needed of the training set.

        Args:
            train: Features of training pictures, shape (M, F).
            val: Features of validation pictures, shape (N, F).
            flagged: Share of validation pictures that is to be called unlike, in (0, 1).
        """
        known = LedoitWolf(store_precision=True).fit(_unit(train))
        made = cls(known.location_, known.precision_, np.array(1.0))
        return cls(made.mean, made.precision, np.quantile(made.distance(val), 1 - flagged, method="higher"))

    def distance(self, features: np.ndarray) -> np.ndarray:
        """How unlike pictures are, shape (N, F) -> (N,); above 1 is more than the threshold, inf what is not finite."""
        finite = np.isfinite(features).all(axis=1)
        away = _unit(np.where(finite[:, None], features, 0.0)) - self.mean
        square = np.einsum("nf,nf->n", away @ self.precision, away).clip(min=0)
        return np.where(finite, np.sqrt(square), np.inf) / max(float(self.threshold), 1e-12)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `Familiar(**arrays)` is made of again, in single precision."""
        return {name: np.asarray(values, np.float32) for name, values in asdict(self).items()}


def _unit(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
