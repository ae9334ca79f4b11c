"""Domain randomisation: galaxies seen under conditions that vary more than one survey's do (Tobin et al. 2017).

A net that is to see images of another instrument learns from skies whose noise, seeing, neighbours, colours and
distances are drawn anew for each galaxy. Volunteers see the same: their votes are on what is left to be seen.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.sky.population import RandomColumns, farther
from galaxyml.sky.survey import GZD, SDSS, UKIDSS

SURVEYS = {"sdss": SDSS, "decals": GZD, "ukidss": UKIDSS}  # whose cutouts are scaled to their galaxy
SPREADS = ("noise", "seeing", "neighbours", "colour", "distance")
STREAM = 60  # keeps these numbers apart from the population's
SHARPEST, BLURRED = 0.7, 3.0  # seeing, arcsec


def randomise(galaxies: pd.DataFrame, seed: int, spreads: Mapping[str, float]) -> pd.DataFrame:
    """The same galaxies under other conditions.

    Args:
        galaxies: A population.
        seed: Of what is drawn; the first m rows do not depend on how many there are.
        spreads: Standard deviations by name, of which those that are left out are 0: in ln of the sky's `noise`, of the
            `seeing`, of the number of `neighbours` and of the `distance` (the galaxy gets smaller and fainter, but its
            cutout shrinks with it), and in magnitudes of the `colour` g - r.

    Raises:
        UserError: If there is no such spread, or one is below 0.
    """
    for name, spread in spreads.items():
        if name not in SPREADS:
            raise UserError(f"simulate.vary has no '{name}'. {did_you_mean(name, SPREADS)}")
        if not 0 <= spread < 2:
            raise UserError(f"simulate.vary.{name}={spread}: it must be a number in [0, 2).")
    draws = RandomColumns(len(galaxies), [seed, STREAM])
    steps = {name: spreads.get(name, 0.0) * draws.normal() for name in SPREADS}
    galaxies = galaxies.assign(
        depth=galaxies.depth * np.exp(steps["noise"]),
        seeing=galaxies.seeing * np.exp(steps["seeing"]),
        crowding=galaxies.crowding * np.exp(steps["neighbours"]),
        color=galaxies.color + steps["colour"],
        young_color=galaxies.young_color + steps["colour"],
    )
    if spreads.get("seeing"):
        galaxies = galaxies.assign(seeing=galaxies.seeing.clip(SHARPEST, BLURRED))
    return farther(galaxies, np.exp(steps["distance"])) if spreads.get("distance") else galaxies


def assigned(galaxies: int, seed: int, surveys: tuple[str, ...]) -> np.ndarray:
    """The survey that sees each of some galaxies, by name, each as likely as the others, shape (galaxies,).

    Raises:
        UserError: If there is no such survey.
    """
    for name in surveys:
        if name not in SURVEYS:
            raise UserError(f"simulate.surveys has '{name}'. {did_you_mean(name, SURVEYS)}")
    if not surveys:
        raise UserError(f"simulate.surveys is empty. Give some of {', '.join(SURVEYS)}.")
    draws = RandomColumns(galaxies, [seed, STREAM + 1])
    return np.array(surveys)[draws.whole(len(surveys))]
