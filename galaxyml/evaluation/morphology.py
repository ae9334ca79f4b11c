"""Numbers of a galaxy's shape that need no net: asymmetry, concentration, and a small grey image."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ASYMMETRY_SIDE = 53  # pixels: finer, noise looks like asymmetry
THUMBNAIL_SIDE = 32
INNER, OUTER = 0.2, 0.8  # shares of the light whose radii concentration compares


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


def concentration(pixels: Tensor) -> np.ndarray:
    """Five times the logarithm (base 10) of the ratio of the radii that hold 80 % and 20 % of the light.

    Conselice 2003, eq. 4, in circles about the middle of the image, up to its edge.

    Args:
        pixels: uint8 of shape (N, H, W, C), a galaxy in the middle.

    Returns:
        Shape (N,); about 2.7 of an exponential disk, 5 of an elliptical galaxy.
    """
    image = grey(pixels, ASYMMETRY_SIDE).clamp(min=0).double()
    middle = (ASYMMETRY_SIDE - 1) / 2
    axis = torch.arange(ASYMMETRY_SIDE) - middle
    radius = torch.hypot(axis[:, None], axis[None]).flatten()
    order = torch.argsort(radius)
    within = radius[order] <= middle
    growth = image.flatten(1)[:, order[within]].cumsum(dim=1)
    share = growth / growth[:, -1:].clamp(min=1e-6)
    radii = radius[order[within]].clamp(min=0.5)
    inner, outer = (radii[(share < part).sum(dim=1).clamp(max=len(radii) - 1)] for part in (INNER, OUTER))
    return (5 * torch.log10(outer / inner)).double().numpy()


def thumbnail(pixels: Tensor) -> np.ndarray:
    """Small grey images as rows, (N, H, W, C) -> float32 (N, 1024)."""
    return grey(pixels, THUMBNAIL_SIDE).flatten(1).float().numpy()
