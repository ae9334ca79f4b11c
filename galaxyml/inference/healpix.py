"""Positions on the sky as HEALPix pixels (Górski et al. 2005), in the nested scheme."""

import numpy as np


def has_position(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Whether each position is one: right ascension a number, declination in [-90, 90] degrees."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(ra) & (np.abs(dec) <= 90)


def pixels(ra: np.ndarray, dec: np.ndarray, order: int) -> np.ndarray:
    """The pixel of each position.

    Args:
        ra: Right ascension in degrees, of any turn, shape (N,).
        dec: Declination in degrees, shape (N,).
        order: Of the pixels, at most 29: the sky has 12 * 4**order.

    Returns:
        int64 of shape (N,).

    >>> pixels(np.array([45.0, 45.0]), np.array([89.9, 1.0]), 0).tolist()
    [0, 0]
    """
    from astropy import units
    from astropy_healpix.core import lonlat_to_healpix

    found = lonlat_to_healpix(np.mod(ra, 360) * units.deg, dec * units.deg, 2**order, order="nested")
    return np.asarray(found, np.int64)


def centres(numbers: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of pixels' centres in degrees, shape (N,) each."""
    from astropy_healpix.core import healpix_to_lonlat

    ra, dec = healpix_to_lonlat(numbers, 2**order, order="nested")
    return np.asarray(ra.to_value("deg")), np.asarray(dec.to_value("deg"))


def coarser(counts: np.ndarray, order: int, wanted: int) -> np.ndarray:
    """Counts of pixels summed up in the larger pixels of a lower order.

    >>> coarser(np.ones(48), 1, 0).tolist()
    [4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    """
    return counts.reshape(12 * 4**wanted, 4 ** (order - wanted)).sum(1)
