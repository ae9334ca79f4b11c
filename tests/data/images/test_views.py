import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from galaxyml.data.images.views import Augment, dihedral, plain, resample, symmetric

SIDE, SIZE = 22, 16


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (9, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def centre(pixels: torch.Tensor) -> np.ndarray:
    return pixels[:, 3:19, 3:19].permute(0, 3, 1, 2).numpy() / 255


def matrix(angle: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return torch.tensor([[[cos, -sin, shift[0]], [sin, cos, shift[1]]]]).expand(9, 2, 3)


def test_plain_view_is_the_centre(pixels: torch.Tensor) -> None:
    view = plain(pixels, SIZE)
    np.testing.assert_allclose(view.numpy(), centre(pixels), atol=1e-7)
    assert view.is_contiguous(memory_format=torch.channels_last)


def test_the_eight_symmetries_are_numpys(pixels: torch.Tensor) -> None:
    one = centre(pixels)[0]
    found = {dihedral(pixels[:1], SIZE, torch.tensor([number]))[0].numpy().tobytes() for number in range(8)}
    turns = [np.rot90(one, quarter, axes=(1, 2)) for quarter in range(4)]
    all_views = [*turns, *(turn[:, :, ::-1] for turn in turns)]
    assert len(found) == 8
    views = [np.frombuffer(view, np.float32).reshape(3, SIZE, SIZE) for view in found]
    for view in all_views:
        assert any(np.allclose(view, other, atol=1e-6) for other in views)


def test_symmetries_of_views_are_those_of_stored_images(pixels: torch.Tensor) -> None:
    images = plain(pixels, SIZE)
    for number in range(8):
        expected = dihedral(pixels, SIZE, torch.full((len(pixels),), number))
        assert torch.equal(symmetric(images, number), expected)


def test_each_image_gets_its_own_symmetry(pixels: torch.Tensor) -> None:
    numbers = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0])
    together = dihedral(pixels, SIZE, numbers)
    for row, number in enumerate(numbers):
        torch.testing.assert_close(together[row], dihedral(pixels[row : row + 1], SIZE, number[None])[0])


def test_resampling_nowhere_is_the_plain_view(pixels: torch.Tensor) -> None:
    torch.testing.assert_close(resample(pixels, SIZE, matrix()), plain(pixels, SIZE), atol=1e-4, rtol=0)


def test_a_quarter_turn_is_numpys(pixels: torch.Tensor) -> None:
    found = resample(pixels, SIZE, matrix(angle=math.pi / 2)).numpy()
    np.testing.assert_allclose(found, np.rot90(centre(pixels), -1, axes=(2, 3))[:, :, ::-1, ::-1], atol=1e-4)


def test_a_shift_by_a_pixel_shows_the_next_pixel(pixels: torch.Tensor) -> None:
    found = resample(pixels, SIZE, matrix(shift=(2 / SIZE, 0.0))).numpy()
    expected = pixels[:, 3:19, 4:20].permute(0, 3, 1, 2).numpy() / 255  # from the stored rim, not repeated
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_any_rotation_is_scipys() -> None:
    y, x = np.mgrid[:44, :44] - 21.5
    blob = np.exp(-((x - 4) ** 2 / 60 + (y + 2) ** 2 / 20))
    pixels = torch.tensor(np.repeat((255 * blob)[None, :, :, None], 3, axis=3).round(), dtype=torch.uint8)
    found = resample(pixels, 30, matrix(angle=math.radians(30))[:1]).numpy()[0, 0]
    expected = ndimage.rotate(blob, 30, reshape=False, order=1)[7:37, 7:37]
    assert np.abs(found - expected).max() < 0.02


def test_resampling_is_pytorchs_to_the_bit(pixels: torch.Tensor) -> None:
    matrices = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(1))
    grid = F.affine_grid(matrices * (SIZE / SIDE), [9, 3, SIZE, SIZE], align_corners=False)
    images = pixels.permute(0, 3, 1, 2).float()
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False) * (1 / 255)
    assert torch.equal(resample(pixels, SIZE, matrices), expected)


def test_gains_multiply_channels(pixels: torch.Tensor) -> None:
    gains = torch.tensor([[1.0, 0.5, 2.0]]).expand(9, 3)
    for view in (
        resample(pixels, SIZE, matrix(), gains),
        dihedral(pixels, SIZE, torch.zeros(9, dtype=torch.long), gains),
    ):
        torch.testing.assert_close(view, plain(pixels, SIZE) * gains[:, :, None, None], atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(rotate=False, colour=0.1),
        Augment(rotate=False, shift=0.1),
        Augment(zoom=1.3, shift=0.1, colour=0.2),
    ],
)
def test_views_are_drawn_per_image_from_torchs_seed(augment: Augment) -> None:
    same = torch.randint(0, 256, (1, SIDE, SIDE, 3), dtype=torch.uint8).repeat(40, 1, 1, 1)
    torch.manual_seed(3)
    first = augment(same, SIZE)
    torch.manual_seed(3)
    torch.testing.assert_close(augment(same, SIZE), first, rtol=0, atol=0)
    assert not torch.equal(augment(same, SIZE), first)
    assert len(torch.unique(first.flatten(1), dim=0)) >= 7
    assert first.min() >= 0
    assert first.max() <= 1.3
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_colour_stays_within_its_range() -> None:
    white = torch.full((2000, SIZE, SIZE, 3), 200, dtype=torch.uint8)
    gains = Augment(flip=False, rotate=False, colour=0.1)(white, SIZE)[:, :, 0, 0] / (200 / 255)
    assert gains.min() >= 0.9 * 0.95 - 1e-5
    assert gains.max() <= 1.1 * 1.05 + 1e-5
    assert gains.mean() == pytest.approx(1, abs=0.01)


def test_no_augmentation_is_the_plain_view(pixels: torch.Tensor) -> None:
    torch.testing.assert_close(Augment(flip=False, rotate=False)(pixels, SIZE), plain(pixels, SIZE))
