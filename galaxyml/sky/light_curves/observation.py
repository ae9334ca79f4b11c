"""Observations by LSST: when it looks, in which band and how deep; noise, dust corrected for, and detections."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from galaxyml.sky.light_curves.photometry import DUST, ZERO_POINT, Bands, Values

FIRST, LAST = 59580.0, 60675.0  # days of observation, MJD
YEAR = 365.25
NEW_MOON, LUNATION = 59581.77, 29.5306  # MJD of the new moon of 2 January 2022; days
MIDNIGHT = 0.18  # of Chile, universal time, days
SUN = 281.0  # right ascension of the Sun at MJD 59580, degrees
# How often the wide survey takes each band, by the phase of the moon in tenths from one new moon on (counts in
# thousands in PLAsTiCC's training set): u when it is dark, y when it is bright.
BAND_BY_MOON = np.array(
    [
        [20, 8, 9, 8, 11, 0],
        [8, 10, 14, 6, 9, 2],
        [0, 2, 16, 12, 6, 10],
        [0, 0, 4, 17, 15, 31],
        [0, 0, 0, 2, 20, 62],
        [0, 0, 1, 6, 32, 30],
        [0, 4, 11, 20, 15, 14],
        [0, 9, 16, 12, 6, 6],
        [7, 11, 13, 6, 6, 5],
        [26, 5, 10, 7, 11, 1],
    ]
)
# Median noise of the sky in one visit of the wide survey in dark time, FLUXCAL units; what the full moon adds, dex.
SKY = np.array([7.4, 1.6, 2.4, 3.8, 10.4, 24.1])
MOON = np.array([0.05, 0.30, 0.20, 0.21, 0.03, 0.0])
SCATTER = 0.13  # of that noise, from seeing, airmass and clouds, dex
# Visits of a night that the deep fields sum up.
VISITS = np.array([19, 6, 11, 12, 26, 22])
IN_ORDER = np.array([2, 1, 3, 4, 5])  # griz y of a deep night, in the order in which they are taken
MINUTES = 11.0  # between them
# Centres of the deep drilling fields, degrees: COSMOS, XMM-LSS, CDFS, ELAIS-S1 and one more.
DEEP_FIELDS = np.array([[150.4, 2.8], [34.0, -5.1], [52.8, -27.7], [0.4, -45.6], [349.5, -63.1]])
# Magnitudes that give one electron in a visit of 30 s, by band (LSST SMTN-002).
ELECTRON = np.array([26.5, 28.4, 28.2, 27.8, 27.5, 26.7]) + 2.5 * np.log10(30)
SYSTEMATIC = 0.005  # magnitudes that even bright stars err by (Ivezic et al. 2019, ApJ 873, 111, section 3.2.1)
# |flux| / error of which one half is detected, and the natural logarithm's spread around it, fitted to PLAsTiCC's
# training set: 10 percent at 3.5, 45 at 5.2, 87 at 7.5, 98 at 12.
THRESHOLD, SPREAD = 5.3, 0.3


@dataclass(frozen=True)
class Visits:
    """Observations of one place, by time.

    Attributes:
        mjd: Days, shape (N,).
        band: Passbands, 0 to 5, shape (N,).
        sky: Standard deviation of the flux of empty sky, FLUXCAL units, shape (N,).
        visits: Exposures that each is the sum of, shape (N,).
    """

    mjd: Values
    band: Bands
    sky: Values
    visits: Values


def wide(ra: float, rng: np.random.Generator) -> Visits:
    """About 130 observations on 120 nights, mostly one band a night, in seasons with gaps of 4 to 5 months.

    The right ascension, degrees, says when the place is up at night.
    """
    gaps = np.maximum(np.rint(rng.lognormal(np.log(2.95), 1.15, 450)), 1)
    nights = FIRST + np.cumsum(gaps)
    nights = nights[(np.abs(_away(nights, ra)) < rng.uniform(105, 122)) & (nights < LAST)]
    chances = np.cumsum(BAND_BY_MOON, axis=1) / BAND_BY_MOON.sum(axis=1, keepdims=True)
    of_night = chances[(moon_phase(nights) * 10).astype(int)]
    band = (rng.random((len(nights), 1)) > of_night).sum(axis=1)
    hours = MIDNIGHT - 0.6 * _away(nights, ra) / YEAR + rng.uniform(-0.07, 0.07, len(nights))
    # On every seventh night, more or less, a second band follows within the hour.
    again = rng.random(len(nights)) < 0.13
    second = (rng.random((len(nights), 1)) > of_night).sum(axis=1)
    again &= second != band
    mjd = np.concatenate([nights + hours, (nights + hours)[again] + rng.uniform(0.012, 0.045, again.sum())])
    return _visits(mjd, np.concatenate([band, second[again]]), np.ones(6), rng)


def deep(ra: float, rng: np.random.Generator) -> Visits:
    """About 250 to 350 observations: griz and y every third night or so, u each night while the moon is dark."""
    nights = np.arange(FIRST + 1, LAST)
    nights = nights[np.abs(_away(nights, ra)) < rng.uniform(60, 66)]
    clear = rng.random(len(nights)) < rng.choice([0.4, 0.58], p=[0.25, 0.75])
    moon = moon_phase(nights)
    # The filter of y makes room for u around the new moon.
    dark = np.minimum(moon, 1 - moon) < 0.15
    often = (nights - FIRST + rng.integers(4)) % 4 < 1
    # Near the meridian: in the morning early in the season, in the evening late in it.
    start = nights + MIDNIGHT - _away(nights, ra) / YEAR + rng.normal(0, 0.02, len(nights))
    ultraviolet = start[dark & clear]
    others = start[~dark & clear & (often | (rng.random(len(nights)) < 0.15))]
    mjd = np.concatenate([ultraviolet, (others[:, None] + np.arange(5) * MINUTES / 1440).ravel()])
    band = np.concatenate([np.zeros(len(ultraviolet), dtype=np.int64), np.tile(IN_ORDER, len(others))])
    return _visits(mjd, band, VISITS, rng)


def moon_phase(mjd: Values) -> Values:
    """0 at new moon, 0.5 at full moon, below 1."""
    return np.asarray(((mjd - NEW_MOON) / LUNATION) % 1)


def _away(nights: Values, ra: float) -> Values:
    """Days since the nearest night on which a place stands opposite the Sun; negative before it."""
    opposite = FIRST + ((ra - 180 - SUN) % 360) / 360 * YEAR
    return np.asarray((nights - opposite + YEAR / 2) % YEAR - YEAR / 2)


def _visits(mjd: Values, band: Bands, visits: Values, rng: np.random.Generator) -> Visits:
    order = np.argsort(mjd, kind="stable")
    mjd, band = np.round(mjd[order], 4), band[order]
    bright = 0.5 * (1 - np.cos(2 * np.pi * moon_phase(mjd)))
    scatter = SCATTER * rng.standard_normal(len(mjd)) + rng.exponential(0.03, len(mjd))
    number = visits[band]
    return Visits(mjd, band, SKY[band] * 10 ** (MOON[band] * bright + scatter) / np.sqrt(number), number)


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
