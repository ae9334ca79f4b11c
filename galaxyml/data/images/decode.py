"""Images of any kind as pixels: pictures, FITS, arrays of numbers, rows of an HDF5 file, by a `Decoding`."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.file_types import HDF5, PICTURES, NoImageError, unpacked
from galaxyml.data.images.fits import MOST_BANDS, read_fits
from galaxyml.data.images.pictures import channels_of_picture, eight_bits, from_pillow, of_planes, read_picture
from galaxyml.data.images.stretch import Bands, pixels, white_level
from galaxyml.runs.errors import DataError

KEY = "images"  # of an HDF5 file
_SLICE = 64e6  # bytes of an HDF5 file that are read at a time
_AT_ONCE = 256  # images of an HDF5 file that are handed on together
_AS_THEY_ARE = Decoding()
_SHAPES = (
    "its values are {} of shape {}; an image is (H, W), (H, W, 3), (H, W, 4) or (bands, H, W), of whole numbers or "
    "floats"
)


def address(file: str, row: int) -> str:
    """How a catalog names an image inside an HDF5 file.

    >>> address("Galaxy10_DECals.h5", 7)
    'Galaxy10_DECals.h5#7'
    """
    return f"{file}#{row}"


def file_of(image: str) -> str:
    """The file that holds an image.

    >>> file_of("Galaxy10_DECals.h5#7"), file_of("images/3.jpg")
    ('Galaxy10_DECals.h5', 'images/3.jpg')
    """
    name, mark, row = image.rpartition("#")
    return name if mark and row.isdigit() and name.lower().endswith(HDF5) else image


def open_image(path: Path, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray:
    """Decodes an image of any size and kind, which its first bytes tell, not its name.

    Pictures of 8 bits stay as they are; their transparent parts become black, and they are turned as their EXIF data
    say. Whole numbers of 16 or 32 bits that fill their type are scaled to 8 (`stretch.white_level`); all others, floats
    and FITS are brightness, which gets the stretch (`stretch.pixels`).

    Args:
        path: A file, or a row of an HDF5 file (`address`).
        decoding: How.

    Returns:
        The image, uint8 of shape (H, W, channels).

    Raises:
        DataError: If it is no image, cannot be read, shows one value alone, or has another number of channels; the
            message begins with its name.
    """
    if (file := file_of(str(path))) != str(path):
        (image,) = read_rows(Path(file), [int(str(path).rpartition("#")[2])], decoding)
        if isinstance(image, str):
            raise DataError(image)
        return image
    with _naming(path):
        return _rendered(_contents(path, decoding), decoding)


def channels_of(path: Path, decoding: Decoding = _AS_THEY_ARE) -> int:
    """Channels that an image holds: 1 of grey or one band, 3 of colours, 5 of five bands; errors as of `open_image`."""
    with _naming(path):
        contents = _contents(path, decoding)
    return len(contents.values) if isinstance(contents, Bands) else channels_of_picture(contents)


def choice(path: Path, decoding: Decoding = _AS_THEY_ARE) -> str:
    """What is read of an image where there was a choice, in a sentence; empty where there was none.

    Raises:
        DataError: As `open_image`.
    """
    with _naming(path):
        contents = _contents(path, decoding)
    if not isinstance(contents, Bands):
        return ""
    parts = [contents.choice] if contents.choice else []
    count = len(contents.values)
    if decoding.channels == 3 and count > 3:
        shown = [contents.listed.split(", ")[number] for number in (0, count // 2, count - 1)]
        parts.append(f"bands {', '.join(shown)} of its {count} become blue, green and red")
    if decoding.channels == 1 and count > 1:
        parts.append(f"the mean of its {count} bands becomes grey")
    if not parts:
        return ""
    keys = "hdu=, bands=, stretch=" if contents.is_fits else "bands=, stretch="
    return f"{path.name}: {'; '.join(parts)}. What chooses otherwise, for all images: {keys}."


def from_array(values: np.ndarray, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray:
    """An image of numbers, as a file that holds them gives it.

    Args:
        values: Grey (H, W) or (H, W, 1), or red, green and blue (H, W, 3), and how opaque (H, W, 4), or bands (C, H, W)
            or (H, W, C). Whole numbers count up to 255, unsigned ones that fill 16 or 32 bits up to their largest;
            colours as floats go from 0 to 1. Anything else is brightness, as in a FITS file, first row lowest, and
            gets the stretch.
        decoding: How.

    Returns:
        The image, uint8 of shape (H, W, channels).

    Raises:
        DataError: If they are none of these.
    """
    return _rendered(_of_array(values, decoding), decoding)


def from_image(image: Image.Image, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray:
    """One of Pillow's images as `open_image` gives one that it has read."""
    return _rendered(from_pillow(image), decoding)


def read_images(
    root: Path, images: Sequence[str], decoding: Decoding = _AS_THEY_ARE
) -> Iterator[list[tuple[str, np.ndarray | str | None]]]:
    """Parts of a list of images, in its order: files by their names alone, rows of HDF5 files decoded.

    Rows of one file that follow each other are read in contiguous slices that respect its chunks: a file whose chunks
    hold parts of many images is then decompressed once, not once an image.

    Args:
        root: Folder of the images.
        images: Paths in it, or addresses of rows.
        decoding: How.

    Yields:
        Names, with the image where it lies in an HDF5 file, or the reason why it cannot be read.
    """
    for file, group in groupby(images, file_of):
        names = list(group)
        if names[0] == file:
            yield [(name, None) for name in names]
            continue
        decoded = read_rows(root / file, [int(name.rpartition("#")[2]) for name in names], decoding)
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            yield list(zip(batch, islice(decoded, len(batch)), strict=True))


def read_rows(path: Path, rows: Sequence[int], decoding: Decoding = _AS_THEY_ARE) -> Iterator[np.ndarray | str]:
    """Images of an HDF5 file (`images`, shape (N, H, W) or (N, H, W, C)), in the order of `rows`; as `from_array`.

    Yields:
        Each image, uint8 of shape (H, W, channels), or the reason why it cannot be read.
    """
    done = 0
    try:
        with h5py.File(path) as file:
            values = file[KEY]
            for start, stop in _slices(rows, values):
                wanted = rows[start:stop]
                present = [row for row in wanted if row < len(values)]
                first = min(present, default=0)
                block = values[first : max(present) + 1] if present else []
                for row in wanted:
                    done += 1
                    if row < len(values):
                        yield _row(f"{path.name}#{row}", block[row - first], decoding)
                    else:
                        yield f"{path.name}#{row}: the file has {len(values):,} images, from #0 on"
    except FileNotFoundError:
        reason = f"{path.name} is not there"
    except (OSError, KeyError, RuntimeError) as error:
        reason = f"{path.name} cannot be read ({str(error).splitlines()[0]}); fetch it again"
    yield from (reason for _ in rows[done:])


def _row(name: str, values: np.ndarray, decoding: Decoding) -> np.ndarray | str:
    try:
        return from_array(values, decoding)
    except DataError as error:
        return f"{name}: {error}"


def _slices(rows: Sequence[int], pixels: Any) -> Iterator[tuple[int, int]]:
    """Runs of `rows` that lie within one slice of the file each, a whole number of chunks long."""
    chunk = pixels.chunks[0] if pixels.chunks else 1
    size = int(np.prod(pixels.shape[1:]))
    length = max(int(_SLICE / size) // chunk, 1) * chunk
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or rows[stop] // length != rows[start] // length:
            yield start, stop
            start = stop


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns whatever decoders raise into a sentence that begins with the file's name."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path.name} is not there") from None
    except NoImageError as error:
        raise DataError(f"{path.name} is not an image: {error}") from None
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on broken files: KeyError, zlib.error, …
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path.name}: {text} ({type(error).__name__})") from None


def _contents(path: Path, decoding: Decoding) -> Image.Image | Bands:
    """What a file, or a row of one, holds, before it becomes pixels."""
    if (name := file_of(str(path))) != str(path):
        with h5py.File(name) as file:
            return _of_array(file[KEY][int(str(path).rpartition("#")[2])], decoding)
    with unpacked(path) as (kind, file):
        if kind in PICTURES:
            return _with_bands(read_picture(file, kind), decoding)
        if kind == "FITS":
            return read_fits(file, decoding)
        if kind == "npy":
            return _with_bands(_of_array(np.load(file, allow_pickle=False), decoding), decoding)
    raise DataError(f"it holds many images ({kind}): let its name end in {' or '.join(HDF5)}, and give the file itself")


def _rendered(contents: Image.Image | Bands, decoding: Decoding) -> np.ndarray:
    if isinstance(contents, Bands):
        return pixels(contents, decoding)
    image = eight_bits(contents, decoding.channels)
    if (image[0] == image[0, 0]).all() and (image == image[0, 0]).all():
        raise DataError(f"all its pixels have one value ({', '.join(map(str, image[0, 0]))})")
    return image


def _with_bands(contents: Image.Image | Bands, decoding: Decoding) -> Image.Image | Bands:
    """The bands that are asked for, by their numbers: files other than FITS have no names; a picture has no bands."""
    if decoding.bands is None or not isinstance(contents, Bands):
        return contents
    count = len(contents.values)
    numbers = [int(band) if re.fullmatch(r"\d+", str(band)) else -1 for band in decoding.bands]
    if wrong := [band for band, number in zip(decoding.bands, numbers, strict=True) if not 0 <= number < count]:
        raise DataError(f"bands={wrong[0]}: there is no such band; it has {count}, by number from 0")
    return replace(contents, values=contents.values[numbers])


def _of_array(values: np.ndarray, decoding: Decoding) -> Image.Image | Bands:
    """What an array holds: a picture of 8 bits, or bands; `from_array` says which."""
    if values.dtype.kind not in "uif" or values.ndim not in (2, 3) or not values.size:
        raise DataError(_SHAPES.format(values.dtype, values.shape))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[:, :, 0] if values.shape[2] == 1 else values[0]
    if values.dtype.kind in "ui" and values.dtype != np.uint16 and values.min() >= 0 and values.max() <= 255:
        values = values.astype(np.uint8)
    if values.ndim == 2:
        return Image.fromarray(values) if values.dtype == np.uint8 else of_planes(values[None])
    last = _channels_last(values.shape)
    bands = values.transpose(2, 0, 1) if last else values
    as_bands = decoding.channels not in (1, 3) or len(bands) not in ((3, 4) if last else (3,))
    if values.dtype.kind == "f":
        in_range = bool(values.min() >= 0 and values.max() <= 1)  # NaN is neither
        if as_bands or (not in_range and not (last and len(bands) == 3)):
            return of_planes(bands)
        if not in_range:
            raise DataError(
                f"its colours, {values.dtype}, go from {values.min():g} to {values.max():g}; they must lie in [0, 1]. "
                "What is no colour but brightness goes in as (H, W), as (bands, H, W), or as a FITS file"
            )
        return Image.fromarray((bands.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))
    if as_bands or (not last and values.dtype != np.uint8):
        return of_planes(bands)
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(bands.transpose(1, 2, 0)))
    highest = white_level(values)
    if highest is None and values.dtype.kind == "u":
        return of_planes(bands[2::-1])  # counts in red, green and blue
    if highest is None:
        raise DataError(
            f"its colours, {values.dtype}, go from {values.min()} to {values.max()}; they must lie in [0, 255]. "
            "What is no colour but brightness goes in as (H, W), as (bands, H, W), or as a FITS file"
        )
    return Image.fromarray((values * (255 / highest) + 0.5).astype(np.uint8))


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last axis of (A, B, C) is that of the channels, or else the first.

    Raises:
        DataError: If neither can be.
    """
    first, last = shape[0] <= MOST_BANDS, shape[2] <= MOST_BANDS
    if not (first or last):
        raise DataError(_SHAPES.format("numbers", shape))
    return last and (not first or shape[2] in (3, 4) or shape[2] <= shape[0])
