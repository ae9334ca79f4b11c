"""Where galaxies are: positions on the sky and redshifts."""

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
# Declination and right ascension of the Galaxy's north pole, degrees (IAU; J2000).
POLE_DEC, POLE_RA = 27.128, 192.859
CLOSEST = 20.0  # degrees to the plane of the Galaxy that surveys of galaxies keep


def positions(n: int, lowest: float, highest: float, rng: np.random.Generator) -> tuple[Values, Values]:
    """Places on the sky away from the plane of the Galaxy, evenly distributed over the sphere.

    Args:
        n: How many.
        lowest: Declination, degrees.
        highest: Likewise.
        rng: Source of the places.

    Returns:
        Right ascension in [0, 360) and declination, degrees, each of shape (n,).
    """
    # More than half of any band of declination is left.
    ra = rng.uniform(0, 360, 6 * n + 100)
    dec = np.degrees(np.arcsin(rng.uniform(math.sin(math.radians(lowest)), math.sin(math.radians(highest)), len(ra))))
    high = np.abs(galactic_latitude(ra, dec)) > CLOSEST
    return ra[high][:n], dec[high][:n]


def galactic_latitude(ra: Values, dec: Values) -> Values:
    """Angle to the plane of the Galaxy, degrees, from right ascension and declination in degrees."""
    pole, at, turn = math.radians(POLE_DEC), np.radians(dec), np.radians(ra - POLE_RA)
    sine = math.sin(pole) * np.sin(at) + math.cos(pole) * np.cos(at) * np.cos(turn)
    return np.asarray(np.degrees(np.arcsin(sine)))


def redshifts(r90: Values, rng: np.random.Generator) -> Values:
    """Redshifts of galaxies whose physical sizes scatter about one: the small ones are far; shape (N,).

    Args:
        r90: Radii of 90 percent of the light, arcsec.
        rng: Source of the sizes.
    """
    return np.clip(0.62 / r90 * rng.lognormal(0, 0.35, len(r90)), 0.004, 0.35)
