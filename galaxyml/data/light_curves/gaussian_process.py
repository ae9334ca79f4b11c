"""A light curve in all passbands at once as a Gaussian process in time and wavelength (Boone 2019, AJ 158, 257)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

WAVELENGTH_SCALE = 6000.0  # Angstrom; fixed, as in Boone 2019
FIRST_TIME_SCALE = 20.0  # days; where the search begins, as in Boone's avocado
FIRST_AMPLITUDE = 0.2  # the same, in units of the curve's brightest flux
TIME_SCALES = (1.0, 1000.0)  # days
AMPLITUDES = (1e-4, 1e4)  # in units of the curve's brightest flux
_REFUSED = 1e25  # what a kernel costs whose matrix cannot be factored


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process of mean 0 and Matern 3/2 kernel, given the observations of one light curve.

    The kernel is `amplitude**2 (1 + sqrt(3) r) exp(-sqrt(3) r)` with
    `r**2 = (dt / time_scale)**2 + (dw / 6000 A)**2`.

    Attributes:
        time: Of the observations, days, shape (n,).
        wavelength: Of their passbands, Angstrom, shape (n,).
        amplitude: Standard deviation of the flux before there is an observation, in the unit of the flux.
        time_scale: Days.
        factor: Lower Cholesky factor of the covariance of the observed fluxes, shape (n, n).
        weights: Inverse covariance times fluxes, shape (n,).
        log_likelihood: Natural logarithm of the marginal likelihood of the fluxes.
    """

    time: np.ndarray
    wavelength: np.ndarray
    amplitude: float
    time_scale: float
    factor: np.ndarray
    weights: np.ndarray
    log_likelihood: float

    @classmethod
    def given(
        cls,
        time: np.ndarray,
        wavelength: np.ndarray,
        flux: np.ndarray,
        error: np.ndarray,
        amplitude: float,
        time_scale: float,
    ) -> "GaussianProcess":
        """The process for a known kernel.

        Args:
            time: Days, shape (n,).
            wavelength: Angstrom, shape (n,).
            flux: Shape (n,).
            error: Standard deviation of each flux, above 0, shape (n,).
            amplitude: Of the kernel, in the unit of the flux.
            time_scale: Of the kernel, days.

        Raises:
            np.linalg.LinAlgError: If the covariance cannot be factored: observations at almost the same time and
                wavelength have errors of almost 0.
        """
        factor, weights, likelihood = _solved(
            amplitude**2 * _shape(*_squares(time, wavelength, time_scale))[0], flux, error
        )
        return cls(time, wavelength, amplitude, time_scale, factor, weights, likelihood)

    @classmethod
    def fit(cls, time: np.ndarray, wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray) -> "GaussianProcess":
        """The process whose amplitude and time scale make the observations likeliest.

        Arguments and errors are those of `given`: the search cannot leave a first kernel that cannot be factored.
        """
        unit = brightest(flux, error)
        given = (*_squares(time, wavelength, 1.0), flux / unit, error / unit)
        bounds = [np.log(AMPLITUDES), np.log(TIME_SCALES)]
        costs: list[float] = []

        def cost(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
            found = _cost(logarithms, *given)
            costs.append(found[0])
            return found

        first = np.log([FIRST_AMPLITUDE, FIRST_TIME_SCALE])
        found = optimize.minimize(cost, first, jac=True, method="L-BFGS-B", bounds=bounds)
        if _REFUSED in costs:  # a wall has no slope: the line search stops before it, where it came from
            found = optimize.minimize(lambda at: cost(at)[0], found.x, method="Nelder-Mead", bounds=bounds)
        amplitude, time_scale = np.exp(found.x)
        return cls.given(time, wavelength, flux, error, float(amplitude * unit), float(time_scale))

    def predict(self, time: np.ndarray, wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the flux is elsewhere.

        Args:
            time: Days, shape (m,).
            wavelength: Angstrom, shape (m,).

        Returns:
            Mean and variance of the flux without noise, shape (m,) each.
        """
        square = ((self.time[:, None] - time) / self.time_scale) ** 2
        between = (
            self.amplitude**2 * _shape(square, ((self.wavelength[:, None] - wavelength) / WAVELENGTH_SCALE) ** 2)[0]
        )
        mean = self.weights @ between
        explained = (solve_triangular(self.factor, between, lower=True, check_finite=False) ** 2).sum(0)
        return mean, np.maximum(self.amplitude**2 - explained, 0.0)


def brightest(flux: np.ndarray, error: np.ndarray) -> float:
    """Absolute flux of the most significant observation; errors count as no less than a hundredth of the maximum.

    The floor makes it the largest flux where many are measured well (as in Boone's avocado).
    """
    significance = np.abs(flux) / np.hypot(error, 0.01 * np.abs(flux).max())
    return float(np.abs(flux[significance.argmax()])) or 1.0


def _squares(time: np.ndarray, wavelength: np.ndarray, time_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances in time and in wavelength, in units of the scales, shape (n, n) each."""
    return (
        ((time[:, None] - time) / time_scale) ** 2,
        ((wavelength[:, None] - wavelength) / WAVELENGTH_SCALE) ** 2,
    )


def _shape(time_square: np.ndarray, wavelength_square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kernel for amplitude 1, and its derivative by the logarithm of the time scale."""
    root = np.sqrt(3 * (time_square + wavelength_square))
    decay = np.exp(-root)
    return (1 + root) * decay, 3 * time_square * decay


def _solved(covariance: np.ndarray, flux: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Cholesky factor of the covariance with noise, inverse covariance times flux, and the log likelihood.

    Raises:
        np.linalg.LinAlgError: If the matrix is not positive definite.
    """
    noisy = covariance + np.diag(error**2)
    factor, failed = dpotrf(noisy, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("the covariance of the fluxes is not positive definite")
    weights = dpotrs(factor, flux, lower=1)[0]
    determinant = 2 * np.log(np.diag(factor)).sum()
    return factor, weights, float(-(flux @ weights + determinant + len(flux) * math.log(2 * math.pi)) / 2)


def _cost(logarithms: Any, days2: np.ndarray, wavelength2: np.ndarray, flux: np.ndarray, error: np.ndarray) -> Any:
    """Minus the log likelihood at log(amplitude) and log(time scale), and its gradient (Rasmussen 2006, eq. 5.9)."""
    amplitude2, time_square = math.exp(2 * logarithms[0]), days2 / math.exp(2 * logarithms[1])
    kernel, slope = (amplitude2 * part for part in _shape(time_square, wavelength2))
    try:
        factor, weights, likelihood = _solved(kernel, flux, error)
    except np.linalg.LinAlgError:
        return _REFUSED, np.zeros(2)
    inverse = np.tril(dpotri(factor, lower=1)[0])
    inverse += np.tril(inverse, -1).T
    pull = np.outer(weights, weights) - inverse
    return -likelihood, -np.array([np.vdot(pull, kernel), np.vdot(pull, slope) / 2])
