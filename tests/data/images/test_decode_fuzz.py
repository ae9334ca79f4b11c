"""Files of all kinds by chance: a picture that is right, or a sentence that names the file; never a traceback."""

import bz2
import gzip
import io
import lzma
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.visualization import make_lupton_rgb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from galaxyml.data.images.decode import channels_of, choice, open_image
from galaxyml.data.images.decoding import STRETCHES, Decoding
from galaxyml.data.images.stretch import SOFTENING, STRETCH
from galaxyml.runs.errors import DataError

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
NAMES = ("a.fits", "a.fit.gz", "a.jpg", "J190+12", "a.img", "cutout.fits?ra=1&dec=2", "a.fz", "a")


@dataclass
class Case:
    """A FITS file: its content, the number of the HDU that holds the image, where that is blank, and its noise."""

    content: bytes
    number: int
    blank: np.ndarray
    exact: np.ndarray


@st.composite
def files(draw: Any) -> Case:
    """A galaxy in units, types, HDUs and a compression by chance."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(32, 60)), draw(st.integers(32, 60))
    y, x = np.indices((height, width)) - np.array([[[height / 2]], [[width / 2]]])
    light = draw(st.floats(30, 3000)) * np.exp(-np.hypot(x, y * draw(st.floats(1, 2))) / draw(st.floats(1, 3)))
    units = light + rng.normal(0, 1, light.shape)  # of the noise, above the sky

    kind = draw(st.sampled_from(["f4", "f8", "u1", "i2", "u2", "i4", "u4", "i8", "scaled i2", "scaled i4"]))
    noise = 10.0 ** draw(st.integers(-12, 12)) if kind[0] == "f" else draw(st.floats(0.6, 3 if kind == "u1" else 30))
    sky = noise * draw(st.floats(-30, 30) if kind[0] == "f" else st.floats(6, 30))
    limit = np.iinfo(kind.split()[-1]).max if kind[0] in "uis" else np.inf
    exact = np.minimum(units * noise + sky, 0.9 * limit if kind[0] != "f" else np.inf)

    blank = np.zeros(exact.shape, bool)
    written_as = draw(st.sampled_from(["none", "none", "nan", "header", "-9999", "zero"]))
    if written_as != "none":
        blank[: draw(st.integers(1, int(0.55 * height)))] = True
    header = fits.Header()
    for card in draw(st.lists(st.sampled_from([("BUNIT", "nanomaggy"), ("OBJECT", "M 51"), ("EQUINOX", "J2000")]))):
        header.append(card)
    if kind[0] == "f":
        values = exact.astype(kind)
        values[blank] = {"nan": np.nan, "header": np.nan, "-9999": -9999 * noise, "zero": 0}.get(written_as, 0)
    else:
        values = exact.round().astype(kind.split()[-1])
        signed = values.dtype.kind == "i"
        if written_as in ("nan", "header"):
            header["BLANK"] = -77 if signed else 0
            values[blank] = header["BLANK"]
            if not signed:
                del header["BLANK"]
        elif written_as == "-9999":
            values[blank] = -9999 if signed else 0
        elif written_as == "zero":
            values[blank] = 0
    axes = draw(st.sampled_from([(), (1,), (1, 1)]))
    values = values.reshape(*axes, *values.shape)
    by_tiles = not axes and kind not in ("i8",) and kind[0] != "s" and "BLANK" not in header and draw(st.booleans())
    if by_tiles and kind[0] == "f":
        image: Any = fits.CompImageHDU(values, header, compression_type="GZIP_2", quantize_level=0)
    elif by_tiles:
        image = fits.CompImageHDU(values, header, compression_type=draw(st.sampled_from(["RICE_1", "GZIP_1"])))
    else:
        image = fits.ImageHDU(values, header)
    if kind[0] == "s":
        scale = 10.0 ** draw(st.integers(-9, 9))
        image.header["BSCALE"] = scale
        exact = exact * scale

    others = [
        fits.ImageHDU(rng.integers(0, 4, exact.shape).astype(np.int32), name=name)
        for name in draw(
            st.lists(st.sampled_from(["WHT", "DQ", "ERR", "MASK", "VAR_RNOISE", "IVAR", "CTX"]), max_size=3)
        )
    ]
    others += [fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(2))], name="HDRTAB")] * draw(
        st.integers(0, 1)
    )
    image.name = draw(st.sampled_from(["SCI", "IMAGE", "SCIENCE", "COADD", "GALAXY"])) if others else "SCI"
    place = draw(st.integers(0, len(others)))
    if not by_tiles and kind[0] != "s" and draw(st.booleans()):
        units_ = [fits.PrimaryHDU(values, header), *others]
        number = 0
    else:
        units_ = [fits.PrimaryHDU(), *others[:place], image, *others[place:]]
        number = place + 1
    file = io.BytesIO()
    fits.HDUList(units_).writeto(file, output_verify="silentfix")
    return Case(file.getvalue(), number, blank, exact)


def reference(case: Case) -> np.ndarray:
    """What astropy reads of a file, by its own stretch of what is above the sky in units of the exact noise."""
    with fits.open(io.BytesIO(case.content)) as units:
        values = np.squeeze(np.asarray(units[case.number].data)).astype(float)
    seen = case.exact[~case.blank]
    sky = np.median(seen)
    noise = 1.4826 * np.median(np.abs(seen - sky))
    above = np.where(case.blank, 0.0, (values - sky) / noise)
    with np.errstate(invalid="ignore", divide="ignore"):
        return make_lupton_rgb(above, above, above, minimum=0.0, stretch=STRETCH, Q=SOFTENING)[::-1]


def check(case: Case, packing: str, name: str) -> None:
    """The picture of a file is that of the reference, within what rounding changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(PACK[packing](case.content))
        found = open_image(path).astype(int)
        assert channels_of(path) == 1
        grey = open_image(path, Decoding(1))
        assert np.ptp(open_image(path, Decoding(3, STRETCHES[1 + case.number % 3]))) > 100
    np.testing.assert_array_equal(grey[:, :, 0], found[:, :, 0])
    expected = reference(case)
    assert found.shape == expected.shape
    difference = np.abs(found - expected)
    assert np.quantile(difference, 0.9) <= 5
    assert difference.max() <= 10
    assert (found[::-1][case.blank] == 0).all()


@SETTINGS
@given(files(), st.sampled_from(sorted(PACK)), st.sampled_from(NAMES))
def test_a_fits_file_is_what_astropy_reads(case: Case, packing: str, name: str) -> None:
    check(case, packing, name)


@st.composite
def contents(draw: Any) -> bytes:
    """The content of an image file of any kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["FITS", "npy", "JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=300))
    if kind == "FITS":
        return draw(files()).content
    file = io.BytesIO()
    shape = tuple(draw(st.lists(st.integers(0, 20), min_size=0, max_size=4)))
    dtype = draw(
        st.sampled_from(["u1", "<u2", ">u2", ">i2", "<i4", ">u4", "<i8", "<f2", ">f4", "<f8", "?", "<c8", "S3"])
    )
    if kind == "npy":
        values = rng.normal(0, 10.0 ** draw(st.integers(-3, 5)), shape)
        with np.errstate(all="ignore"):
            np.save(file, np.asarray(values).astype(dtype, casting="unsafe"))
        return file.getvalue()
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"]))
    levels = rng.integers(0, 256, (12, 9, 3), np.uint8)
    image = Image.fromarray(levels).convert(mode if mode[0] not in "IF" else "L")
    try:
        (image.convert(mode) if mode != "I;16" else Image.fromarray(levels[:, :, 0] * np.uint16(99))).save(file, kind)
    except (OSError, ValueError):  # not every file takes every mode
        image.convert("RGB").save(file, kind)
    return file.getvalue()


def check_broken(content: bytes, cut: float, flips: list[tuple[float, int]], packing: str, decoding: Decoding) -> None:
    """A file that was cut off and changed is an image of the right shape, or is refused with its name."""
    content = content[: int(len(content) * cut)]
    broken = bytearray(content)
    for place, value in flips:
        if broken:
            broken[int(place * (len(broken) - 1))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.fits")
        path.write_bytes(PACK[packing](bytes(broken)))
        for ask in (open_image, channels_of, choice):
            try:
                found = ask(path, decoding)
            except DataError as error:
                sentence = str(error)
                assert sentence.startswith("a.fits") and "\n" not in sentence  # noqa: PT018
            else:
                if isinstance(found, np.ndarray):
                    assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, decoding.channels)


def possible(channels: int, stretch: str, hdu: Any, bands: tuple[Any, ...] | None) -> Decoding:
    """A decoding that is not refused by itself: bands that are no RGB image are as many as its channels."""
    return Decoding(channels if bands is None or channels == 3 else len(bands), stretch, hdu, bands)


BROKEN = (
    contents(),
    st.one_of(st.just(1.0), st.floats(0, 1)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    st.sampled_from(sorted(PACK)),
    st.builds(
        possible,
        st.sampled_from([1, 3, 2, 5]),
        st.sampled_from(STRETCHES),
        st.sampled_from([None, None, 0, 1, "SCI", "nope"]),
        st.sampled_from([None, None, (0,), (0, 1), ("g", 7)]),
    ),
)


@SETTINGS
@given(*BROKEN)
def test_what_is_broken_is_named(
    content: bytes, cut: float, flips: list[tuple[float, int]], packing: str, decoding: Decoding
) -> None:
    check_broken(content, cut, flips, packing, decoding)
