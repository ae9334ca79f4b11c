"""What a survey makes of a light curve: noise, dust of the Milky Way corrected for, and whether it is detected."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from galaxyml.sky.light_curves.bands import DUST, ZERO_POINT, Bands, Values
from galaxyml.sky.light_curves.cadence import Visits

# Magnitudes that give one electron in a visit of 30 s, by band (LSST SMTN-002).
ELECTRON = np.array([26.5, 28.4, 28.2, 27.8, 27.5, 26.7]) + 2.5 * np.log10(30)
SYSTEMATIC = 0.005  # magnitudes that even bright stars err by (Ivezic et al. 2019, ApJ 873, 111, section 3.2.1)
# |flux| / error of which one half is detected, and the natural logarithm's spread around it, fitted to PLAsTiCC's
# training set: 10 percent at 3.5, 45 at 5.2, 87 at 7.5, 98 at 12.
THRESHOLD, SPREAD = 5.3, 0.3


@dataclass(frozen=True)
class LightCurve:
    """Measurements of one object, by time, each of shape (N,).

    Attributes:
        mjd: Days.
        band: Passbands, 0 to 5.
        flux: Above the template, corrected for the Milky Way's dust, FLUXCAL units.
        flux_err: Its standard deviation.
        detected: Whether the difference image has a source.
    """

    mjd: Values
    band: Bands
    flux: Values
    flux_err: Values
    detected: NDArray[np.bool_]


def observe(light: Values, template: Values, visits: Visits, mwebv: float, rng: np.random.Generator) -> LightCurve:
    """Measures a light curve.

    Args:
        light: Flux above the template, outside of the Milky Way's dust, FLUXCAL units, shape (N,).
        template: Flux of the template, likewise.
        visits: The N observations.
        mwebv: E(B-V) of the Milky Way's dust.
        rng: Source of the noise.
    """
    # PLAsTiCC's fluxes and errors are corrected for dust, so that errors grow where there is much of it.
    dimmed = 10 ** (-0.4 * DUST[visits.band] * mwebv)
    total = np.maximum(light + template, 0) * dimmed
    electrons = 10 ** (0.4 * (ELECTRON[visits.band] - ZERO_POINT)) * visits.visits
    # What errs systematically is the same in the template, and is gone from the difference.
    systematic = np.abs(light) * dimmed * SYSTEMATIC * np.log(10) / 2.5
    error = np.sqrt(visits.sky**2 + total / electrons + systematic**2)
    measured = light * dimmed + error * rng.standard_normal(len(light))
    detected = rng.random(len(light)) < efficiency(measured / error)
    return LightCurve(visits.mjd, visits.band, measured / dimmed, error / dimmed, detected)


def efficiency(significance: Values) -> Values:
    """Chance of a detection, from flux over its error."""
    return ndtr(np.log(np.maximum(np.abs(significance), 1e-9) / THRESHOLD) / SPREAD)
