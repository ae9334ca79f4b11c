import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from galaxyml.data.light_curves import gaussian_process
from galaxyml.data.light_curves.gaussian_process import GaussianProcess, brightest

BANDS = np.array([3671.0, 4827.0, 6223.0, 7546.0, 8691.0, 9710.0])
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def columns() -> Columns:
    dice = np.random.default_rng(0)
    time = np.sort(59600 + 100 * dice.random(40))
    wavelength = dice.choice(BANDS, 40)
    error = dice.uniform(1, 4, 40)
    flux = 50 * np.exp(-(((time - 59640) / 15) ** 2)) * wavelength / 6000 + dice.normal(0, error)
    return time, wavelength, flux, error


def sklearns(columns: Columns, amplitude: float, time_scale: float) -> GaussianProcessRegressor:
    time, wavelength, flux, error = columns
    kernel = ConstantKernel(amplitude**2) * Matern(length_scale=[time_scale, 6000.0], nu=1.5)
    return GaussianProcessRegressor(kernel, alpha=error**2, optimizer=None).fit(np.stack([time, wavelength], 1), flux)


def test_mean_variance_and_likelihood_are_sklearns(columns: Columns) -> None:
    ours, theirs = GaussianProcess.given(*columns, 12.0, 17.0), sklearns(columns, 12.0, 17.0)
    time, wavelength = np.linspace(59590, 59720, 30), np.linspace(2500, 10000, 30)
    mean, deviation = theirs.predict(np.stack([time, wavelength], 1), return_std=True)
    found, variance = ours.predict(time, wavelength)
    np.testing.assert_allclose(found, mean, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(variance, deviation**2, rtol=1e-7, atol=1e-8)
    assert ours.log_likelihood == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-10)


def test_the_fitted_kernel_is_the_likeliest_of_a_grid(columns: Columns) -> None:
    fitted = GaussianProcess.fit(*columns)
    grid = [
        sklearns(columns, amplitude, scale).log_marginal_likelihood_value_
        for amplitude in np.geomspace(2, 200, 25)
        for scale in np.geomspace(3, 300, 25)
    ]
    assert max(grid) <= fitted.log_likelihood + 1e-6
    assert fitted.log_likelihood < max(grid) + 0.5
    assert fitted.log_likelihood == pytest.approx(
        sklearns(columns, fitted.amplitude, fitted.time_scale).log_marginal_likelihood_value_
    )


@pytest.mark.parametrize("logarithms", [(0.0, 3.0), (-1.5, 1.0), (1.0, 5.0)])
def test_the_slope_of_the_likelihood_is_its_finite_difference(
    columns: Columns, logarithms: tuple[float, float]
) -> None:
    time, wavelength, flux, error = columns
    squares = gaussian_process._squares(time, wavelength, 1.0)
    arguments = (*squares, flux / 50, error / 50)
    gap = check_grad(
        lambda point: gaussian_process._cost(point, *arguments)[0],
        lambda point: gaussian_process._cost(point, *arguments)[1],
        np.array(logarithms),
    )
    assert gap < 1e-3


def test_the_fit_follows_the_unit_of_the_flux(columns: Columns) -> None:
    time, wavelength, flux, error = columns
    faint, bright = GaussianProcess.fit(*columns), GaussianProcess.fit(time, wavelength, 1e4 * flux, 1e4 * error)
    assert bright.amplitude == pytest.approx(1e4 * faint.amplitude, rel=1e-3)
    assert bright.time_scale == pytest.approx(faint.time_scale, rel=1e-3)


def test_far_from_the_observations_nothing_is_known(columns: Columns) -> None:
    fitted = GaussianProcess.fit(*columns)
    mean, variance = fitted.predict(np.array([70000.0]), np.array([6000.0]))
    assert mean[0] == pytest.approx(0, abs=1e-9)
    assert variance[0] == pytest.approx(fitted.amplitude**2)


def test_repeated_and_exact_observations_can_be_fitted(columns: Columns) -> None:
    time, wavelength, flux, error = (np.repeat(column, 2) for column in columns)
    fitted = GaussianProcess.fit(time, wavelength, flux, 1e-4 * error)
    assert np.isfinite(fitted.log_likelihood)
    mean, _ = fitted.predict(time, wavelength)
    np.testing.assert_allclose(mean, flux, atol=1e-2)


def test_a_curve_that_no_kernel_fits_is_refused(columns: Columns) -> None:
    time, wavelength, flux, error = (np.repeat(column, 3) for column in columns)
    with pytest.raises(np.linalg.LinAlgError, match="the covariance of the fluxes is not positive definite"):
        GaussianProcess.given(time, wavelength, flux, 1e-12 * error, 12.0, 17.0)
    with pytest.raises(np.linalg.LinAlgError, match="the covariance of the fluxes is not positive definite"):
        GaussianProcess.fit(time, wavelength, flux, 1e-12 * error)


@pytest.mark.parametrize("refused", [2, 3, 4])
def test_a_search_that_meets_a_kernel_that_cannot_be_factored_goes_round_it(
    refused: int, columns: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    likeliest = GaussianProcess.fit(*columns)
    solved, calls = gaussian_process._solved, 0

    def failing(covariance: np.ndarray, flux: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        nonlocal calls
        calls += 1
        if calls == refused:
            raise np.linalg.LinAlgError
        return solved(covariance, flux, error)

    monkeypatch.setattr(gaussian_process, "_solved", failing)
    found = GaussianProcess.fit(*columns)
    assert calls > refused
    assert found.log_likelihood == pytest.approx(likeliest.log_likelihood, abs=1e-3)


@pytest.mark.parametrize("flux", [np.zeros(5), np.full(5, -3.0)])
def test_a_curve_without_a_bright_moment_can_be_fitted(flux: np.ndarray) -> None:
    fitted = GaussianProcess.fit(np.arange(5.0), np.full(5, 6223.0), flux, np.ones(5))
    assert np.isfinite(fitted.log_likelihood)


def test_the_brightest_is_the_most_significant_but_not_by_its_error_alone() -> None:
    assert brightest(np.array([100.0, 30.0]), np.array([50.0, 1.0])) == 30
    assert brightest(np.array([100.0, 30.0]), np.array([0.1, 1e-9])) == 100
    assert brightest(np.array([-100.0, 30.0]), np.array([1.0, 1.0])) == 100
