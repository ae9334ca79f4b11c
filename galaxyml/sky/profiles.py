"""Layouts of a galaxy's light: profiles, patterns in a disk, and what encounters leave behind."""

import math

import numpy as np
import torch
from torch import Tensor


def elliptical_radius(x: Tensor, y: Tensor, axis_ratio: float, boxiness: float = 2.0) -> Tensor:
    """Distance along the major axis (x) of the generalised ellipse through each point.

    Args:
        x: Coordinates along the major axis.
        y: Coordinates along the minor axis.
        axis_ratio: Minor over major axis.
        boxiness: Exponent of the generalised ellipse (Athanassoula et al. 1990, MNRAS 245, 130);
            2 is an ellipse, more is boxy.

    Returns:
        The radius, in the unit and shape of the coordinates.
    """
    if boxiness == 2.0:
        return torch.hypot(x, y / axis_ratio)
    return (x.abs() ** boxiness + (y / axis_ratio).abs() ** boxiness) ** (1 / boxiness)


def sersic(radius: Tensor, half_light: float, index: float, axis_ratio: float = 1.0) -> Tensor:
    """Sersic profile (Graham & Driver 2005, PASA 22, 118, eqs. 1 and 2; b from Ciotti & Bertin 1999, eq. 18).

    Args:
        radius: Major-axis radius, any shape.
        half_light: Major-axis radius that holds half of the flux, same unit.
        index: Sersic index: 0.5 is a Gaussian, 1 an exponential disk, 4 a de Vaucouleurs elliptical.
        axis_ratio: Minor over major axis, which enters the total flux alone.

    Returns:
        Surface brightness per square unit of the radius; integrated over the plane it is 1.
    """
    b = 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)
    log_total = (
        math.log(2 * math.pi * index * half_light**2 * axis_ratio) - 2 * index * math.log(b) + math.lgamma(2 * index)
    )
    return torch.exp(-b * (radius / half_light) ** (1 / index) - log_total)


def edge_on_disk(x: Tensor, z: Tensor, scale: float, height: float) -> Tensor:
    """Exponential disk seen from its side (van der Kruit & Searle 1981, A&A 95, 105).

    Args:
        x: Distance from the axis.
        z: Distance from the plane.
        scale: Radial scale length of the disk.
        height: Scale height of its sech^2.

    Returns:
        Surface brightness; integrated over the plane it is 1.
    """
    ratio = (x.abs() / scale).clamp_min(1e-3)
    along = ratio * torch.special.modified_bessel_k1(ratio)
    # The integrals are pi * scale over x and 2 * height over z.
    return along / torch.cosh((z / height).clamp(-40, 40)) ** 2 / (2 * math.pi * scale * height)


def fall(value: Tensor, edge: float, width: float) -> Tensor:
    """1 well below the edge and 0 well above it, smooth over the width."""
    return torch.sigmoid((edge - value) / width)


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


def ring(radius: Tensor, ridge: float, width: float) -> Tensor:
    """A Gaussian ring, 1 on its ridge; all in the unit of the radius."""
    return torch.exp(-0.5 * ((radius - ridge) / width) ** 2)


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


def shell(radius: Tensor, azimuth: Tensor, edge: float, angle: float, opening: float) -> Tensor:
    """A shell: light that rises to a sharp edge at a radius, within a cone; 1 at the edge.

    Args:
        radius: Arcsec.
        azimuth: Radians.
        edge: Radius of the edge, arcsec.
        angle: Azimuth of its middle, radians.
        opening: Half of its angle, radians.
    """
    turn = torch.remainder(azimuth - angle + math.pi, 2 * math.pi) - math.pi
    # Far outside, where nothing is left, the exponential alone would overflow.
    inside = torch.exp(((radius - edge) / (0.16 * edge)).clamp_max(20)) * fall(radius, edge, 0.015 * edge)
    return inside * torch.exp(-((turn / opening) ** 4))


def clouds(x: Tensor, y: Tensor, size: float, rng: np.random.Generator, waves: int = 18) -> Tensor:
    """A random field on the sky: a sum of plane waves of random direction; mean about 0, variance about 1.

    Coordinates and `size`, the typical wavelength, are in arcsec.
    """
    angles = rng.uniform(0, 2 * math.pi, waves)
    numbers = 2 * math.pi / size * rng.lognormal(0, 0.45, waves)
    field = torch.zeros_like(x)
    for angle, number, start in zip(angles, numbers, rng.uniform(0, 2 * math.pi, waves), strict=True):
        field += torch.cos(float(number * math.cos(angle)) * x + float(number * math.sin(angle)) * y + float(start))
    return field * math.sqrt(2 / waves)
