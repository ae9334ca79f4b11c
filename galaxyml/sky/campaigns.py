"""The volunteers of four campaigns, each with its own questions, who see the same galaxies through their own surveys.

As in `volunteers`, whose answers these are made of, the numbers are habits: they are the truth of the simulated sky,
not a measurement.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.sky import visibility
from galaxyml.sky.survey import SDSS, Survey
from galaxyml.sky.visibility import rises
from galaxyml.sky.volunteers import ANSWERS, CLICKERS, answers, at_random, reached, walk
from galaxyml.trees import DecisionTree

Values = NDArray[np.float64]


# Volunteers who look at a galaxy: mean and standard deviation of their number, and the share of galaxies that only
# about `FEWER` look at, as active learning does not ask for more.
CROWDS = {"gz2": (42, 7, 0.0), "gzd12": (40, 6, 0.0), "gzd5": (38, 6, 0.7), "ukidss": (39, 6, 0.0)}
FEWER = 5


def through(galaxies: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    """Galaxies as the measures of `visibility`, made for SDSS, must take them for what another survey shows.

    Redder bands show old stars: arms stand out less, bulges more, and dust hides less. The noise is that of the middle
    band, in units of SDSS's, against a galaxy's light in it.
    """

    def gained(color: Values) -> Values:
        zero, slope = survey.middle_color
        return np.asarray(10 ** (0.4 * (zero + slope * color)))

    def share(column: str, own: Values, others: Values) -> Values:
        """A component's share of the light in the middle band, from that in r."""
        before = galaxies[column].to_numpy()
        return np.asarray(before * own / (before * own + (1 - before) * others))

    color, young_color, contrast = (galaxies[name].to_numpy() for name in ("color", "young_color", "contrast"))
    old, young = gained(color), gained(young_color)
    # What lies between arms has the mean colour, and disks without arms are bluer, as they are drawn.
    between, plain = gained((color + young_color) / 2), gained(0.25 * color + 0.75 * young_color)
    disk = np.where(galaxies.arms > 0, contrast * young + (1 - contrast) * between, plain)
    whole = np.where(galaxies.inclination > 0, galaxies.bulge * old + (1 - galaxies.bulge) * disk, old)
    return galaxies.assign(
        seeing=galaxies.seeing * survey.seeing[1],
        depth=galaxies.depth * _noise(survey) / _noise(SDSS) / whole,
        contrast=share("contrast", young, between),
        bulge=share("bulge", old, disk),
        bar=share("bar", old, disk),
        ring=share("ring", young, plain),
        arc=share("arc", young, old),
        dust=galaxies.dust * survey.extinction[1],
    )


def _noise(survey: Survey) -> float:
    """Of the sky in the middle band, nanomaggies in a square arcsec."""
    return survey.sky_noise[1] / survey.camera_pixel


def campaign_answers(galaxies: pd.DataFrame, tree: DecisionTree) -> list[Values]:
    """Probability of each answer, given that the question is asked and the volunteer looks.

    Galaxies are as `through` a survey, the tree is that of one of the `CROWDS`; for each of its questions the shape is
    (N, answers).
    """
    shares = answers(galaxies)
    sources = [_SOURCES[tree.name][question.name] for question in tree.questions]
    return [shares[source] if isinstance(source, str) else source(galaxies, shares) for source in sources]


def expected_shares(galaxies: pd.DataFrame, tree: DecisionTree) -> Values:
    """Shares of each question's answers that infinitely many volunteers would give; arguments as `campaign_answers`.

    Those who click without a look come to a question as often as their clicks lead them there. The shape is (N, K),
    columns in the tree's order; each question sums to 1.
    """
    looking, clicking = campaign_answers(galaxies, tree), at_random(tree)
    attentive, careless = reached(looking, tree, 1 - CLICKERS), reached(clicking, tree, CLICKERS)
    shares = [
        (look * lookers[:, None] + click * clickers[:, None]) / (lookers + clickers)[:, None]
        for look, lookers, click, clickers in zip(looking, attentive, clicking, careless, strict=True)
    ]
    return np.concatenate(shares, axis=1)


def ballots(galaxies: pd.DataFrame, tree: DecisionTree, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of the answers of those who look, and of those who click without a look; arguments as `campaign_answers`.

    Both are of shape (N, K), columns in the tree's order.
    """
    rng = np.random.default_rng([seed, 41, list(CROWDS).index(tree.name)])
    people = crowd(len(galaxies), tree, rng)
    careless = rng.binomial(people, CLICKERS)
    looking = walk(people - careless, campaign_answers(galaxies, tree), tree, rng)
    return looking, walk(careless, at_random(tree), tree, rng)


def crowd(n: int, tree: DecisionTree, rng: np.random.Generator) -> NDArray[np.int64]:
    """Number of volunteers who look at each of n galaxies of a campaign, at least 3; shape (n,)."""
    mean, spread, share_of_few = CROWDS[tree.name]
    usual, few = rng.normal(mean, spread, n), rng.poisson(FEWER, n)
    return np.maximum(np.where(rng.random(n) < share_of_few, few, np.round(usual)), 3).astype(np.int64)


Shares = dict[str, Values]


def _faint_features(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """Smooth, features, artifact: what hardly shows is none of the first two to some."""
    # So that the mean of `artifact` is near that of the release, 0.125 in 1,000 galaxies.
    lost = 0.13 * (1 - visibility.signal(galaxies))
    smooth, features, artifact = shares["features"].T * (1 - lost)
    return np.stack([smooth, features, artifact + lost], axis=1)


def _three_bulges(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """None, obvious, dominant: what is just noticeable is none to some and obvious to others."""
    none, slight, obvious, dominant = shares["bulge"].T
    return np.stack([none + 0.45 * slight, obvious + 0.55 * slight, dominant], axis=1)


def _five_bulges(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """Dominant, large, moderate, small, none."""
    none, slight, obvious, dominant = shares["bulge"].T
    large, moderate = 0.15 * dominant + 0.4 * obvious, 0.6 * obvious + 0.15 * slight
    return np.stack([0.85 * dominant, large, moderate, 0.85 * slight + 0.1 * none, 0.9 * none], axis=1)


def _three_bars(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """Strong, weak, none: who may say weak says no less often."""
    yes, no = shares["bar"].T
    strong = rises(visibility.bar(galaxies), 0.6, 0.12)
    return np.stack([yes * strong, yes * (1 - strong) + 0.12 * no, 0.88 * no], axis=1)


def _counted(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """The number of arms, where nobody may say that it cannot be told."""
    counted = shares["number"][:, :-1]
    return counted / counted.sum(1, keepdims=True)


def _disturbance(galaxies: pd.DataFrame, shares: Shares) -> tuple[Values, Values, Values]:
    """Shares of those who see a merger, of those who see debris or a disturbance, and how strong the tails are."""
    odd = shares["odd"][:, 0]
    merger, disturbed = shares["what"][:, 5], shares["what"][:, 2] + 0.5 * shares["what"][:, 3]
    tails = np.clip(galaxies.tail_light.to_numpy() * visibility.signal(galaxies), 0, 1)
    return odd * merger, odd * disturbed * 0.8, tails


def _merging_or_debris(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """Merger, tidal debris, both, neither."""
    merger, disturbed, tails = _disturbance(galaxies, shares)
    return np.stack([merger * (1 - tails), disturbed, merger * tails, 1 - merger - disturbed], axis=1)


def _merging_or_disturbed(galaxies: pd.DataFrame, shares: Shares) -> Values:
    """None, minor disturbance, major disturbance, merger."""
    merger, disturbed, tails = _disturbance(galaxies, shares)
    minor = disturbed * (1 - 0.7 * tails) * 0.6 + 0.05 * (1 - merger - disturbed)
    major = disturbed - disturbed * (1 - 0.7 * tails) * 0.6
    return np.stack([1 - merger - major - minor, minor, major, merger], axis=1)


# Of each campaign's questions the one of Galaxy Zoo 2 that has the same answers, or how its shares come about.
_SOURCES: dict[str, dict[str, str | Callable[[pd.DataFrame, Shares], Values]]] = {
    "gz2": dict(zip((question.name for question in DecisionTree.load("gz2").questions), ANSWERS, strict=True)),
    "gzd12": {
        "smooth-or-featured": "features",
        "how-rounded": "round",
        "disk-edge-on": "edge",
        "edge-on-bulge": "shape",
        "bar": "bar",
        "has-spiral-arms": "spiral",
        "spiral-winding": "winding",
        "spiral-arm-count": _counted,
        "bulge-size": _three_bulges,
        "merging": _merging_or_debris,
    },
    "gzd5": {
        "smooth-or-featured": "features",
        "disk-edge-on": "edge",
        "has-spiral-arms": "spiral",
        "bar": _three_bars,
        "bulge-size": _five_bulges,
        "how-rounded": "round",
        "edge-on-bulge": lambda galaxies, shares: shares["shape"][:, [1, 2, 0]],
        "spiral-winding": "winding",
        "spiral-arm-count": "number",
        "merging": _merging_or_disturbed,
    },
    "ukidss": {
        "smooth-or-featured-ukidss": _faint_features,
        "disk-edge-on-ukidss": "edge",
        "has-spiral-arms-ukidss": "spiral",
        "bar-ukidss": "bar",
        "bulge-size-ukidss": lambda galaxies, shares: shares["bulge"][:, ::-1],
        "something-odd-ukidss": "odd",
        "how-rounded-ukidss": "round",
        "bulge-shape-ukidss": "shape",
        "spiral-winding-ukidss": "winding",
        "spiral-arm-count-ukidss": "number",
    },
}
