import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import norm
from sklearn import metrics as theirs

from galaxyml.kinds.anomalies import metrics
from galaxyml.runs.errors import UserError

TIED = arrays.arrays(np.float64, 12, elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf]))
FINITE = arrays.arrays(np.float64, 12, elements=st.sampled_from([-1.0, 0.0, 0.1, 0.5, 2.0]))
MARKS = arrays.arrays(np.bool_, 12)


def sample(anomalies: int = 60, others: int = 400, shift: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian scores rounded to a tenth, so that many are tied, in random order."""
    rng = np.random.default_rng(seed)
    unknown = rng.permutation(np.arange(anomalies + others) < anomalies)
    return np.round(rng.standard_normal(len(unknown)) + shift * unknown, 1), unknown


def overall(scores: np.ndarray, unknown: np.ndarray, ks: tuple[int, ...] = metrics.KS) -> dict[str, float]:
    """The numbers of all anomalies together."""
    numbers = metrics.score(scores, unknown, np.where(unknown, "odd", "usual"), ks)
    return {key: value for key, value in numbers.items() if "/" not in key}


@given(FINITE, MARKS)
@settings(max_examples=80, deadline=None)
def test_areas_are_scikit_learns_with_ties(scores: np.ndarray, unknown: np.ndarray) -> None:
    found = metrics.roc_auc(scores, unknown)
    if 0 < unknown.sum() < 12:
        assert found == pytest.approx(theirs.roc_auc_score(unknown, scores))
    else:
        assert math.isnan(found)
    precision = metrics.pr_auc(scores, unknown)
    if unknown.any():
        assert precision == pytest.approx(theirs.average_precision_score(unknown, scores))
    else:
        assert math.isnan(precision)


def test_curves_are_scikit_learns() -> None:
    scores, unknown = sample()
    false, true = metrics.roc_curve(scores, unknown)
    expected_false, expected_true, _ = theirs.roc_curve(unknown, scores, drop_intermediate=False)
    np.testing.assert_allclose(theirs.auc(false, true), theirs.roc_auc_score(unknown, scores))
    assert set(zip(false, true, strict=True)) <= set(zip(expected_false, expected_true, strict=True))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)

    recall, precision = metrics.pr_curve(scores, unknown)
    expected_precision, expected_recall, _ = theirs.precision_recall_curve(unknown, scores)
    points = np.array([expected_recall, expected_precision]).T[:-1]
    for point in zip(recall[1:], precision[1:], strict=True):
        assert np.abs(points - point).max(1).min() < 1e-12
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(theirs.average_precision_score(unknown, scores))
    recall, precision = metrics.pr_curve(np.array([3.0, 2.0, 1.0]), np.array([False, True, True]))
    np.testing.assert_allclose(recall, [0, 0, 1 / 2, 1])
    np.testing.assert_allclose(precision, [0, 0, 1 / 2, 2 / 3])


def test_area_of_shifted_gaussians_is_known() -> None:
    rng = np.random.default_rng(0)
    unknown = np.arange(200_000) < 100_000
    scores = rng.standard_normal(200_000) + 1.3 * unknown
    assert metrics.roc_auc(scores, unknown) == pytest.approx(norm.cdf(1.3 / np.sqrt(2)), abs=0.003)


def test_chance_is_half_and_the_prevalence() -> None:
    same, unknown = np.zeros(50), np.arange(50) < 20
    found = overall(same, unknown, (7,))
    assert found["roc_auc"] == 0.5
    expected = {"pr_auc": 0.4, "purity_7": 0.4, "recall_7": 7 / 50, "recall_n": 0.4, "pr_gain": 1, "amplification_7": 1}
    assert {key: found[key] for key in expected} == pytest.approx(expected)


@given(TIED, MARKS.filter(lambda marks: marks.any()))
@settings(max_examples=60, deadline=None)
def test_only_the_order_of_scores_counts(scores: np.ndarray, unknown: np.ndarray) -> None:
    found = overall(scores, unknown, (3, 5))
    assert overall(np.arctan(scores) + 7, unknown, (3, 5)) == pytest.approx(found, nan_ok=True)
    order = np.random.default_rng(0).permutation(12)
    assert overall(scores[order], unknown[order], (3, 5)) == pytest.approx(found, nan_ok=True)
    inverted = metrics.roc_auc(-scores, unknown)
    assert inverted == pytest.approx(1 - found["roc_auc"], nan_ok=True)


def test_ties_count_as_the_mean_over_their_orders() -> None:
    scores = np.array([3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 0.0])
    unknown = np.array([False, True, False, True, False, True, False])
    orders = [[0, *order, 5, 6] for order in permutations(range(1, 5))]
    looked, recall = metrics.recall_curve(scores, unknown)
    numbers = overall(scores, unknown, tuple(range(1, 8)))
    for k in range(1, 8):
        found = np.mean([unknown[order][:k].sum() for order in orders])
        assert numbers[f"purity_{k}"] == pytest.approx(found / k)
        assert numbers[f"recall_{k}"] == pytest.approx(found / 3)
        assert np.interp(k, looked, recall) == pytest.approx(found / 3)


def test_looking_at_more_than_there_are_is_looking_at_all() -> None:
    found = overall(*sample(4, 16), (100,))
    assert (found["purity_100"], found["recall_100"]) == (pytest.approx(0.2), 1)


def test_score_holds_the_numbers_of_the_functions() -> None:
    scores, unknown = sample()
    found = overall(scores, unknown)
    assert list(found)[:4] == ["roc_auc", "pr_auc", "prevalence", "pr_gain"]
    assert found["prevalence"] == unknown.mean() == 60 / 460
    assert found["pr_gain"] == pytest.approx(found["pr_auc"] / found["prevalence"])
    assert (found["roc_auc"], found["pr_auc"]) == (metrics.roc_auc(scores, unknown), metrics.pr_auc(scores, unknown))
    for k in (10, 25, 100):
        assert found[f"recall_{k}"] == pytest.approx(found[f"purity_{k}"] * k / 60)
        assert found[f"amplification_{k}"] == pytest.approx(found[f"purity_{k}"] / unknown.mean())
    of_60 = overall(scores, unknown, (60,))
    assert found["recall_n"] == of_60["recall_60"] == pytest.approx(of_60["purity_60"])
    assert all(type(value) is float for value in found.values())


def test_a_class_is_judged_against_known_objects_alone() -> None:
    scores, unknown = sample()
    classes = np.where(unknown, np.where(np.arange(460) % 3 > 0, "TDE", "kilonova"), "SNIa")
    found = metrics.score(scores, unknown, classes)
    assert {key.partition("/")[2] for key in found} == {"", "TDE", "kilonova"}
    without = classes != "kilonova"
    assert found["roc_auc/TDE"] == pytest.approx(theirs.roc_auc_score(unknown[without], scores[without]))
    assert found["pr_auc/TDE"] == pytest.approx(theirs.average_precision_score(unknown[without], scores[without]))
    assert found["prevalence/TDE"] == unknown[without].mean()
    assert found["support/TDE"] == (classes == "TDE").sum()


def test_numbers_without_anomalies_or_others_are_nan() -> None:
    scores = np.arange(5.0)
    none = overall(scores, np.zeros(5, bool), (2,))
    assert none.pop("prevalence") == none.pop("purity_2") == 0
    assert np.isnan(list(none.values())).all()
    every = overall(scores, np.ones(5, bool), (2,))
    assert math.isnan(every["roc_auc"])
    assert every["pr_auc"] == every["purity_2"] == every["amplification_2"] == every["recall_n"] == 1


def test_nan_scores_are_refused() -> None:
    scores, unknown = sample(4, 16)
    scores[[5, 8]] = np.nan
    names = np.where(unknown, "odd", "usual")
    for call in (
        lambda: metrics.score(scores, unknown, names),
        lambda: metrics.roc_curve(scores, unknown),
        lambda: metrics.bootstrap(scores, unknown, names),
        lambda: metrics.threshold(scores, 0.1),
    ):
        with pytest.raises(UserError, match=r"2 of 20 anomaly scores are NaN, the first at row 5"):
            call()


def test_intervals_are_those_of_a_plain_loop() -> None:
    scores, unknown = sample(40, 200)
    classes = np.where(unknown, np.where(np.arange(240) % 2, "a", "b"), "c")
    resamples = 1500
    found = metrics.bootstrap(scores, unknown, classes, (10,), resamples)
    rng = np.random.default_rng(123)
    groups = [np.flatnonzero(~unknown), np.flatnonzero(classes == "a"), np.flatnonzero(classes == "b")]
    pooled = [groups[0], np.flatnonzero(unknown)]
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        rows = np.concatenate([rng.choice(group, len(group)) for group in pooled])
        for key, value in overall(scores[rows], unknown[rows], (10,)).items():
            drawn.setdefault(key, []).append(value)
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        for key, value in metrics.score(scores[rows], unknown[rows], classes[rows], (10,)).items():
            if "/" in key:
                drawn.setdefault(key, []).append(value)
    kept = [key for key in drawn if not key.startswith(("prevalence", "support"))]
    assert set(found) == set(kept)
    for key in kept:
        values = np.array(drawn[key])
        # The 2.5 % quantile of 1,500 normal values has a standard error of 0.069 standard deviations; here of two.
        expected = np.percentile(values, [2.5, 97.5])
        np.testing.assert_allclose(found[key], expected, atol=0.41 * values.std(), err_msg=key)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth = norm.cdf(1 / np.sqrt(2))
    rng = np.random.default_rng(7)
    unknown = np.arange(360) < 60
    names, held = np.where(unknown, "odd", "usual"), []
    for _ in range(400):
        low, high = metrics.bootstrap(rng.standard_normal(360) + unknown, unknown, names, (), 200)["roc_auc"]
        held.append(low <= truth <= high)
    assert 0.91 < np.mean(held) < 0.98  # a binomial of 400 has a standard error of 0.011


def test_intervals_do_not_hang_on_how_resamples_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, unknown = sample(40, 200)
    names = np.where(unknown, "odd", "usual")
    whole = metrics.bootstrap(scores, unknown, names, (10,), 1001)
    monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 5000)  # chunks of some dozens, the last one smaller
    parts = metrics.bootstrap(scores, unknown, names, (10,), 1001)
    for key, ends in whole.items():
        np.testing.assert_allclose(parts[key], ends, atol=0.15 * (ends[1] - ends[0]), err_msg=key)


def test_one_resample_is_one_resample() -> None:
    scores, unknown = sample()
    found = metrics.bootstrap(scores, unknown, np.where(unknown, "odd", "usual"), resamples=1)
    assert all(low == high for low, high in found.values())


def test_bootstrap_repeats_itself() -> None:
    scores, unknown = sample()
    first, second = (metrics.bootstrap(scores, unknown, np.where(unknown, "a", "b"), resamples=30) for _ in range(2))
    assert first == second


def test_groups_are_few_where_anomalies_are() -> None:
    rng = np.random.default_rng(0)
    unknown, known = metrics.grouped(rng.standard_normal(10_000), np.arange(10_000) < 20)
    assert len(known) <= 2 * 20 + 1
    assert (unknown.sum(), known.sum()) == (20, 9_980)


@pytest.mark.parametrize(("count", "alarms"), [(20, 0.05), (99, 0.1), (99, 0.29), (57, 0.1)])
def test_new_known_objects_exceed_the_threshold_as_seldom_as_asked(count: int, alarms: float) -> None:
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((20_000, count + 1))
    exceeded = np.mean([row[-1] > metrics.threshold(row[:-1], alarms) for row in draws])
    # Exact for continuous scores: the new one is among the highest floor((n + 1) a) of n + 1 (Lei et al. 2018).
    exact = math.floor(round((count + 1) * alarms, 9)) / (count + 1)
    assert exact <= alarms + 1e-12
    assert exceeded == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_threshold_is_the_rank_of_conformal_prediction() -> None:
    scores = np.random.default_rng(0).permutation(99.0 + np.arange(99))
    for percent in range(1, 100):
        rank = -(-100 * (100 - percent) // 100)
        assert metrics.threshold(scores, percent / 100) == 99.0 + rank - 1
        found = metrics.threshold(scores, percent / 100)
        assert metrics.false_alarm_rate(scores, found) <= percent / 100


def test_too_few_objects_allow_no_threshold() -> None:
    assert metrics.threshold(np.arange(18.0), 0.05) == math.inf
    assert metrics.threshold(np.arange(19.0), 0.05) == 18
    assert metrics.threshold(np.zeros(0), 0.5) == math.inf
    assert metrics.false_alarm_rate(np.arange(18.0), math.inf) == 0


def test_false_alarms_are_above_the_threshold() -> None:
    assert metrics.false_alarm_rate(np.array([0.0, 1.0, 1.0, 2.0]), 1.0) == 0.25
    assert math.isnan(metrics.false_alarm_rate(np.zeros(0), 1.0))
