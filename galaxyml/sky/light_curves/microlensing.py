"""Microlensing: stars whose light is magnified by one or two masses that pass before them, alike in all bands."""

import numpy as np
from numpy.typing import NDArray

from galaxyml.sky.light_curves.laws import LAWS, Model, Parameters
from galaxyml.sky.light_curves.photometry import WAVELENGTH, Bands, Values, flux, planck

Points = NDArray[np.complex128]

# How far an image may be from where the lens equation sends it, Einstein radii: roots that are no images are farther.
TOLERANCE = 1e-5


class SingleLens(Model):
    """A point mass (Paczynski 1986, ApJ 304, 1)."""

    laws = LAWS["MicroLens-Single"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        apart = np.hypot((mjd - p["peak"]) / p["crossing"], p["impact"])
        return _magnified(p, point_lens(apart), band)


class BinaryLens(Model):
    """Two point masses: at their caustics two images appear or vanish (Mao & Paczynski 1991, ApJ 374, L37)."""

    laws = LAWS["MicroLens-Binary"]

    def curve(self, p: Parameters, mjd: Values, band: Bands) -> tuple[Values, Values]:
        path = (mjd - p["peak"]) / p["crossing"] + 1j * p["impact"]
        source = path * np.exp(1j * p["angle"])
        return _magnified(p, binary_lens(source, p["mass_ratio"], p["separation"]), band)


def point_lens(apart: Values) -> Values:
    """Magnification of a point source, more than 0 Einstein radii from a point mass (Paczynski 1986, eq. 4)."""
    return (apart**2 + 2) / (apart * np.sqrt(apart**2 + 4))


def binary_lens(source: Points, mass_ratio: float, separation: float) -> Values:
    """Magnification of a point source by two point masses.

    With masses m at positions a the lens equation is source = z - sum m / conj(z - a) (Witt 1990, A&A 236, 311). Its
    conjugate gives conj(z), and put in, a polynomial of the fifth degree in z, whose roots are images if they solve the
    equation itself; each is magnified by 1 / |1 - |sum m / (z - a)^2|^2|.

    Args:
        source: Places relative to the centre of mass, in Einstein radii of the whole mass, the masses on the real axis;
            shape (N,).
        mass_ratio: Of the second mass to the first.
        separation: Of the masses, Einstein radii.

    Returns:
        Sum over the three or five images, shape (N,).
    """
    masses = np.array([1.0, mass_ratio]) / (1 + mass_ratio)
    positions = separation * np.array([-masses[1], masses[0]])
    images = _roots(_image_polynomial(source, masses, positions))
    pulls = masses / (images[..., None] - positions)
    missed = np.abs(images - pulls.conj().sum(axis=-1) - source[:, None])
    shear = np.abs((pulls / (images[..., None] - positions)).sum(axis=-1)) ** 2
    return np.asarray(np.where(missed < TOLERANCE, 1 / np.abs(1 - shear), 0.0).sum(axis=-1))


def _image_polynomial(source: Points, masses: Values, positions: Values) -> Points:
    """Coefficients in z, highest first, shape (N, 6), of a polynomial whose roots include the images."""
    first, second = masses
    # conj(z) = conj(source) + pull / product, with the two being polynomials in z.
    product = np.poly(positions).astype(complex)[None]
    pull = np.array([[first + second, -first * positions[1] - second * positions[0]]], dtype=complex)
    # conj(z) - position = gap / product.
    gaps = [_sum(_times((source.conj() - position)[:, None], product), pull) for position in positions]
    linear = np.stack([np.ones_like(source), -source], axis=1)
    total = _times(_times(linear, gaps[0]), gaps[1])
    total = _sum(total, -first * _times(product, gaps[1]))
    return _sum(total, -second * _times(product, gaps[0]))


def _times(first: Points, second: Points) -> Points:
    """Product of polynomials, coefficients along the last axis."""
    rows = max(len(first), len(second))
    product = np.zeros((rows, first.shape[1] + second.shape[1] - 1), dtype=complex)
    for power in range(second.shape[1]):
        product[:, power : power + first.shape[1]] += first * second[:, power, None]
    return product


def _sum(first: Points, second: Points) -> Points:
    """Sum of polynomials, highest power first, the first not the shorter."""
    total = first.copy()
    total[:, first.shape[1] - second.shape[1] :] += second
    return total


def _roots(polynomials: Points) -> Points:
    """Roots of N polynomials, as `numpy.roots` has them: eigenvalues of companion matrices; shape (N, degree)."""
    degree = polynomials.shape[1] - 1
    companions = np.zeros((len(polynomials), degree, degree), dtype=complex)
    companions[:, np.arange(1, degree), np.arange(degree - 1)] = 1
    companions[:, 0] = -polynomials[:, 1:] / polynomials[:, :1]
    return np.asarray(np.linalg.eigvals(companions), dtype=complex)


def _magnified(p: Parameters, magnification: Values, band: Bands) -> tuple[Values, Values]:
    """Flux above that of the unmagnified star, and that star's."""
    color = planck(WAVELENGTH[band], p["temperature"]) / planck(WAVELENGTH[2], p["temperature"])
    star = flux(p["magnitude"]) * color
    return star * (magnification - 1), star
