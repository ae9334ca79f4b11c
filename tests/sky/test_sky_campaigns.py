"""Volunteers of four campaigns: what they may say, and what they can see."""

import numpy as np
import pandas as pd
import pytest

from galaxyml.sky.campaigns import CROWDS, campaign_answers, campaign_votes, expected_shares, through
from galaxyml.sky.population import population
from galaxyml.sky.survey import GZD, SDSS, UKIDSS, one_thing_changed
from galaxyml.sky.visibility import arms, signal
from galaxyml.sky.volunteers import expected_fractions
from galaxyml.trees import DecisionTree


@pytest.fixture(scope="module")
def galaxies() -> pd.DataFrame:
    return population(300, 5)


@pytest.mark.parametrize("name", list(CROWDS))
def test_the_answers_of_a_question_sum_to_one(galaxies: pd.DataFrame, name: str) -> None:
    tree = DecisionTree.load(name)
    for question, shares in zip(tree.questions, campaign_answers(galaxies, tree), strict=True):
        assert shares.shape == (300, len(question.answers))
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize("name", list(CROWDS))
def test_only_those_who_gave_the_leading_answer_are_asked(galaxies: pd.DataFrame, name: str) -> None:
    tree = DecisionTree.load(name)
    counts = campaign_votes(galaxies, tree, seed=3)
    assert counts.dtype == np.int64
    for question, leads in zip(tree.questions, tree.leads, strict=True):
        own = counts[:, [tree.columns.index(column) for column in question.columns]].sum(1)
        if leads:
            np.testing.assert_array_equal(own, counts[:, leads].sum(1))
    np.testing.assert_array_equal(counts, campaign_votes(galaxies, tree, seed=3))


@pytest.mark.parametrize("name", list(CROWDS))
def test_many_volunteers_give_the_expected_shares(name: str) -> None:
    tree = DecisionTree.load(name)
    one = population(40, 8).iloc[[3]]
    many = pd.concat([one] * 4000)
    counts = campaign_votes(many, tree, seed=1).sum(0)
    expected = expected_shares(one, tree)[0]
    for question in tree.questions:
        at = [tree.columns.index(column) for column in question.columns]
        total = counts[at].sum()
        if total < 50:
            continue
        error = np.sqrt(expected[at] * (1 - expected[at]) / total)
        assert (np.abs(counts[at] / total - expected[at]) < 5 * error + 1e-9).all(), question.name


def test_galaxy_zoo_2s_shares_are_those_of_the_paths_of_the_challenge(galaxies: pd.DataFrame) -> None:
    kaggle = DecisionTree.load("kaggle")
    paths = expected_fractions(galaxies, kaggle)
    shares = expected_shares(galaxies, DecisionTree.load("gz2"))
    for number, leads in enumerate(kaggle.leads):
        at = [place for place, question in enumerate(kaggle.question_of) if question == number]
        if kaggle.questions[number].name == "Class6":
            continue  # the challenge asks everyone; the campaign not those who saw an artifact
        if "Class6" in str(kaggle.questions[number].after):
            continue
        before = paths[:, leads].sum(1) if leads else np.ones(len(paths))
        np.testing.assert_allclose(shares[:, at] * before[:, None], paths[:, at], atol=1e-9)


def test_crowds_are_as_large_as_the_campaigns_were() -> None:
    many = population(2000, 9)
    people = {
        name: campaign_votes(many, tree := DecisionTree.load(name), 0)[:, : len(tree.questions[0].answers)].sum(1)
        for name in CROWDS
    }
    assert people["gz2"].mean() == pytest.approx(42, abs=1)
    assert people["ukidss"].mean() == pytest.approx(39, abs=1)
    few = people["gzd5"] < 20
    assert few.mean() == pytest.approx(0.7, abs=0.04)
    assert people["gzd5"][few].mean() == pytest.approx(5, abs=0.5)


def test_what_is_seen_through_sdss_is_what_is_there(galaxies: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(through(galaxies, SDSS), galaxies, rtol=1e-12)


def test_each_survey_shows_what_its_camera_can(galaxies: pd.DataFrame) -> None:
    spirals = galaxies[galaxies.arms > 0]
    seen = {survey.name: through(spirals, survey) for survey in (SDSS, GZD, UKIDSS)}
    assert (seen["UKIDSS"].contrast < seen["SDSS"].contrast).all()
    assert (seen["UKIDSS"].bulge >= seen["SDSS"].bulge).all()
    assert (seen["UKIDSS"].dust <= seen["SDSS"].dust).all()
    assert signal(seen["GZ DECaLS"]).mean() > signal(seen["SDSS"]).mean() > signal(seen["UKIDSS"]).mean()
    assert arms(seen["GZ DECaLS"]).mean() > arms(seen["SDSS"]).mean() > arms(seen["UKIDSS"]).mean()


def test_the_share_of_light_in_a_bulge_follows_from_the_colours(galaxies: pd.DataFrame) -> None:
    disks = galaxies[galaxies.bulge > 0.05]
    old, young = (
        10 ** (0.4 * (UKIDSS.middle_color[0] + UKIDSS.middle_color[1] * color))
        for color in (disks.color, disks.young_color)
    )
    bulge, disk = disks.bulge * old, (1 - disks.bulge) * (old + young) / 2
    np.testing.assert_allclose(through(disks, UKIDSS).bulge, bulge / (bulge + disk))


def test_one_thing_is_changed_at_a_time() -> None:
    changed = one_thing_changed(SDSS, UKIDSS)
    own = vars(SDSS)
    differing = {
        name: {key for key, value in vars(survey).items() if value != own[key]} for name, survey in changed.items()
    }
    assert differing["psf"] == {"name", "seeing", "registration"}
    assert differing["depth"] == {"name", "sky_noise"}
    assert not {"seeing", "registration", "camera_pixel", "noise_mixed"} & differing["bands"]
    galaxy = population(50, 1).assign(color=0.7, young_color=0.7)
    # The noise against a galaxy of this colour is that of the survey it was taken from, or that of SDSS.
    np.testing.assert_allclose(through(galaxy, changed["depth"]).depth, through(galaxy, UKIDSS).depth, rtol=1e-6)
    np.testing.assert_allclose(through(galaxy, changed["bands"]).depth, galaxy.depth, rtol=1e-6)
