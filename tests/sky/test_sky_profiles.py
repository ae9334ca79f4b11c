import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq
from scipy.special import gamma, gammainc, gammaincinv

from galaxyml.sky.galaxies import half_light_radius
from galaxyml.sky.profiles import edge_on_disk, elliptical_radius, sersic


def brightness(radius: float, half_light: float, index: float) -> float:
    return float(sersic(torch.tensor(radius, dtype=torch.float64), half_light, index))


@pytest.mark.parametrize("index", [0.6, 1.0, 2.5, 4.0, 6.0])
def test_sersic_has_unit_flux_and_half_of_it_within_the_half_light_radius(index):
    def within(radius: float) -> float:
        return quad(lambda r: 2 * math.pi * r * brightness(r, 3.0, index), 0, radius, limit=200)[0]

    assert within(3.0) == pytest.approx(0.5, abs=2e-3)
    # An index of 6 has light far out: what the closed form gives beyond 400 arcsec is under half a percent.
    assert within(400.0) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("index", [0.7, 1.0, 3.0, 4.0])
def test_sersic_agrees_with_the_closed_form_by_scipy(index):
    b = gammaincinv(2 * index, 0.5)
    total = 2 * math.pi * index * 9.0 * math.exp(b) * b ** (-2 * index) * gamma(2 * index)
    radii = np.array([0.01, 0.5, 3.0, 11.0])
    expected = np.exp(-b * ((radii / 3.0) ** (1 / index) - 1)) / total
    np.testing.assert_allclose(sersic(torch.tensor(radii), 3.0, index).numpy(), expected, rtol=3e-3)


def test_a_flat_sersic_galaxy_has_unit_flux():
    line = torch.arange(-200, 200, dtype=torch.float64) * 0.25
    y, x = torch.meshgrid(line, line, indexing="ij")
    light = sersic(elliptical_radius(x, y, 0.4), 4.0, 1.0, 0.4)
    assert float(light.sum()) * 0.25**2 == pytest.approx(1, abs=5e-3)


def test_an_edge_on_disk_has_unit_flux():
    def light(z: float, x: float) -> float:
        return float(edge_on_disk(torch.tensor(x, dtype=torch.float64), torch.tensor(z, dtype=torch.float64), 3.0, 0.5))

    assert 4 * dblquad(light, 0, 40, 0, 6, epsabs=1e-4)[0] == pytest.approx(1, abs=1e-2)


def test_boxy_ellipses_bulge_towards_their_corners():
    diagonal = torch.tensor(1.0), torch.tensor(0.5)
    assert elliptical_radius(*diagonal, 0.5, boxiness=4) < elliptical_radius(*diagonal, 0.5)
    on_axis = torch.tensor(2.0), torch.tensor(0.0)
    assert elliptical_radius(*on_axis, 0.5, boxiness=4) == pytest.approx(2.0)


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0, 3.0, 4.0, 6.0])
def test_r90_is_that_of_a_petrosian_aperture(index):
    b = gammaincinv(2 * index, 0.5)

    def within(radius: float) -> float:
        return float(gammainc(2 * index, b * radius ** (1 / index)))

    def petrosian_ratio(radius: float) -> float:
        annulus = (within(1.25 * radius) - within(0.8 * radius)) / (1.25**2 - 0.8**2)
        return annulus / within(radius)

    petrosian = brentq(lambda radius: petrosian_ratio(radius) - 0.2, 0.3, 20)
    r90 = brentq(lambda radius: within(radius) - 0.9 * within(2 * petrosian), 0.1, 50)
    assert half_light_radius(r90, index) == pytest.approx(1, abs=0.01)


def test_half_of_an_exponential_lies_within_1_678_scale_lengths():
    # The textbook's number, from a third side: scipy's root of (1 + x) exp(-x) = 1/2.
    root = brentq(lambda x: (1 + x) * math.exp(-x) - 0.5, 1, 3)
    ratio = brightness(root, root, 1.0) / brightness(0.0, root, 1.0)
    assert ratio == pytest.approx(math.exp(-root), rel=2e-3)
