"""How the light of one colour rises and falls after an explosion: shapes that are 1 at their peak, at phase 0."""

import numpy as np

from galaxyml.sky.light_curves.bands import Values


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
