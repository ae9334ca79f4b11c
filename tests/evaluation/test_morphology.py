import numpy as np
import pytest
import torch

from galaxyml.evaluation.morphology import asymmetry, thumbnail

SIDE = 212


def drawn(light: torch.Tensor) -> torch.Tensor:
    """An image of one channel, (H, W) of [0, 1] -> uint8 (1, H, W, 1)."""
    return (light * 255).round().to(torch.uint8)[None, :, :, None]


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
    assert asymmetry(drawn(disk + knot).div(1.01).to(torch.uint8))[0] == pytest.approx(1 / 3, abs=0.02)


def test_an_image_without_light_has_a_finite_number():
    assert np.isfinite(asymmetry(torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8))).all()


def test_numbers_of_an_image_do_not_depend_on_the_others():
    images = torch.randint(0, 255, (5, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for measure in (asymmetry, thumbnail):
        alone = np.concatenate([measure(image[None]) for image in images])
        np.testing.assert_allclose(measure(images), alone, rtol=1e-5, atol=1e-6)


def test_a_thumbnail_has_the_mean_of_its_areas():
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    image[:, 32:34, 32:34] = 255
    small = thumbnail(image).reshape(32, 32)
    assert small.sum() == pytest.approx(1, abs=1e-3)
    assert np.unravel_index(small.argmax(), small.shape) == (16, 16)
