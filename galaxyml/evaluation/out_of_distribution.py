"""Distance of an image from those that a net was trained on: by its pixels, and by what the net makes of it."""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np
import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve, pinvh
from sklearn.covariance import LedoitWolf
from torch import Tensor

MOST = 10_000  # training images that are looked at
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
RIM = 6  # pixels along the upper and lower edge: mostly sky


@dataclass(frozen=True)
class MahalanobisFit:
    """Distances of images from training images, by some numbers of each.

    The distance of an image is Mahalanobis' to the training images (Lee et al. 2018, arXiv:1807.03888, without its
    classes), whose covariance is shrunk as Ledoit & Wolf 2004 do, so that few images suffice. It is given in units of
    what only a given share of validation images exceeds: above 1, an image is unlike the training set.

    Attributes:
        mean: Of the training images' numbers, shape (F,).
        precision: Inverse of their covariance, shape (F, F).
        threshold: Distance that the share of validation images exceeds.
    """

    mean: np.ndarray
    precision: np.ndarray
    threshold: np.ndarray

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, flagged: float) -> Self:
        """Keeps what is needed of the training set.

        Args:
            train: Numbers of training images, shape (M, F).
            val: Numbers of validation images, shape (N, F).
            flagged: Share of validation images that is to be called unlike, in (0, 1).
        """
        shrunk = LedoitWolf(store_precision=False).fit(train)  # its own is by eigenvectors, which takes longer
        fit = cls(shrunk.location_, _inverse(shrunk.covariance_), np.array(1.0))
        return replace(fit, threshold=np.quantile(fit.distance(val), 1 - flagged, method="higher"))

    def distance(self, values: np.ndarray) -> np.ndarray:
        """Distances of images, shape (N, F) -> (N,); above 1 is more than the threshold, inf what is not finite."""
        finite = np.isfinite(values).all(axis=1)
        away = np.where(finite[:, None], values, 0.0) - self.mean
        square = np.einsum("nf,nf->n", away @ self.precision, away).clip(min=0)
        return np.where(finite, np.sqrt(square), np.inf) / max(float(self.threshold), 1e-12)


def _inverse(covariance: np.ndarray) -> np.ndarray:
    """Inverse of a covariance; the pseudoinverse of one that has none, as that of numbers that are all alike."""
    try:
        return cho_solve(cho_factor(covariance), np.eye(len(covariance)))
    except LinAlgError:
        return pinvh(covariance)


@dataclass(frozen=True)
class OutOfDistribution:
    """The training set by its looks and, for nets that have features, as the net sees it.

    A net's features forget what does not matter to its task; another survey's sky, noise and colours show in the
    pixels. An image is as unlike as the larger of the two distances says.

    Attributes:
        looks: Of `appearance`.
        features: Of what the head of the net sees, scaled to length 1; None for nets without.
    """

    looks: MahalanobisFit
    features: MahalanobisFit | None

    @classmethod
    def fit(
        cls,
        looks: tuple[np.ndarray, np.ndarray],
        features: tuple[np.ndarray, np.ndarray] | None,
        flagged: float,
    ) -> Self:
        """Keeps what is needed of the training set.

        Args:
            looks: `appearance` of training and of validation images, shapes (M, A) and (N, A).
            features: Features of training and of validation images, shapes (M, F) and (N, F).
            flagged: Share of validation images that is to be called unlike at most, in (0, 1).
        """
        share = flagged / 2 if features else flagged
        by_looks = MahalanobisFit.fit(*looks, share)
        return cls(by_looks, MahalanobisFit.fit(unit(features[0]), unit(features[1]), share) if features else None)

    def distance(self, looks: np.ndarray, features: np.ndarray | None) -> np.ndarray:
        """Distances of images, (N, A) and (N, F) -> (N,); 1 is what at most the share of validation exceeds."""
        by_looks = self.looks.distance(looks)
        if self.features is None or features is None:
            return by_looks
        return np.maximum(by_looks, self.features.distance(unit(features)))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `of_arrays` needs, in single precision."""
        return {
            f"{part}_{name}": np.asarray(values, np.float32)
            for part, fit in vars(self).items()
            if fit is not None
            for name, values in vars(fit).items()
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The counterpart of `arrays`."""
        looks, features = (
            {name.removeprefix(part): values for name, values in arrays.items() if name.startswith(part)}
            for part in ("looks_", "features_")
        )
        return cls(MahalanobisFit(**looks), MahalanobisFit(**features) if features else None)


def appearance(images: Tensor) -> np.ndarray:
    """Looks of an image, whatever it shows: levels of brightness, contrast, noise, colours, and its rim.

    Args:
        images: In [0, 1], shape (N, C, H, W).

    Returns:
        Float64 of shape (N, 13 C + C (C - 1) / 2), of RGB (N, 42): for each channel 7 quantiles, 3 measures of how
        neighbouring pixels differ, the standard deviation, and the median and standard deviation of the upper and lower
        rim; and how alike the channels are, two by two.
    """
    flat = images.float().flatten(2)
    levels = flat.quantile(torch.tensor(LEVELS, device=flat.device), dim=2).permute(1, 2, 0).flatten(1)
    next_to = (images[..., 1:] - images[..., :-1]).float().abs().flatten(2)
    two_away = (images[..., 2:] - images[..., :-2]).float().abs().flatten(2)
    steps = torch.cat([next_to.median(2).values, two_away.median(2).values, next_to.quantile(0.9, dim=2)], 1)
    spread, around = flat.std(2), flat - flat.mean(2, keepdim=True)
    correlations = [
        (around[:, i] * around[:, j]).mean(1) / (spread[:, i] * spread[:, j] + 1e-6)
        for i, j in combinations(range(images.shape[1]), 2)
    ]
    rim = torch.cat([images[:, :, :RIM], images[:, :, -RIM:]], 2).float().flatten(2)
    alike = torch.stack(correlations, 1) if correlations else spread[:, :0]
    looks = torch.cat([levels, steps, spread, alike, rim.median(2).values, rim.std(2)], 1)
    return looks.double().cpu().numpy()


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    values = np.asarray(features, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
