"""Eclipsing binaries: two stars as disks of even brightness that pass before each other."""

import numpy as np

from galaxyml.sky.light_curves.bands import WAVELENGTH, Bands, Values, flux
from galaxyml.sky.light_curves.explosions import FIRST
from galaxyml.sky.light_curves.laws import LAWS, Model, Parameters
from galaxyml.sky.light_curves.spectra import planck

TIDE = 0.9  # strength of the ellipsoidal variation (Morris 1985, ApJ 295, 143, eq. 1, for linear limb darkening of 0.5)


class EclipsingBinary(Model):
    """Circular orbits; eclipses, and tides that make the stars brightest from the side.

    The template is the mean light out of eclipse.
    """

    laws = LAWS["EB"]

    def curve(self, parameters: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        p = parameters
        small = p["radius"] * p["radius_ratio"]
        tilt = p["impact"] * (p["radius"] + small)
        angle = 2 * np.pi * ((mjd - FIRST) / p["period"] + p["at"])
        apart = np.sqrt(np.sin(angle) ** 2 + (tilt * np.cos(angle)) ** 2)
        hidden = overlap(apart, p["radius"], small)
        light = planck(WAVELENGTH[band], p["temperature"])
        other_light = planck(WAVELENGTH[band], p["temperature"] * p["temperature_ratio"])
        total = np.pi * (p["radius"] ** 2 * light + small**2 * other_light)
        # At angle 0 the larger star is behind.
        lost = hidden * np.where(np.cos(angle) > 0, light, other_light) / total
        tides = -TIDE * p["radius"] ** 3 * (1 - tilt**2) * np.cos(2 * angle) / 2
        reference = planck(WAVELENGTH[2], p["temperature"]) * p["radius"] ** 2
        reference = reference + planck(WAVELENGTH[2], p["temperature"] * p["temperature_ratio"]) * small**2
        template = flux(p["magnitude"]) * total / (np.pi * reference)
        return template * ((1 + tides) * (1 - lost) - 1), template


def overlap(apart: Values, radius: float, other: float) -> Values:
    """Area that two disks have in common.

    Args:
        apart: Distance of their centres.
        radius: Of one.
        other: Of the other, not 0.
    """
    apart = np.maximum(apart, 1e-12)
    # The cosines leave [-1, 1] where the disks are apart or within each other, and the areas are then right if cut.
    cosine = np.clip((apart**2 + radius**2 - other**2) / (2 * apart * radius), -1, 1)
    other_cosine = np.clip((apart**2 + other**2 - radius**2) / (2 * apart * other), -1, 1)
    kite = (radius + other - apart) * (apart + radius - other) * (apart - radius + other) * (apart + radius + other)
    sectors = radius**2 * np.arccos(cosine) + other**2 * np.arccos(other_cosine)
    return sectors - 0.5 * np.sqrt(np.maximum(kite, 0))
