"""Images that people upload, which may be anything: looked at with care before anything is decoded."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.file_types import file_type
from galaxyml.runs.errors import DataError, UserError

MOST_BYTES = 20 * 10**6
MOST_PIXELS = 64 * 10**6
LEAST_SIDE = 8  # pixels
COLOURS = 3  # channels of an image that is RGB
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")  # as Pillow calls them; others run programs, as EPS does
_SMALLER = "Cut the galaxy out, or make the image smaller."


@dataclass(frozen=True)
class Upload:
    """An image that somebody uploaded.

    Attributes:
        name: What they call it.
        images: As each decoding has it, uint8 of shape (H, W, C).
        notes: What was made of it on the way, in sentences.
    """

    name: str
    images: Mapping[Decoding, np.ndarray]
    notes: tuple[str, ...] = ()


def read_upload(path: Path, decodings: Sequence[Decoding] = (Decoding(),)) -> Upload:
    """Decodes an uploaded image as `galaxyml.inference.predict` does, whatever its name ends in.

    Args:
        path: The file.
        decodings: How the run's models have it, one or more; the first is what notes are about.

    Raises:
        UserError: If it is no image, is cut off, or has too many bytes or pixels; a sentence for who uploaded it.
    """
    check_bytes(path)
    look = {"FITS": _fits_notes, "npy": _array_notes}.get(file_type(path) or "", _image_notes)
    notes = look(path, decodings[0])
    images = _decoded(path, decodings)
    height, width, _ = next(iter(images.values())).shape
    if min(height, width) < LEAST_SIDE:
        raise UserError(f"{path.name} has {width} x {height} pixels; each side needs {LEAST_SIDE} or more.")
    return Upload(path.name, images, tuple(notes))


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


def _decoded(path: Path, decodings: Sequence[Decoding]) -> dict[Decoding, np.ndarray]:
    try:
        return {decoding: open_image(path, decoding) for decoding in decodings}
    except DataError as error:
        reason = re.sub(r" \(\w+\)$", "", str(error)).removeprefix(path.name).strip(": ")
    raise UserError(f"{path.name} cannot be read: {reason}. It may be cut off; fetch or save it again.")


def _check_pixels(path: Path, sides: tuple[int, ...]) -> None:
    if prod(sides) > MOST_PIXELS:
        shape = " x ".join(map(str, sides))
        raise UserError(
            f"{path.name} has {shape} pixels; at most {MOST_PIXELS / 1e6:.0f} million are allowed. {_SMALLER}"
        )


def _image_notes(path: Path, decoding: Decoding) -> list[str]:
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
            f"{path.name} is not an image that can be read. Give a JPEG, PNG, TIFF, WebP, BMP, GIF, FITS or npy file."
        ) from None
    except (OSError, ValueError, SyntaxError, OverflowError) as error:  # what Pillow raises on broken headers
        raise UserError(f"{path.name} is broken and cannot be read ({error}).") from None
    with image:
        _check_pixels(path, image.size)
        notes = []
        if (frames := getattr(image, "n_frames", 1)) > 1 and decoding.channels in (1, COLOURS):
            notes.append(f"It has {frames} frames; the first one is looked at.")
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            notes.append("Its transparent parts are taken as black sky.")
        if image.mode == "CMYK":
            notes.append("Its colours were made for print (CMYK) and are turned into those of a screen.")
        if image.mode.startswith("I") or image.mode == "F":
            notes.append("It has more than 256 levels of grey, which are scaled to 256.")
        is_grey = image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
        if is_grey and decoding.channels == COLOURS:
            notes.append("It has no colours; the net has learnt from images that have.")
        if not is_grey and decoding.channels == 1:
            notes.append("Its colours are made grey: the net has learnt from images without.")
        return notes


def _array_notes(path: Path, decoding: Decoding) -> list[str]:
    """Sentences on what is made of an array in NumPy's format; its header is read alone."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:  # what NumPy raises on broken headers
        raise UserError(f"{path.name} is broken and cannot be read as npy ({error}).") from None
    _check_pixels(path, values.shape)
    return []


def _fits_notes(path: Path, decoding: Decoding) -> list[str]:
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
    if decoding.stretch != "asinh":
        return [f"Its brightness was stretched as the run's images were (stretch={decoding.stretch})."]
    if decoding.channels != COLOURS:
        return ["Its brightness was stretched as the run's images were, by an asinh."]
    return ["Its bands were made a colour image by an asinh stretch (Lupton et al. 2004)."]
