"""What all explosions share: a shape, a cooling glow, redshift, distance and dust of the host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from galaxyml.sky.light_curves.bands import WAVELENGTH, Bands, Values, flux
from galaxyml.sky.light_curves.distances import distance_modulus
from galaxyml.sky.light_curves.laws import Law, Model, Parameters, draw, uniform
from galaxyml.sky.light_curves.spectra import cooling, extinction, thermal

# Days of observation (MJD), and how long before and after them a peak may be.
FIRST, LAST = 59580.0, 60675.0
AROUND = 30.0


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

    def curve(self, parameters: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        p = parameters
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
