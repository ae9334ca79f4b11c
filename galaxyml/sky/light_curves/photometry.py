"""Passbands of LSST, magnitudes, distances, and spectra of what glows behind dust."""

import functools

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Bands = NDArray[np.int64]

NAMES = "ugrizy"  # passbands, numbered 0 to 5
WAVELENGTH = np.array([3671.0, 4827.0, 6223.0, 7546.0, 8691.0, 9712.0])  # effective, Angstrom (LSST SMTN-002)
# Extinction in magnitudes for E(B-V) = 1 (Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1).
DUST = np.array([4.145, 3.237, 2.273, 1.684, 1.323, 1.088])
ZERO_POINT = 27.5  # magnitude (AB) of a flux of 1, the FLUXCAL unit of SNANA (Kessler et al. 2009, PASP 121, 1028)
H0, MATTER = 70.0, 0.3  # km/s/Mpc; share of the critical density (Kessler et al. 2019, PASP 131, 094501)
NEAREST, FARTHEST = 1e-4, 5.0  # redshifts that the table holds
HC_K = 1.438777e8  # h c / k, Angstrom Kelvin (CODATA 2018)


def flux(magnitude: float | Values) -> Values:
    """Flux in FLUXCAL units of an AB magnitude.

    >>> float(flux(25.0))
    10.0
    """
    return np.asarray(10 ** (0.4 * (ZERO_POINT - np.asarray(magnitude))))


def distance_modulus(redshift: float | Values) -> Values:
    """Distance modulus in magnitudes, of the shape of the redshifts, which lie between `NEAREST` and `FARTHEST`."""
    grid, moduli = _table()
    # Against log z the modulus is nearly straight, so that interpolation errs by less than 1e-5 mag.
    return np.asarray(np.interp(np.log(redshift), grid, moduli))


@functools.cache
def _table() -> tuple[Values, Values]:
    from astropy.cosmology import FlatLambdaCDM

    redshifts = np.geomspace(NEAREST, FARTHEST, 4000)
    return np.log(redshifts), FlatLambdaCDM(H0, MATTER).distmod(redshifts).value


def planck(wavelength: float | Values, temperature: float | Values) -> Values:
    """Flux of a black body per frequency, to within a constant.

    Args:
        wavelength: Angstrom, where the light is emitted.
        temperature: Kelvin; broadcast with the wavelengths.

    Returns:
        nu^3 / (exp(h nu / k T) - 1), of the shape of the arguments.
    """
    wavelength = np.asarray(wavelength)
    return np.asarray((1e4 / wavelength) ** 3 / np.expm1(HC_K / (wavelength * np.asarray(temperature))))


def thermal(wavelength: float | Values, temperature: float | Values, edge: float, slope: float) -> Values:
    """Black body that metals absorb in the ultraviolet, flux per frequency.

    Args:
        wavelength: Angstrom, where the light is emitted.
        temperature: Kelvin.
        edge: Wavelength below which the flux is suppressed, Angstrom.
        slope: By (wavelength / edge)^slope; 1 in superluminous supernovae (Nicholl et al. 2017, ApJ 850, 55, eq. 11).
    """
    return planck(wavelength, temperature) * np.minimum(np.asarray(wavelength) / edge, 1.0) ** slope


def cooling(phase: Values, hot: float, cool: float, pace: float) -> Values:
    """Temperature in Kelvin of an envelope that expands: falls from `hot` towards `cool`.

    Args:
        phase: Days since the peak, at rest; before it the temperature rises backwards, to a limit.
        hot: At the peak.
        cool: In the end, where the gas recombines.
        pace: Days in which the difference falls to 1/e.
    """
    return cool + (hot - cool) * np.exp(-np.maximum(phase, -0.5 * pace) / pace)


def extinction(wavelength: Values, reddening: float) -> Values:
    """Magnitudes that the dust of the host takes.

    A power law, within about 10 percent of Cardelli et al. 1989 (ApJ 345, 245; R_V = 3.1) from 3500 to 9000 Angstrom.

    Args:
        wavelength: Angstrom, at rest.
        reddening: E(B-V), magnitudes.
    """
    # Supernovae seen at high redshift show rest ultraviolet beyond the law's range, where it would grow without bound.
    return 3.1 * reddening * (np.maximum(wavelength, 2000.0) / 5500) ** -1.3
