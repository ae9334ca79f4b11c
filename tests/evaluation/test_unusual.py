import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from galaxyml.evaluation import unusual as module
from galaxyml.evaluation.unusual import NEIGHBOURS, isolation, normal_scores, unusual


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_normal_scores_are_quantiles_of_ranks(rng):
    values = rng.integers(0, 10, 50).astype(float)
    np.testing.assert_allclose(normal_scores(values), norm.ppf((rankdata(values) - 0.5) / 50))


def test_isolation_is_the_mean_distance_to_neighbours(rng):
    values = rng.normal(size=(60, 5)) * [1, 10, 1, 1, 0.1] + 3
    scaled = (values - values.mean(0)) / values.std(0)
    nearest = np.sort(cdist(scaled, scaled), axis=1)[:, 1 : NEIGHBOURS + 1]  # without itself
    np.testing.assert_allclose(isolation(values), nearest.mean(1), rtol=1e-5)


def test_isolation_leaves_an_object_out_and_not_its_duplicate(rng):
    values = np.repeat(rng.normal(size=(20, 3)), NEIGHBOURS + 1, axis=0)
    np.testing.assert_allclose(isolation(values), 0, atol=1e-3)


def test_many_objects_are_compared_with_some(rng, monkeypatch):
    monkeypatch.setattr(module, "REFERENCES", 500)
    values = rng.normal(size=(2000, 4))
    values[::100] += 12
    assert roc_auc_score(np.arange(2000) % 100 == 0, isolation(values)) > 0.99


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_few_objects_have_finite_scores(rng, count):
    assert np.isfinite(isolation(rng.normal(size=(count, 50)))).all()


def test_what_is_odd_in_one_family_ranks_high_and_says_why(rng):
    features, small = rng.normal(size=(400, 8)), rng.normal(size=(400, 40))
    odds, lopsided = rng.normal(-3, 0.3, 400), rng.gamma(4, 0.02, 400)
    odds[0], lopsided[1], small[2] = 3.0, 0.9, 6 * small[2]
    scores = unusual(features, odds, lopsided, small)
    np.testing.assert_allclose(scores.score, sum(scores.families.values()))
    assert [family.argmax() for family in scores.families.values()] == [0, 1, 2]
    assert scores.reasons[:3].tolist() == ["answers", "asymmetry", "pixels"] == list(scores.families)
    assert scores.score.argmax() == 0
    ranks = np.argsort(np.argsort(-scores.score))
    assert (ranks[1:3] < 40).all()


def test_without_answers_features_count(rng):
    features = rng.normal(size=(300, 8))
    features[7] += 10
    scores = unusual(features)
    assert scores.score.argmax() == 7
    assert scores.reasons[7] == "features"


def test_only_known_objects_say_what_is_usual(rng):
    """Scores of the others do not depend on each other; a cluster of them is far only while none of it is known."""
    values = rng.normal(size=(120, 4))
    values[100:] = values[100:] * 0.1 + 5
    known = np.arange(120) < 100
    apart = isolation(values, known=known)
    mean, spread = values[:100].mean(0), values[:100].std(0)
    scaled = (values - mean) / spread
    distances = np.sort(cdist(scaled, scaled[:100]), axis=1)
    nearest = np.where(known[:, None], distances[:, 1 : NEIGHBOURS + 1], distances[:, :NEIGHBOURS])
    np.testing.assert_allclose(apart, nearest.mean(1), rtol=1e-5)
    assert apart[100:].min() > apart[:100].max()
    assert isolation(values)[100:].max() < np.median(isolation(values)[:100])
    np.testing.assert_allclose(unusual(values, known=known).score, normal_scores(apart))


def test_too_few_known_objects_have_no_distances(rng):
    assert not isolation(rng.normal(size=(10, 3)), known=np.arange(10) < 2).any()
