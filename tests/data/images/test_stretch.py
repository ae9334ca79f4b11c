"""Brightness as pixels: what is sky, what is blank, and each stretch against astropy's own."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import (
    AsymmetricPercentileInterval,
    ImageNormalize,
    MinMaxInterval,
    ZScaleInterval,
    make_lupton_rgb,
)
from PIL import Image

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.stretch import SOFTENING, STRETCH, Bands, blanks, pixels, sky_and_noise
from galaxyml.runs.errors import DataError

SIDE = 64
GREY = Decoding(1)


def galaxy(seed: int = 0, peak: float = 200.0, noise: float = 1.0, sky: float = 20.0) -> np.ndarray:
    """An exponential disk on a sky, shape (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    light = peak * np.exp(-np.hypot(x, 2 * y) / 8)
    return light + sky + np.random.default_rng(seed).normal(0, noise, (SIDE, SIDE))


def shown(values: np.ndarray, decoding: Decoding = GREY, step: float = 0.0) -> np.ndarray:
    """Brightness as pixels, as integers that can be subtracted."""
    return pixels(Bands(np.atleast_3d(values.T).T, step=step), decoding).astype(int)


# --- blanks

PARTS: dict[str, Any] = {
    "a border": np.s_[:20],
    "most of it": np.s_[:40],
    "one column": np.s_[:, :1],
    "a corner": np.s_[-30:, -40:],
}


@pytest.mark.parametrize("sky", [20.0, 0.0, 4000.0])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [0.0, -9999.0, -99.0, -999.0, np.inf, -1e30, 1e30, 3.4e38, -32768.0, -32000.0])
def test_blanks_are_as_nan_whatever_they_are_written_as(value: float, part: str, sky: float) -> None:
    picture, marked = galaxy(sky=sky), galaxy(sky=sky)
    picture[PARTS[part]] = np.nan
    marked[PARTS[part]] = value
    np.testing.assert_array_equal(blanks(marked), np.isnan(picture))
    np.testing.assert_array_equal(shown(marked), shown(picture))
    assert (shown(marked)[::-1][PARTS[part]] == 0).all()  # as the sky is, which the stretch begins at


def test_several_kinds_of_blanks_in_one_picture_are_found() -> None:
    picture = galaxy()
    picture[:10], picture[10:15, 5:], picture[-3:], picture[:, :5] = -9999, -999, 0, np.nan
    expected = ~np.isfinite(picture) | (picture <= 0)
    np.testing.assert_array_equal(blanks(picture), expected)


@pytest.mark.parametrize("share", [0.4, 0.55])
def test_what_is_left_beside_blanks_looks_as_in_the_whole_picture(share: float) -> None:
    rows = int(share * SIDE)
    for value in (np.nan, -9999.0, 0.0):
        picture = galaxy(noise=2.0)
        whole = shown(picture)[: SIDE - rows]
        picture[:rows] = value
        assert np.abs(shown(picture)[: SIDE - rows] - whole).mean() < 6


def poisson(mean: float) -> np.ndarray:
    return np.random.default_rng(0).poisson(mean, (SIDE, SIDE)).astype(float)


NOISELESS = galaxy(noise=0, sky=0)
UNBLANK = {
    "few photons": poisson(0.01),
    "some photons": poisson(0.1),
    "more photons": poisson(0.7),
    "a galaxy without noise or sky": np.where(NOISELESS > 2, NOISELESS, 0),
    "a galaxy without noise": NOISELESS,
    "negative sky": galaxy() - 60,
    "sky about zero": galaxy(sky=0),
    "clipped at zero": galaxy(sky=0).clip(0),
    "whole numbers about zero": galaxy(sky=0).round(),
    "two values": (galaxy() > 60).astype(float),
    "faint": galaxy() * 1e-30,
    "bright": galaxy() * 1e28,
    "one low pixel": np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) == 7, -400, galaxy()),
}


@pytest.mark.parametrize("name", UNBLANK)
def test_values_that_are_data_are_no_blanks(name: str) -> None:
    assert blanks(UNBLANK[name]).mean() < 0.02


def test_blanks_of_whole_numbers_are_those_of_the_header(tmp_path: Path) -> None:
    counts = galaxy(noise=20.0, peak=900.0, sky=100.0).round().astype(np.int16)
    fits.PrimaryHDU(np.where(np.indices(counts.shape)[0] < 30, np.nan, counts)).writeto(tmp_path / "nan.fits")
    unit = fits.PrimaryHDU(np.where(np.indices(counts.shape)[0] < 30, -500, counts).astype(np.int16))
    unit.header["BLANK"] = -500
    unit.writeto(tmp_path / "blank.fits")
    found, expected = (open_image(tmp_path / f"{name}.fits").astype(int) for name in ("blank", "nan"))
    assert np.abs(found - expected).max() <= 1


# --- noise


@pytest.mark.parametrize("noise", [0.5, 0.8, 1.0, 2.0, 5.0, 30.0])
def test_noise_is_the_same_in_whole_numbers_and_in_floats(noise: float) -> None:
    for seed, sky in product(range(3), (100.0, 100.3, 99.5)):
        values = galaxy(seed, peak=0, noise=noise, sky=sky).ravel()
        exact, rounded = sky_and_noise(values), sky_and_noise(values.round(), 1.0)
        assert rounded[1] == pytest.approx(exact[1], rel=0.05)
        assert rounded[0] == pytest.approx(exact[0], abs=0.05 * noise + 0.02)


def test_noise_that_rounding_hides_is_that_of_rounding() -> None:
    for sky in (100.0, 100.3, 99.5):
        for noise in (0.01, 0.1, 0.3):
            values = galaxy(peak=0, noise=noise, sky=sky).round().ravel()
            assert 0.9 / 12**0.5 < sky_and_noise(values, 1.0)[1] < 0.6 or np.ptp(values) == 0
    assert sky_and_noise(np.full(9, 3.0), 0.0) == (3.0, 1.0)


# --- counts


def test_counts_far_below_the_largest_of_their_type_look_as_floats_do(tmp_path: Path) -> None:
    picture = galaxy(peak=1000, noise=2.0, sky=100)
    Image.fromarray(picture.astype(np.float32)).save(tmp_path / "float32.tif")
    Image.fromarray(picture.round().astype(np.uint16)).save(tmp_path / "counts16.tif")
    Image.fromarray(picture.round().astype(np.uint16)).save(tmp_path / "counts16.png")
    Image.fromarray(picture.round().astype(np.int32)).save(tmp_path / "counts32.tif")
    np.save(tmp_path / "counts16.npy", picture.round().astype(np.uint16))
    np.save(tmp_path / "counts32.npy", picture.round().astype(np.uint32))
    for kind in (">i2", ">i4", "<i8", "u2", "u4"):
        fits.PrimaryHDU(picture.round().astype(kind)).writeto(tmp_path / f"counts_{kind.strip('<>')}.fits")
    expected = open_image(tmp_path / "float32.tif").astype(int)
    for path in tmp_path.glob("counts*"):
        found = open_image(path).astype(int)
        assert abs(found.mean() - expected.mean()) < 1, path
        assert np.abs(found - expected).max() < 6, path  # half a count is a quarter of the noise


def test_levels_that_fill_their_type_stay_levels(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    levels[3, 4] = 140
    levels[levels > 140] = 9
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "a.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", levels.astype(np.uint16) * 257)
    np.save(tmp_path / "b.npy", levels.astype(np.uint32) * 16843009)
    for name in ("a.png", "a.tif", "a.npy", "b.npy"):
        np.testing.assert_array_equal(open_image(tmp_path / name, GREY)[:, :, 0], levels)


# --- stretches


def test_the_default_stretch_is_astropys_asinh_of_the_noise() -> None:
    picture = galaxy()
    sky = np.median(picture)
    units = (picture - sky) / (1.4826 * np.median(np.abs(picture - sky)))
    expected = make_lupton_rgb(units, units, units, minimum=0.0, stretch=STRETCH, Q=SOFTENING)[::-1]
    np.testing.assert_array_equal(shown(picture, Decoding()), expected)
    np.testing.assert_array_equal(shown(picture), expected[:, :, :1])
    both = shown(np.stack([picture, picture]), Decoding(2))
    assert np.abs(both - expected[:, :, :2].astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("stretch", "interval"),
    [
        ("linear", MinMaxInterval()),
        ("zscale", ZScaleInterval()),
        ("percentile", AsymmetricPercentileInterval(0.5, 99.5)),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_other_stretches_are_astropys(stretch: str, interval: Any, scale: float) -> None:
    picture = galaxy() * scale
    expected = (np.asarray(ImageNormalize(picture, interval=interval, clip=True)(picture)) * 255)[::-1]
    found = shown(picture, Decoding(1, stretch))[:, :, 0]
    assert np.abs(found - expected).max() <= 1.01
    assert np.abs(shown(picture, Decoding(3, stretch))[:, :, 1] - found).max() <= 1
    with_blanks = picture.copy()
    with_blanks[:2] = np.nan
    expected = (np.asarray(ImageNormalize(picture[2:], interval=interval, clip=True)(picture[2:])) * 255)[::-1]
    if stretch != "zscale":  # which takes a sample
        assert np.abs(shown(with_blanks, Decoding(1, stretch))[:-2, :, 0] - expected).max() <= 1.01


def test_without_a_stretch_values_are_levels() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 30))
    none = Decoding(1, "none")
    for values in (levels, levels / 255, levels.astype(float), levels.astype(np.uint16) * 257, levels.astype(np.int16)):
        np.testing.assert_array_equal(pixels(Bands(values[None]), none)[:, :, 0], levels)
    for values in (levels - 1.0, levels * 2.0, levels.astype(np.int16) * 3):
        with pytest.raises(DataError, match="stretch=none takes them as they are: in"):
            pixels(Bands(values[None]), none)


def test_bands_share_one_scale_so_that_colours_are_kept() -> None:
    picture = galaxy(peak=300, sky=0)
    factors = (1.0, 2.0, 3.0, 4.0, 5.0)
    bands = np.stack([factor * picture + 50 for factor in factors])  # equal in units of each one's noise
    for stretch in ("asinh", "linear", "zscale", "percentile"):
        found = shown(bands, Decoding(5, stretch))
        assert found.shape == (SIDE, SIDE, 5)
        assert np.ptp(found, axis=2).max() <= 1
    noises = [galaxy(seed, peak=100.0 * (1 + seed)) for seed in range(5)]
    found = shown(np.stack(noises), Decoding(5))
    centre = found[SIDE // 2, SIDE // 2]
    assert (np.diff(centre) > 0).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-40, 1e40, 1e200, 1e300])
def test_extreme_units_change_nothing(scale: float) -> None:
    for count in (1, 3, 5):
        bands = np.stack([galaxy(seed) for seed in range(count)])
        np.testing.assert_allclose(shown(bands * scale, Decoding(count)), shown(bands, Decoding(count)), atol=1)
