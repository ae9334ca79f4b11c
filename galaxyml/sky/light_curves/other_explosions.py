"""Explosions that are no supernovae of a known class: torn stars, kilonovae, and the classes kept from training."""

import numpy as np

from galaxyml.sky.light_curves.bands import Values
from galaxyml.sky.light_curves.explosions import Explosion
from galaxyml.sky.light_curves.laws import Parameters, exponential, fixed, lognormal, normal, uniform
from galaxyml.sky.light_curves.shapes import bazin, bump, disruption, plateau
from galaxyml.sky.light_curves.supernovae import IRON, rise_and_fall


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


# Hot at a constant temperature (van Velzen et al. 2021, ApJ 908, 4, tables 5 and 6).
TIDAL_DISRUPTION = Explosion(
    {
        "magnitude": normal(-19.2, 0.8),
        "rise": lognormal(9.0, 0.3),
        "fallback": lognormal(26.0, 0.3),
        "hot": lognormal(20_000, 0.25),
        "cool": fixed(0.0),
        "pace": fixed(1e9),  # does not cool
        "reddening": exponential(0.03),
        "edge": fixed(1200.0),
        "slope": fixed(1.0),
    },
    torn_star,
)
# As GW170817 (Cowperthwaite et al. 2017, ApJ 848, L17, fig. 1): days, and red within two of them.
KILONOVA = Explosion(
    {
        "magnitude": normal(-15.7, 0.6),
        "rise": lognormal(0.25, 0.2),
        "fall": lognormal(1.0, 0.25),
        "hot": normal(7000, 800),
        "cool": normal(2500, 200),
        "pace": lognormal(1.5, 0.25),
        "reddening": exponential(0.03),
        "edge": fixed(4000.0),
        "slope": fixed(2.0),
    },
    rise_and_fall,
)
# Kasen, Woosley & Heger 2011 (ApJ 734, 102, figs. 7 and 10): rises of 100 to 150 days, red when they decline.
PAIR_INSTABILITY = Explosion(
    {
        "magnitude": normal(-20.5, 0.7),
        "rise": lognormal(27.0, 0.2),
        "fall": lognormal(85.0, 0.2),
        "hot": normal(9500, 1000),
        "cool": fixed(4000.0),
        "pace": normal(85.0, 12.0),
        "reddening": exponential(0.03),
        "edge": fixed(3700.0),
        "slope": fixed(2.0),
    },
    rise_and_fall,
)
# Kasliwal et al. 2012 (ApJ 755, 161): peaks of -15.5 to -16.5, faster than types Ia and Ib, calcium when they fade.
CALCIUM_RICH = Explosion(
    {
        "magnitude": normal(-15.7, 0.5),
        "rise": lognormal(2.6, 0.15),
        "fall": lognormal(8.0, 0.2),
        "lines": uniform(0.15, 0.4),
        "hot": normal(6800, 500),
        "cool": fixed(4200.0),
        "pace": normal(10.0, 1.5),
        "reddening": exponential(0.05),
        **IRON,
    },
    calcium,
)
# Pastorello et al. 2019 (A&A 630, A75): a blue peak, then a red one or a plateau, -10 to -15 in r.
LUMINOUS_RED_NOVA = Explosion(
    {
        "magnitude": normal(-13.0, 0.8),
        "rise": lognormal(3.0, 0.3),
        "length": lognormal(85.0, 0.25),
        "decline": normal(0.9, 0.3),
        "drop": normal(2.5, 0.5),
        "early": uniform(0.0, 1.2),
        "hot": normal(5800, 500),
        "cool": normal(2900, 200),
        "pace": lognormal(45.0, 0.2),
        "reddening": exponential(0.10),
        "edge": fixed(4000.0),
        "slope": fixed(2.0),
    },
    merged_stars,
    reference=6223.0,
)
