"""Features and small images of objects, for TensorBoard's projector."""

import lightning.pytorch as lightning
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from galaxyml.data.images.visible import visible
from galaxyml.data.light_curves.inputs import BANDS
from galaxyml.training.loggers import TensorBoard

MOST = 500  # objects
AXES = 32  # principal components of longer features
SIDE = 48  # of a small image, pixels
# Of the passbands u g r i z y, from blue to red.
COLOURS = torch.tensor([[86, 88, 219], [62, 163, 226], [75, 187, 110], [236, 178, 62], [235, 112, 60], [190, 45, 72]])


def boards(trainer: lightning.Trainer) -> list[TensorBoard]:
    """The loggers of a trainer that have a projector."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]


def drawn(count: int) -> Tensor:
    """Indices of at most `MOST` of so many objects, ascending."""
    indices = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MOST]
    return indices.sort().values


def principal(features: Tensor) -> Tensor:
    """The first principal components of features that have more than `AXES`; (N, F) -> (N, at most AXES)."""
    features = features.float() - features.float().mean(0)
    if features.shape[1] <= AXES or len(features) < 2:
        return features
    left, strengths, _ = torch.linalg.svd(features, full_matrices=False)
    return (left * strengths)[:, :AXES]


def thumbnails(pixels: Tensor) -> Tensor:
    """Small images, float in [0, 1] of shape (N, 3, SIDE, SIDE), of uint8 pixels of shape (N, S, S, C)."""
    images = torch.from_numpy(visible(pixels.numpy())).permute(0, 3, 1, 2).float() / 255
    return interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True).clamp(0, 1)


def sparks(batch: dict[str, Tensor]) -> Tensor:
    """Small images of light curves: flux against time, a colour a passband, on white.

    Args:
        batch: With `time`, `band`, `flux` and `mask`, shape (B, L).

    Returns:
        Float in [0, 1], shape (B, 3, SIDE, SIDE).
    """
    images = torch.ones(len(batch["time"]), 3, SIDE, SIDE)
    columns = (batch[name] for name in ("time", "band", "flux", "mask"))
    for image, time, band, flux, mask in zip(images, *columns, strict=True):
        if not mask.any():
            continue
        x, y = (_pixels(values[mask]) for values in (time, flux))
        colours = COLOURS[band[mask] % BANDS].T / 255
        for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
            image[:, SIDE - 2 - y + down, x + right] = colours
    return images


def _pixels(values: Tensor) -> Tensor:
    """Pixels from 0 to SIDE - 2, from the lowest to the highest value."""
    low, high = values.min(), values.max()
    return ((values - low) / (high - low).clamp_min(1e-9) * (SIDE - 2)).round().long()
