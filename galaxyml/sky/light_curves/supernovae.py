"""Supernovae of the known classes: types Ia, Ia-91bg, Iax, II, Ibc and superluminous."""

import numpy as np

from galaxyml.sky.light_curves.bands import Values
from galaxyml.sky.light_curves.explosions import Explosion
from galaxyml.sky.light_curves.laws import Law, Parameters, exponential, fixed, lognormal, normal, uniform
from galaxyml.sky.light_curves.shapes import bazin, bump, plateau, spin_down

# Ultraviolet below it is blanketed by iron in thermonuclear and stripped supernovae.
IRON: dict[str, Law] = {"edge": fixed(3900.0), "slope": fixed(3.0)}


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


class StandardCandle(Explosion):
    """Type Ia, whose slower ones are brighter, and whose redder ones are fainter."""

    def draw(self, rng: np.random.Generator) -> Parameters:
        p = super().draw(rng)
        # Tripp 1998 (A&A 331, 815): 1.5 mag a unit of stretch. Dust, and so color, acts through the reddening.
        return p | {"magnitude": p["magnitude"] - 1.5 * (p["stretch"] - 1)}


TYPE_IA = StandardCandle(
    {
        "magnitude": normal(-19.35, 0.12),
        "stretch": normal(0.98, 0.09),
        "bump": uniform(0.08, 0.17),
        "hot": normal(10_500, 700),
        "cool": fixed(4800.0),
        "pace": normal(17.0, 2.0),
        "reddening": exponential(0.08),
        **IRON,
    },
    standard_candle,
)
# Subluminous, fast and red, without a second maximum (Taubenberger 2017, Handbook of Supernovae, section 3).
TYPE_91BG = Explosion(
    {
        "magnitude": normal(-17.4, 0.4),
        "rise": lognormal(3.2, 0.12),
        "fall": lognormal(11.0, 0.12),
        "hot": normal(7000, 400),
        "cool": fixed(4200.0),
        "pace": normal(14.0, 2.0),
        "reddening": exponential(0.05),
        **IRON,
    },
    rise_and_fall,
)
# A wide range of luminosities, low velocities (Jha 2017, Handbook of Supernovae, section 2).
TYPE_IAX = Explosion(
    {
        "magnitude": normal(-17.2, 0.9),
        "rise": lognormal(3.6, 0.2),
        "fall": lognormal(13.5, 0.2),
        "hot": normal(8800, 700),
        "cool": fixed(4600.0),
        "pace": normal(14.0, 2.0),
        "reddening": exponential(0.08),
        **IRON,
    },
    rise_and_fall,
)
# Anderson et al. 2014 (ApJ 786, 67): declines of the plateau from 0 to more than 3 mag in 100 d, lengths 83 +- 20 d,
# the brighter ones the faster.
TYPE_II = Explosion(
    {
        "magnitude": normal(-17.2, 0.9),
        "rise": lognormal(2.8, 0.3),
        "length": normal(88.0, 14.0),
        "decline": exponential(1.2),
        "drop": normal(1.7, 0.35),
        "hot": lognormal(12_500, 0.15),
        "cool": normal(5600, 300),
        "pace": lognormal(18.0, 0.2),
        "reddening": exponential(0.10),
        "edge": fixed(3700.0),
        "slope": normal(1.6, 0.4),
    },
    plateau_or_line,
    reference=6223.0,
)
TYPE_IBC = Explosion(
    {
        "magnitude": normal(-17.8, 0.8),
        "rise": lognormal(4.3, 0.22),
        "fall": lognormal(18.0, 0.25),
        "hot": normal(8200, 700),
        "cool": fixed(4700.0),
        "pace": normal(15.0, 2.0),
        "reddening": exponential(0.20),
        **IRON,
    },
    rise_and_fall,
)
# De Cia et al. 2018 (ApJ 860, 100): peaks around -21.1 in g, rises of 20 to 60 days.
SUPERLUMINOUS = Explosion(
    {
        "magnitude": normal(-21.5, 0.6),
        "diffusion": lognormal(29.0, 0.25),
        "spin_down": lognormal(32.0, 0.35),
        "hot": normal(14_000, 1800),
        "cool": fixed(6300.0),
        "pace": normal(40.0, 6.0),
        "reddening": exponential(0.03),
        "edge": fixed(3000.0),
        "slope": normal(1.0, 0.2),
    },
    magnetar,
)
