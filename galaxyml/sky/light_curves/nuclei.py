"""Active galactic nuclei: damped random walks of their magnitudes."""

import numpy as np

from galaxyml.sky.light_curves.laws import LAWS, Model, Parameters
from galaxyml.sky.light_curves.observation import FIRST
from galaxyml.sky.light_curves.photometry import WAVELENGTH, Bands, Values, distance_modulus, flux


class ActiveNucleus(Model):
    """Walks of MacLeod et al. 2010 (ApJ 721, 1014), whose size and pace follow luminosity, mass and wavelength."""

    laws = LAWS["AGN"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        stretched = 1 + p["redshift"]
        order = np.argsort(mjd, kind="stable")
        days = np.concatenate([[FIRST - p["template_age"]], mjd[order]]) / stretched
        walk = damped_walk(days, timescale(p), np.random.default_rng(int(p["walk"])))
        since = np.empty_like(mjd)
        since[order] = walk[1:]
        # All bands follow one walk, the blue ones farther; its standard deviation is that of SF_inf / sqrt(2).
        swing = structure(p, WAVELENGTH[band] / stretched) / np.sqrt(2)
        mean = flux(p["magnitude"] + distance_modulus(p["redshift"])) * stretched ** (1 + p["index"])
        mean = mean * (WAVELENGTH[3] / WAVELENGTH[band]) ** p["index"]
        template = mean * 10 ** (-0.4 * swing * walk[0])
        return mean * 10 ** (-0.4 * swing * since) - template, template


def damped_walk(days: Values, timescale: float, rng: np.random.Generator) -> Values:
    """A damped random walk of mean 0 and variance 1 (an Ornstein-Uhlenbeck process), exact at any ascending days.

    Two values dt apart are correlated by exp(-|dt| / timescale) (Kelly et al. 2009, ApJ 698, 895, eqs. 2-5); days and
    timescale have one unit, the shape is (N,).
    """
    correlation = np.exp(-np.diff(days) / timescale)
    steps = rng.standard_normal(len(days))
    steps[1:] *= np.sqrt(1 - correlation**2)
    walk = [steps[0]]
    for share, step in zip(correlation.tolist(), steps[1:].tolist(), strict=True):
        walk.append(share * walk[-1] + step)
    return np.array(walk)


def timescale(p: Parameters) -> float:
    """Time of damping in days at rest, at 4000 Angstrom (MacLeod et al. 2010, eq. 7 and table 1)."""
    return float(10 ** (2.4 + 0.03 * (p["magnitude"] + 23) + 0.21 * _log_mass(p) + p["timescale_scatter"]))


def structure(p: Parameters, wavelength: Values) -> Values:
    """Structure function at long times, magnitudes, at wavelengths at rest (MacLeod et al. 2010, eq. 7 and table 1)."""
    exponent = -0.51 - 0.479 * np.log10(wavelength / 4000) + 0.131 * (p["magnitude"] + 23) + 0.18 * _log_mass(p)
    return np.asarray(10 ** (exponent + p["amplitude_scatter"]))


def _log_mass(p: Parameters) -> float:
    """Logarithm of the black hole's mass in 1e9 Suns (MacLeod et al. 2010, section 5.2: its mean at a luminosity)."""
    return float(2.0 - 0.27 * p["magnitude"] - 9 + np.log10(p["mass_scatter"]))
