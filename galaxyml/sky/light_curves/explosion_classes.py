"""Classes of explosions: supernovae, torn stars, kilonovae, and those that are kept from training."""

import numpy as np

from galaxyml.sky.light_curves.bands import Values
from galaxyml.sky.light_curves.explosions import Explosion
from galaxyml.sky.light_curves.laws import LAWS, Parameters
from galaxyml.sky.light_curves.shapes import bazin, bump, disruption, plateau, spin_down


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


def magnetar(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """Superluminous: the power of a magnetar."""
    return spin_down(phase, p["diffusion"], p["spin_down"])


def torn_star(phase: Values, wavelength: Values, p: Parameters) -> Values:
    """Tidal disruption event."""
    return disruption(phase, p["rise"], p["fallback"])


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
    "SLSN-I": Explosion(LAWS["SLSN-I"], magnetar),
    "TDE": Explosion(LAWS["TDE"], torn_star),
    "KN": Explosion(LAWS["KN"], rise_and_fall),
    "PISN": Explosion(LAWS["PISN"], rise_and_fall),
    "CaRT": Explosion(LAWS["CaRT"], calcium),
    "ILOT": Explosion(LAWS["ILOT"], merged_stars, reference=6223.0),
}
