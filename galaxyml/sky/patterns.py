"""Patterns in the plane of a disk: spiral arms, bars, rings and the patches between them."""

import math

import numpy as np
import torch
from torch import Tensor

from galaxyml.sky.profiles import elliptical_radius, fall


def disk_plane(x: Tensor, y: Tensor, angle: float, inclination: float, thickness: float) -> tuple[Tensor, Tensor]:
    """Polar coordinates in the plane of an inclined disk.

    Args:
        x: Coordinates on the sky.
        y: Likewise.
        angle: Of the major axis, radians from x towards y.
        inclination: Degrees; 0 is face-on.
        thickness: Axis ratio of the disk seen from its side (Hubble 1926, ApJ 64, 321).

    Returns:
        Radius in the unit of x, and azimuth from the major axis in radians.
    """
    u, v = turned(x, y, angle)
    v = v / disk_axis_ratio(inclination, thickness)
    return torch.hypot(u, v), torch.atan2(v, u)


def turned(x: Tensor, y: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Coordinates along and across an axis at `angle`, radians from x towards y."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def disk_axis_ratio(inclination: float, thickness: float) -> float:
    """Apparent axis ratio of an oblate disk (Hubble 1926); the inclination in degrees."""
    cos = math.cos(math.radians(inclination))
    return math.sqrt(cos**2 + (1 - cos**2) * thickness**2)


def arm_phase(radius: Tensor, azimuth: Tensor, number: int, pitch: float, start: float) -> Tensor:
    """Phase of a pattern of logarithmic arms: 0 on a ridge, growing by 2 pi from arm to arm.

    Args:
        radius: In the disk, any unit.
        azimuth: Radians, same shape.
        number: Of arms.
        pitch: Angle between an arm and a circle, degrees; negative winds the other way.
        start: Radius at which a ridge crosses azimuth 0.
    """
    winding = torch.log(radius.clamp_min(1e-3) / start) / math.tan(math.radians(pitch))
    return number * (azimuth - winding)


def arm_pattern(phase: Tensor, sharpness: float) -> Tensor:
    """Density across arms, as a von Mises distribution: its mean is 1, its width 1 / sqrt(sharpness) in phase."""
    level = math.log(float(torch.special.i0e(torch.tensor(sharpness, dtype=torch.float64))))
    return torch.exp(sharpness * (torch.cos(phase) - 1) - level)


def patches(radius: Tensor, azimuth: Tensor, pitch: float, rng: np.random.Generator, waves: int = 14) -> Tensor:
    """A random field in a disk, sheared along arms: a sum of spiral waves with random numbers, pitches and phases.

    Returns:
        Mean about 0, variance about 1, in the shape of the radius.
    """
    logarithm = torch.log(radius.clamp_min(1e-2))
    numbers = rng.integers(2, 15, waves)
    windings = numbers / math.tan(math.radians(pitch)) * rng.normal(0.8, 0.5, waves) + rng.normal(0, 5, waves)
    field = torch.zeros_like(radius)
    for number, winding, start in zip(numbers, windings, rng.uniform(0, 2 * math.pi, waves), strict=True):
        field += torch.cos(int(number) * azimuth - float(winding) * logarithm + float(start))
    return field * math.sqrt(2 / waves)


def bar(radius: Tensor, azimuth: Tensor, angle: float, length: float, axis_ratio: float) -> Tensor:
    """Light of a bar, flat along its inside and falling at its ends, 1 in the middle.

    Args:
        radius: In the disk.
        azimuth: Radians.
        angle: Of the bar in the disk, radians.
        length: Half of its length, unit of the radius.
        axis_ratio: Its width over its length.
    """
    along, across = radius * torch.cos(azimuth - angle), radius * torch.sin(azimuth - angle)
    reach = elliptical_radius(along, across, axis_ratio, boxiness=2.6) / length
    return torch.exp(-0.5 * reach) * fall(reach, 0.92, 0.09)


def ring(radius: Tensor, at: float, width: float) -> Tensor:
    """A Gaussian ring, 1 on its ridge; all in the unit of the radius."""
    return torch.exp(-0.5 * ((radius - at) / width) ** 2)
