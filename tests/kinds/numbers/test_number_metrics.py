import numpy as np
import pytest
import torch
from scipy.stats import median_abs_deviation, pearsonr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from galaxyml.kinds.numbers.metrics import NumberMetrics, by_column, over_columns, resampled


def numbers(count: int = 300, offset: float = 0.0, unit: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    true = rng.normal(0, [1, 2, 0.1], (count, 3))
    said = 0.7 * true + rng.normal(0, 0.3, true.shape) + 0.05
    return unit * said + offset, unit * true + offset


@pytest.mark.parametrize(("offset", "unit"), [(0, 1), (59580, 1), (0, 1e11), (-3, 1e-9)])
def test_measures_are_those_of_other_libraries(offset: float, unit: float) -> None:
    said, true = numbers(offset=offset, unit=unit)
    found = by_column(said, true)
    for at in range(3):
        x, y = said[:, at], true[:, at]
        assert found["r2"][at] == pytest.approx(r2_score(y, x), rel=1e-5)
        assert found["pearson"][at] == pytest.approx(pearsonr(x, y).statistic, rel=1e-5)
        assert found["rmse"][at] == pytest.approx(root_mean_squared_error(y, x))
        assert found["mae"][at] == pytest.approx(mean_absolute_error(y, x))
        assert found["bias"][at] == pytest.approx((x - y).mean())
        assert found["nmad"][at] == pytest.approx(median_abs_deviation(x - y, scale="normal"), rel=1e-4)


def test_a_resample_is_the_sample_of_what_was_drawn() -> None:
    said, true = numbers(50)
    drawn = np.random.default_rng(0).multinomial(50, np.full(50, 1 / 50), size=4).astype(np.uint8)
    found = resampled(said, true, drawn)
    for row, counts in enumerate(drawn):
        x, y = (np.repeat(values, counts, axis=0) for values in (said, true))
        expected = by_column(x, y)
        for name in ("r2", "pearson", "rmse", "mae"):
            np.testing.assert_allclose(found[name][row], expected[name], rtol=1e-6)


def test_numbers_of_all_units_count_alike() -> None:
    said, true = numbers()
    units = np.array([1, 1e6, 1e-6])
    drawn = np.ones((1, len(true)), np.uint8)
    alike, scaled = (over_columns(resampled(x, y, drawn)) for x, y in ((said, true), (said * units, true * units)))
    for name, values in alike.items():
        np.testing.assert_allclose(scaled[name], values)


def test_the_metric_of_an_epoch_is_that_of_all_its_batches() -> None:
    said, true = numbers(64)
    metric = NumberMetrics(["a", "b", "c"])
    for part in range(0, 64, 20):
        metric.update(torch.tensor(said[part : part + 20]), torch.tensor(true[part : part + 20]))
    found = metric.compute()
    assert found["r2"] == pytest.approx(np.mean([r2_score(true[:, at], said[:, at]) for at in range(3)]), abs=1e-5)
    assert found["rmse/b"] == pytest.approx(root_mean_squared_error(true[:, 1], said[:, 1]), rel=1e-5)
    assert list(metric.figures()) == ["predicted against true"]


def test_a_net_that_has_diverged_is_the_worst() -> None:
    metric = NumberMetrics(["a"])
    metric.update(torch.tensor([[float("nan")], [1.0]]), torch.tensor([[0.0], [1.0]]))
    assert metric.compute() == {"r2": -np.inf, "pearson": 0.0, "nrmse": np.inf}


def test_a_constant_prediction_has_no_correlation() -> None:
    _, true = numbers()
    found = by_column(np.tile(true.mean(axis=0), (len(true), 1)), true)
    np.testing.assert_allclose(found["r2"], 0, atol=1e-9)
    np.testing.assert_array_equal(found["pearson"], 0)
