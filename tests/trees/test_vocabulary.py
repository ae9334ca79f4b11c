"""Outputs of nets, and what volunteers of a campaign would have said by them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from galaxyml.runs.errors import UserError
from galaxyml.trees import DecisionTree
from galaxyml.trees.vocabulary import Vocabulary, count, shares


@dataclass(frozen=True)
class Asked:
    campaign: str


SURVEYS = {"sdss": Asked("gz2"), "decals12": Asked("gzd12"), "decals5": Asked("gzd5"), "ukidss": Asked("ukidss")}
CAMPAIGN = np.array(["gz2", "gzd12", "gzd5", "ukidss"])


def vocabulary(
    features: Any = "all", heads: str = "shared", train: tuple[str, ...] = ("sdss", "decals12")
) -> Vocabulary:
    return Vocabulary(features, heads, SURVEYS, list(train), [name for name in SURVEYS if name not in train])


def votes_of(campaign: str, galaxies: int, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Counts of a campaign that walk down its tree; questions that nobody is led to are not asked."""
    tree, rng = DecisionTree.load(campaign), np.random.default_rng(seed)
    counts = np.zeros((galaxies, len(tree.columns)))
    votes = np.zeros((galaxies, len(tree.questions)))
    for number, (question, leads) in enumerate(zip(tree.questions, tree.leads, strict=True)):
        at = [tree.columns.index(column) for column in question.columns]
        votes[:, number] = counts[:, leads].sum(1) if leads else rng.integers(3, 9, galaxies)
        counts[:, at] = [rng.multinomial(int(n), np.full(len(at), 1 / len(at))) for n in votes[:, number]]
    of_question = votes[:, tree.question_of]
    fractions = np.where(of_question > 0, counts / np.maximum(of_question, 1), np.nan)
    return votes, {"fraction": fractions}, counts


@pytest.mark.parametrize(
    ("features", "heads", "judged", "outputs"),
    [
        ("all", "shared", 40, 40),
        ("all", "own", 40, 67),
        (9, "shared", 9, 9),
        (9, "own", 9, 18),
        (11, "shared", 11, 11),
        ("26", "shared", 26, 28),
        ("common", "shared", 26, 28),
        (52, "shared", 52, 56),
        (74, "shared", 74, 74),
    ],
)
def test_lists_have_their_outputs(features: Any, heads: str, judged: int, outputs: int) -> None:
    made = vocabulary(features, heads)
    assert (len(made.features), len(made.columns), count(made)) == (judged, outputs, outputs)
    assert sum(made.sizes) == len(made.question_of) == outputs
    assert made.question_of == sorted(made.question_of)


@pytest.mark.parametrize("campaign", list(CAMPAIGN))
def test_targets_are_the_shares_of_the_counted_votes(campaign: str) -> None:
    votes, fractions, counts = votes_of(campaign, 40)
    made = vocabulary(train=("sdss", "decals12", "decals5"))
    targets = made.targets(campaign, votes, fractions)
    tree = DecisionTree.load(campaign)
    for at, feature in enumerate(made.columns):
        columns = made.ontology.question_of(feature).columns.get(campaign, {}).get(feature, ())
        if not columns:
            assert np.isnan(targets[:, at, 0]).all()
            assert (targets[:, at, 1] == 0).all()
            continue
        rows = [tree.columns.index(column) for column in columns]
        siblings = tree.questions[tree.question_of[rows[0]]].columns
        total = counts[:, [tree.columns.index(column) for column in siblings]].sum(1)
        asked = total > 0
        np.testing.assert_allclose(targets[asked, at, 0] * total[asked], counts[asked][:, rows].sum(1), rtol=1e-5)
        np.testing.assert_array_equal(targets[:, at, 1], total)
        assert np.isnan(targets[~asked, at, 0]).all()
    true, asked_votes = made.target_features(campaign, votes, fractions)
    np.testing.assert_allclose(true, targets[..., 0], rtol=1e-6)  # features are the columns of shared heads
    np.testing.assert_array_equal(asked_votes, targets[..., 1])


@pytest.mark.parametrize("heads", ["shared", "own"])
@pytest.mark.parametrize("scale", [1.0, 37.0])
def test_what_is_said_sums_to_one_over_the_answers_that_a_campaign_has(heads: str, scale: float) -> None:
    made = vocabulary(heads=heads)
    outputs = scale * np.random.default_rng(1).random((4, len(made.columns)))
    said = made.predicted_features(outputs, CAMPAIGN)
    for row, campaign in enumerate(CAMPAIGN):
        has = set(made.ontology.has(campaign))
        for question in made.ontology.questions:
            places = [made.features.index(name) for name in question.features if name in made.features]
            known = [at for at in places if made.features[at] in has]
            assert np.isnan(said[row, [at for at in places if at not in known]]).all()
            if known:
                assert said[row, known].sum() == pytest.approx(1)
    np.testing.assert_allclose(made.predicted_features(outputs / scale, CAMPAIGN), said)


@pytest.mark.parametrize("heads", ["shared", "own"])
def test_outputs_that_are_the_truth_are_said_as_the_truth(heads: str) -> None:
    made = vocabulary(heads=heads)
    for campaign in ("gz2", "gzd12"):
        votes, fractions, _ = votes_of(campaign, 30, seed=2)
        targets = made.targets(campaign, votes, fractions)
        said = made.predicted_features(np.nan_to_num(targets[..., 0]), np.full(30, campaign))
        true, _ = made.target_features(campaign, votes, fractions)
        known = ~np.isnan(true)
        np.testing.assert_allclose(said[known], true[known], atol=1e-6)


def test_a_campaign_that_was_not_trained_on_gets_the_mean_of_the_heads() -> None:
    made = vocabulary(9, "own")
    outputs = np.random.default_rng(3).random((1, len(made.columns)))
    of_each = [made.predicted_features(outputs, np.array([campaign]))[0] for campaign in ("gz2", "gzd12")]
    np.testing.assert_allclose(made.predicted_features(outputs, np.array(["ukidss"]))[0], np.mean(of_each, axis=0))


def test_shares_are_the_answers_over_their_question() -> None:
    outputs = torch.tensor([[1.0, 3.0, 2.0, -1.0, 6.0], [0.0, 0.0, 5.0, 1.0, 0.0]])
    available = torch.tensor([[True, True, True, True, True], [True, True, False, True, True]])
    expected = torch.tensor([[0.25, 0.75, 0.25, 0.0, 0.75], [0.5, 0.5, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(shares(outputs, [0, 0, 1, 1, 1], available), expected)
    nothing = shares(outputs, [0, 0, 1, 1, 1], torch.zeros_like(available))
    assert (nothing == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": "both"}, "heads=both: it must be shared or own"),
        ({"features": "12"}, "there is no such list"),
        ({"features": ["bar_yess"]}, "there is no feature 'bar_yess'. Did you mean bar_yes"),
        ({"train": ["sds"]}, "train: there is no survey 'sds'. Did you mean sdss"),
        ({"train": []}, "train=\\[\\]: name a survey to train on"),
        ({"train": "sdss"}, "train=sdss: give a list, such as train=\\[sdss\\]"),
        ({"test": ["sdss"]}, "'sdss' is named twice in train and test"),
        (
            {"features": ["merging_none"], "train": ["sdss"], "test": ["ukidss"]},
            "no survey of train=\\['sdss'\\] has any",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused(arguments: dict[str, Any], message: str) -> None:
    given = {"features": "all", "heads": "shared", "surveys": SURVEYS, "train": ["sdss"], "test": ["ukidss"]}
    with pytest.raises(UserError, match=message):
        Vocabulary(**{**given, **arguments})
