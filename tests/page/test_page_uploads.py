"""What people upload: images of any kind, and what is none."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.page import uploads
from galaxyml.page.uploads import Upload, read_upload
from galaxyml.runs.errors import UserError

Saved = Callable[..., Path]


def pixels(upload: Upload) -> np.ndarray:
    """The image as the only decoding has it."""
    (image,) = upload.images.values()
    return image


@pytest.mark.parametrize(
    ("name", "mode", "note"),
    [
        ("a.png", "RGBA", "transparent"),
        ("a.png", "P", None),
        ("a.png", "L", "no colours"),
        ("a.png", "1", "no colours"),
        ("a.png", "I;16", "256 levels"),
        ("a.tiff", "F", "256 levels"),
        ("a.jpg", "CMYK", "print"),
        ("a.webp", "RGB", None),
        ("a.bmp", "RGB", None),
    ],
)
def test_every_kind_of_image_is_decoded_as_by_predict_and_says_what_was_made_of_it(
    saved: Saved, name: str, mode: str, note: str | None
) -> None:
    path = saved(name, mode)
    found = read_upload(path)
    assert np.array_equal(pixels(found), open_image(path))
    assert pixels(found).shape[2] == 3
    assert note is None or any(note in told for told in found.notes)


def test_bands_are_decoded_as_by_predict_for_each_model(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).gamma(1, 9, (5, 20, 30)).astype(np.float32)
    fits.PrimaryHDU(cube).writeto(tmp_path / "a.fits")
    decodings = [Decoding(5), Decoding(3)]
    found = read_upload(tmp_path / "a.fits", decodings)
    for decoding in decodings:
        np.testing.assert_array_equal(found.images[decoding], open_image(tmp_path / "a.fits", decoding))
    assert found.images[decodings[0]].shape == (20, 30, 5)
    with pytest.raises(UserError, match="channels=4"):
        read_upload(tmp_path / "a.fits", [Decoding(4)])


def test_arrays_are_uploaded_and_never_unpickled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 5), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "a.npy").rename(tmp_path / "a.txt")
    (image,) = read_upload(tmp_path / "a.txt", [Decoding(5)]).images.values()
    np.testing.assert_array_equal(image, values)
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read as npy"):
        read_upload(tmp_path / "b.npy", [Decoding(5)])


@pytest.mark.parametrize(("mode", "note"), [("L", None), ("RGB", "made grey")])
def test_a_run_of_grey_images_takes_grey_without_a_word(saved: Saved, mode: str, note: str | None) -> None:
    found = read_upload(saved("a.png", mode), [Decoding(1)])
    assert pixels(found).shape[2] == 1
    assert len(found.notes) == (note is not None)
    assert note is None or note in found.notes[0]


def test_of_an_animation_the_first_frame_is_looked_at(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (200, 100, 0)]
    for frame in frames:
        frame.putpixel((9, 9), (0, 0, 255))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = read_upload(tmp_path / "a.gif")
    assert abs(pixels(found)[0, 0, 0] - 200.0) < 8
    assert "3 frames" in found.notes[0]


def test_the_content_counts_and_not_the_end_of_the_name(saved: Saved, tmp_path: Path) -> None:
    jpeg = saved("a.jpg")
    for name in ("a.fits", "a.png", "a.txt", "a"):
        assert pixels(read_upload(jpeg.rename(tmp_path / name))).shape == (48, 64, 3)
        jpeg = tmp_path / name
    fits.PrimaryHDU(np.random.default_rng(0).normal(size=(3, 20, 30))).writeto(tmp_path / "b.fits")
    (tmp_path / "b.fits").rename(tmp_path / "b.jpg")
    assert pixels(read_upload(tmp_path / "b.jpg")).shape == (20, 30, 3)
    packed = gzip.compress((tmp_path / "b.jpg").read_bytes())
    (tmp_path / "c.jpg").write_bytes(packed)
    assert pixels(read_upload(tmp_path / "c.jpg")).shape == (20, 30, 3)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size, and has no pixels."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"object_id,mjd\n1,2\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # which Pillow would run
        (b"\x1f\x8bno gzip", "not an image"),
        (b"SIMPLE  = nonsense", "FITS"),
        (png_of(30_000, 30_000), "million pixels"),
        (png_of(9_000, 9_000), "9000 x 9000 pixels; at most 64 million"),
        (png_of(12_000, 9_000), "12000 x 9000 pixels; at most 64 million"),
        (png_of(64, 64), "truncated"),
    ],
)
def test_what_is_no_image_is_refused_with_a_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "mine.png").write_bytes(content)
    with pytest.raises(UserError, match=told) as refusal:
        read_upload(tmp_path / "mine.png")
    assert "mine" in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize("end", [0.5, 0.9, 0.99])
def test_an_image_that_is_cut_off_is_refused(saved: Saved, tmp_path: Path, end: float) -> None:
    whole = saved("a.jpg", size=(400, 400)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: int(end * len(whole))])
    with pytest.raises(UserError, match=r"cut\.jpg"):
        read_upload(tmp_path / "cut.jpg")


def test_a_small_fits_file_that_unpacks_to_a_huge_image_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = fits.PrimaryHDU(np.zeros((2, 2), np.uint8)).header
    header["NAXIS1"], header["NAXIS2"] = 100_000, 100_000
    (tmp_path / "bomb.fits").write_bytes(header.tostring().encode())
    with pytest.raises(UserError, match="million"):
        read_upload(tmp_path / "bomb.fits")


def test_too_many_bytes_are_refused(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved("a.bmp")
    monkeypatch.setattr(uploads, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(UserError, match="MB are allowed"):
        read_upload(path)


def test_an_image_without_pixels_to_speak_of_is_refused(saved: Saved) -> None:
    with pytest.raises(UserError, match="3 x 200 pixels"):
        read_upload(saved("a.png", size=(3, 200)))
