import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import root_mean_squared_error

from galaxyml.kinds.fractions import metrics
from galaxyml.kinds.losses import MSELoss


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.random((200, 5)).astype(np.float32)
    return (targets + 0.3 * rng.standard_normal((200, 5))).astype(np.float32), targets


def test_pearson_is_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    outputs, targets = pair
    expected = [stats.pearsonr(outputs[:, k], targets[:, k]).statistic for k in range(5)]
    np.testing.assert_allclose(metrics.pearson(outputs, targets), expected, atol=1e-6)


def test_rmse_is_scikit_learns(pair: tuple[np.ndarray, np.ndarray]) -> None:
    outputs, targets = pair
    assert metrics.rmse(outputs, targets) == pytest.approx(root_mean_squared_error(targets.ravel(), outputs.ravel()))
    expected = root_mean_squared_error(targets, outputs, multioutput="raw_values")
    np.testing.assert_allclose(metrics.column_rmse(outputs, targets), expected, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e-8, 1 / 3])
def test_pearson_of_constants_is_zero(constant: float) -> None:
    varying = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    same = np.full((60, 1), constant, np.float32)
    assert metrics.pearson(same, varying) == metrics.pearson(varying, same) == metrics.pearson(same, same) == 0


def test_pearson_sees_small_variations() -> None:
    x = 0.5 + 1e-5 * np.random.default_rng(0).standard_normal((300, 1))
    y = 2 * x - 0.1
    assert metrics.pearson(x, y) == pytest.approx(1, abs=1e-3)


def test_sums_over_batches_give_the_same(pair: tuple[np.ndarray, np.ndarray]) -> None:
    outputs, targets = pair
    metric = metrics.FractionMetrics(list("abcde"))
    for rows in (slice(0, 64), slice(64, 128), slice(128, 200)):
        metric.update(torch.tensor(outputs[rows]), torch.tensor(targets[rows]))
    found = metric.compute()
    assert found["rmse"] == pytest.approx(metrics.rmse(outputs, targets))
    assert found["pearson"] == pytest.approx(metrics.pearson(outputs, targets).mean())
    assert found["rmse/c"] == pytest.approx(metrics.column_rmse(outputs, targets)[2])


def test_unknown_targets_count_nowhere(pair: tuple[np.ndarray, np.ndarray]) -> None:
    outputs, targets = pair
    gaps = targets.copy()
    gaps[50:] = np.nan
    metric = metrics.FractionMetrics(list("abcde"))
    metric.update(torch.tensor(outputs), torch.tensor(gaps))
    assert metric.compute()["rmse"] == pytest.approx(metrics.rmse(outputs[:50], targets[:50]))
    loss = MSELoss()(torch.tensor(outputs), torch.tensor(gaps))
    torch.testing.assert_close(
        loss, torch.nn.functional.mse_loss(torch.tensor(outputs[:50]), torch.tensor(targets[:50]))
    )


def test_nothing_measured_is_no_nan() -> None:
    metric = metrics.FractionMetrics(["a"])
    metric.update(torch.ones(3, 1), torch.full((3, 1), torch.nan))
    assert metric.compute() == {"rmse": 0.0, "pearson": 0.0, "rmse/a": 0.0}


def test_loss_of_unknown_targets_has_no_gradient() -> None:
    outputs = torch.ones(4, 2, requires_grad=True)
    MSELoss()(outputs, torch.full((4, 2), torch.nan)).backward()
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()
