import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from galaxyml.evaluation import calibration
from galaxyml.runs.errors import UserError

NAMES = ["disk", "elliptical", "merger", "spiral"]


def drawn(count: int, classes: int = 4, seed: int = 0, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from exactly the probabilities that the logits state."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.standard_normal((count, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, labels


def test_softmax_is_scipys_and_survives_large_logits() -> None:
    logits, _ = drawn(50)
    np.testing.assert_allclose(calibration.softmax(logits, 2.5), special.softmax(logits / 2.5, axis=1))
    np.testing.assert_array_equal(calibration.softmax(np.array([[1e30, 0.0], [-1e30, 0.0]])), [[1, 0], [0, 1]])
    assert np.isnan(calibration.softmax(np.array([[np.inf, 0.0], [np.nan, 0.0]]))).all()


@pytest.mark.parametrize("truth", [0.3, 1.0, 4.0])
def test_temperature_recovers_the_constant_that_logits_were_multiplied_by(truth: float) -> None:
    logits, labels = drawn(40_000)
    assert calibration.fit_temperature(truth * logits, labels) == pytest.approx(truth, rel=0.03)


def smoothed(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Negative log-likelihood of labels of which 1 / (n + 2) is spread over the other classes."""
    count, classes = logits.shape
    aims = np.full((count, classes), 1 / (count + 2) / (classes - 1))
    aims[np.arange(count), labels] = 1 - 1 / (count + 2)
    return float(-(aims * special.log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())


def test_a_few_objects_that_are_all_right_do_not_make_the_net_certain() -> None:
    logits = np.tile(np.eye(3), (17, 1))  # 51 objects, each right by the same margin
    temperature = calibration.fit_temperature(logits, np.tile(np.arange(3), 17))
    # All alike, so the best probability of the true class is the smoothed label itself.
    assert calibration.softmax(logits[:1], temperature)[0, 0] == pytest.approx(1 - 1 / 53)
    rare = calibration.fit_temperature(np.tile(np.eye(3), (2, 1)), np.tile(np.arange(3), 2))
    assert rare > temperature


def test_temperature_has_the_least_likelihood_of_all() -> None:
    logits, labels = drawn(300)
    logits *= 2  # at a temperature of about 1 the labels may become less likely
    labels[:100] = -1
    best = minimize_scalar(
        lambda t: smoothed(logits[100:], labels[100:], t), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}
    ).x
    assert calibration.fit_temperature(logits, labels) == pytest.approx(best, rel=1e-4)


def test_temperature_ends_at_its_bounds() -> None:
    logits = np.eye(3)
    right, wrong = np.arange(3), np.array([1, 2, 0])
    assert calibration.fit_temperature(logits, wrong) == calibration.HIGHEST
    assert calibration.fit_temperature(0.01 * logits, right) == calibration.LOWEST
    assert calibration.fit_temperature(1e4 * logits, right) == calibration.HIGHEST
    assert calibration.fit_temperature(np.zeros((5, 3)), np.zeros(5, np.int64)) == 1


def test_temperature_of_one_class_only_is_within_bounds() -> None:
    logits, _ = drawn(30)
    found = calibration.fit_temperature(logits, np.zeros(30, np.int64))
    assert calibration.LOWEST <= found <= calibration.HIGHEST


def test_temperature_says_what_is_missing() -> None:
    logits, labels = drawn(10)
    with pytest.raises(UserError, match="No object has a known class"):
        calibration.fit_temperature(logits, np.full(10, -1))
    logits[3] = np.nan
    with pytest.raises(UserError, match="1 of 10 objects have logits that are NaN"):
        calibration.fit_temperature(logits, labels)


@given(
    arrays.arrays(np.float64, (6, 4), elements=st.floats(-30, 30)),
    arrays.arrays(np.int64, 6, elements=st.integers(0, 3)),
)
@settings(max_examples=100, deadline=None)
def test_temperature_keeps_the_first_choice_and_never_raises_the_loss(logits: np.ndarray, labels: np.ndarray) -> None:
    temperature = calibration.fit_temperature(logits, labels)
    assert calibration.LOWEST <= temperature <= calibration.HIGHEST
    rows = np.arange(6)
    assert smoothed(logits, labels, temperature) <= smoothed(logits, labels, 1.0) + 1e-9
    chosen = calibration.softmax(logits, temperature).argmax(axis=1)  # of near ties rounding may choose either
    np.testing.assert_allclose(logits[rows, chosen], logits.max(axis=1), atol=1e-12)


def test_no_object_calibrates_itself() -> None:
    logits, labels = drawn(600)
    logits, parts = 2 * logits, np.arange(600) % 3
    scaled = calibration.cross_fitted(logits, labels, parts, NAMES)
    changed = labels.copy()
    changed[parts == 1] = np.where(np.arange(200) % 50 == 0, (labels[parts == 1] + 1) % 4, labels[parts == 1])
    others = calibration.cross_fitted(logits, changed, parts, NAMES)
    np.testing.assert_array_equal(scaled.probabilities[parts == 1], others.probabilities[parts == 1])
    assert (scaled.temperatures != others.temperatures)[parts != 1].all()
    expected = calibration.fit_temperature(logits[parts != 1], labels[parts != 1])
    np.testing.assert_array_equal(scaled.temperatures[parts == 1], expected)
    np.testing.assert_allclose(scaled.probabilities[parts == 1], calibration.softmax(logits[parts == 1], expected))
    assert scaled.temperature == calibration.fit_temperature(logits, labels)


def test_one_part_is_halved() -> None:
    logits, labels = drawn(100)
    scaled = calibration.cross_fitted(3 * logits, labels, np.full(100, 7), NAMES)
    halved = calibration.cross_fitted(3 * logits, labels, np.arange(100) % 2, NAMES)
    np.testing.assert_array_equal(scaled.probabilities, halved.probabilities)
    assert len(np.unique(scaled.temperatures)) == 2


def test_a_part_without_others_is_refused() -> None:
    logits, labels = drawn(20)
    parts = np.repeat([0, 1], 10)
    with pytest.raises(UserError, match="Part 0 cannot be calibrated"):
        calibration.cross_fitted(logits, np.where(parts == 1, -1, labels), parts, NAMES)


def test_unknown_classes_are_scaled_too() -> None:
    logits, labels = drawn(60)
    labels[::3] = -1
    probabilities = calibration.cross_fitted(logits, labels, np.arange(60) % 2, NAMES).probabilities
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float | np.ndarray) -> float:
    """torch's negative log-likelihood of known labels."""
    scaled = torch.tensor(logits / temperature, dtype=torch.float64)
    return torch.nn.functional.cross_entropy(scaled, torch.tensor(labels), ignore_index=-1).item()


def areas(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """scikit-learn's AUC of each class that some known object has and some has not, and their mean."""
    known, classes = labels[labels >= 0], np.arange(probabilities.shape[1])
    told = probabilities[labels >= 0]
    found = [roc_auc_score(known == k, told[:, k]) for k in classes if 0 < (known == k).sum() < len(known)]
    return np.array([*found, np.mean(found)]) if found else np.zeros(0)


@st.composite
def nets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and parts, of nets that are right, wrong, biased, constant or too sure."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, classes = draw(st.sampled_from([4, 5, 12, 60, 200])), draw(st.integers(2, 4))
    labels = rng.integers(0, draw(st.integers(1, classes)), count)  # the last classes may be missing
    one_hot = np.eye(classes)[labels]
    signal = draw(st.sampled_from([-3.0, -0.3, 0.0, 0.3, 3.0, 100.0]))  # below 0 the net is surest where it is wrong
    noise = draw(st.sampled_from([0.0, 1e-6, 1.0, 5.0])) * rng.standard_normal((count, classes))
    bias = draw(st.sampled_from([0.0, 1.0, 10.0])) * rng.standard_normal(classes)
    logits = draw(st.sampled_from([1e-3, 1.0, 30.0])) * (signal * one_hot + noise + bias)
    labels = np.where(rng.random(count) < draw(st.sampled_from([0.0, 0.2])), -1, labels)
    parts = np.arange(count) % 2
    labels[:2] = np.maximum(labels[:2], 0)  # each part has a known object
    return logits, labels, parts


@given(nets())
@settings(max_examples=300, deadline=None)
def test_calibration_lowers_no_auc_and_raises_no_loss(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, labels, parts = drawn
    scaled = calibration.cross_fitted(logits, labels, parts, NAMES[: logits.shape[1]])
    own = areas(calibration.softmax(logits), labels)
    assert (areas(scaled.probabilities, labels) >= own - calibration.TOLERATED - 1e-12).all()
    assert (areas(calibration.softmax(logits, scaled.temperature), labels) >= own - calibration.TOLERATED - 1e-12).all()
    fits = [(np.ones(len(labels), bool), scaled.temperature)]
    fits += [(parts != part, scaled.temperatures[parts == part][0]) for part in (0, 1)]
    for inside, temperature in fits:
        before = loss(logits[inside], labels[inside], 1.0)
        assert loss(logits[inside], labels[inside], temperature) <= before + 1e-12 * max(before, 1)
    if scaled.harm:
        assert (scaled.temperatures == 1).all()
        np.testing.assert_array_equal(scaled.probabilities, calibration.softmax(logits))


def test_a_net_that_prefers_a_class_keeps_its_order() -> None:
    rng = np.random.default_rng(0)
    parts = np.arange(400) % 2
    labels = (rng.random(400) < np.where(parts, 0.8, 0.2)).astype(np.int64)
    logits = np.stack([np.zeros(400), 2 + 1.5 * labels + rng.standard_normal(400)], axis=1)
    fits = [calibration.fit_temperature(logits[parts != part], labels[parts != part]) for part in (0, 1)]
    fitted = calibration.softmax(logits, np.array(fits)[parts, None])
    assert fits[1] == calibration.HIGHEST  # on objects of the other part, most of which are not of the class
    assert (areas(fitted, labels) < areas(calibration.softmax(logits), labels) - 0.1).all()
    scaled = calibration.cross_fitted(logits, labels, parts, ["smooth", "spiral"])
    assert scaled.harm.startswith("would lower the AUC of smooth from")
    assert scaled.temperature == 1
    np.testing.assert_array_equal(scaled.probabilities, calibration.softmax(logits))


def test_labels_never_become_less_likely() -> None:
    right = 30 * np.eye(3)[np.arange(9) % 3]  # to spread a part of each label would make such a net less sure
    assert smoothed(right, np.arange(9) % 3, 5.0) < smoothed(right, np.arange(9) % 3, 1.0)
    assert calibration.fit_temperature(right, np.arange(9) % 3) == 1


def test_calibration_that_does_no_harm_is_as_it_was_fitted() -> None:
    logits, labels = drawn(600)
    parts = np.arange(600) % 3
    for sureness in (0.3, 2.0, 5.0):
        scaled = calibration.cross_fitted(sureness * logits, labels, parts, NAMES)
        assert scaled.harm == ""
        for part in range(3):
            expected = calibration.fit_temperature(sureness * logits[parts != part], labels[parts != part])
            assert (scaled.temperatures[parts == part] == expected).all()
        assert scaled.temperature == calibration.fit_temperature(sureness * logits, labels)


@pytest.mark.parametrize("bins", [10, 15])
def test_calibration_errors_are_torchmetrics(bins: int) -> None:
    logits, labels = drawn(2000)
    probabilities = calibration.softmax(3 * logits)
    theirs = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), 4, bins, "l1").item()
    assert calibration.reliability(probabilities, labels, bins).ece == pytest.approx(theirs, abs=1e-6)


def test_calibration_errors_leave_unknown_classes_out() -> None:
    logits, labels = drawn(200)
    probabilities = calibration.softmax(logits)
    gaps = np.where(np.arange(200) < 50, -1, labels)
    known = calibration.reliability(probabilities[50:], labels[50:])
    assert calibration.reliability(probabilities, gaps).ece == known.ece
    assert calibration.reliability(probabilities, np.full(200, -1)).ece == 0


def test_bins_hold_their_upper_end() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.51, 0.49]])
    found = calibration.reliability(probabilities, np.array([0, 0, 1]), bins=2)
    np.testing.assert_array_equal(found.count, [1, 2])
    np.testing.assert_allclose(found.confidence, [0.5, 0.755])
    np.testing.assert_allclose(found.accuracy, [1, 0.5])
    assert found.ece == pytest.approx((0.5 + 2 * 0.255) / 3)


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("asked", [0.65, 0.85])  # where the correction for few objects matters
def test_sets_cover_as_asked(method: str, asked: float) -> None:
    calibrating, repeats, new = 9, 1500, 20
    hits = []
    for seed in range(repeats):
        logits, labels = drawn(calibrating + new, seed=seed, spread=0.7)
        probabilities = calibration.softmax(3 * logits)  # overconfident, which must not matter
        threshold = calibration.conformal_threshold(
            probabilities[:calibrating], labels[:calibrating], asked, method=method
        )
        sets = calibration.prediction_sets(probabilities[calibrating:], threshold, method=method)
        hits.append(calibration.coverage(sets, labels[calibrating:]))
    error = np.std(hits) / np.sqrt(repeats)
    assert np.mean(hits) > asked - 3 * error
    if method == "lac" and asked == 0.85:  # where the likeliest class is nearly always in by itself
        assert np.mean(hits) < asked + 1 / (calibrating + 1) + 3 * error


def test_threshold_is_the_corrected_quantile() -> None:
    probabilities = np.stack([np.linspace(0.1, 0.9, 9), 1 - np.linspace(0.1, 0.9, 9)], axis=1)
    labels = np.zeros(9, np.int64)
    assert calibration.conformal_threshold(probabilities, labels, 0.9) == pytest.approx(0.9)  # all 9 scores
    assert calibration.conformal_threshold(probabilities, labels, 0.85) == pytest.approx(0.9)
    assert calibration.conformal_threshold(probabilities, labels, 0.7) == pytest.approx(0.7)
    assert calibration.conformal_threshold(probabilities, labels, 0.95) == math.inf
    assert calibration.prediction_sets(probabilities, math.inf).all()


def test_adaptive_sets_hold_the_likeliest_classes_up_to_the_threshold() -> None:
    probabilities = np.array([[0.1, 0.5, 0.25, 0.15]])
    sets = calibration.prediction_sets(probabilities, 0.8, "aps")
    np.testing.assert_array_equal(sets, [[False, True, True, False]])
    labels = np.array([2])
    assert calibration.conformal_threshold(probabilities, labels, 0.5, "aps") == pytest.approx(0.75)


@given(
    arrays.arrays(np.float64, (5, 3), elements=st.sampled_from([0.0, 1.0, 2.0])),
    st.floats(0, 1),
    st.sampled_from(["lac", "aps"]),
)
@settings(max_examples=100, deadline=None)
def test_no_set_is_empty_and_sets_grow_with_the_threshold(logits: np.ndarray, threshold: float, method: str) -> None:
    probabilities = calibration.softmax(logits)
    sets = calibration.prediction_sets(probabilities, threshold, method)
    wider = calibration.prediction_sets(probabilities, threshold + 0.2, method)
    assert sets[np.arange(5), probabilities.argmax(axis=1)].all()
    assert (wider | ~sets).all()
    assert 1 <= calibration.mean_size(sets) <= calibration.mean_size(wider) <= 3


def test_coverage_leaves_unknown_classes_out() -> None:
    sets = np.array([[True, False], [True, True], [False, True], [True, False]])
    assert calibration.coverage(sets, np.array([0, 1, 0, -1])) == pytest.approx(2 / 3)
    assert calibration.mean_size(sets) == 1.25


def test_impossible_wishes_are_refused() -> None:
    probabilities, labels = np.array([[0.5, 0.5]]), np.array([0])
    with pytest.raises(UserError, match=r"coverage is 90; it lies between 0 and 1"):
        calibration.conformal_threshold(probabilities, labels, 90)
    with pytest.raises(UserError, match=r"There are: aps, lac\."):
        calibration.conformal_threshold(probabilities, labels, 0.9, "nope")
    with pytest.raises(UserError, match=r"Did you mean aps\?"):
        calibration.prediction_sets(probabilities, 0.9, "apss")
