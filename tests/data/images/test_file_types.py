"""A file is what its first bytes say, whatever its name."""

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.file_types import file_type
from galaxyml.runs.errors import DataError

RNG = np.random.default_rng(0)
NAMES = (
    "cutout.fits?ra=190.1&dec=1.2",
    "J190+12",
    "a.ftz",
    "a.img",
    "a.jpg",
    "a.png",
    "a.npy",
    "a.fits.gz",
    "a#7.x",
    "a",
)


def write_fits(path: Path) -> None:
    fits.PrimaryHDU(RNG.normal(size=(20, 30)).astype(np.float32)).writeto(path)


def write_compressed_fits(path: Path) -> None:
    image = fits.CompImageHDU(RNG.integers(0, 500, (40, 30)).astype(np.int16), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)


def write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, RNG.normal(size=(20, 30)))


def writer(kind: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8)).save(path, kind)


WRITERS: dict[str, Callable[[Path], None]] = {
    "FITS": write_fits,
    "FITS, compressed by tiles": write_compressed_fits,
    "npy": write_npy,
    **{kind: writer(kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")},
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_decodes_alike_under_any_name_packed_or_not(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](plain := tmp_path / "plain")
    expected = open_image(plain)
    content = plain.read_bytes()
    for name in NAMES:
        for pack in (bytes, gzip.compress, bz2.compress, lzma.compress):
            (tmp_path / name).write_bytes(pack(content))
            np.testing.assert_array_equal(open_image(tmp_path / name), expected)
            assert file_type(tmp_path / name) == kind.partition(",")[0]


def test_the_picture_librarys_own_reader_of_fits_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fits(tmp_path / "a.jpg")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", refuse)
    assert open_image(tmp_path / "a.jpg").shape == (20, 30, 3)


def test_what_holds_many_images_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros((2, 4, 4, 3), np.uint8)
    shutil.copy(tmp_path / "a.h5", tmp_path / "cube")
    assert file_type(tmp_path / "cube") == "HDF5"
    with pytest.raises(DataError, match=r"cube: it holds many images \(HDF5\): let its name end in \.h5"):
        open_image(tmp_path / "cube")


def test_what_is_no_image_has_no_type(tmp_path: Path) -> None:
    for content in (
        b"",
        b"B",
        b"BM, the letters of a text",
        b"RIFF....WAVE",
        b"\x1f\x8bno gzip",
        b"\x1f\x8b\x08" + bytes(7) + b"no gzip",
        b"BZh no bzip2",
        b"II no",
    ):
        (tmp_path / "a.fits").write_bytes(content)
        assert file_type(tmp_path / "a.fits") is None
        with pytest.raises(DataError, match=r"^a\.fits"):
            open_image(tmp_path / "a.fits")
    assert file_type(tmp_path / "gone.fits") is None
    assert file_type(tmp_path) is None
