"""Light from outside the Galaxy: explosions, which are a shape and a cooling glow, and active galactic nuclei."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from galaxyml.sky.light_curves.laws import LAWS, Law, Model, Parameters, draw, uniform
from galaxyml.sky.light_curves.observation import FIRST, LAST
from galaxyml.sky.light_curves.photometry import (
    WAVELENGTH,
    Bands,
    Values,
    cooling,
    distance_modulus,
    extinction,
    flux,
    thermal,
)

AROUND = 30.0  # days before and after the survey in which a peak may be


def bazin(phase: Values, rise: float, fall: float) -> Values:
    """Rise and fall by Bazin et al. 2009 (A&A 499, 653, eq. 1), with the peak moved to phase 0 and scaled to 1.

    Args:
        phase: Days since the peak, at rest.
        rise: Time of the rise, days, less than `fall`.
        fall: Time of the exponential fall, days.
    """
    since = phase + bazin_peak(rise, fall)
    top = np.exp(-bazin_peak(rise, fall) / fall) * (1 - rise / fall)
    # The logarithm of the sum does not overflow long before the explosion.
    return np.exp(-since / fall - np.logaddexp(0, -since / rise)) / top


def bazin_peak(rise: float, fall: float) -> float:
    """Days from the reference time of Bazin et al. 2009 to the peak: rise ln(fall / rise - 1)."""
    return float(rise * np.log(fall / rise - 1))


def plateau(phase: Values, rise: float, length: float, decline: float, drop: float, tail: float) -> Values:
    """A quick rise, a plateau that recombining hydrogen holds up, its end, and a radioactive tail.

    The shape of the fall is that of Olivares et al. 2010 (ApJ 715, 833, eq. 2): a Fermi function and a line.

    Args:
        phase: Days since the peak, at rest; at 0 the shape is close to 1.
        rise: Time of the rise, days.
        length: Days from the peak to the middle of the drop.
        decline: Of the plateau, magnitudes in 100 days.
        drop: Of the plateau's end, magnitudes.
        tail: Decline after it, magnitudes in 100 days; that of cobalt is 0.98.
    """
    since = np.maximum(phase, 0)
    magnitudes = decline * np.minimum(since, length) / 100 + tail * np.maximum(since - length, 0) / 100
    magnitudes = magnitudes + drop * (_fermi((length - since) / 6) - _fermi(length / 6))
    return np.exp(np.minimum(phase, 0) / rise) * 10 ** (-0.4 * magnitudes)


def spin_down(phase: Values, diffusion: float, magnetar: float) -> Values:
    """A magnetar's power through an expanding envelope: slow rise, power-law fall.

    The power of spin-down is (1 + t / magnetar)^-2 (Kasen & Bildsten 2010, ApJ 717, 245, eq. 2); of it 1 - exp(-(t /
    diffusion)^2) has come through, as in Arnett's rule (Inserra et al. 2013, ApJ 770, 128, appendix D).

    Args:
        phase: Days since the peak, at rest.
        diffusion: Time of diffusion, days.
        magnetar: Time of spin-down, days.
    """

    def power(since: Values) -> Values:
        since = np.maximum(since, 0)
        return -np.expm1(-((since / diffusion) ** 2)) / (1 + since / magnetar) ** 2

    times = diffusion * np.linspace(0, 4, 801)
    powers = power(times)
    return power(phase + times[powers.argmax()]) / powers.max()


def disruption(phase: Values, rise: float, fallback: float) -> Values:
    """Rise as a Gaussian, then a fall as t^(-5/3), as a torn star falls back (Rees 1988, Nature 333, 523).

    Args:
        phase: Days since the peak, at rest.
        rise: Standard deviation of the rise, days.
        fallback: Days from the disruption to the peak.
    """
    fall = (1 + np.maximum(phase, 0) / fallback) ** (-5 / 3)
    return np.exp(-0.5 * (np.minimum(phase, 0) / rise) ** 2) * fall


def bump(phase: Values, delay: float, width: float) -> Values:
    """A second maximum: a Gaussian of standard deviation `width` around `delay`, days after the first."""
    return np.exp(-0.5 * ((phase - delay) / width) ** 2)


def _fermi(before: Values | float) -> Values:
    """1 long after, 0 long before."""
    return np.asarray(0.5 * (1 - np.tanh(np.asarray(before) / 2)))


@dataclass(frozen=True)
class Explosion(Model):
    """A class of explosions, at any time of the survey; their templates are empty.

    Attributes:
        laws: Of what laws.yaml says of explosions.
        shape: Light at `reference`, 1 at its peak, from phases (days since the peak, at rest), wavelengths at rest and
            the parameters.
        reference: Wavelength at rest of the shape and of the absolute magnitude, Angstrom.
    """

    laws: Mapping[str, Law]
    shape: Callable[[Values, Values, Parameters], Values]
    reference: float = 4827.0

    def draw(self, rng: np.random.Generator) -> Parameters:
        return draw({"peak": uniform(FIRST - AROUND, LAST + AROUND), **self.laws}, rng)

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        stretched = 1 + p["redshift"]
        phase, wavelength = (mjd - p["peak"]) / stretched, WAVELENGTH[band] / stretched
        temperature = cooling(phase, p["hot"], p["cool"], p["pace"])
        color = thermal(wavelength, temperature, p["edge"], p["slope"])
        color = color / thermal(self.reference, temperature, p["edge"], p["slope"])
        # Flux per frequency: the frequencies are squeezed by 1 + z (Hogg 1999, astro-ph/9905116, section 7).
        seen = stretched * flux(
            p["magnitude"] + distance_modulus(p["redshift"]) + extinction(wavelength, p["reddening"])
        )
        light = self.shape(phase, wavelength, p) * color * seen
        return light, np.zeros_like(light)


def rise_and_fall(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """The shape of Bazin et al. 2009."""
    return bazin(phase, p["rise"], p["fall"])


def standard_candle(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """Type Ia: stretched in time, with a radioactive tail, and a second maximum in the near infrared."""
    phase = phase / p["stretch"]
    infrared = 1 / (1 + np.exp(-(wavelength - 6700) / 350))
    tail = 0.05 * bazin(phase - 20, 6.0, 70.0)
    return 0.97 * bazin(phase, 3.2, 15.0) + tail + p["bump"] * infrared * bump(phase, 27.0, 6.5)


def plateau_or_line(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """Type II: a plateau, or a line where the decline is fast."""
    return plateau(phase, p["rise"], p["length"], p["decline"], p["drop"], 1.1)


def calcium(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """Calcium-rich: fast, then forbidden and permitted lines of Ca II, at 7300 and 8500 Angstrom, hold up the red."""
    lines = np.exp(-0.5 * ((wavelength - 7900) / 700) ** 2)
    return bazin(phase, p["rise"], p["fall"]) + p["lines"] * lines * bump(phase, 22.0, 12.0)


def merged_stars(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """Luminous red nova: a plateau, and before it in most a short blue peak."""
    early = p["early"] * bump(phase, 3.0, 4.0) * np.minimum(6223 / wavelength, 2.0) ** 2
    return plateau(phase, p["rise"], p["length"], p["decline"], p["drop"], 1.5) + early


class StandardCandle(Explosion):
    """Type Ia, whose slower ones are brighter, and whose redder ones are fainter."""

    def draw(self, rng: np.random.Generator) -> Parameters:
        p = super().draw(rng)
        # Tripp 1998 (A&A 331, 815): 1.5 mag a unit of stretch. Dust, and so color, acts through the reddening.
        return p | {"magnitude": p["magnitude"] - 1.5 * (p["stretch"] - 1)}


EXPLOSIONS = {
    "SNIa": StandardCandle(LAWS["SNIa"], standard_candle),
    "SNIa-91bg": Explosion(LAWS["SNIa-91bg"], rise_and_fall),
    "SNIax": Explosion(LAWS["SNIax"], rise_and_fall),
    "SNII": Explosion(LAWS["SNII"], plateau_or_line, reference=6223.0),
    "SNIbc": Explosion(LAWS["SNIbc"], rise_and_fall),
    "SLSN-I": Explosion(LAWS["SLSN-I"], lambda phase, wavelength, p: spin_down(phase, p["diffusion"], p["spin_down"])),
    "TDE": Explosion(LAWS["TDE"], lambda phase, wavelength, p: disruption(phase, p["rise"], p["fallback"])),
    "KN": Explosion(LAWS["KN"], rise_and_fall),
    "PISN": Explosion(LAWS["PISN"], rise_and_fall),
    "CaRT": Explosion(LAWS["CaRT"], calcium),
    "ILOT": Explosion(LAWS["ILOT"], merged_stars, reference=6223.0),
}


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
