"""Elliptical galaxies and bulges, and what all drawn parts share."""

import math

import numpy as np
import torch
from torch import Tensor

from galaxyml.sky.camera import Frame
from galaxyml.sky.population import Galaxy
from galaxyml.sky.profiles import elliptical_radius, sersic, turned

# Sersic indices, and the Petrosian R90 of round galaxies over their half-light radius: the radius of 90 percent of the
# light within two Petrosian radii (ratio 0.2; Blanton et al. 2001, AJ 121, 2358).
R90_OVER_RE = ((0.5, 1.0, 2.0, 3.0, 4.0, 6.0), (1.82, 2.27, 2.67, 2.62, 2.39, 1.81))


def half_light_radius(r90: float, index: float, axis_ratio: float = 1.0) -> float:
    """Half-light radius of a Sersic galaxy along its major axis, in the unit of its R90, measured in circles."""
    return r90 / float(np.interp(index, *R90_OVER_RE)) / math.sqrt((1 + axis_ratio**2) / 2)


def softened(radius: Tensor, frame: Frame) -> Tensor:
    """The radius, never below what a pixel averages over, lest a cusp depend on where a pixel's centre lies."""
    return torch.sqrt(radius.square() + (0.3 * frame.pixel) ** 2)


def unit(brightness: Tensor, frame: Frame) -> Tensor:
    """Scaled to a flux of 1."""
    return brightness / (brightness.sum() * frame.pixel**2).clamp_min(1e-12)


def spheroid(
    frame: Frame,
    radius: float,
    index: float,
    ratio: float,
    angle: float,
    x: float = 0.0,
    y: float = 0.0,
    boxiness: float = 2.0,
) -> Tensor:
    """Surface brightness of a Sersic body for a flux of 1, shape (P, P).

    Args:
        frame: Whose pixels it is drawn on.
        radius: Half-light radius along the major axis, arcsec.
        index: Sersic index.
        ratio: Minor over major axis.
        angle: Of the major axis, radians.
        x: Of its centre, arcsec.
        y: Likewise.
        boxiness: Exponent of the ellipses, 2 for plain ones.
    """
    u, v = turned(frame.x - x, frame.y - y, angle)
    return sersic(softened(elliptical_radius(u, v, ratio, boxiness), frame), radius, index, ratio)


def draw_smooth(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    """Adds an elliptical galaxy."""
    radius = half_light_radius(galaxy.r90, galaxy.sersic, galaxy.axis_ratio)
    light = spheroid(frame, radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    # Ellipticals grow bluer outwards: half of the light is bluer and more extended.
    wide = spheroid(frame, 1.25 * radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    frame.add(light, 0.65 * flux, galaxy.color + 0.03)
    frame.add(wide, 0.35 * flux, galaxy.color - 0.07)
