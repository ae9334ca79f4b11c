"""Distance of an image from those that a net was trained on: by its pixels, and by what the net makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Self

import numpy as np
import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve, pinvh
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from torch import Tensor

MOST = 10_000  # training images that are looked at
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
BLOCK = 32  # rows that are multiplied at once
WIDEST = 2048  # features whose covariance is kept whole; of more than these
COMPONENTS = 256  # are kept, and what is left beside them
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
        products = _in_blocks(away, self.precision)
        square = np.einsum("nf,nf->n", products, away).clip(min=0)
        return np.where(finite, np.sqrt(square), np.inf) / max(float(self.threshold), 1e-12)


def _in_blocks(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A product, (N, F) and (F, K) -> (N, K).

    In blocks of one shape: libraries add up by the shape, and a row is not to depend on the others.
    """
    blocks = np.pad(values, ((0, -len(values) % BLOCK), (0, 0))).reshape(-1, BLOCK, values.shape[1])
    return (blocks @ matrix).reshape(-1, matrix.shape[1])[: len(values)]


def _inverse(covariance: np.ndarray) -> np.ndarray:
    """Inverse of a covariance; the pseudoinverse of one that has none, as that of numbers that are all alike."""
    try:
        inverse = cho_solve(cho_factor(covariance), np.eye(len(covariance)))
    except LinAlgError:
        inverse = pinvh(covariance)
    return np.ascontiguousarray(inverse + inverse.T) / 2  # symmetric to the last bit


@dataclass(frozen=True)
class Reduction:
    """The first principal components of very many numbers, and the length of what is left beside them.

    A covariance of 10,000 numbers would take 800 MB, which some thousand training images do not tell anyway.

    Attributes:
        center: Mean of the training images' numbers, shape (F,).
        axes: The components' directions, shape (F, R).
    """

    center: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, train: np.ndarray) -> Self:
        """Learns from the numbers of training images, shape (M, F)."""
        count = min(COMPONENTS, *train.shape)
        pca = PCA(count, svd_solver="randomized", random_state=0).fit(train)
        return cls(pca.mean_, np.ascontiguousarray(pca.components_.T))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The components and the length of the rest, (N, F) -> (N, R + 1); NaN where a number is not finite."""
        away = values - self.center
        components = _in_blocks(np.where(np.isfinite(away), away, 0.0), self.axes)
        rest = np.einsum("nf,nf->n", away, away) - np.einsum("nr,nr->n", components, components)
        return np.column_stack([components, np.sqrt(np.maximum(rest, 0))])


@dataclass(frozen=True)
class OutOfDistribution:
    """The training set by its looks and, for nets that have features, as the net sees it.

    A net's features forget what does not matter to its task; another survey's sky, noise and colours show in the
    pixels. An image is as unlike as the larger of the two distances says.

    Attributes:
        looks: Of `appearance`.
        features: Of what the head of the net sees, scaled to length 1; None for nets without.
        reduced: What is taken of more than `WIDEST` features; None for all of fewer.
    """

    looks: MahalanobisFit
    features: MahalanobisFit | None
    reduced: Reduction | None = None

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
        if features is None:
            return cls(by_looks, None)
        train, val = unit(features[0]), unit(features[1])
        if train.shape[1] <= WIDEST:
            return cls(by_looks, MahalanobisFit.fit(train, val, share))
        reduced = Reduction.fit(train)
        return cls(by_looks, MahalanobisFit.fit(reduced(train), reduced(val), share), reduced)

    def distance(self, looks: np.ndarray, features: np.ndarray | None) -> np.ndarray:
        """Distances of images, (N, A) and (N, F) -> (N,); 1 is what at most the share of validation exceeds."""
        by_looks = self.looks.distance(looks)
        if self.features is None or features is None:
            return by_looks
        seen = unit(features)
        return np.maximum(by_looks, self.features.distance(seen if self.reduced is None else self.reduced(seen)))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `of_arrays` needs, in single precision; of what is symmetric the upper half."""
        return {
            f"{part}_{name}": np.asarray(values[_upper(len(values))] if name == "precision" else values, np.float32)
            for part, fit in vars(self).items()
            if fit is not None
            for name, values in vars(fit).items()
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The counterpart of `arrays`."""
        looks, features, reduced = (
            {name.removeprefix(part): values for name, values in arrays.items() if name.startswith(part)}
            for part in ("looks_", "features_", "reduced_")
        )
        for fitted in filter(None, (looks, features)):
            fitted["precision"] = _whole(fitted["precision"], len(fitted["mean"]))
        by_features = MahalanobisFit(**features) if features else None
        return cls(MahalanobisFit(**looks), by_features, Reduction(**reduced) if reduced else None)


def _upper(side: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(side)


def _whole(half: np.ndarray, side: int) -> np.ndarray:
    """The symmetric matrix of an upper half, shape (side (side + 1) / 2,) -> (side, side)."""
    whole = np.zeros((side, side), half.dtype)
    whole[_upper(side)] = half
    return np.triu(whole) + np.triu(whole, 1).T


def appearance(pixels: Tensor, many: bool = False) -> np.ndarray:
    """Looks of an image, whatever it shows: levels of brightness, contrast, noise, colours, and its rim.

    They follow from counts of whole numbers, and so are the same on any machine.

    Args:
        pixels: uint8 of shape (N, H, W, C).
        many: Whether there are so many images in all that two seconds of compiling pay; the looks are the same.

    Returns:
        Float64 of shape (N, 13 C + C (C - 1) / 2), of RGB (N, 42): for each channel 7 quantiles, 3 measures of how
        neighbouring pixels differ, the standard deviation, and the median and standard deviation of the upper and lower
        rim; and how alike the channels are, two by two. Brightness goes from 0 to 1.
    """
    images = np.ascontiguousarray(pixels.cpu().numpy())
    looked = (_counted if many and images.shape[1] >= 2 * RIM else _sorted)(images)
    levels = _quantiles(looked.every, LEVELS).transpose(1, 2, 0).reshape(len(images), -1)
    steps = [_lower_median(looked.next_to), _lower_median(looked.two_away), _quantiles(looked.next_to, (0.9,))[0]]
    covariances = _covariances(looked.every.size, looked.totals, looked.products)
    spread = np.sqrt(np.einsum("ncc->nc", covariances))
    less = (looked.every.size - 1) / looked.every.size  # products are divided by N, squares by N - 1
    correlations = [
        less * covariances[:, i, j] / (spread[:, i] * spread[:, j] + 1e-6)
        for i, j in combinations(range(spread.shape[1]), 2)
    ]
    alike = np.stack(correlations, 1) if correlations else spread[:, :0]
    rim_spread = np.sqrt(np.einsum("ncc->nc", _covariances(looked.rim.size, looked.rim_totals, looked.rim_products)))
    return np.concatenate([levels, *steps, spread, alike, _lower_median(looked.rim), rim_spread], 1)


@dataclass(frozen=True)
class _Values:
    """Bytes of each channel of each image, in order.

    Attributes:
        at: The values at some places, which rise; (P,) -> (N, C, P).
        size: How many there are, M.
    """

    at: Callable[[np.ndarray], np.ndarray]
    size: int


@dataclass(frozen=True)
class _Looked:
    """What is taken of N images of C channels.

    Attributes:
        every: Their values.
        next_to: How pixels differ, without sign, from those to their left.
        two_away: From those two to their left.
        rim: The values of the upper and lower edge.
        totals: Sums of the values, shape (N, C).
        products: Sums of the products of channels, shape (N, C, C).
        rim_totals: The same of the rim.
        rim_products: Of which the diagonal alone counts.
    """

    every: _Values
    next_to: _Values
    two_away: _Values
    rim: _Values
    totals: np.ndarray
    products: np.ndarray
    rim_totals: np.ndarray
    rim_products: np.ndarray


def _sorted(images: np.ndarray) -> _Looked:
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    rim = np.concatenate([planes[:, :, :RIM], planes[:, :, -RIM:]], 2)
    parts = [planes, *(_differences(planes, step) for step in (1, 2)), rim]
    every, next_to, two_away, of_rim = map(_in_order, parts)
    return _Looked(every, next_to, two_away, of_rim, *_sums(planes), *_sums(rim))


def _in_order(planes: np.ndarray) -> _Values:
    ordered = np.sort(planes.reshape(*planes.shape[:2], -1), axis=2, kind="stable")  # by counting, as bytes can be
    return _Values(lambda places: ordered[:, :, places], ordered.shape[2])


def _differences(planes: np.ndarray, step: int) -> np.ndarray:
    """How pixels differ from those `step` to their left, without sign; uint8."""
    right, left = planes[..., step:], planes[..., :-step]
    return np.maximum(right, left) - np.minimum(right, left)


def _sums(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the values and of their products, (N, C, H, W) -> (N, C), (N, C, C); of whole numbers, and so exact."""
    values = torch.from_numpy(planes).flatten(2).double()
    return values.sum(2).numpy(), torch.bmm(values, values.transpose(1, 2)).numpy()


def _counted(images: np.ndarray) -> _Looked:
    """What `_sorted` gives, by counting."""
    from galaxyml.evaluation.byte_counts import count_bytes, values_at

    counts, products = count_bytes(images, RIM)
    values = np.arange(counts.shape[3], dtype=np.float64)
    totals, rim_totals = counts[0] @ values, counts[3] @ values
    rim_products = (counts[3] @ values**2)[:, :, None] * np.eye(len(products[0]))
    every, next_to, two_away, rim = (_Values(partial(values_at, part), int(part[0, 0].sum())) for part in counts)
    return _Looked(every, next_to, two_away, rim, totals, products.astype(np.float64), rim_totals, rim_products)


def _quantiles(values: _Values, shares: Sequence[float]) -> np.ndarray:
    """Quantiles between neighbouring values, from 0 to 1; shape (Q, N, C)."""
    places = np.array(shares) * (values.size - 1)
    below = np.floor(places).astype(int)
    lower, upper = (values.at(numbers).astype(np.float64) for numbers in (below, np.ceil(places).astype(int)))
    return np.moveaxis(lower + (upper - lower) * (places - below), 2, 0) / 255


def _lower_median(values: _Values) -> np.ndarray:
    return values.at(np.array([(values.size - 1) // 2]))[:, :, 0] / 255


def _covariances(size: int, totals: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Covariances of the channels of each image, shape (N, C, C), of the sums of `size` values."""
    return (products - totals[:, :, None] * totals[:, None] / size) / max(size - 1, 1) / 255**2


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    values = np.asarray(features, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
