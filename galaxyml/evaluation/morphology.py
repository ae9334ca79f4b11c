"""Numbers of a galaxy's shape that need no net: asymmetry, and a small grey image."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ASYMMETRY_SIDE = 53  # pixels: finer, noise looks like asymmetry
THUMBNAIL_SIDE = 32


def grey(pixels: Tensor, side: int) -> Tensor:
    """Images as grey ones of another size, averaged over areas, less the median of their rim.

    Args:
        pixels: uint8 of shape (N, H, W, C).
        side: Of the result, in pixels.

    Returns:
        Shape (N, side, side), in units of the largest value that a pixel can have.
    """
    mean = pixels.float().mean(dim=3)[:, None] / 255
    small = F.interpolate(mean, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[:, 0]
    rim = torch.cat([small[:, 0], small[:, -1], small[:, :, 0], small[:, :, -1]], dim=1)
    return small - rim.median(dim=1).values[:, None, None]


def asymmetry(pixels: Tensor) -> np.ndarray:
    """Light that changes when an image is turned by half a circle about its middle, relative to all of its light.

    As Conselice 2003 (ApJS 147, 1), eq. 1 and 2, about the middle of the image and without the term of the background,
    which is that of its rim here.

    Args:
        pixels: uint8 of shape (N, H, W, C), a galaxy in the middle.

    Returns:
        Shape (N,), from 0 for a symmetric image to about 1.

    >>> disk = torch.zeros(1, 53, 53, 1, dtype=torch.uint8)
    >>> disk[:, 20:33, 20:33] = 200
    >>> float(asymmetry(disk)[0])
    0.0
    """
    image = grey(pixels, ASYMMETRY_SIDE)
    turned = image.flip(1, 2)
    difference = (image - turned).abs().sum(dim=(1, 2)) / 2
    return (difference / image.abs().sum(dim=(1, 2)).clamp(min=1e-6)).double().numpy()


def thumbnail(pixels: Tensor) -> np.ndarray:
    """Small grey images as rows, (N, H, W, C) -> float32 (N, 1024)."""
    return grey(pixels, THUMBNAIL_SIDE).flatten(1).float().numpy()
