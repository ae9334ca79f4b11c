"""Weights of a mean of probabilities; those of least squares are tested where ensembles are."""

import numpy as np
import pytest
from scipy.optimize import minimize

from galaxyml.evaluation.stacking import log_loss_weights


def drawn(rng: np.random.Generator, models: int, objects: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of models of different skill, shape (G, N, K), and class indices, shape (N,)."""
    labels = rng.integers(0, classes, objects)
    skill = rng.uniform(0.2, 2.0, (models, 1, 1))
    logits = skill * np.eye(classes)[labels] + rng.normal(size=(models, objects, classes))
    chances = np.exp(logits)
    return chances / chances.sum(axis=2, keepdims=True), labels


@pytest.mark.parametrize("seed", range(4))
def test_the_log_loss_is_a_general_solvers_least(seed: int) -> None:
    chances, labels = drawn(np.random.default_rng(seed), 4, 200, 3)

    def loss(weights: np.ndarray) -> float:
        return float(-np.log(np.tensordot(weights, chances, 1)[np.arange(200), labels]).mean())

    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    given = {"bounds": [(0, 1)] * 4, "constraints": sums, "method": "SLSQP", "options": {"ftol": 1e-14}}
    found = log_loss_weights(chances, labels)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    assert loss(found) <= minimize(loss, np.full(4, 0.25), **given).fun + 1e-7
    np.testing.assert_allclose(found, minimize(loss, np.full(4, 0.25), **given).x, atol=5e-3)


def test_the_sure_and_right_has_all_the_weight_and_the_unknown_has_none() -> None:
    labels = np.array([0, 1, 1, 0, -1])
    right = np.eye(2)[labels]
    right[-1] = [0.5, 0.5]
    np.testing.assert_allclose(log_loss_weights(np.stack([right, 1 - right]), labels), [1, 0], atol=1e-6)
    np.testing.assert_allclose(log_loss_weights(np.stack([right, right]), labels), [0.5, 0.5])
    np.testing.assert_array_equal(log_loss_weights(np.stack([right, 1 - right]), np.full(5, -1)), [0.5, 0.5])
