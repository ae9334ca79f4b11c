"""Positions on the sky and redshifts of galaxies, and how SDSS writes positions and numbers objects."""

import math

import numpy as np
import pandas as pd
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


def place(galaxies: pd.DataFrame, lowest: float, highest: float, rng: np.random.Generator) -> pd.DataFrame:
    """Galaxies with `ra` and `dec` as `positions` gives them, and a `redshift`."""
    ra, dec = positions(len(galaxies), lowest, highest, rng)
    return galaxies.assign(ra=ra, dec=dec, redshift=redshifts(galaxies.r90.to_numpy(), rng))


def galactic_latitude(ra: Values, dec: Values) -> Values:
    """Angle to the plane of the Galaxy, degrees, from right ascension and declination in degrees."""
    pole, height, turn = math.radians(POLE_DEC), np.radians(dec), np.radians(ra - POLE_RA)
    sine = math.sin(pole) * np.sin(height) + math.cos(pole) * np.cos(height) * np.cos(turn)
    return np.asarray(np.degrees(np.arcsin(sine)))


def redshifts(r90: Values, rng: np.random.Generator) -> Values:
    """Redshifts of galaxies whose physical sizes scatter about one: a small R90 (arcsec) is far away; shape (N,)."""
    return np.clip(0.62 / r90 * rng.lognormal(0, 0.35, len(r90)), 0.004, 0.35)


def object_ids(n: int, seed: int) -> NDArray[np.int64]:
    """Distinct numbers of 18 digits as SDSS DR7 gives them, shape (n,).

    From the highest bit: sky version, rerun, run, column of the camera, field, object in the field (SkyServer, objID).
    """
    rng = np.random.default_rng([seed, 24])
    # More than needed: some will be there twice.
    spare = 2 * n + 10
    rerun = rng.choice([40, 41], spare, p=[0.8, 0.2])
    run, column = rng.integers(94, 8000, spare), rng.integers(1, 7, spare)
    field, number = rng.integers(11, 800, spare), rng.integers(1, 600, spare)
    ids = (1 << 59) | (rerun << 48) | (run << 32) | (column << 29) | (field << 16) | number
    return pd.unique(ids)[:n]


def hours(ra: pd.Series) -> list[str]:
    """Right ascensions in degrees as hours, minutes and seconds: `01:03:26.42`."""
    hundredths = np.round(np.asarray(ra) * 24_000).astype(np.int64) % 8_640_000
    return [f"{n // 360_000:02d}:{n // 6000 % 60:02d}:{n // 100 % 60:02d}.{n % 100:02d}" for n in hundredths]


def degrees(dec: pd.Series) -> list[str]:
    """Declinations in degrees as degrees, minutes and seconds: `-10:22:25.7`."""
    tenths = np.round(np.abs(np.asarray(dec)) * 36_000).astype(np.int64)
    signs = np.where(np.asarray(dec) < 0, "-", "+")
    return [
        f"{sign}{n // 36_000:02d}:{n // 600 % 60:02d}:{n // 10 % 60:02d}.{n % 10}"
        for sign, n in zip(signs, tenths, strict=True)
    ]
