"""How the light of a galaxy's parts falls off: surface brightness for a total flux of 1."""

import math

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
