import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from galaxyml.data.images.decode import address, channels_of, choice, file_of, from_array, open_image, read_rows
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.store import Framing, open_store
from galaxyml.runs.errors import DataError

RNG = np.random.default_rng(0)


def written(path: Path, pixels: np.ndarray, chunks: tuple[int, ...] | None) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=pixels, chunks=chunks)
    return path


@pytest.mark.parametrize("chunks", [None, (1, 8, 8, 1), (7, 4, 4, 1), (64, 8, 8, 3)])
def test_rows_are_those_of_the_file_whatever_its_chunks(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    pixels = RNG.integers(0, 256, (90, 8, 8, 3), np.uint8)
    path = written(tmp_path / "a.h5", pixels, chunks)
    asked = [3, 4, 5, 60, 61, 2, 89]
    for row, image in zip(asked, read_rows(path, asked), strict=True):
        np.testing.assert_array_equal(np.asarray(image), pixels[row])


def test_a_store_of_rows_holds_the_framed_images(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (30, 16, 16, 3), np.uint8)
    written(tmp_path / "a.h5", pixels, (7, 4, 4, 1))
    Image.fromarray(pixels[5]).save(tmp_path / "five.png")
    framing = Framing(8, crop=0.5, margin=1.5)
    names = [address("a.h5", row) for row in (5, 7, 29)] + ["five.png", address("a.h5", 5)]
    store = open_store(tmp_path, names, framing, tmp_path / "cache")
    for row, number in enumerate((5, 7, 29, 5, 5)):
        np.testing.assert_array_equal(store.pixels[row].numpy(), framing.frame(pixels[number]))
    assert store.digests[0] == store.digests[3] == store.digests[4]


def test_addresses_name_their_file() -> None:
    assert file_of(address("x/y.hdf5", 12)) == "x/y.hdf5"
    assert file_of("a#1.jpg") == "a#1.jpg"
    assert file_of("plain.png") == "plain.png"


def test_a_truncated_file_of_rows_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", RNG.integers(0, 256, (50, 16, 16, 3), np.uint8), (5, 16, 16, 3))
    path.write_bytes(path.read_bytes()[:9000])
    found = list(read_rows(path, [0, 49]))
    assert len(found) == 2
    assert all("a.h5 cannot be read (" in str(reason) and "fetch it again" in str(reason) for reason in found)
    with pytest.raises(DataError, match=r"a\.h5 cannot be read"):
        open_image(tmp_path / "a.h5#0")


def test_a_row_that_is_not_there_spoils_no_others(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (20, 8, 8, 3), np.uint8)
    path = written(tmp_path / "a.h5", pixels, (7, 8, 8, 3))
    first, second, third = read_rows(path, [3, 99, 4])
    assert second == "a.h5#99: the file has 20 images, from #0 on"
    for row, found in ((3, first), (4, third)):
        np.testing.assert_array_equal(np.asarray(found), pixels[row])
    assert list(read_rows(tmp_path / "gone.h5", [1, 2])) == ["gone.h5 is not there"] * 2


GREY = RNG.integers(0, 256, (12, 10), np.uint8)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
        suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
        # Before 13, Pillow cannot read a TIFF of YCbCr that is not packed.
        packed = {"compression": "tiff_deflate"} if suffix == "tif" else {}
        Image.fromarray(GREY).convert("RGB").convert(mode).save(tmp_path / f"{mode}.{suffix}", **packed)
        found = open_image(tmp_path / f"{mode}.{suffix}")
        assert (found.dtype, found.shape) == (np.uint8, (12, 10, 3))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "deep.png")), np.stack([GREY] * 3, axis=-1))


def test_transparent_parts_are_black(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[:2, :, 3], pixels[2:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    found = np.asarray(open_image(tmp_path / "half.png"))
    assert (found[:2] == 0).all()
    assert (found[2:] == 200).all()


def blob(bands: int) -> np.ndarray:
    """A galaxy over noise, brightest in the last band, right of the middle and low (small y)."""
    y, x = np.mgrid[:64, :64]
    light = 800 * np.exp(-np.hypot(x - 44, y - 20) / 4)
    return np.stack([light * (1 + band) + RNG.normal(100, 2.0, (64, 64)) for band in range(bands)])


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_fits_bands_become_an_image(tmp_path: Path, bands: int) -> None:
    values = blob(bands).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", values if bands > 1 else values[0])
    found = np.asarray(open_image(tmp_path / "a.fits")).astype(int)
    assert found.shape == (64, 64, 3)
    row, column = (axis.mean() for axis in np.nonzero(found.sum(2) > 0.8 * found.sum(2).max()))
    assert abs(63 - row - 20) <= 1  # the first row of FITS is the lowest
    assert abs(column - 44) <= 1
    sky = np.median(found, axis=(0, 1))
    assert (sky < 25).all()
    at = found[43, 44]
    assert at[0] == at[1] == at[2] if bands == 1 else at[0] > at[2]  # red is the last band


def test_the_stretch_is_free_of_units() -> None:
    values = blob(3)
    one, other = (from_array(scale * values + offset).astype(int) for scale, offset in ((1, 0), (1e-9, 5e-7)))
    assert np.abs(one - other).max() <= 1


def test_gaps_in_fits_are_sky(tmp_path: Path) -> None:
    values = blob(1)[0]
    values[:10] = np.nan
    fits.writeto(tmp_path / "a.fits", values)
    found = np.asarray(open_image(tmp_path / "a.fits"))
    assert (found[-10:] <= 1).all()  # the sky's own level, which the stretch begins at


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"<html>", r"a\.png is not an image: it is a web page or XML"),
        ("a.fits", b"object,ra,dec", r"a\.fits is not an image: it begins with 'object,ra,dec'"),
        ("a.fits", b"SIMPLE  = nonsense", r"a\.fits: "),
        ("a.jpg", b"PK\3\4....", "a ZIP archive"),
        ("a.gz", gzip.compress(b"1 2 3", mtime=0), "it begins with '1 2 3'"),
        ("a.gz", b"\x1f\x8bno gzip", r"a\.gz: "),
        ("a.npy", b"\x93NUMPY\1\0 is none", r"a\.npy: "),
        ("a.tif", b"", r"a\.tif is not an image: it is empty"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_image(tmp_path / name)


def test_fits_without_an_image_is_named(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))])
    table.writeto(tmp_path / "table.fits")
    with pytest.raises(DataError, match=r"table\.fits: it has no image"):
        open_image(tmp_path / "table.fits")
    fits.writeto(tmp_path / "cube.fits", RNG.normal(size=(2, 2, 4, 4)))
    with pytest.raises(DataError, match=r"cube\.fits: its image has the shape \(2, 2, 4, 4\)"):
        open_image(tmp_path / "cube.fits")
    fits.writeto(tmp_path / "last.fits", RNG.normal(size=(40, 40, 3)))
    with pytest.raises(DataError, match=r"last\.fits: its image has the shape \(40, 40, 3\); .* at most 16 bands"):
        open_image(tmp_path / "last.fits")


@pytest.mark.parametrize("change", [b"BITPIX  =                   77", b"NAXIX2  =                   40"])
def test_fits_with_a_broken_header_is_named(tmp_path: Path, change: bytes) -> None:
    fits.writeto(tmp_path / "a.fits", np.zeros((40, 40), np.float32))
    content = (tmp_path / "a.fits").read_bytes()
    key = b"BITPIX" if change.startswith(b"BITPIX") else b"NAXIS2"
    at = content.index(key)
    (tmp_path / "a.fits").write_bytes(content[:at] + change + content[at + 30 :])
    with pytest.raises(DataError, match=r"a\.fits: "):
        open_image(tmp_path / "a.fits")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg is not there"):
        open_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((9, 8), 7.5), r"a\.npy: all its pixels have one value \(7\.5\)"),
        (np.full((9, 8), 7, np.uint8), r"one value \(7, 7, 7\)"),
        (np.full((9, 8, 3), 7, np.uint8), r"one value \(7, 7, 7\)"),
        (np.full((9, 8), 9, np.int16), r"one value"),
        (np.full((9, 8), 60_000, np.uint16), r"one value \(60000\)"),
        (np.full((9, 8), np.nan), "nothing but blanks"),
        (np.where(np.arange(72).reshape(9, 8) < 30, np.nan, 3.0), r"one value \(3\)"),
    ],
)
def test_a_picture_of_one_value_is_named(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=message):
        open_image(tmp_path / "a.npy")


def test_arrays_of_bands_first_or_last_are_alike(tmp_path: Path) -> None:
    for count in (2, 5, 7):
        values = RNG.normal(size=(count, 30, 40)).astype(np.float32)
        np.save(tmp_path / "first.npy", values)
        np.save(tmp_path / "last.npy", values.transpose(1, 2, 0))
        fits.writeto(tmp_path / "cube.fits", values, overwrite=True)
        for decoding in (Decoding(), Decoding(1), Decoding(count), Decoding(2, bands=(1, 0)), Decoding(bands=("1",))):
            expected = open_image(tmp_path / "cube.fits", decoding)
            assert expected.shape == (30, 40, decoding.channels)
            for name in ("first.npy", "last.npy"):
                np.testing.assert_array_equal(open_image(tmp_path / name, decoding), expected)
                assert channels_of(tmp_path / name, decoding) == len(decoding.bands or range(count))


def test_colours_in_arrays_may_be_first_or_last(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (30, 40, 3), np.uint8)
    for values in (colours, colours / 255, colours.astype(np.float32) / 255):
        for name, form in (("last.npy", values), ("first.npy", values.transpose(2, 0, 1))):
            np.save(tmp_path / name, form)
            np.testing.assert_array_equal(open_image(tmp_path / name), colours)
            assert channels_of(tmp_path / name) == 3


def test_another_number_of_bands_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RNG.normal(size=(5, 30, 40)))
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "rgb.png")
    with pytest.raises(
        DataError, match=r"a\.npy: it has 5 bands: 0, 1, 2, 3, 4\. .*channels=4.*bands=\[…\].*channels=5"
    ):
        open_image(tmp_path / "a.npy", Decoding(4))
    with pytest.raises(DataError, match=r"grey\.png: it is a picture of grey alone; channels=5 takes"):
        open_image(tmp_path / "grey.png", Decoding(5))
    with pytest.raises(DataError, match=r"rgb\.png: it is a picture of red, green and blue; channels=5 takes"):
        open_image(tmp_path / "rgb.png", Decoding(5))
    for band in (5, "g", -1):
        with pytest.raises(DataError, match=rf"bands={band}: there is no such band; it has 5, by number from 0"):
            open_image(tmp_path / "a.npy", Decoding(1, bands=(band,)))


def test_grey_stays_grey_in_one_channel_and_in_three(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    fits.writeto(tmp_path / "grey.fits", blob(1)[0].astype(np.float32))
    for name in ("grey.png", "grey.fits"):
        three = open_image(tmp_path / name)
        assert channels_of(tmp_path / name) == 1
        for channel in range(3):
            np.testing.assert_array_equal(open_image(tmp_path / name, Decoding(1))[:, :, 0], three[:, :, channel])
    np.testing.assert_array_equal(open_image(tmp_path / "grey.png", Decoding(1))[:, :, 0], GREY)


def test_rows_may_be_grey_or_hold_bands(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = RNG.normal(size=(4, 20, 30, 5))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["images"] = pixels = RNG.integers(0, 256, (4, 20, 30), np.uint8)
    (found,) = read_rows(tmp_path / "a.h5", [2], Decoding(5))
    assert np.asarray(found).shape == (20, 30, 5)
    assert channels_of(tmp_path / "a.h5#2") == 5
    np.testing.assert_array_equal(open_image(tmp_path / "b.h5#3", Decoding(1))[:, :, 0], pixels[3])


def test_what_was_chosen_is_said_where_there_was_a_choice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RNG.normal(size=(5, 30, 40)))
    np.save(tmp_path / "b.npy", RNG.normal(size=(30, 40)))
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    assert choice(tmp_path / "a.npy").startswith("a.npy: bands 0, 2, 4 of its 5 become blue, green and red.")
    assert choice(tmp_path / "a.npy", Decoding(1)).startswith("a.npy: the mean of its 5 bands becomes grey.")
    assert not choice(tmp_path / "a.npy", Decoding(5))
    assert not choice(tmp_path / "b.npy")
    assert not choice(tmp_path / "grey.png")


@pytest.mark.parametrize("place", [None, (3, 4), (8, 6)])
def test_a_picture_of_one_value_alone_is_refused_wherever_it_differs(
    tmp_path: Path, place: tuple[int, int] | None
) -> None:
    image = Image.new("RGB", (12, 9), (7, 8, 9))
    if place is not None:
        image.putpixel(place, (7, 8, 10))  # its corner and its centre are the same
    image.save(tmp_path / "a.png")
    if place is None:
        with pytest.raises(DataError, match=r"a\.png: all its pixels have one value \(7, 8, 9\)"):
            open_image(tmp_path / "a.png")
    else:
        assert open_image(tmp_path / "a.png")[place[1], place[0]].tolist() == [7, 8, 10]
