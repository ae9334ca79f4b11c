"""Numbers of a galaxy's shape that need no net: asymmetry, size, and a small grey image."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ASYMMETRY_SIDE = 53  # pixels: finer, noise looks like asymmetry
THUMBNAIL_SIDE = 32


def grey(images: Tensor, side: int) -> Tensor:
    """Images as grey ones of another size, averaged over areas, less the median of their rim.

    Args:
        images: In [0, 1], shape (N, C, H, W).
        side: Of the result, in pixels.

    Returns:
        Shape (N, side, side), in units of the largest value that a pixel can have.
    """
    mean = images.float().mean(dim=1, keepdim=True)
    small = F.interpolate(mean, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[:, 0]
    rim = torch.cat([small[:, 0], small[:, -1], small[:, :, 0], small[:, :, -1]], dim=1)
    return small - rim.median(dim=1).values[:, None, None]


def asymmetry(images: Tensor) -> Tensor:
    """Light that changes when an image is turned by half a circle about its middle, relative to all of its light.

    As Conselice 2003 (ApJS 147, 1), eq. 1 and 2, about the middle of the image and without the term of the background,
    which is that of its rim here.

    Args:
        images: In [0, 1], shape (N, C, H, W), a galaxy in the middle.

    Returns:
        Shape (N,), from 0 for a symmetric image to about 1.

    >>> disk = torch.zeros(1, 1, 53, 53)
    >>> disk[:, :, 20:33, 20:33] = 0.8
    >>> float(asymmetry(disk)[0])
    0.0
    """
    image = grey(images, ASYMMETRY_SIDE)
    turned = image.flip(1, 2)
    difference = (image - turned).abs().sum(dim=(1, 2)) / 2
    return difference / image.abs().sum(dim=(1, 2)).clamp(min=1e-6)


def thumbnails(images: Tensor) -> Tensor:
    """Small grey images as rows: in [0, 1], (N, C, H, W) -> (N, 1024)."""
    return grey(images, THUMBNAIL_SIDE).flatten(1)


def half_light_radius(small: Tensor) -> Tensor:
    """Radius about the middle that holds half of the light above the rim, in pixels of the small image.

    Args:
        small: As of `thumbnails`, shape (N, P) of squares.

    Returns:
        Shape (N,); 0 of an image without light.

    >>> ring = torch.zeros(1, 32, 32)
    >>> ring[0, 6, 16] = ring[0, 25, 15] = 1.0
    >>> round(float(half_light_radius(ring.flatten(1))[0]), 2)
    9.51
    """
    side = math.isqrt(small.shape[1])
    axis = torch.arange(side, device=small.device) - (side - 1) / 2
    radius, order = torch.hypot(axis[:, None], axis[None]).flatten().sort()
    light = small.clamp(min=0)[:, order].cumsum(dim=1)
    inside = (light < light[:, -1:] / 2).sum(dim=1).clamp(max=small.shape[1] - 1)
    return torch.where(light[:, -1] > 0, radius[inside], 0.0)
