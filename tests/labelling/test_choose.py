from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from galaxyml.inference.embedded import Embedded
from galaxyml.labelling import posterior
from galaxyml.labelling.choose import STRATEGIES, Chooser
from galaxyml.labelling.posterior import fit_posterior
from galaxyml.runs.errors import UserError

ANSWERS = ["ordinary", "odd"]


def objects(features: np.ndarray, odds: np.ndarray | None = None) -> Embedded:
    """Objects that nobody looks at."""
    ids = [str(number) for number in range(len(features))]
    gallery: Any = None
    return Embedded(ids, features.astype(np.float32), pd.DataFrame({"id": ids}), "features", gallery, odds)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def sky(rng):
    """2,000 objects, 3 % of them odd: far from the others on one side, where on the other nobody wants them."""
    odd, unwanted = np.arange(2000) < 60, (np.arange(2000) >= 60) & (np.arange(2000) < 180)
    features = rng.normal(size=(2000, 12))
    features[odd] = 4 + 2.5 * features[odd]
    features[unwanted] = -4 + 2.5 * features[unwanted]
    return objects(features), odd


def found(chooser: Chooser, odd: np.ndarray, asked: int, at_once: int = 10) -> int:
    """How many of the odd ones are among the first that are asked about."""
    labels: dict[int, str] = {}
    for _ in range(0, asked, at_once):
        for row in chooser.order(labels)[:at_once]:
            labels[int(row)] = ANSWERS[int(odd[row])]
        chooser.learn(labels)
    return sum(answer == "odd" for answer in labels.values())


def test_every_order_names_all_others_once(sky):
    objects, odd = sky
    for by in STRATEGIES:
        chooser = Chooser(objects, ANSWERS, by)
        assert sorted(chooser.order([])) == list(range(2000))
        chooser.learn({row: ANSWERS[int(odd[row])] for row in (0, 1, 500, 900)})
        order = chooser.order([0, 1, 500, 900])
        assert sorted(order) == sorted(set(range(2000)) - {0, 1, 500, 900})


@pytest.mark.parametrize("by", STRATEGIES)
def test_the_same_seed_and_labels_give_the_same_order(sky, by):
    objects, odd = sky
    orders = []
    for _ in range(2):
        chooser = Chooser(objects, ANSWERS, by, seed=3)
        chooser.learn({row: ANSWERS[int(odd[row])] for row in range(30, 90)})
        orders.append(chooser.order([]))
    np.testing.assert_array_equal(orders[0], orders[1])


def test_labels_find_more_like_what_was_wanted(sky):
    objects, odd = sky
    numbers = {
        by: found(Chooser(objects, ANSWERS, by), odd, 100) for by in ("random", "novelty", "relevance", "likely")
    }
    assert numbers["random"] < 10
    assert 25 < numbers["novelty"] < 45  # a third of the lonely ones
    assert numbers["relevance"] > numbers["novelty"] + 5
    assert numbers["likely"] > 55


def test_uncertainty_asks_where_two_answers_are_alike(sky):
    objects, odd = sky
    chooser = Chooser(objects, ANSWERS, "uncertainty")
    chooser.learn({row: ANSWERS[int(odd[row])] for row in range(0, 2000, 20)})
    first = chooser.order([])[0]
    assert chooser.probabilities is not None
    assert np.abs(chooser.probabilities[:, 1] - 0.5).argmin() == first


def test_disagreement_asks_where_no_label_is(rng):
    """Along a direction that hardly any label tells of fits to parts of them differ."""
    features = rng.normal(size=(500, 2))
    features[-50:, 1] += 8
    chooser = Chooser(objects(features), ANSWERS, "disagreement")
    chooser.learn({row: ANSWERS[int(features[row, 0] > 0)] for row in range(40)})
    assert (chooser.order([])[:20] >= 450).mean() > 0.5


def test_before_any_label_the_most_unusual_is_asked_first(rng):
    odds = rng.normal(size=300)
    for by in set(STRATEGIES) - {"random"}:
        order = Chooser(objects(rng.normal(size=(300, 4)), odds), ANSWERS, by).order([])
        np.testing.assert_array_equal(order, np.argsort(-odds))


def test_without_a_target_what_is_unusual_is_no_answer(sky):
    """Two answers that have nothing to do with what is odd are learnt as fast as if nothing were."""
    objects, _ = sky
    side = objects.features[:, 5] > 0
    labels = {row: ANSWERS[int(side[row])] for row in range(0, 2000, 10)}
    numbers = {}
    for target in (None, "odd"):
        chooser = Chooser(objects, ANSWERS, "uncertainty", target)
        chooser.learn(labels)
        assert chooser.probabilities is not None
        numbers[target] = ((chooser.probabilities[:, 1] > 0.5) == side).mean()
    assert numbers[None] > max(numbers["odd"], 0.8)


def test_undone_labels_leave_no_trace(sky):
    objects, _ = sky
    chooser = Chooser(objects, ANSWERS, "likely")
    before = chooser.order([])
    chooser.learn({5: "odd", 700: "ordinary"})
    chooser.learn({})
    np.testing.assert_array_equal(chooser.order([]), before)
    assert chooser.probabilities is None


def test_unknown_orders_and_targets_are_refused(sky):
    objects, _ = sky
    with pytest.raises(UserError, match=r"by=uncertain: .*uncertainty"):
        Chooser(objects, ANSWERS, "uncertain")
    with pytest.raises(UserError, match=r"target=ood: .*odd"):
        Chooser(objects, ANSWERS, target="ood")


def test_without_belief_the_posterior_is_the_usual_regression(rng, monkeypatch):
    """scikit-learn's, whose constants have no prior."""
    monkeypatch.setattr(posterior, "FEW", 1e4)
    columns, given = rng.normal(size=(80, 5)), rng.integers(0, 3, 80)
    fitted = fit_posterior(columns, np.zeros(80), given, 3, 2, penalty=2.0)
    usual = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=5000).fit(columns, given)
    np.testing.assert_allclose(fitted.probabilities(columns, np.zeros(80)), usual.predict_proba(columns), atol=2e-4)


def test_the_posterior_is_where_its_slope_is_zero(rng):
    """The whole posterior, written out plainly and minimised without derivatives' help."""
    columns, belief, given = rng.normal(size=(25, 2)), rng.normal(size=25), rng.integers(0, 2, 25)

    def loss(values):
        weights, constants, slope = values[:4].reshape(2, 2), values[4:6], values[6]
        odds = columns @ weights + constants + np.outer(slope * belief, [0, 1])
        likelihood = sum(np.log(np.exp(row).sum()) - row[answer] for row, answer in zip(odds, given, strict=True))
        return likelihood + 3 * (weights**2).sum() / 2 + (constants**2).sum() / 32 + 12.5 * (slope - 1) ** 2

    plain = minimize(loss, np.zeros(7), method="BFGS").x
    fitted = fit_posterior(columns, belief, given, 2, 1)
    found = np.concatenate([fitted.weights.ravel(), fitted.constants, [fitted.slope]])
    assert loss(found) == pytest.approx(loss(plain), abs=1e-4)
    np.testing.assert_allclose(found, plain, atol=0.02)


def test_without_labels_of_the_target_belief_decides(rng):
    belief = rng.normal(size=50)
    fitted = fit_posterior(np.zeros((2, 3)), np.zeros(2), np.array([0, 0]), 2, 1)
    odds = fitted.odds(np.zeros((50, 3)), belief)
    np.testing.assert_array_equal(np.argsort(odds[:, 1] - odds[:, 0]), np.argsort(belief))
