"""The votes of Galaxy Zoo 1: six buttons, and what its release makes of them.

As in `volunteers`, the numbers are habits, chosen so that means and spreads are near those of the release; they are the
truth of the simulated sky, not a measurement.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.sky import visibility
from galaxyml.sky.visibility import rises
from galaxyml.sky.volunteers import CLICKERS, answers

Values = NDArray[np.float64]
# The buttons: elliptical, spiral that turns clockwise or anticlockwise, edge-on or unclear, don't know, merger.
BUTTONS = ("P_EL", "P_CW", "P_ACW", "P_EDGE", "P_DK", "P_MG")
SPIRAL_BUTTONS = [1, 2, 3]
FEWEST, MOST = 12, 85  # volunteers a galaxy
WRONG_WAY = 0.05  # share of those who see arms turn that see them turn the other way
# How often a galaxy has a flag, against the debiased fraction (3,079 rows of the release).
SPIRAL_FLAG = (
    (0.25, 0.45, 0.65, 0.725, 0.775, 0.825, 0.875, 0.925, 0.975),
    (0, 0.05, 0.12, 0.29, 0.47, 0.73, 0.89, 0.99, 1),
)
ELLIPTICAL_FLAG = ((0.6, 0.65, 0.725, 0.775, 0.825, 0.875, 0.925, 0.975), (0, 0.01, 0.04, 0.15, 0.43, 0.70, 0.90, 1))


def expected_buttons(galaxies: pd.DataFrame) -> Values:
    """Shares of the buttons that infinitely many volunteers would press, made of their `answers`.

    The shape is (N, 6), in the order of `BUTTONS`; each row sums to 1.
    """
    shares_of = answers(galaxies)
    edge_on, spiral = shares_of["edge"], shares_of["spiral"]
    _, features, artifact = shares_of["features"].T
    clear = visibility.signal(galaxies)
    merger = (galaxies.kind == "merger").to_numpy(float)
    touching = merger * rises((galaxies.separation / galaxies.r90).to_numpy(), 0.55, 0.12) * clear
    merging = 0.012 + 0.85 * touching + 0.10 * (galaxies.kind == "disturbed").to_numpy(float) * clear
    unknown = np.clip(
        0.02 + 0.8 * artifact + 0.10 * (galaxies.kind == "irregular").to_numpy(float) + 0.10 * (1 - clear), 0, 1
    )
    left = (1 - merging) * (1 - unknown)
    is_disk = (galaxies.inclination > 0).to_numpy(float)
    edge = features * edge_on[:, 0]
    arms = features * (1 - edge_on[:, 0]) * spiral[:, 0]
    # A disk without arms is a lens to some, and a spiral whose arms are unclear to others.
    edge = edge + (0.2 + 0.4 * is_disk) * features * (1 - edge_on[:, 0]) * (1 - spiral[:, 0])
    turning = rises(visibility.arms(galaxies), 0.20, 0.05)
    # Where the image has y downwards, an arm of positive pitch turns clockwise outwards: the shape of an S, which a
    # galaxy with trailing arms has if it turns anticlockwise (Land et al. 2008, MNRAS 388, 1686).
    ahead = np.where(galaxies.pitch > 0, WRONG_WAY, np.where(galaxies.pitch < 0, 1 - WRONG_WAY, 0.5))
    shares = (1 - edge - arms, arms * turning * ahead, arms * turning * (1 - ahead), edge + arms * (1 - turning))
    looking = np.stack([*(left * share for share in shares), unknown * (1 - merging), merging], axis=1)
    return (1 - CLICKERS) * looking / looking.sum(1, keepdims=True) + CLICKERS / len(BUTTONS)


def release(galaxies: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The columns `NVOTE` to `UNCERTAIN` of table 2 (Lintott et al. 2011, MNRAS 410, 166), one row a galaxy.

    The debiased fractions move votes from elliptical to spiral by as much as volunteers would who saw all clearly, give
    or take a scatter; their sum stays. Exactly one of the flags is 1; they follow the debiased fractions as loosely as
    those of the release do. Fractions have three decimals.
    """
    rng = np.random.default_rng([seed, 21])
    expected, clear = expected_buttons(galaxies), expected_buttons(seen_clearly(galaxies))
    crowd = np.clip(np.round(36 * rng.lognormal(0, 0.35, len(galaxies))), FEWEST, MOST).astype(np.int64)
    fractions = rng.multinomial(crowd, expected) / crowd[:, None]
    elliptical, spiral = fractions[:, 0], fractions[:, SPIRAL_BUTTONS].sum(1)
    # The release corrects by size and brightness, so that a small elliptical loses votes like a small spiral.
    small = rises((-galaxies.r90 / galaxies.seeing).to_numpy(), -3.6, 0.6)
    missed = 0.8 * np.maximum(_odds(clear) - _odds(expected), 0) * rng.lognormal(0, 0.25, len(galaxies)) + 1.0 * small
    both = elliptical + spiral
    gained = spiral * np.exp(missed)
    debiased = both * gained / np.maximum(gained + elliptical, 1e-9)
    is_spiral = rng.random(len(galaxies)) < np.interp(debiased, *SPIRAL_FLAG)
    is_elliptical = (rng.random(len(galaxies)) < np.interp(both - debiased, *ELLIPTICAL_FLAG)) & ~is_spiral
    columns = {
        "NVOTE": crowd,
        **dict(zip(BUTTONS, fractions.T.round(3), strict=True)),
        "P_CS": spiral.round(3),
        "P_EL_DEBIASED": (both - debiased).round(3),
        "P_CS_DEBIASED": debiased.round(3),
        "SPIRAL": is_spiral.astype(np.int64),
        "ELLIPTICAL": is_elliptical.astype(np.int64),
        "UNCERTAIN": (~is_spiral & ~is_elliptical).astype(np.int64),
    }
    return pd.DataFrame(columns, index=galaxies.index)


def seen_clearly(galaxies: pd.DataFrame) -> pd.DataFrame:
    """The same galaxies through a telescope with sharp images and little noise."""
    return galaxies.assign(seeing=0.3 * galaxies.seeing, depth=0.3 * galaxies.depth)


def _odds(shares: Values) -> Values:
    """Logarithm of the odds of spiral against elliptical."""
    return np.asarray(np.log(shares[:, SPIRAL_BUTTONS].sum(1) / shares[:, 0]))
