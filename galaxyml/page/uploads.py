"""Images that people upload, which may be anything: looked at with care before anything is decoded."""

import gzip
import re
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from math import prod
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from galaxyml.data.images.decode import open_image
from galaxyml.runs.errors import DataError, UserError

MOST_BYTES = 20 * 10**6
MOST_PIXELS = 64 * 10**6
LEAST_SIDE = 8  # pixels
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")  # as Pillow calls them; others run programs, as EPS does
_GZIP, _FITS = b"\x1f\x8b", b"SIMPLE  ="
_SMALLER = "Cut the galaxy out, or make the image smaller."


@dataclass(frozen=True)
class Upload:
    """An image that somebody uploaded.

    Attributes:
        name: What they call it.
        image: Decoded, RGB.
        notes: What was made of it on the way, in sentences.
    """

    name: str
    image: Image.Image
    notes: tuple[str, ...] = ()


def read_upload(path: Path) -> Upload:
    """Decodes an uploaded image as `galaxyml.inference.predict` does, whatever its name ends in.

    Raises:
        UserError: If it is no image, is cut off, or has too many bytes or pixels; a sentence for who uploaded it.
    """
    check_bytes(path)
    is_fits = _is_fits(path)
    notes = _fits_notes(path) if is_fits else _image_notes(path)
    image = _decoded(path, ".fits" if is_fits else "")
    if min(image.size) < LEAST_SIDE:
        raise UserError(f"{path.name} has {image.width} x {image.height} pixels; each side needs {LEAST_SIDE} or more.")
    return Upload(path.name, image, tuple(notes))


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


def _is_fits(path: Path) -> bool:
    """Whether a file, packed or not, begins as FITS does."""
    with path.open("rb") as file:
        start = file.read(len(_FITS))
    if start.startswith(_GZIP):
        try:
            with gzip.open(path) as unpacked:
                start = unpacked.read(len(_FITS))
        except (OSError, EOFError):
            return False
    return start == _FITS


def _decoded(path: Path, suffix: str) -> Image.Image:
    """The image, read under a name that ends as its content is: `open_image` tells FITS by that."""
    with tempfile.TemporaryDirectory(prefix="galaxyml-upload-") as folder:
        copy = Path(shutil.copyfile(path, Path(folder) / f"upload{suffix}"))
        try:
            return Image.fromarray(open_image(copy))
        except DataError as error:
            reason = re.sub(r" \(\w+\)$", "", str(error)).removeprefix(copy.name).strip(": ")
    raise UserError(f"{path.name} cannot be read: {reason}. It may be cut off; fetch or save it again.")


def _check_pixels(path: Path, sides: tuple[int, ...]) -> None:
    if prod(sides) > MOST_PIXELS:
        shape = " x ".join(map(str, sides))
        raise UserError(
            f"{path.name} has {shape} pixels; at most {MOST_PIXELS / 1e6:.0f} million are allowed. {_SMALLER}"
        )


def _image_notes(path: Path) -> list[str]:
    """Sentences on what is made of an image that Pillow can read; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise UserError(
            f"{path.name} unpacks to more than {MOST_PIXELS / 1e6:.0f} million pixels, which is the limit. {_SMALLER}"
        ) from None
    except UnidentifiedImageError:
        raise UserError(
            f"{path.name} is not an image that can be read. Give a JPEG, PNG, TIFF, WebP, BMP, GIF or FITS file."
        ) from None
    except (OSError, ValueError, SyntaxError, OverflowError) as error:  # what Pillow raises on broken headers
        raise UserError(f"{path.name} is broken and cannot be read ({error}).") from None
    with image:
        _check_pixels(path, image.size)
        notes = []
        if (frames := getattr(image, "n_frames", 1)) > 1:
            notes.append(f"It has {frames} frames; the first one is looked at.")
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            notes.append("Its transparent parts are taken as black sky.")
        if image.mode == "CMYK":
            notes.append("Its colours were made for print (CMYK) and are turned into those of a screen.")
        if image.mode.startswith("I") or image.mode == "F":
            notes.append("It has more than 256 levels of grey, which are scaled to 256.")
        if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
            notes.append("It has no colours; the net has learnt from images that have.")
        return notes


def _fits_notes(path: Path) -> list[str]:
    """Sentences on what is made of a FITS file; headers are read, and no data unit that is too large is unpacked."""
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
    return ["Its bands were made a colour image by an asinh stretch (Lupton et al. 2004)."]
