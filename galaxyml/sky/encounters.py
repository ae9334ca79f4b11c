"""What encounters leave behind: tidal tails, shells, and the clumpy light of irregular galaxies."""

import math

import numpy as np
import torch
from torch import Tensor

from galaxyml.sky.profiles import fall


def tail(x: Tensor, y: Tensor, start: float, length: float, angle: float, pitch: float) -> Tensor:
    """A tidal tail: one logarithmic arm that widens and fades outwards.

    Args:
        x: Arcsec from the core that it leaves.
        y: Likewise.
        start: Radius where it begins, arcsec.
        length: Radius where it has faded, arcsec.
        angle: Azimuth where it begins, radians.
        pitch: Angle to a circle, degrees; negative winds the other way.

    Returns:
        Brightness, 1 at its beginning, shape of x.
    """
    radius = torch.hypot(x, y).clamp_min(0.05 * start)
    turn = torch.atan2(y, x) - angle - torch.log(radius / start) / math.tan(math.radians(pitch))
    turn = torch.remainder(turn + math.pi, 2 * math.pi) - math.pi
    away = radius * turn * abs(math.sin(math.radians(pitch)))
    width = 0.10 * start + 0.10 * radius
    along = fall(radius, 0.8 * length, 0.13 * length) * (1 - fall(radius, start, 0.25 * start))
    # The arm winds on; what lies more than one turn out is not part of the tail.
    return torch.exp(-0.5 * (away / width) ** 2) * along * torch.exp(-1.2 * (radius - start).clamp_min(0) / length)


def shell(radius: Tensor, azimuth: Tensor, at: float, angle: float, opening: float) -> Tensor:
    """A shell: light that rises to a sharp edge at a radius, within a cone; 1 at the edge.

    Args:
        radius: Arcsec.
        azimuth: Radians.
        at: Radius of the edge, arcsec.
        angle: Azimuth of its middle, radians.
        opening: Half of its angle, radians.
    """
    turn = torch.remainder(azimuth - angle + math.pi, 2 * math.pi) - math.pi
    # Far outside, where nothing is left, the exponential alone would overflow.
    inside = torch.exp(((radius - at) / (0.16 * at)).clamp_max(20)) * fall(radius, at, 0.015 * at)
    return inside * torch.exp(-((turn / opening) ** 4))


def clouds(x: Tensor, y: Tensor, size: float, rng: np.random.Generator, waves: int = 18) -> Tensor:
    """A random field on the sky: a sum of plane waves of random direction; mean about 0, variance about 1.

    Args:
        x: Arcsec.
        y: Arcsec.
        size: Typical wavelength, arcsec.
        rng: Source of the waves.
        waves: How many.
    """
    angles = rng.uniform(0, 2 * math.pi, waves)
    numbers = 2 * math.pi / size * rng.lognormal(0, 0.45, waves)
    field = torch.zeros_like(x)
    for angle, number, start in zip(angles, numbers, rng.uniform(0, 2 * math.pi, waves), strict=True):
        field += torch.cos(float(number * math.cos(angle)) * x + float(number * math.sin(angle)) * y + float(start))
    return field * math.sqrt(2 / waves)
