import numpy as np
import pytest
import torch

from galaxyml.evaluation.morphology import asymmetry, half_light_radius, thumbnails

SIDE = 212


def drawn(light: torch.Tensor) -> torch.Tensor:
    """An image of one channel in 8 bits, (H, W) of [0, 1] -> (1, 1, H, W) of [0, 1]."""
    return (light * 255).round()[None, None] / 255


def radii(x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    """Distances of pixels from a point, relative to the middle."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    return torch.hypot(axis[:, None] - y, axis[None] - x)


def test_asymmetry_is_1_of_light_that_is_all_on_one_side():
    blob = torch.exp(-0.5 * (radii(40, 25) / 6) ** 2)
    assert asymmetry(drawn(blob))[0] == pytest.approx(1, abs=0.02)
    both = blob + torch.exp(-0.5 * (radii(-40, -25) / 6) ** 2)
    assert asymmetry(drawn(both))[0] == pytest.approx(0, abs=0.02)


def test_asymmetry_is_the_share_of_light_that_has_no_counterpart():
    """A disk with a knot of a third of its light: |I - I180| / 2 is the knot's."""
    disk = torch.exp(-0.5 * (radii() / 15) ** 2)
    knot = torch.exp(-0.5 * (radii(60, 0) / 15) ** 2) / 2
    assert asymmetry(drawn((disk + knot) / 1.01))[0] == pytest.approx(1 / 3, abs=0.02)


def test_an_image_without_light_has_a_finite_number():
    assert asymmetry(torch.zeros(2, 3, SIDE, SIDE)).isfinite().all()


def test_numbers_of_an_image_do_not_depend_on_the_others():
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for measure in (asymmetry, thumbnails):
        alone = torch.cat([measure(image[None]) for image in images])
        np.testing.assert_allclose(measure(images), alone, rtol=1e-5, atol=1e-6)


def test_a_thumbnail_has_the_mean_of_its_areas():
    image = torch.zeros(1, 3, 64, 64)
    image[..., 32:34, 32:34] = 1
    small = thumbnails(image).reshape(32, 32)
    assert small.sum() == pytest.approx(1, abs=1e-3)
    assert divmod(int(small.argmax()), 32) == (16, 16)


def test_half_of_the_light_of_a_gaussian_is_within_its_own_radius():
    """Half of a round Gaussian lies within sqrt(2 ln 2) standard deviations."""
    for sigma in (20, 35):
        light = drawn(torch.exp(-0.5 * (radii() / sigma) ** 2))
        expected = (2 * np.log(2)) ** 0.5 * sigma * 32 / SIDE
        assert float(half_light_radius(thumbnails(light))[0]) == pytest.approx(expected, abs=0.6)
    assert half_light_radius(torch.zeros(2, 1024)).tolist() == [0, 0]
