"""Spectra of what glows, and how dust near it reddens them."""

import numpy as np

from galaxyml.sky.light_curves.bands import Values

HC_K = 1.438777e8  # h c / k, Angstrom Kelvin (CODATA 2018)


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
