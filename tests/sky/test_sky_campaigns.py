"""Volunteers of four campaigns: what they may say, and what they can see."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from galaxyml.sky import population, visibility
from galaxyml.sky.campaigns import CROWDS, ballots, campaign_answers, expected_shares, through
from galaxyml.sky.survey import GZD, SDSS, TYPICAL, UKIDSS, one_thing_changed
from galaxyml.sky.visibility import seen_clearly
from galaxyml.sky.volunteers import answers
from galaxyml.trees import DecisionTree

SURVEYS = {"gz2": SDSS, "gzd12": GZD, "gzd5": GZD, "ukidss": UKIDSS}
TREES = {name: DecisionTree.load(name) for name in SURVEYS}
FIRST = {"gz2": "t01_smooth_or_features_a02_features_or_disk", "ukidss": "smooth-or-featured-ukidss_featured-or-disk"}
campaigns = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


def votes(galaxies, tree, seed):
    looking, clicking = ballots(galaxies, tree, seed)
    return looking + clicking


def totals(counts: np.ndarray, tree: DecisionTree) -> np.ndarray:
    """Sum over the answers of each question, shape (N, Q), one question at a time."""
    of = np.array(tree.question_of)
    return np.stack([counts[:, of == question].sum(1) for question in range(len(tree.questions))], axis=1)


def shares_of(counts: np.ndarray, tree: DecisionTree) -> np.ndarray:
    asked = totals(counts, tree)[:, tree.question_of].astype(float)
    return np.divide(counts, asked, out=np.full(counts.shape, np.nan), where=asked > 0)


def test_there_is_a_crowd_for_every_campaign():
    assert set(CROWDS) == set(SURVEYS)


@campaigns
def test_probabilities_of_a_question_sum_to_one(tree):
    galaxies = through(population(600, 1), SURVEYS[tree.name])
    asked = campaign_answers(galaxies, tree)
    assert [share.shape for share in asked] == [(600, len(question.answers)) for question in tree.questions]
    for share in asked:
        assert share.min() >= 0
        np.testing.assert_allclose(share.sum(1), 1)


@campaigns
def test_a_question_is_asked_of_those_who_gave_the_answer_before_it(tree):
    counts = votes(through(population(400, 2), SURVEYS[tree.name]), tree, 3)
    asked = totals(counts, tree)
    for number, leads in enumerate(tree.leads):
        if leads:
            np.testing.assert_array_equal(asked[:, number], counts[:, leads].sum(1))
    assert counts.min() >= 0
    assert counts.dtype == np.int64


@campaigns
def test_counts_converge_to_the_expected_shares(tree):
    """Of 15 galaxies voted on by 400 crowds, shares scatter about the expected as a multinomial does."""
    galaxies = through(population(15, 4), SURVEYS[tree.name])
    many = pd.concat([galaxies] * 400, ignore_index=True)
    pooled = votes(many, tree, 0).reshape(400, 15, -1).sum(0)
    asked = totals(pooled, tree)[:, tree.question_of]
    expected = expected_shares(galaxies, tree)
    enough = (asked > 100) & (expected * asked > 10)
    error = np.sqrt(expected * (1 - expected) / np.maximum(asked, 1))
    pulls = ((shares_of(pooled, tree) - expected) / error)[enough]
    assert np.abs(pulls).max() < 5
    assert pulls.std() == pytest.approx(1, abs=0.15)
    assert kstest(pulls, "norm").pvalue > 1e-3


def test_galaxy_zoo_2_has_the_answers_of_the_kaggle_tree_through_sdss():
    galaxies = population(200, 6)
    for mine, kaggle in zip(
        campaign_answers(through(galaxies, SDSS), TREES["gz2"]),
        answers(galaxies).values(),
        strict=True,
    ):
        np.testing.assert_allclose(mine, kaggle, rtol=1e-9)


def test_crowds_have_the_sizes_of_their_campaigns():
    galaxies = population(3000, 7)
    crowds = {
        name: totals(votes(through(galaxies, SURVEYS[name]), tree, 0), tree)[:, 0] for name, tree in TREES.items()
    }
    for name in ("gz2", "gzd12", "ukidss"):
        assert 38 < crowds[name].mean() < 44
    few = crowds["gzd5"] < 15
    assert 0.65 < few.mean() < 0.75
    assert crowds["gzd5"][few].mean() == pytest.approx(5, abs=0.3)
    assert crowds["gzd5"][~few].mean() == pytest.approx(38, abs=1)


def test_a_few_votes_are_careless_and_spread_over_all_answers():
    galaxies, tree = population(3000, 8), TREES["ukidss"]
    looking, clicking = ballots(galaxies, tree, 1)
    first = clicking[:, :3].sum(0)
    assert first.sum() / (first.sum() + looking[:, :3].sum()) == pytest.approx(0.04, abs=0.003)
    np.testing.assert_allclose(first / first.sum(), 1 / 3, atol=0.03)


@pytest.mark.parametrize(
    ("columns", "more"),
    [
        (["bulge-size_dominant", "bulge-size_large"], "bulge"),
        (["bulge-size_none", "bulge-size_small"], "no bulge"),
        (["bar_strong"], "bar"),
        (["merging_merger"], "merger"),
        (["merging_major-disturbance", "merging_minor-disturbance"], "disturbed"),
        (["how-rounded_round"], "round"),
        (["edge-on-bulge_boxy"], "boxy"),
    ],
)
def test_volunteers_of_decals_see_what_is_there(columns, more):
    """Galaxies that have a thing get more votes for it than those that have it not."""
    tree, galaxies = TREES["gzd5"], through(population(4000, 9), GZD)
    face_on = galaxies.inclination.between(1, 50)
    groups = {
        "bulge": (face_on & (galaxies.bulge > 0.4), face_on & (galaxies.bulge < 0.1)),
        "no bulge": (face_on & (galaxies.bulge < 0.1), face_on & (galaxies.bulge > 0.4)),
        "bar": (face_on & (galaxies.bar > 0.2), face_on & (galaxies.bar == 0)),
        "merger": (galaxies.kind == "merger", galaxies.kind == "smooth"),
        "disturbed": (galaxies.kind == "disturbed", galaxies.kind == "smooth"),
        "round": (galaxies.axis_ratio > 0.9, galaxies.axis_ratio.between(0.3, 0.6)),
        "boxy": (galaxies.boxiness > 3.5, (galaxies.kind == "edge-on") & (galaxies.boxiness == 2)),
    }
    found = expected_shares(galaxies, tree)[:, [tree.columns.index(column) for column in columns]].sum(1)
    there, missing = groups[more]
    assert min(there.sum(), missing.sum()) > 15
    assert found[there].mean() > 1.5 * found[missing].mean()


def test_no_arm_count_is_lost_where_cannot_tell_is_no_answer():
    galaxies = population(50, 1, "spiral")
    first, fifth = (campaign_answers(galaxies, TREES[name]) for name in ("gzd12", "gzd5"))
    told = fifth[8][:, :5] / fifth[8][:, :5].sum(1, keepdims=True)
    np.testing.assert_allclose(first[7], told)


def test_sdss_is_the_survey_that_visibility_is_made_for():
    galaxies = population(500, 10)
    seen = through(galaxies, SDSS)
    pd.testing.assert_frame_equal(seen, galaxies, rtol=1e-12)


def test_decals_is_sharper_and_deeper_and_ukidss_sharper_and_shallower():
    galaxies = population(500, 11)
    decals, ukidss = through(galaxies, GZD), through(galaxies, UKIDSS)
    assert (decals.seeing < galaxies.seeing).all()
    assert (ukidss.seeing < decals.seeing).all()
    assert (visibility.signal(decals) > visibility.signal(galaxies)).all()
    assert (visibility.signal(ukidss) < visibility.signal(galaxies)).all()


def test_in_the_infrared_arms_are_weaker_bulges_and_bars_brighter_and_dust_thinner():
    spirals = population(400, 12, "spiral")
    seen = through(spirals, UKIDSS)
    assert (seen.contrast < spirals.contrast).all()
    assert (seen.bulge > spirals.bulge)[spirals.bulge > 0].all()
    assert (seen.bar > spirals.bar)[spirals.bar > 0].all()
    edge_on = population(200, 13, "edge-on")
    dusty = edge_on.dust > 0
    assert (through(edge_on, UKIDSS).dust < 0.4 * edge_on.dust)[dusty].all()


def test_shares_in_the_infrared_are_those_of_the_light_that_is_drawn():
    """A part's flux in J is that in r times the survey's own ratio for its colour."""
    galaxy = population(300, 14, "spiral").query("bulge > 0").head(1)
    one = galaxy.iloc[0]
    old, young, between = (
        UKIDSS.fluxes(1.0, color)[1] for color in (one.color, one.young_color, (one.color + one.young_color) / 2)
    )
    arms = one.contrast * young
    disk = arms + (1 - one.contrast) * between
    seen = through(galaxy, UKIDSS).iloc[0]
    assert seen.contrast == pytest.approx(arms / disk)
    assert seen.bulge == pytest.approx(one.bulge * old / (one.bulge * old + (1 - one.bulge) * disk))


def test_each_survey_shows_what_its_camera_can():
    spirals = population(300, 5, "spiral")
    decals, sdss, ukidss = (through(spirals, survey) for survey in (GZD, SDSS, UKIDSS))
    assert visibility.signal(decals).mean() > visibility.signal(sdss).mean() > visibility.signal(ukidss).mean()
    assert visibility.arms(decals).mean() > visibility.arms(sdss).mean() > visibility.arms(ukidss).mean()


def test_one_thing_of_a_survey_is_changed_at_a_time():
    changed = one_thing_changed(SDSS, UKIDSS)
    differing = {
        name: {key for key, value in vars(survey).items() if value != vars(SDSS)[key]}
        for name, survey in changed.items()
    }
    assert differing["psf"] == {"name", "seeing", "registration"}
    assert differing["depth"] == {"name", "sky_noise", "pedestal", "softening"}
    assert not {"seeing", "registration", "camera_pixel", "noise_mixed", "quality"} & differing["bands"]
    galaxies = population(50, 1).assign(color=TYPICAL, young_color=TYPICAL)
    # The noise against a galaxy of this colour is that of the survey it was taken from, or that of SDSS.
    np.testing.assert_allclose(through(galaxies, changed["depth"]).depth, through(galaxies, UKIDSS).depth)
    np.testing.assert_allclose(through(galaxies, changed["bands"]).depth, galaxies.depth)


@pytest.mark.parametrize(("name", "changed"), [("psf", {"seeing"}), ("depth", {"depth"})])
def test_what_is_changed_alone_changes_alone(name, changed):
    galaxies = population(200, 15)
    seen = through(galaxies, one_thing_changed(SDSS, UKIDSS)[name])
    differs = {
        column
        for column in galaxies.columns
        if column != "kind" and column != "blemish" and not np.allclose(seen[column], galaxies[column])
    }
    assert differs == changed


def test_fewer_see_features_through_the_noise_of_ukidss():
    galaxies = population(1500, 16)
    optical = expected_shares(through(galaxies, SDSS), TREES["gz2"])[:, TREES["gz2"].columns.index(FIRST["gz2"])]
    tree = TREES["ukidss"]
    infrared = expected_shares(through(galaxies, UKIDSS), tree)[:, tree.columns.index(FIRST["ukidss"])]
    clear = expected_shares(seen_clearly(through(galaxies, UKIDSS)), tree)[:, tree.columns.index(FIRST["ukidss"])]
    assert infrared.mean() < optical.mean() - 0.05
    assert clear.mean() > infrared.mean() + 0.03


def test_as_many_call_ukidss_galaxies_artifacts_as_did_in_the_release(real):
    published = np.load(real / "surveys" / "ukidss" / "published_predictions_1000.npz")
    truth = published["true_labels"][:, 2].mean()
    tree = TREES["ukidss"]
    found = shares_of(votes(through(population(2000, 17), UKIDSS), tree, 0), tree)
    assert np.nanmean(found[:, 2]) == pytest.approx(truth, abs=0.03)


@campaigns
def test_the_same_seed_gives_the_same_votes(tree):
    galaxies = population(60, 18)
    np.testing.assert_array_equal(votes(galaxies, tree, 5), votes(galaxies, tree, 5))
    assert (votes(galaxies, tree, 5) != votes(galaxies, tree, 6)).any()
