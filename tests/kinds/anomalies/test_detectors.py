import inspect
from collections.abc import Callable

import numpy as np
import pytest
from pyod.models.ecod import ECOD
from scipy.spatial.distance import cdist, mahalanobis
from scipy.special import log_softmax, softmax
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest

from galaxyml.kinds.anomalies import detectors
from galaxyml.kinds.anomalies.detectors import (
    PYOD,
    Blend,
    ClassForests,
    ClassifierUncertainty,
    Detector,
    EmpiricalTail,
    Forest,
    Mahalanobis,
    Neighbours,
    Pyod,
    Standard,
    cross_fitted_scores,
)
from galaxyml.runs.errors import UserError
from galaxyml.runs.seeds import derive

Make = Callable[[], Detector]
LEARNING: dict[str, Make] = {
    "Forest": lambda: Forest(trees=60),
    "ClassForests": lambda: ClassForests(trees=40),
    "Neighbours": lambda: Neighbours(k=3),
    "Mahalanobis": Mahalanobis,
    "Blend": lambda: Blend({"forest": Forest(trees=20), "neighbours": Neighbours()}, parts=3),
    "ECOD": Pyod,
    "OCSVM": lambda: Pyod("OCSVM"),
    "LOF": lambda: Pyod("LOF", n_neighbors=10),
}
every = pytest.mark.parametrize("make", LEARNING.values(), ids=LEARNING.keys())


def known(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in five columns, one of them heavy-tailed."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([90, 42, 6], [n // 2, n // 3, n - n // 2 - n // 3])
    x = rng.normal(size=(n, 5)) + (labels == 42)[:, None] * np.array([3, 0, 0, 1, 0])
    x[:, 4] = rng.standard_t(2, n)
    return x, labels


@every
def test_what_is_far_from_all_known_objects_scores_higher(make: Make) -> None:
    detector = make().fit(*known())
    usual, _ = known(seed=1)
    odd = known(seed=2)[0][:60] + np.array([-4, 5, 5, -5, 0])
    assert np.median(detector.score(odd)) > np.quantile(detector.score(usual), 0.95)


@every
def test_the_unit_and_zero_of_a_column_do_not_matter(make: Make) -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    scale, shift = np.array([1e4, 1, 1e-3, 1, 50]), np.array([0, 1e3, 0, -5, 7])
    scores = make().fit(x, labels).score(asked)
    scaled = make().fit(x * scale + shift, labels).score(asked * scale + shift)
    np.testing.assert_allclose(scaled, scores, rtol=1e-4, atol=1e-6)


@every
def test_scores_are_the_same_again_and_inputs_are_left_alone(make: Make) -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    copies = x.copy(), labels.copy(), asked.copy()
    np.testing.assert_array_equal(make().fit(x, labels).score(asked), make().fit(x, labels).score(asked))
    for given, copy in zip((x, labels, asked), copies, strict=True):
        np.testing.assert_array_equal(given, copy)


@every
def test_an_object_scores_alike_alone_in_chunks_and_in_any_company(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make().fit(*known())
    asked = np.concatenate([known(seed=1)[0][:70], np.full((40, 5), 9.0)]).astype(np.float32)
    whole = detector.score(asked)
    assert whole.dtype == np.float64
    assert whole.shape == (110,)
    monkeypatch.setattr(detectors, "AT_ONCE", 32)
    np.testing.assert_allclose(detector.score(asked), whole, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(detector.score(asked[5:6]), whole[5:6], rtol=1e-6, atol=1e-8)
    assert detector.score(asked[:0]).shape == (0,)


@every
def test_values_that_are_not_finite_count_as_the_training_median(make: Make) -> None:
    x, labels = known()
    x[:20, 1], x[20:25, 2] = np.nan, np.inf
    detector = make().fit(x, labels)
    asked = known(seed=1)[0]
    filled = asked.copy()
    asked[:, 1], asked[:, 2] = np.nan, -np.inf
    filled[:, 1], filled[:, 2] = np.nanmedian(x[:, 1]), np.median(x[np.isfinite(x[:, 2]), 2])
    np.testing.assert_array_equal(detector.score(asked), detector.score(filled))


@every
@pytest.mark.filterwarnings("error")
def test_constant_empty_and_enormous_columns_give_finite_scores(make: Make) -> None:
    x, labels = known()
    x[:, 0], x[:, 1], x[:, 2] = 0.1, np.nan, 1e12 * x[:, 2]
    detector = make().fit(x, labels)
    asked = known(seed=1)[0]
    asked[:5, :] = 1e200
    assert np.isfinite(detector.score(asked)).all()


@every
def test_too_few_objects_and_no_columns_are_refused(make: Make) -> None:
    x, labels = known()
    with pytest.raises(UserError, match="was given 1 known object to learn from; it needs 5"):
        make().fit(x[:1], labels[:1])
    with pytest.raises(UserError, match="at least one column; it was given none"):
        make().fit(x[:, :0], labels)


def test_scaled_columns_have_mean_0_and_deviation_1_and_raw_ones_are_left() -> None:
    x, _ = known()
    np.testing.assert_allclose(Standard.fit(x, "scaled")(x), (x - x.mean(0)) / x.std(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(Standard.fit(x, "raw")(x), x)
    compressed = Standard.fit(x, "compressed")(x)
    np.testing.assert_allclose(compressed.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(compressed.std(0), 1)
    # asinh of the distance from the median in halves of the interquartile range, then mean and deviation
    halves = np.subtract(*np.quantile(x[:, 4], [0.75, 0.25])) / 2
    by_hand = np.arcsinh((x[:, 4] - np.median(x[:, 4])) / halves)
    np.testing.assert_allclose(compressed[:, 4], (by_hand - by_hand.mean()) / by_hand.std(), rtol=1e-9, atol=1e-12)
    assert np.abs(compressed[:, 4]).max() < np.abs(Standard.fit(x, "scaled")(x)[:, 4]).max() / 2


def test_the_forest_is_scikit_learns_with_its_sign_turned() -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    scores = Forest(trees=50, samples=64, seed=3).fit(x, labels).score(asked)
    forest = IsolationForest(n_estimators=50, max_samples=64, random_state=derive(3, "forest"))
    expected = -forest.fit((x - x.mean(0)) / x.std(0)).score_samples((asked - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert not np.allclose(scores, Forest(trees=50, samples=64, seed=4).fit(x, labels).score(asked))


def test_class_forests_give_the_least_of_a_forest_a_class() -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    z, w = ((values - x.mean(0)) / x.std(0) for values in (x, asked))
    each = [
        -IsolationForest(n_estimators=30, max_samples=min(40, (labels == k).sum()), random_state=derive(0, str(k)))
        .fit(z[labels == k])
        .score_samples(w)
        for k in (6, 42, 90)
    ]
    found = ClassForests(trees=30, samples=40).fit(x, labels).score(asked)
    np.testing.assert_allclose(found, np.min(each, axis=0), rtol=1e-6)


def test_classes_of_fewer_than_five_objects_share_a_forest_or_go_without() -> None:
    x, labels = known()
    labels[:3], labels[3:5] = 1, 2
    assert list(ClassForests(trees=5).fit(x, labels).forests_) == ["6", "42", "90", "rare"]
    labels[3:5] = 90
    assert list(ClassForests(trees=5).fit(x, labels).forests_) == ["6", "42", "90"]
    labels[:5], labels[5:11] = 1, np.arange(200, 206)
    forests = ClassForests(trees=5).fit(x, labels).forests_
    assert list(forests) == ["1", "6", "42", "90", "rare"]
    assert forests["1"].max_samples_ == 5
    assert forests["rare"].max_samples_ == 6
    scattered = np.arange(20)
    assert list(ClassForests(trees=5).fit(x[:20], scattered).forests_) == ["rare"]


def test_an_object_between_the_classes_is_odd_to_what_knows_the_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    x = rng.normal(size=(400, 4)) + 12 * labels[:, None]
    between = 0.3 * rng.normal(size=(50, 4)) + 6
    for make in (lambda: ClassForests(trees=50), Mahalanobis):
        detector: Detector = make().fit(x, labels)
        assert detector.score(between).min() > np.quantile(detector.score(x), 0.99)


def test_neighbours_are_those_of_the_matrix_of_all_distances() -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    detector = Neighbours(k=4).fit(x, labels)
    standard = Standard.fit(x, "compressed")
    expected = np.sort(cdist(standard(asked), standard(x)), axis=1)[:, :4].mean(1)
    np.testing.assert_allclose(detector.score(asked), expected, rtol=1e-6)


@pytest.mark.parametrize("k", [0, 301])
def test_more_neighbours_than_objects_are_refused(k: int) -> None:
    with pytest.raises(UserError, match=f"k is {k}; it lies between 1 and the 300"):
        Neighbours(k=k).fit(*known())


def test_distances_are_scipys_mahalanobis_ones() -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    standard = Standard.fit(x, "compressed")
    z, w = standard(x), standard(asked)
    means = {k: z[labels == k].mean(0) for k in np.unique(labels)}
    inverse = np.linalg.inv(LedoitWolf().fit(np.concatenate([z[labels == k] - means[k] for k in means])).covariance_)
    expected = [min(mahalanobis(row, mean, inverse) for mean in means.values()) for row in w]
    np.testing.assert_allclose(Mahalanobis().fit(x, labels).score(asked), expected, rtol=1e-6)


def test_a_classifier_is_unsure_by_its_largest_probability() -> None:
    rng = np.random.default_rng(0)
    logits = 5 * rng.normal(size=(100, 6)).astype(np.float32)
    labels = logits.argmax(1)
    unsure = 1 - softmax(logits.astype(float), axis=1).max(1)
    for given in (logits, log_softmax(logits.astype(float), axis=1)):
        np.testing.assert_allclose(ClassifierUncertainty().fit(given, labels).score(given), unsure, rtol=1e-9)


def test_very_sure_answers_still_differ() -> None:
    logits = np.array([[50.0, 0.0], [60.0, 0.0], [0.0, 0.0], [40.0, 0.0], [30.0, 0.0]])
    scores = ClassifierUncertainty().fit(logits, np.zeros(5, np.int64)).score(logits)
    np.testing.assert_array_equal(np.argsort(scores), [1, 0, 3, 4, 2])


@pytest.mark.parametrize("name", PYOD)
@pytest.mark.filterwarnings("error")
def test_pyods_detectors_find_outliers_quietly_and_judge_each_object_alone(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    x, labels = known()
    detector = Pyod(name).fit(x, labels)
    usual, odd = known(seed=1)[0][:60], known(seed=2)[0][:60] + np.array([-6, 7, 7, -7, 0])
    scores = detector.score(np.concatenate([usual, odd]))
    assert np.median(scores[60:]) > np.quantile(scores[:60], 0.8)
    np.testing.assert_allclose(detector.score(usual[:1]), scores[:1], rtol=1e-6)
    np.testing.assert_array_equal(Pyod(name).fit(x, labels).score(usual), detector.score(usual))
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_ecod_scores_as_pyod_does_an_object_alone() -> None:
    x, labels = known(80)
    x[:, 1] = x[:, 1].round()  # with ties
    asked = np.concatenate([x[:10], x[:10] * 1.5])
    standard = Standard.fit(x, "compressed")
    theirs = ECOD().fit(standard(x))
    expected = [theirs.decision_function(row[None])[0] for row in standard(asked)]
    np.testing.assert_allclose(Pyod("ECOD").fit(x, labels).score(asked), expected, rtol=1e-9)


def test_unknown_detectors_and_options_are_named() -> None:
    with pytest.raises(UserError, match=r"no detector 'EDOC'.*ECOD"):
        Pyod("EDOC")
    with pytest.raises(UserError, match=r"no option 'n_neighbours'. Did you mean n_neighbors\?"):
        Pyod("LOF", n_neighbours=3)


def test_a_surprise_is_minus_the_log_of_the_share_that_scores_as_high() -> None:
    rng = np.random.default_rng(0)
    scores = 3 + 2 * rng.exponential(size=100_000)  # of which exp(-(s - 3) / 2) lie above s
    surprise = EmpiricalTail.fit(scores)
    asked = np.array([3.5, 5, 7, 9, 20, 100])
    np.testing.assert_allclose(surprise(asked), (asked - 3) / 2, rtol=0.03)
    assert (np.diff(surprise(np.sort(rng.uniform(0, 200, 500)))) >= 0).all()
    bulk = rng.normal(size=100_000)  # no exponential: up to the 90 % quantile the share is counted
    levels = np.quantile(bulk, [0.3, 0.6, 0.8, 0.89])
    np.testing.assert_allclose(EmpiricalTail.fit(bulk)(levels), -np.log([0.7, 0.4, 0.2, 0.11]), rtol=1e-3)


def test_a_surprise_knows_no_scale_and_survives_ties() -> None:
    rng = np.random.default_rng(0)
    scores, asked = rng.normal(size=200), rng.normal(size=50) * 3
    np.testing.assert_allclose(
        EmpiricalTail.fit(7 * scores - 5)(7 * asked - 5), EmpiricalTail.fit(scores)(asked), rtol=1e-9
    )
    alike = EmpiricalTail.fit(np.full(10, 0.5))
    low, same, high = alike(np.array([0.4, 0.5, 0.6]))
    assert low <= same < high < np.inf


def test_cross_fitted_scores_are_of_detectors_that_have_not_seen_the_object() -> None:
    x, labels = known()
    scores = cross_fitted_scores(Neighbours(k=1), x, labels, parts=5, seed=0)
    assert scores.min() > 1e-3  # its own nearest neighbour is at 0
    fresh = Neighbours(k=1).fit(x, labels).score(known(seed=1)[0])
    assert np.median(scores) == pytest.approx(np.median(fresh), rel=0.15)
    assert np.median(Neighbours(k=1).fit(x, labels).score(x)) < 1e-6


def test_a_known_object_is_as_surprising_to_a_blend_as_others_of_its_kind() -> None:
    x, labels = known(600)
    blend = Blend([Neighbours(k=1), Forest(trees=50)]).fit(x, labels)
    surprises = blend.score(known(600, seed=5)[0])
    assert surprises.mean() == pytest.approx(1, abs=0.15)  # the mean of -log of uniform numbers


def test_a_blend_is_the_mean_surprise_of_its_members_whatever_their_scales() -> None:
    (x, labels), (asked, _) = known(), known(seed=1)
    members: list[Detector] = [Neighbours(k=2), Mahalanobis()]
    each = [
        EmpiricalTail.fit(cross_fitted_scores(m, x, labels, 5, 0))(type(m)(**_options(m)).fit(x, labels).score(asked))
        for m in members
    ]
    found = Blend({"one": members[0], "other": members[1]}).fit(x, labels).score(asked)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-6)
    assert not hasattr(members[0], "standard_")  # the given ones are left as they are
    alone = Blend([Mahalanobis()]).fit(x, labels).score(asked)
    assert spearmanr(alone, Mahalanobis().fit(x, labels).score(asked)).statistic > 0.999


def _options(detector: Detector) -> dict[str, object]:
    return {name: getattr(detector, name) for name in inspect.signature(type(detector)).parameters}


def test_blends_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="needs a detector or more"):
        Blend([])
    with pytest.raises(UserError, match="parts is 1; it is 2 or more"):
        Blend([Forest()], parts=1)
