import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as theirs

from galaxyml.evaluation.calibration import reliability, softmax
from galaxyml.kinds.classes import metrics

NAMES = ["Round", "Cigar", "Spiral", "Merging"]


def sample(count: int = 500, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of uneven classes, and probabilities with ties that are right more often than not."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = rng.choice(classes, count, p=shares)
    logits = rng.standard_normal((count, classes))
    logits[np.arange(count), labels] += 1.2
    return labels, softmax(np.round(logits, 1))


def test_confusion_is_scikit_learns() -> None:
    labels, probabilities = sample()
    predicted = probabilities.argmax(1)
    found = metrics.confusion(labels, predicted, 5)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, theirs.confusion_matrix(labels, predicted, labels=range(5)))


@given(
    arrays.arrays(np.int64, 12, elements=st.integers(0, 3)),
    arrays.arrays(np.int64, 12, elements=st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None)
def test_rates_are_scikit_learns(labels: np.ndarray, predicted: np.ndarray) -> None:
    found = metrics.rates(metrics.confusion(labels, predicted, 4))
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(theirs.f1_score(labels, predicted, average="macro", zero_division=0))
    with warnings.catch_warnings():  # of classes that are predicted but not true
        warnings.simplefilter("ignore", UserWarning)
        assert found["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(labels, predicted))
    expected = theirs.precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(found[name], values)


def test_rates_take_many_matrices() -> None:
    matrices = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 4))
    many = metrics.rates(matrices)
    one = metrics.rates(matrices[1, 2])
    assert many["macro_f1"].shape == (2, 3)
    assert many["f1"].shape == (2, 3, 4)
    for name, values in one.items():
        np.testing.assert_allclose(many[name][1, 2], values)


def test_rates_of_nothing_are_zero() -> None:
    assert all((values == 0).all() for values in metrics.rates(np.zeros((3, 3))).values())


@given(
    arrays.arrays(np.int64, 10, elements=st.integers(0, 2)),
    arrays.arrays(np.float64, (10, 3), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0])),
)
@settings(max_examples=60, deadline=None)
def test_auc_is_scikit_learns_with_ties(labels: np.ndarray, scores: np.ndarray) -> None:
    found = metrics.score(labels, scores, ["0", "1", "2"])
    for k in range(3):
        if 0 < (labels == k).sum() < 10:
            assert found[f"auc/{k}"] == pytest.approx(theirs.roc_auc_score(labels == k, scores[:, k]))
        else:
            assert np.isnan(found[f"auc/{k}"])


def test_macro_auc_is_scikit_learns() -> None:
    labels, probabilities = sample()
    expected = theirs.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert metrics.score(labels, probabilities, NAMES)["macro_auc"] == pytest.approx(expected)
    padded = np.pad(probabilities, ((0, 0), (0, 1)))  # a class without objects
    assert metrics.score(labels, padded, [*NAMES, "none"])["macro_auc"] == pytest.approx(expected)
    assert np.isnan(metrics.score(np.zeros_like(labels), probabilities, NAMES)["macro_auc"])


def test_scores_are_scikit_learns() -> None:
    labels, probabilities = sample()
    found = metrics.score(labels, probabilities, NAMES)
    assert found["nll"] == pytest.approx(theirs.log_loss(labels, probabilities))
    assert found["brier"] == pytest.approx(((probabilities - np.eye(4)[labels]) ** 2).sum(1).mean())
    assert found["ece"] == pytest.approx(reliability(probabilities, labels, 15).ece)
    assert found["f1/Merging"] == pytest.approx(theirs.f1_score(labels == 3, probabilities.argmax(1) == 3))
    assert found["auc/Cigar"] == pytest.approx(theirs.roc_auc_score(labels == 1, probabilities[:, 1]))
    assert found["support/Spiral"] == (labels == 2).sum()
    assert all(type(value) is float for value in found.values())


def test_nll_of_certain_errors_is_scikit_learns() -> None:
    labels, certain = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert metrics.score(labels, certain, ["a", "b"])["nll"] == pytest.approx(theirs.log_loss(labels, certain))


def test_no_objects_have_zeros_and_no_intervals() -> None:
    labels, probabilities = (values[:0] for values in sample())
    nothing = metrics.score(labels, probabilities, NAMES)
    assert nothing["accuracy"] == nothing["nll"] == nothing["ece"] == 0
    assert np.isnan(list(metrics.bootstrap(labels, probabilities, NAMES).values())).all()


def test_intervals_are_those_of_a_plain_loop() -> None:
    labels, probabilities = sample(300)
    resamples = 1500
    found = metrics.bootstrap(labels, probabilities, NAMES, resamples)
    rng = np.random.default_rng(123)
    scores = []
    for _ in range(resamples):
        rows = rng.integers(0, 300, 300)
        scores.append(metrics.score(labels[rows], probabilities[rows], NAMES))
    assert list(found) == [key for key in scores[0] if not key.startswith("support/")]
    for key, (low, high) in found.items():
        values = np.array([score[key] for score in scores])
        expected = np.percentile(values, [2.5, 97.5])
        # The 2.5 % quantile of 1,500 normal values has a standard error of 0.069 standard deviations; here of two.
        np.testing.assert_allclose([low, high], expected, atol=0.41 * values.std(), err_msg=key)


def test_resamples_agree_with_the_score_of_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = sample(80)
    monkeypatch.setattr(metrics, "WEIGHTS_AT_ONCE", 80 * 3)  # several chunks, the last one smaller
    found = metrics.bootstrap(labels, probabilities, NAMES, resamples=7)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.integers(0, 80, (size, 80)) for size in (3, 3, 1)])
    scores = [metrics.score(labels[drawn], probabilities[drawn], NAMES) for drawn in rows]
    for key, (low, high) in found.items():
        expected = np.percentile([score[key] for score in scores], [2.5, 97.5])
        assert [low, high] == pytest.approx(expected, abs=1e-12)


def test_resamples_without_a_class_say_nothing_of_it() -> None:
    labels, probabilities = sample(60, classes=3)
    labels[labels == 0] = 1
    labels[0] = 0  # in 63 % of the resamples
    probabilities[0] = [0.9, 0.05, 0.05]
    padded = np.pad(probabilities, ((0, 0), (0, 1)))
    found = metrics.bootstrap(labels, padded, NAMES, resamples=200)
    assert found["recall/Round"] == (1, 1)
    assert found["auc/Round"][0] > 0.9
    for name in ("precision", "recall", "f1", "auc"):
        assert np.isnan(found[f"{name}/Merging"]).all()
    assert np.isfinite([found[key] for key in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")]).all()


def test_bootstrap_repeats_itself() -> None:
    labels, probabilities = sample(50)
    assert metrics.bootstrap(labels, probabilities, NAMES, 30) == metrics.bootstrap(labels, probabilities, NAMES, 30)


def test_metric_over_batches_is_the_score_of_all() -> None:
    labels, probabilities = sample(200)
    labels[:20] = -1
    logits = np.log(probabilities)
    metric = metrics.ClassMetrics(NAMES)
    for rows in (slice(0, 64), slice(64, 128), slice(128, 200)):
        metric.update(torch.tensor(logits[rows], requires_grad=True), torch.tensor(labels[rows]))
    expected = metrics.score(labels[20:], softmax(logits[20:].astype(np.float32)), NAMES)
    found = metric.compute()
    assert list(found)[:6] == ["macro_f1", "accuracy", "balanced_accuracy", "macro_auc", "ece", "nll"]
    assert list(found)[6:] == [f"f1/{name}" for name in NAMES]
    assert found == {key: expected[key] for key in found}
    assert not any(outputs.requires_grad for outputs in metric.outputs)


def test_a_diverged_net_scores_worst() -> None:
    metric = metrics.ClassMetrics(["a", "b"])
    metric.update(torch.full((6, 2), torch.nan), torch.tensor([0, 1, 0, 1, 1, -1]))
    found = metric.compute()
    assert found["accuracy"] == found["macro_f1"] == found["balanced_accuracy"] == found["macro_auc"] == 0
    assert found["ece"] == 1
    assert found["nll"] == pytest.approx(36, abs=0.1)
    assert set(metric.figures()) == {"confusion", "f1 by class", "reliability"}


@given(arrays.arrays(np.float32, (7, 3)), arrays.arrays(np.int64, 7, elements=st.integers(-1, 2)))
@settings(max_examples=60, deadline=None)
def test_metric_is_never_nan(logits: np.ndarray, labels: np.ndarray) -> None:
    metric = metrics.ClassMetrics(["a", "b", "c"])
    metric.update(torch.tensor(logits), torch.tensor(labels))
    assert np.isfinite(list(metric.compute().values())).all()


def test_nothing_collected_is_no_nan_and_no_figure() -> None:
    metric = metrics.ClassMetrics(NAMES)
    assert metric.figures() == {}
    metric.update(torch.ones(3, 4, dtype=torch.bfloat16), torch.full((3,), -1))
    assert metric.figures() == {}
    found = metric.compute()
    assert found.pop("macro_auc") == 0.5
    assert set(found.values()) == {0.0}


def test_figures_are_of_this_epoch() -> None:
    labels, probabilities = sample(100)
    metric = metrics.ClassMetrics(NAMES)
    metric.update(torch.tensor(np.log(probabilities)), torch.tensor(labels))
    assert set(metric.figures()) == {"confusion", "f1 by class", "reliability"}
    metric.reset()
    assert metric.figures() == {}
