"""What people upload, which may be anything: looked at with care before anything is decoded."""

import gzip
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from galaxyml.data.images.decode import FITS, has_suffix, open_image
from galaxyml.runs.errors import DataError, UserError

MOST_BYTES = 20 * 10**6
MOST_PIXELS = 64 * 10**6
LEAST_SIDE = 8  # pixels
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")  # as Pillow calls them; others run programs, as EPS does
KNOWN = "a JPEG, PNG, TIFF, WebP, BMP, GIF or FITS file"
_GZIP, _FITS = b"\x1f\x8b", b"SIMPLE  ="
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class Received:
    """A picture that somebody uploaded.

    Attributes:
        name: What they call it.
        picture: Decoded, RGB.
        notes: What was made of it on the way, in sentences.
    """

    name: str
    picture: Image.Image
    notes: tuple[str, ...] = ()


def received(path: Path) -> Received:
    """Decodes an uploaded picture as `galaxyml.inference.predict` does, whatever its name ends in.

    Raises:
        UserError: If it is no picture, is cut off, or has too many bytes or pixels; a sentence for who uploaded it.
    """
    check_bytes(path)
    with path.open("rb") as file:
        start = file.read(len(_FITS))
    if start.startswith(_GZIP):
        start = _unpacked_start(path)
        if start != _FITS:
            raise _no_picture(path)
    notes = _fits_notes(path) if start == _FITS else _picture_notes(path)
    picture = _decoded(path, start == _FITS)
    if min(picture.size) < LEAST_SIDE:
        raise UserError(
            f"{path.name} has {picture.width} x {picture.height} pixels; each side needs {LEAST_SIDE} or more."
        )
    return Received(path.name, picture, tuple(notes))


def _decoded(path: Path, is_fits: bool) -> Image.Image:
    with _named_alike(path, is_fits) as named:
        try:
            return open_image(named)
        except DataError as error:
            reason = re.sub(r" \(\w+\)$", "", str(error)).removeprefix(named.name).strip(": ")
    raise UserError(f"{path.name} cannot be read: {reason}. It may be cut off; fetch or save it again.")


def check_bytes(path: Path) -> None:
    """Refuses what is empty or too large.

    Raises:
        UserError: If it is.
    """
    size = path.stat().st_size
    if not size:
        raise UserError(f"{path.name} is empty.")
    if size > MOST_BYTES:
        raise UserError(f"{path.name} has {size / 1e6:.1f} MB; at most {MOST_BYTES / 1e6:.0f} MB are allowed.")


def _no_picture(path: Path) -> UserError:
    return UserError(f"{path.name} is not a picture that can be read. Give {KNOWN}.")


def _check_pixels(path: Path, sides: tuple[int, ...]) -> None:
    if prod(sides) > MOST_PIXELS:
        shape = " x ".join(map(str, sides))
        raise UserError(
            f"{path.name} has {shape} pixels; at most {MOST_PIXELS / 1e6:.0f} million are allowed. "
            "Cut the galaxy out, or make the picture smaller."
        )


def _picture_notes(path: Path) -> list[str]:
    """What is made of a picture that Pillow can read; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            picture = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise UserError(
            f"{path.name} unpacks to more than {MOST_PIXELS / 1e6:.0f} million pixels, which is the limit. "
            "Cut the galaxy out, or make the picture smaller."
        ) from None
    except UnidentifiedImageError:
        raise _no_picture(path) from None
    except (OSError, ValueError, SyntaxError, OverflowError) as error:  # what Pillow raises on broken headers
        raise UserError(f"{path.name} is broken and cannot be read ({error}).") from None
    with picture:
        _check_pixels(path, picture.size)
        return _told(picture)


def _told(picture: Any) -> list[str]:
    notes = []
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        notes.append(f"It has {frames} frames; the first one is looked at.")
    if picture.mode in _ALPHA or "transparency" in picture.info:
        notes.append("Its transparent parts are taken as black sky.")
    if picture.mode == "CMYK":
        notes.append("Its colours were made for print (CMYK) and are turned into those of a screen.")
    if picture.mode.startswith("I") or picture.mode == "F":
        notes.append("It has more than 256 levels of grey, which are scaled to 256.")
    if picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;"):
        notes.append("It has no colours; the net has learnt from pictures that have.")
    return notes


def _unpacked_start(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(len(_FITS))
    except (OSError, EOFError):
        return b""


def _fits_notes(path: Path) -> list[str]:
    """What is made of a FITS file; its headers are read, and no data unit that is too large is unpacked."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with path.open("rb") as file, fits.open(file, memmap=False) as units:
                for unit in units:
                    shape = tuple(getattr(unit, "shape", ()))
                    _check_pixels(path, shape or (unit.size,))
                    if unit.is_image and shape:
                        break
    except UserError:
        raise
    except Exception as error:  # astropy raises anything on broken headers
        raise UserError(f"{path.name} is broken and cannot be read as FITS ({error}).") from None
    return ["Its bands were made a colour picture by an asinh stretch (Lupton et al. 2004)."]


@contextmanager
def _named_alike(path: Path, is_fits: bool) -> Iterator[Path]:
    """The file under a name that ends as its content is, since what reads it tells FITS by that."""
    if is_fits == has_suffix(path, FITS):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="galaxyml-upload-") as folder, path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        copy = Path(folder) / ("upload.fits.gz" if packed else "upload.fits" if is_fits else "upload")
        shutil.copyfile(path, copy)
        yield copy
