import numpy as np
import pandas as pd
import pytest
import torch

from galaxyml.sky import population
from galaxyml.sky.campaigns import expected_shares
from galaxyml.sky.volunteers import CLICKERS, answers, at_random, reached, turnout, vote
from galaxyml.trees import DecisionTree, violation

TREE = DecisionTree.load("kaggle")


def column(name: str) -> int:
    return TREE.columns.index(name)


def expected_fractions(galaxies: pd.DataFrame) -> np.ndarray:
    """Fractions of paths that infinitely many volunteers would give, shape (N, 37)."""

    def paths(shares):
        return np.concatenate([share * of[:, None] for share, of in zip(shares, reached(shares, TREE), strict=True)], 1)

    return (1 - CLICKERS) * paths(list(answers(galaxies).values())) + CLICKERS * paths(at_random(TREE))


def test_votes_and_their_expectation_obey_the_tree():
    galaxies = population(300, 0)
    for fractions in (vote(galaxies, 1).to_numpy(), expected_fractions(galaxies)):
        assert fractions.shape == (300, 37)
        assert fractions.min() >= 0
        assert violation(torch.tensor(fractions), TREE) < 1e-12


def test_expected_shares_are_those_of_paths_over_that_of_the_answer_before():
    galaxies, tree = population(300, 5), DecisionTree.load("gz2")
    paths, expected = expected_fractions(galaxies), expected_shares(galaxies, tree)
    for number, question in enumerate(TREE.questions[:5]):
        columns = [TREE.columns.index(column) for column in question.columns]
        before = sum(paths[:, lead] for lead in TREE.leads[number]) if question.after else np.ones(300)
        found = expected[:, [tree.columns.index(column) for column in tree.questions[number].columns]]
        np.testing.assert_allclose(found, paths[:, columns] / np.asarray(before)[:, None])


def test_probabilities_of_a_question_sum_to_one():
    for shares in answers(population(500, 1)).values():
        assert shares.min() >= 0
        np.testing.assert_allclose(shares.sum(1), 1)


@pytest.fixture(scope="module")
def repeated():
    """Of 12 galaxies voted on by 300 crowds: expectation (12, 37), votes (300, 12, 37), mean of 1 / crowd."""
    galaxies = population(12, 3)
    copies = pd.concat([galaxies] * 300, ignore_index=True).assign(texture=np.arange(3600))
    votes = vote(copies, 0).to_numpy().reshape(300, 12, 37)
    return expected_fractions(galaxies), votes, (1 / turnout(copies, 0)).mean()


def test_votes_converge_to_their_expectation(repeated):
    expected, votes, inverse = repeated
    error = np.sqrt(np.maximum(expected * (1 - expected), 1e-4) * inverse / 300)
    pulls = (votes.mean(0) - expected) / error
    assert np.abs(pulls).max() < 5
    assert pulls.std() == pytest.approx(1, abs=0.2)


def test_the_noise_of_votes_is_binomial(repeated):
    expected, votes, inverse = repeated
    variance = expected * (1 - expected) * inverse
    common = expected > 0.05
    assert np.median(votes.var(0)[common] / variance[common]) == pytest.approx(1, abs=0.05)


def test_votes_are_whole_numbers_of_volunteers():
    galaxies = population(50, 2)
    counts = vote(galaxies, 7).to_numpy() * turnout(galaxies, 7)[:, None]
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert set(turnout(galaxies, 7)) <= set(range(25, 61))


def test_the_votes_of_a_galaxy_do_not_depend_on_the_others():
    galaxies = population(30, 2)
    np.testing.assert_array_equal(vote(galaxies, 4).to_numpy()[10:20], vote(galaxies.iloc[10:20], 4).to_numpy())


def test_more_inclined_disks_are_more_often_called_edge_on():
    galaxies = population(1, 0, "disk")
    table = galaxies.loc[galaxies.index.repeat(10)].assign(inclination=np.linspace(40, 90, 10))
    shares = answers(table)["edge"][:, 0]
    assert (np.diff(shares) > 0).all()
    assert shares[0] < 0.05 < 0.6 < shares[-1]


def test_poorly_resolved_spirals_are_called_smooth():
    galaxies = population(200, 0, "spiral").query("contrast > 0.5 and inclination < 50 and r90 < 10")
    far = galaxies.assign(seeing=galaxies.seeing * 4)
    smooth, unsure = column("Class1.1"), 5
    assert (expected_fractions(far)[:, smooth] > expected_fractions(galaxies)[:, smooth]).all()
    assert (answers(far)["number"][:, unsure] >= answers(galaxies)["number"][:, unsure]).all()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ring", "Class8.1"),
        ("lensed arc", "Class8.2"),
        ("disturbed", "Class8.3"),
        ("irregular", "Class8.4"),
        ("merger", "Class8.6"),
        ("dust lane", "Class8.7"),
    ],
)
def test_volunteers_tell_odd_kinds_apart(kind, name):
    odd = [f"Class8.{number}" for number in range(1, 8)]
    means = expected_fractions(population(200, 0, kind)).mean(0)
    assert max(odd, key=lambda answer: means[column(answer)]) == name


def test_spread_and_means_are_like_galaxy_zoo():
    fractions = vote(population(3000, 0), 0).to_numpy()
    assert 0.15 < np.sqrt(((fractions - fractions.mean(0)) ** 2).mean()) < 0.17
    smooth, disk = fractions[:, column("Class1.1")].mean(), fractions[:, column("Class1.2")].mean()
    assert 0.38 < smooth < 0.52
    assert 0.42 < disk < 0.58
