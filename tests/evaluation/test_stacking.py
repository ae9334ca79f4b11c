"""Weights of a mean of probabilities; those of least squares are tested where ensembles are."""

import numpy as np
import pytest

from galaxyml.evaluation.stacking import log_loss_weights


def drawn(rng: np.random.Generator, models: int, objects: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of models of different skill, shape (G, N, K), and class indices, shape (N,)."""
    labels = rng.integers(0, classes, objects)
    skill = rng.uniform(0.2, 2.0, (models, 1, 1))
    logits = skill * np.eye(classes)[labels] + rng.normal(size=(models, objects, classes))
    chances = np.exp(logits)
    return chances / chances.sum(axis=2, keepdims=True), labels


@pytest.mark.parametrize("seed", range(4))
def test_no_change_of_the_weights_lowers_the_log_loss(seed: int) -> None:
    chances, labels = drawn(np.random.default_rng(seed), 4, 200, 3)
    chances[3] = 0.7 * chances[2] + 0.3 * chances[3]  # nearly the same, which makes the loss flat
    found = log_loss_weights(chances, labels)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    of_truth = chances[:, np.arange(200), labels]
    slopes = (of_truth / (found @ of_truth)).mean(axis=1)  # the conditions of Karush, Kuhn and Tucker
    np.testing.assert_allclose(slopes[found > 1e-6], 1, atol=1e-5)
    assert (slopes <= 1 + 1e-5).all()


def test_the_sure_and_right_has_all_the_weight_and_the_unknown_has_none() -> None:
    labels = np.array([0, 1, 1, 0, -1])
    right = np.eye(2)[labels]
    right[-1] = [0.5, 0.5]
    np.testing.assert_allclose(log_loss_weights(np.stack([right, 1 - right]), labels), [1, 0], atol=1e-6)
    np.testing.assert_allclose(log_loss_weights(np.stack([right, right]), labels), [0.5, 0.5])
    np.testing.assert_array_equal(log_loss_weights(np.stack([right, 1 - right]), np.full(5, -1)), [0.5, 0.5])
