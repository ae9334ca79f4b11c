"""Images of any kind as pixels: pictures, FITS, arrays of numbers, rows of HDF5 and parquet, by a `Decoding`."""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from galaxyml.data.images.arrays import of_array
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.file_types import HDF5, PICTURES, TAR, NoImageError, has_suffix, unpacked
from galaxyml.data.images.fits import read_fits
from galaxyml.data.images.inside import PARQUET, images_in, read_contents, read_tar
from galaxyml.data.images.pictures import channels_of_picture, eight_bits, from_pillow, read_picture
from galaxyml.data.images.stretch import Bands, pixels
from galaxyml.runs.errors import DataError, UserError

_SLICE = 64e6  # bytes of an HDF5 file that are read at a time
_AT_ONCE = 256  # images that are handed on together
_AS_THEY_ARE = Decoding()


def address(file: str, row: int) -> str:
    """How a catalog names an image inside an HDF5, a parquet or a tar file.

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
    return name if mark and row.isdigit() and name.lower().endswith((*HDF5, *PARQUET, *TAR)) else image


def _file_around(image: str) -> str | None:
    """The file that holds an image beside others; None of a file of its own."""
    file = file_of(image)
    return file if file != image else None


def row_of(image: str) -> int:
    """The row of an image inside a file; 0 of a file of its own.

    >>> row_of("Galaxy10_DECals.h5#7"), row_of("images/3.jpg")
    (7, 0)
    """
    return int(image.rpartition("#")[2]) if file_of(image) != image else 0


def open_image(path: Path, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray:
    """Decodes an image of any size and kind, which its first bytes tell, not its name.

    Pictures of 8 bits stay as they are; their transparent parts become black, and they are turned as their EXIF data
    say. Whole numbers of 16 or 32 bits that fill their type are scaled to 8 (`stretch.white_level`); all others, floats
    and FITS are brightness, which gets the stretch (`stretch.pixels`).

    Args:
        path: A file, or a row of an HDF5, parquet or tar file (`address`).
        decoding: How.

    Returns:
        The image, uint8 of shape (H, W, channels).

    Raises:
        DataError: If it is no image, cannot be read, shows one value alone, or has another number of channels; the
            message begins with its name.
    """
    return np.asarray(open_picture(path, decoding))


def open_picture(path: Path, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray | Image.Image:
    """As `open_image`; a picture in RGB stays one of Pillow's images, which saves two copies."""
    if (file := file_of(str(path))) != str(path) and has_suffix(Path(file), HDF5):
        (image,) = read_rows(Path(file), [row_of(str(path))], decoding)
        if isinstance(image, str):
            raise DataError(image)
        return image
    with _naming(path):
        return _rendered(_contents(path, decoding), decoding)


def decoded(name: str, content: bytes, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray | Image.Image:
    """The content of an image's file as `open_picture` gives the file.

    Args:
        name: What errors call it.
        content: Its bytes.
        decoding: How.
    """
    with _naming(Path(name)):
        return _rendered(_contents_of(content, decoding), decoding)


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
            colours as floats go from 0 to 1, and (3, H, W) are some if they exceed 0.5. Anything else is brightness, as
            in a FITS file, first row lowest, and gets the stretch.
        decoding: How.

    Returns:
        The image, uint8 of shape (H, W, channels).

    Raises:
        DataError: If they are none of these.
    """
    return np.asarray(_rendered(of_array(values, decoding.channels), decoding))


def from_image(image: Image.Image, decoding: Decoding = _AS_THEY_ARE) -> np.ndarray:
    """One of Pillow's images as `open_image` gives one that it has read."""
    return np.asarray(_rendered(from_pillow(image), decoding))


def read_images(
    root: Path, images: Sequence[str], decoding: Decoding = _AS_THEY_ARE
) -> Iterator[list[tuple[str, np.ndarray | bytes | str | None]]]:
    """Parts of a list of images, in its order: files by their names alone, rows of files with what they hold.

    Rows of one HDF5 file that follow each other are read in contiguous slices that respect its chunks: a file whose
    chunks hold parts of many images is then decompressed once, not once an image. Of a parquet file few are held.

    Args:
        root: Folder of the images.
        images: Paths in it, or addresses of rows.
        decoding: How.

    Yields:
        Names, with the image where it lies in an HDF5 file, its file's bytes where it lies in a parquet or tar file, or
        the reason why it cannot be read.
    """
    for file, group in groupby(images, _file_around):
        if file is None:
            while some := list(islice(group, _AT_ONCE)):
                yield [(name, None) for name in some]
            continue
        names = list(group)
        path, rows = root / file, [row_of(name) for name in names]
        contents: Iterator[Any] = read_rows(path, rows, decoding) if has_suffix(path, HDF5) else _files_in(path, rows)
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            yield list(zip(batch, islice(contents, len(batch)), strict=True))


def read_rows(path: Path, rows: Sequence[int], decoding: Decoding = _AS_THEY_ARE) -> Iterator[np.ndarray | str]:
    """Images of an HDF5 file (`images_in`), in the order of `rows`; as `from_array`.

    Yields:
        Each image, uint8 of shape (H, W, channels), or the reason why it cannot be read.
    """
    done = 0
    try:
        with h5py.File(path) as file:
            values = images_in(file)
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


def _files_in(path: Path, rows: Sequence[int]) -> Iterator[bytes | str]:
    """Contents of image files inside a parquet or tar file, or the reasons why there are none."""
    return read_tar(path, rows) if has_suffix(path, TAR) else read_contents(path, rows)


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


# Errors of a disk, a network or a process, which are no fault of the file.
MACHINE = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)


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
    except OSError as error:
        if error.errno in MACHINE:  # another time the same file can be read
            raise UserError(
                f"{path} could not be read: {os.strerror(error.errno)}. Run the same command again."
            ) from error
        text = " ".join(str(error).split())
        raise DataError(f"{path.name}: {text} ({type(error).__name__})") from None
    except Exception as error:  # decoders raise anything on broken files: KeyError, zlib.error, …
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path.name}: {text} ({type(error).__name__})") from None


def _contents(path: Path, decoding: Decoding) -> Image.Image | Bands:
    """What a file, or a row of one, holds, before it becomes pixels."""
    if (name := file_of(str(path))) != str(path):
        if has_suffix(Path(name), HDF5):
            with h5py.File(name) as file:
                return of_array(images_in(file)[row_of(str(path))], decoding.channels)
        (content,) = _files_in(Path(name), [row_of(str(path))])
        if isinstance(content, str):
            raise DataError(content.removeprefix(f"{path.name}: "))
        return _contents_of(content, decoding)
    return _contents_of(path, decoding)


def _contents_of(image: Path | bytes, decoding: Decoding) -> Image.Image | Bands:
    """What a file or its content holds, before it becomes pixels."""
    with unpacked(image) as (kind, file):
        if kind in PICTURES:
            return _with_bands(read_picture(file, kind), decoding)
        if kind == "FITS":
            return read_fits(file, decoding)
        if kind == "npy":
            return _with_bands(of_array(np.load(file, allow_pickle=False), decoding.channels), decoding)
    raise DataError(f"it holds many images ({kind}): let its name end in {' or '.join(HDF5)}, and give the file itself")


def _rendered(contents: Image.Image | Bands, decoding: Decoding) -> np.ndarray | Image.Image:
    if isinstance(contents, Bands):
        return pixels(contents, decoding)
    if contents.mode == "RGB" and decoding.channels == 3:
        if contents.getpixel((0, 0)) == contents.getpixel((contents.width // 2, contents.height // 2)):
            extrema: Any = contents.getextrema()  # which takes as long as to decode the image
            if all(lowest == highest for lowest, highest in extrema):
                raise _one_value([lowest for lowest, _ in extrema])
        return contents
    image = eight_bits(contents, decoding.channels)
    if (image[0] == image[0, 0]).all() and (image == image[0, 0]).all():
        raise _one_value(image[0, 0])
    return image


def _one_value(values: Iterable[int]) -> DataError:
    return DataError(f"all its pixels have one value ({', '.join(map(str, values))})")


def _with_bands(contents: Image.Image | Bands, decoding: Decoding) -> Image.Image | Bands:
    """The bands that are asked for, by their numbers: files other than FITS have no names; a picture has no bands."""
    if decoding.bands is None or not isinstance(contents, Bands):
        return contents
    count = len(contents.values)
    numbers = [int(band) if re.fullmatch(r"\d+", str(band)) else -1 for band in decoding.bands]
    if wrong := [band for band, number in zip(decoding.bands, numbers, strict=True) if not 0 <= number < count]:
        raise DataError(f"bands={wrong[0]}: there is no such band; it has {count}, by number from 0")
    return replace(contents, values=contents.values[numbers])
