"""Elliptical galaxies and bulges, and what all drawn parts share."""

import math

import numpy as np
import torch
from torch import Tensor

from galaxyml.sky.patterns import turned
from galaxyml.sky.population import Galaxy
from galaxyml.sky.profiles import elliptical_radius, sersic
from galaxyml.sky.survey import Frame

# R90 in units of the half-light radius for Sersic indices 0.5, 1, 2, 3, 4, 6, within the Petrosian aperture
# (Graham et al. 2005, AJ 130, 1535, table 1: R90 = concentration x R50).
R90_OVER_RE = ((0.5, 1.0, 2.0, 3.0, 4.0, 6.0), (1.6, 1.95, 2.2, 2.2, 2.1, 1.9))


def half_light_radius(r90: float, index: float) -> float:
    """Half-light radius of a Sersic galaxy from its Petrosian R90, same unit."""
    return r90 / float(np.interp(index, *R90_OVER_RE))


def softened(radius: Tensor, frame: Frame) -> Tensor:
    """The radius, never below what a pixel averages over; without it a cusp depends on where the pixel's centre lies."""
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
    u, v = turned(frame.x - x, frame.y - y, angle)
    return sersic(softened(elliptical_radius(u, v, ratio, boxiness), frame), radius, index, ratio)


def draw_smooth(galaxy: Galaxy, frame: Frame, flux: float, rng: np.random.Generator) -> None:
    radius = half_light_radius(galaxy.r90, galaxy.sersic)
    light = spheroid(frame, radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    # Ellipticals grow bluer outwards: half of the light is bluer and more extended.
    wide = spheroid(frame, 1.25 * radius, galaxy.sersic, galaxy.axis_ratio, math.radians(galaxy.angle))
    frame.add(light, 0.65 * flux, galaxy.color + 0.03)
    frame.add(wide, 0.35 * flux, galaxy.color - 0.07)
