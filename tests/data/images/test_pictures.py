"""Pictures that Pillow reads: turned, of several pages, of 16 bits in colour, and of 8 bits as they are."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from galaxyml.data.images.decode import channels_of, choice, from_image, open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.runs.errors import DataError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GREY = COLOURS[:, :, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_turns_are_applied(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(open_image(tmp_path / name), expected)
    assert expected.shape == ((20, 30, 3) if orientation < 5 else (30, 20, 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_of_8_bits_stay_as_they_are_by_any_stretch(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    picture.save(tmp_path / "a.tif")
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    plain = picture.convert("RGB") if mode == "CMYK" else Image.alpha_composite(black, picture.convert("RGBA"))
    for stretch in ("asinh", "linear", "zscale", "percentile", "none"):
        found = open_image(tmp_path / "a.tif", Decoding(3, stretch, hdu="SCI", bands=("g",)))
        np.testing.assert_array_equal(found, np.asarray(plain.convert("RGB")))
        grey = open_image(tmp_path / "a.tif", Decoding(1, stretch))
        np.testing.assert_array_equal(grey[:, :, 0], np.asarray(plain.convert("RGB").convert("L")))
    assert channels_of(tmp_path / "a.tif") == (1 if mode in ("1", "L", "LA") else 3)
    np.testing.assert_array_equal(from_image(picture), np.asarray(plain.convert("RGB")))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_grey_pages_of_a_tiff_are_bands(tmp_path: Path, kind: type) -> None:
    pages: np.ndarray = RNG.integers(0, 256, (5, 20, 30)).astype(kind)
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    np.save(
        tmp_path / "a.npy", pages if kind == np.uint8 else pages.astype(np.float64) if kind == np.float32 else pages
    )
    decoding = Decoding(5, "none" if kind != np.uint16 else "linear")
    found = open_image(tmp_path / "a.tif", decoding)
    if kind != np.uint16:
        upright = found
        np.testing.assert_array_equal(upright, pages.transpose(1, 2, 0))
    assert found.shape == (20, 30, 5)
    assert channels_of(tmp_path / "a.tif") == 5
    two = open_image(tmp_path / "a.tif", Decoding(2, decoding.stretch, bands=(3, 0)))
    assert two.shape == (20, 30, 2)
    assert "bands 0, 2, 4 of its 5 become blue, green and red" in choice(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_a_film_the_first_frame_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.linear_gradient("L").resize((20, 16)).rotate(90 * turn).convert("RGB") for turn in range(3)]
    lossless: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    found = open_image(tmp_path / f"a.{suffix}")
    assert np.abs(found.astype(int) - np.asarray(frames[0])).max() <= (8 if suffix == "gif" else 0)  # a palette


def test_pages_of_other_sizes_or_colours_are_no_bands(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(GREY[:9])])
    Image.fromarray(COLOURS).save(tmp_path / "b.tif", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", Decoding(1))[:, :, 0], GREY)
    np.testing.assert_array_equal(open_image(tmp_path / "b.tif"), COLOURS)
    assert (channels_of(tmp_path / "a.tif"), channels_of(tmp_path / "b.tif")) == (1, 3)


def write_png16(path: Path, values: np.ndarray) -> None:
    """Writes colours of 16 bits, which Pillow cannot."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def write_tiff16(path: Path, values: np.ndarray, order: str, is_packed: bool) -> None:
    """Writes colours of 16 bits, in one strip."""
    height, width = values.shape[:2]
    strip = values.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if is_packed else strip
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 8 if is_packed else 1), (262, 3, 1, 2),
        (273, 4, 1, 14), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(strip)), (284, 3, 1, 1),
    ]  # fmt: skip
    strip = struct.pack(f"{order}3H", 16, 16, 16) + strip
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(strip) + len(strip) % 2)
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value))
        for tag, kind, count, value in tags
    )
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    path.write_bytes(header + strip + bytes(len(strip) % 2) + directory)


@pytest.mark.parametrize("kind", ["png", "<", ">", "< packed", "> packed"])
def test_counts_of_16_bits_in_colour_are_not_cut_to_their_upper_8(tmp_path: Path, kind: str) -> None:
    counts = RNG.integers(90, 111, (20, 30, 3)).astype(np.uint16)
    counts[8:12, 10:15] = (300, 500, 900)
    counts[0, 0] = (12_345, 255, 256)
    path = tmp_path / "a"

    def write(values: np.ndarray) -> None:
        if kind == "png":
            write_png16(path, values)
        else:
            write_tiff16(path, values, kind[0], "packed" in kind)

    write(counts)
    np.save(tmp_path / "bands.npy", counts[:, :, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(open_image(path), open_image(tmp_path / "bands.npy"))
    assert "they are counts" in choice(path)
    levels = COLOURS.astype(np.uint16) * 257
    write(levels)
    np.testing.assert_array_equal(open_image(path), COLOURS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_pictures_that_are_cut_off_are_named(tmp_path: Path, kind: str, share: float) -> None:
    Image.fromarray(RNG.integers(0, 256, (200, 200, 3), np.uint8)).save(tmp_path / "whole", kind)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"^cut\.png"):
        open_image(tmp_path / "cut.png")
