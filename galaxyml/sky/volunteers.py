"""Volunteers and their votes: the probability of every answer, from what a galaxy is and how well that can be seen.

The measures in `visibility` carry the physics. The numbers here are the volunteers' habits, chosen so that means and
spreads of the fractions are near those of Galaxy Zoo 2; they are the truth of the simulated sky, not a measurement.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.sky import visibility
from galaxyml.sky.visibility import rises
from galaxyml.trees import DecisionTree

Values = NDArray[np.float64]
CLICKERS = 0.04  # share of answers given without a look
FEWEST, MOST = 25, 60  # volunteers a galaxy
ODD = {"ring": 0, "lensed arc": 1, "disturbed": 2, "irregular": 3, "artifact": 4, "merger": 5, "dust lane": 6}


def reached(shares: list[Values], tree: DecisionTree, at_first: float = 1.0) -> list[Values]:
    """Share of all volunteers who come to each question.

    Args:
        shares: Of the answers among those who are asked, shape (N, answers), for each question.
        tree: The decision tree.
        at_first: Share that comes to the first question.

    Returns:
        Shape (N,), for each question.
    """
    paths: list[Values] = []
    arriving = []
    for share, leads in zip(shares, tree.leads, strict=True):
        arriving.append(np.sum([paths[lead] for lead in leads], axis=0) if leads else np.full(len(share), at_first))
        paths.extend((share * arriving[-1][:, None]).T)
    return arriving


def walk(
    crowd: NDArray[np.int64], shares: list[Values], tree: DecisionTree, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Number of a crowd who give each answer: only those who gave the answer that leads to a question are asked it.

    Args:
        crowd: Volunteers of each galaxy, shape (N,).
        shares: As for `reached`; a single row is that of all galaxies.
        tree: The decision tree, of K answers.
        rng: Source of the answers.

    Returns:
        Counts, shape (N, K).
    """
    counts: list[NDArray[np.int64]] = []
    for share, leads in zip(shares, tree.leads, strict=True):
        arriving = np.sum([counts[lead] for lead in leads], axis=0) if leads else crowd
        counts.extend(rng.multinomial(arriving, np.broadcast_to(share, (len(crowd), share.shape[1]))).T)
    return np.stack(counts, axis=1)


def at_random(tree: DecisionTree) -> list[Values]:
    """Shares of those who click without a look: the same for all answers of a question."""
    return [np.full((1, len(question.answers)), 1 / len(question.answers)) for question in tree.questions]


def answers(galaxies: pd.DataFrame) -> dict[str, Values]:
    """Probability of each answer, given that the question is asked and the volunteer looks.

    By question of the Kaggle tree, under the names of `ANSWERS` and in its order; each of shape (N, answers).
    """
    return {question: probabilities(galaxies) for question, probabilities in ANSWERS.items()}


def turnout(galaxies: pd.DataFrame, seed: int) -> NDArray[np.int64]:
    """Number of volunteers who look at each galaxy, about 40, shape (N,); the same that `vote` has."""
    return np.array([_crowd(seed, texture)[0] for texture in galaxies.texture], dtype=np.int64)


def vote(galaxies: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fractions of the votes. Only those who gave the answer that leads to a question are asked it.

    Kaggle's fractions are those of paths: an answer's share of the question times the value of the answer that leads
    there, which is the number of volunteers who took the path over the number of all. The 37 columns are named and
    ordered as in the Kaggle tree; a galaxy's row does not depend on the others.
    """
    tree = DecisionTree.load("kaggle")
    looking, clicking = answers(galaxies).values(), at_random(tree)
    fractions = np.empty((len(galaxies), len(tree.columns)))
    for row, texture in enumerate(galaxies.texture):
        crowd, rng = _crowd(seed, texture)
        careless = rng.binomial(crowd, CLICKERS)
        counts = walk(np.array([crowd - careless]), [shares[row : row + 1] for shares in looking], tree, rng)
        counts += walk(np.array([careless]), clicking, tree, rng)
        fractions[row] = counts[0] / crowd
    return pd.DataFrame(fractions, columns=tree.columns)


def expected_votes(galaxies: pd.DataFrame) -> pd.DataFrame:
    """Fractions that infinitely many volunteers would give, as `vote` has them."""
    tree = DecisionTree.load("kaggle")
    fractions: Values | float = 0.0
    for shares, crowd in ((list(answers(galaxies).values()), 1 - CLICKERS), (at_random(tree), CLICKERS)):
        arriving = reached(shares, tree, crowd)
        fractions = fractions + np.concatenate([s * a[:, None] for s, a in zip(shares, arriving, strict=True)], axis=1)
    return pd.DataFrame(fractions, columns=tree.columns, index=galaxies.index)


def _crowd(seed: int, texture: int) -> tuple[int, np.random.Generator]:
    """Number of volunteers who look at a galaxy, and the source of their votes."""
    rng = np.random.default_rng([seed, texture, 1])  # the third number keeps votes apart from the noise of the image
    return int(np.clip(round(rng.normal(41, 7)), FEWEST, MOST)), rng


def _yes(probability: Values) -> Values:
    return np.stack([probability, 1 - probability], axis=1)


def _shares(*weights: Values) -> Values:
    stacked = np.stack(np.broadcast_arrays(*weights), axis=1)
    return stacked / stacked.sum(1, keepdims=True)


def _kind(galaxies: pd.DataFrame, *kinds: str) -> Values:
    return np.asarray(galaxies.kind.isin(kinds), dtype=np.float64)


def _smooth_or_features(galaxies: pd.DataFrame) -> Values:
    ratio = visibility.apparent_axis_ratio(galaxies)
    is_disk = (galaxies.inclination > 0).to_numpy(float)
    sharp = visibility.transfer(galaxies, 0.7 * galaxies.r90.to_numpy()) * visibility.signal(galaxies)
    score = (
        -1.65
        + 8.5 * visibility.arms(galaxies)
        + 1.8 * visibility.bar(galaxies)
        + 7.0 * visibility.ring(galaxies)
        + 2.6 * visibility.edge_on(galaxies) * (0.35 + 0.65 * is_disk)
        + 2.0 * is_disk * sharp * (1 - 1.6 * galaxies.bulge.to_numpy())
        + 0.6 * rises(-ratio, -0.5, 0.1)
        + sharp
        * (3.0 * _kind(galaxies, "irregular") + 2.6 * _kind(galaxies, "disturbed") + 1.9 * _kind(galaxies, "merger"))
        + sharp * (1.2 * galaxies.dust.to_numpy() + 2.0 * _kind(galaxies, "lensed arc"))
    )
    features = rises(score)
    blemish = galaxies.blemish.to_numpy()
    artifact = 0.012 + 0.80 * (blemish == "star") + 0.40 * (blemish == "trail") + 0.50 * (blemish == "bad frame")
    artifact = artifact + 0.05 * (1 - visibility.signal(galaxies))
    return _shares((1 - artifact) * (1 - features), (1 - artifact) * features, artifact)


def _edge_on(galaxies: pd.DataFrame) -> Values:
    return _yes(0.015 + 0.965 * visibility.edge_on(galaxies))


def _bar(galaxies: pd.DataFrame) -> Values:
    elongated = rises(-visibility.apparent_axis_ratio(galaxies), -0.55, 0.08)
    return _yes(rises(-2.5 + 5.2 * visibility.bar(galaxies) + 0.5 * elongated))


def _spiral(galaxies: pd.DataFrame) -> Values:
    tails = galaxies.tail_light.to_numpy() * (galaxies.tails > 0).to_numpy(float) * visibility.signal(galaxies)
    return _yes(rises(-1.9 + 12.0 * visibility.arms(galaxies) + 1.6 * tails + 0.8 * visibility.ring(galaxies)))


def _bulge(galaxies: pd.DataFrame) -> Values:
    seen = np.where(galaxies.inclination > 0, np.sqrt(galaxies.bulge), 0.62)
    seen = np.where(galaxies.kind == "irregular", 0.05, seen) + 0.08 * (
        1 - visibility.transfer(galaxies, galaxies.r90.to_numpy())
    )
    return _shares(*(np.exp(-0.5 * ((seen - share) / 0.13) ** 2) for share in (0.0, 0.29, 0.52, 0.80)))


def _odd(galaxies: pd.DataFrame) -> Values:
    sharp = visibility.transfer(galaxies, 0.6 * galaxies.r90.to_numpy()) * visibility.signal(galaxies)
    arc = galaxies.arc.to_numpy() / 0.08 * visibility.transfer(galaxies, galaxies.arc_radius.to_numpy())
    tides = galaxies.tail_light.to_numpy() + 0.4 * galaxies.shells.to_numpy() + galaxies.lopsided.to_numpy()
    score = (
        -2.7
        + 7.5 * visibility.ring(galaxies)
        + _kind(galaxies, "merger")
        * (2.6 + 1.8 * rises(galaxies.separation.to_numpy() / galaxies.r90.to_numpy(), 0.5, 0.12) + galaxies.tail_light)
        + _kind(galaxies, "disturbed", "spiral") * sharp * 3.6 * tides
        + _kind(galaxies, "irregular") * (1.4 + 2.6 * sharp)
        + _kind(galaxies, "dust lane") * 2.8 * galaxies.dust.to_numpy() * sharp
        + _kind(galaxies, "edge-on") * 0.5 * galaxies.dust.to_numpy() * sharp
        + 4.0 * arc
        + 2.2 * _kind(galaxies, "artifact")
        + 0.25 * np.log(galaxies.crowding)
    )
    return _yes(rises(score.to_numpy()))


def _roundness(galaxies: pd.DataFrame) -> Values:
    ratio = visibility.apparent_axis_ratio(galaxies)
    circular, cigar = rises(ratio, 0.80, 0.045), rises(-ratio, -0.43, 0.045)
    return _shares(circular, (1 - circular) * (1 - cigar), cigar * (1 - circular))


def _what_is_odd(galaxies: pd.DataFrame) -> Values:
    # Where nothing is odd, the few who say so mean a neighbour, or cannot say what.
    weights = np.tile([0.06, 0.04, 0.12, 0.10, 0.34, 0.28, 0.06], (len(galaxies), 1))
    sharp = visibility.transfer(galaxies, 0.6 * galaxies.r90.to_numpy()) * visibility.signal(galaxies)
    for kind, answer in ODD.items():
        weights[:, answer] += _kind(galaxies, kind) * (1.5 + 6 * sharp)
    weights[:, 2] += 1.2 * _kind(galaxies, "merger") * galaxies.tail_light + 1.2 * _kind(galaxies, "irregular")
    weights[:, 3] += 0.8 * _kind(galaxies, "disturbed")
    weights[:, 6] += _kind(galaxies, "edge-on") * 0.5 * galaxies.dust * sharp
    return weights / weights.sum(1, keepdims=True)


def _edge_on_bulge(galaxies: pd.DataFrame) -> Values:
    sharp = visibility.transfer(galaxies, 0.5 * galaxies.r90.to_numpy())
    share = np.where(galaxies.inclination > 0, galaxies.bulge, 0.5)
    bulge = rises(share, 0.11, 0.035)
    boxy = rises(galaxies.boxiness.to_numpy(), 3.2, 0.35) * (0.25 + 0.65 * sharp) + 0.06
    return _shares(bulge * (1 - boxy), bulge * boxy, 1 - bulge)


def _winding(galaxies: pd.DataFrame) -> Values:
    pitch = np.where(galaxies.arms > 0, np.abs(galaxies.pitch), 18.0)
    vague = 1 + 1.5 * (1 - visibility.arms(galaxies))
    tight, loose = rises(14 - pitch, 0.0, 1.5 * vague), rises(pitch - 24, 0.0, 1.8 * vague)
    return _shares(tight * (1 - loose), (1 - tight) * (1 - loose), loose * (1 - tight))


def _number_of_arms(galaxies: pd.DataFrame) -> Values:
    seen = visibility.arms(galaxies)
    number = np.where(galaxies.arms > 0, np.minimum(galaxies.arms, 5), 2).astype(float)
    spread = 0.35 + 0.8 * (1 - seen) ** 2 + 0.10 * (number - 1)
    weights = np.exp(-0.5 * ((np.arange(1, 6)[None] - number[:, None]) / spread[:, None]) ** 2) + 0.02
    weights[:, 1] *= 1.5  # two is what is expected
    weights /= weights.sum(1, keepdims=True)
    unsure = 0.03 + 0.85 * rises(-seen, -0.18, 0.07) + 0.08 * (number > 3)
    unsure = np.minimum(unsure, 0.9)[:, None]
    return np.concatenate([weights * (1 - unsure), unsure], axis=1)


# By what the questions of the Kaggle tree, which are those of Galaxy Zoo 2, are about.
ANSWERS = {
    "features": _smooth_or_features,
    "edge": _edge_on,
    "bar": _bar,
    "spiral": _spiral,
    "bulge": _bulge,
    "odd": _odd,
    "round": _roundness,
    "what": _what_is_odd,
    "shape": _edge_on_bulge,
    "winding": _winding,
    "number": _number_of_arms,
}
