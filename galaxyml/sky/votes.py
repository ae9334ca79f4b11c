"""The vote: volunteers walk down the tree, and their answers are counted."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.sky.volunteers import CLICKERS, answers, at_random, walk
from galaxyml.trees import DecisionTree

FEWEST, MOST = 25, 60  # volunteers a galaxy


def turnout(galaxies: pd.DataFrame, seed: int) -> NDArray[np.int64]:
    """Number of volunteers who look at each galaxy, about 40, shape (N,); the same that `vote` has."""
    return np.array([_crowd(_stream(seed, texture)) for texture in galaxies.texture], dtype=np.int64)


def vote(galaxies: pd.DataFrame, tree: DecisionTree, seed: int) -> NDArray[np.float64]:
    """Fractions of the votes. Only those who gave the answer that leads to a question are asked it.

    Kaggle's fractions are those of paths: an answer's share of the question times the value of the answer that leads
    there, which is the number of volunteers who took the path over the number of all.

    Args:
        galaxies: Rows of a population; a galaxy's votes do not depend on the other rows.
        tree: The tree of the Kaggle challenge.
        seed: Of the volunteers.

    Returns:
        Fractions of paths, shape (N, 37), columns in the tree's order.
    """
    looking, clicking = answers(galaxies, tree), at_random(tree)
    fractions = np.empty((len(galaxies), len(tree.columns)))
    for row, texture in enumerate(galaxies.texture):
        rng = _stream(seed, texture)
        crowd = _crowd(rng)
        careless = rng.binomial(crowd, CLICKERS)
        counts = walk(np.array([crowd - careless]), [shares[row : row + 1] for shares in looking], tree, rng)
        counts += walk(np.array([careless]), clicking, tree, rng)
        fractions[row] = counts[0] / crowd
    return fractions


def _stream(seed: int, texture: int) -> np.random.Generator:
    # The third number keeps the votes apart from the noise of the image.
    return np.random.default_rng([seed, texture, 1])


def _crowd(rng: np.random.Generator) -> int:
    return int(np.clip(round(rng.normal(41, 7)), FEWEST, MOST))
