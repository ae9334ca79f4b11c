"""Images of any number of channels, from files to views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from PIL import Image

from galaxyml.data.images.decoding import Decoding, as_decoding
from galaxyml.data.images.store import Framing, open_store
from galaxyml.data.images.views import Augment, dihedral, plain, resample
from galaxyml.data.images.visible import visible
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.runs.errors import DataError, UserError
from galaxyml.training.projector import thumbnails

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_each_channel_is_resized_as_pillow_resizes_it_alone(channels: int) -> None:
    image = RNG.integers(0, 256, (40, 50, channels), np.uint8)
    framing = Framing(16, crop=0.5, margin=1.5, decoding=Decoding(channels))
    found = framing.frame(image)
    assert found.shape == framing.shape == (24, 24, channels)
    for channel in range(channels):
        alone = Image.fromarray(image[..., channel])
        expected = alone.resize((24, 24), Image.Resampling.BICUBIC, box=framing.box(50, 40))
        np.testing.assert_array_equal(found[..., channel], expected)


def test_rgb_is_framed_as_one_image_of_pillows() -> None:
    image = RNG.integers(0, 256, (40, 50, 3), np.uint8)
    framing = Framing(16, crop=0.7, margin=1.2)
    resized = Image.fromarray(image).resize((framing.side,) * 2, Image.Resampling.BICUBIC, box=framing.box(50, 40))
    np.testing.assert_array_equal(framing.frame(image), resized)


def test_a_store_has_the_channels_of_its_images_and_is_another_for_another_decoding(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (3, 20, 20, 5), np.uint8)
    for number, image in enumerate(images):
        np.save(tmp_path / f"{number}.npy", image)
    names = [f"{number}.npy" for number in range(3)]
    store = open_store(tmp_path, names, Framing(20, decoding=Decoding(5)), tmp_path / "cache")
    np.testing.assert_array_equal(store.pixels.numpy(), images)
    other = open_store(tmp_path, names, Framing(20, decoding=Decoding(2, bands=(0, 4))), tmp_path / "cache")
    assert other.name != store.name
    np.testing.assert_array_equal(other.pixels.numpy()[..., 0], images[..., 0])
    assert open_store(tmp_path, names, Framing(20, decoding=Decoding(5)), tmp_path / "cache").name == store.name


def test_images_of_other_channels_are_named_with_what_they_hold_and_the_key(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    fits.writeto(tmp_path / "b.fits", RNG.gamma(1, 9, (4, 20, 20)).astype(np.float32))
    with pytest.raises(DataError, match=r"(?s)a\.png.*channels=5.*b\.fits.*4.*channels=5"):
        open_store(tmp_path, ["a.png", "b.fits"], Framing(16, decoding=Decoding(5)), tmp_path / "cache")


def test_one_reason_is_told_once_whatever_the_number_of_images(tmp_path: Path) -> None:
    names = [f"{number}.npy" for number in range(8)]
    for name in names:
        np.save(tmp_path / name, RNG.integers(0, 256, (20, 20, 5), np.uint8))
    with pytest.raises(DataError, match=r"\(8 of 8\): 0\.npy, .*4\.npy and 3 more: .*channels=4") as raised:
        open_store(tmp_path, names, Framing(16, decoding=Decoding(4)), tmp_path / "cache")
    assert str(raised.value).count("channels=4") == 1
    assert "Fetch" not in str(raised.value)


def test_a_colour_picture_is_grey_where_grey_is_wanted(tmp_path: Path) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (20, 20, 3), np.uint8))
    image.save(tmp_path / "a.png")
    store = open_store(tmp_path, ["a.png"], Framing(20, decoding=Decoding(1)), tmp_path / "cache")
    np.testing.assert_array_equal(store.pixels[0, ..., 0].numpy(), image.convert("L"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 0}, "channels=0: it must be a whole number"),
        ({"channels": None}, "channels=null: it must be"),
        ({"channels": "grey"}, "channels=grey: it must be"),
        ({"channels": 2.5}, "channels=2.5: it must be"),
        ({"channels": 5, "bands": [0, 1]}, r"bands=\[0,1\] are 2, but channels=5. Set channels=2"),
        ({"channels": 2, "bands": ["g", "g"]}, r"bands=\[g,g\]: give each band once"),
        ({"stretch": "log"}, "stretch=log: it must be one of asinh"),
    ],
)
def test_impossible_decodings_are_refused(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_decoding(**given)


def test_one_band_need_not_be_a_list() -> None:
    assert as_decoding(1, bands="F150W").bands == ("F150W",)
    assert as_decoding(1, bands=2).bands == (2,)


@pytest.mark.parametrize("channels", [1, 5])
def test_views_of_each_channel_are_those_of_rgb_that_holds_it(channels: int) -> None:
    pixels = torch.from_numpy(RNG.integers(0, 256, (6, 22, 22, channels), np.uint8))
    matrices = Augment(zoom=1.2, shift=0.1)._draw(6)
    symmetries = torch.arange(6)
    for channel in range(channels):
        rgb = pixels[..., channel, None].expand(-1, -1, -1, 3).contiguous()
        for view in (
            lambda images: plain(images, 16),
            lambda images: dihedral(images, 16, symmetries),
            lambda images: resample(images, 16, matrices),
        ):
            found = view(pixels)
            assert found.shape == (6, channels, 16, 16)
            torch.testing.assert_close(found[:, channel], view(rgb)[:, 0], rtol=0, atol=1e-6)


def test_colours_of_rgb_change_as_they_always_have() -> None:
    pixels = torch.from_numpy(RNG.integers(0, 256, (6, 16, 16, 3), np.uint8))
    torch.manual_seed(3)
    drawn = 1 + torch.tensor([0.2, 0.1, 0.1, 0.1]) * (2 * torch.rand(6, 4) - 1)
    torch.manual_seed(3)
    found = Augment(flip=False, rotate=False, colour=0.2)(pixels, 16)
    torch.testing.assert_close(found, plain(pixels, 16) * (drawn[:, :1] * drawn[:, 1:])[:, :, None, None])


def test_each_band_has_a_gain_of_its_own_and_grey_only_its_brightness() -> None:
    torch.manual_seed(0)
    flat = torch.full((500, 4, 4, 5), 100, dtype=torch.uint8)
    gains = Augment(flip=False, rotate=False, colour=0.2)(flat, 4)[:, :, 0, 0] / (100 / 255)
    ratios = gains / gains.mean(1, keepdim=True)
    assert (ratios.std(0) > 0.02).all()
    assert gains.amax() <= 1.2 * 1.1 + 1e-6
    assert gains.amin() >= 0.8 * 0.9 - 1e-6
    grey = Augment(flip=False, rotate=False, colour=0.2)(flat[..., :1], 4)[:, 0, 0, 0] / (100 / 255)
    assert (grey - 1).abs().max() <= 0.2 + 1e-6


def test_people_see_grey_as_it_is_and_blue_bands_as_blue() -> None:
    cube = np.arange(2 * 2 * 5, dtype=np.uint8).reshape(2, 2, 5)
    np.testing.assert_array_equal(visible(cube), cube[..., [3, 2, 1]])  # of u, g, r, i, z: i, r, g
    np.testing.assert_array_equal(visible(cube[..., :4]), cube[..., [3, 2, 0]])
    np.testing.assert_array_equal(visible(cube[..., :1]), np.repeat(cube[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(visible(cube[..., :3]), cube[..., :3])
    two = np.array([[[10, 30]]], np.uint8)
    np.testing.assert_array_equal(visible(two), [[[30, 20, 10]]])
    assert thumbnails(torch.from_numpy(np.stack([cube, cube]))).shape[1] == 3


@pytest.mark.parametrize(("channels", "numbers"), [(1, 13), (3, 42), (5, 75)])
def test_looks_of_each_channel_are_looked_at(channels: int, numbers: int) -> None:
    images = torch.from_numpy(RNG.integers(0, 128, (4, 20, 20, channels), np.uint8))
    looks = appearance(images)
    assert looks.shape == (4, numbers)
    assert np.isfinite(looks).all()
    brighter = images.clone()
    brighter[..., -1] *= 2
    assert (appearance(brighter) != looks).any(axis=1).all()
