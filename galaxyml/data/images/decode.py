"""Images of any kind as RGB: JPEG and PNG of any mode, FITS with one or more bands, rows of an HDF5 file."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image, UnidentifiedImageError

from galaxyml.data.images.decoding import Decoding
from galaxyml.runs.errors import DataError

RGB = Decoding()
HDF5 = (".h5", ".hdf5")
FITS = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".npy", *FITS)
KEY = "images"  # of an HDF5 file
# Of the asinh stretch of FITS bands, in units of the sky's noise: chosen so that a sky of noise 1 looks as in SDSS's
# own images, and what is a thousand times brighter is white.
SOFTENING, STRETCH = 6.5, 22.0
_SLICE = 64e6  # bytes of an HDF5 file that are read at a time
_AT_ONCE = 256  # images of an HDF5 file that are handed on together
MOST_BANDS = 16


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


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file's name ends in one of some suffixes, in upper or lower case."""
    return path.name.lower().endswith(tuple(suffixes))


def open_image(path: Path, decoding: Decoding = RGB) -> np.ndarray:
    """Decodes an image of any size and mode.

    Args:
        path: A file, or a row of an HDF5 file (`address`).
        decoding: How.

    Returns:
        The image, uint8 of shape (H, W, C).

    Raises:
        DataError: If it is no image or cannot be read; the message begins with its name.
    """
    if (file := file_of(str(path))) != str(path):
        (image,) = read_rows(Path(file), [int(str(path).rpartition("#")[2])], decoding)
        if isinstance(image, str):
            raise DataError(image)
        return image
    try:
        if decoding.channels == 3:
            if path.suffix.lower() == ".npy":
                return from_array(np.load(path), decoding)
            return np.asarray(_fits(path) if has_suffix(path, FITS) else _decoded(path))
        return _channels(_values(path), decoding)
    except DataError as error:
        raise (error if str(error).startswith(path.name) else DataError(f"{path.name}: {error}")) from None
    except FileNotFoundError:
        raise DataError(f"{path.name} is not there") from None
    except UnidentifiedImageError:
        raise DataError(f"{path.name} is not an image") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on broken files: KeyError, zlib.error, …
        raise DataError(f"{path.name}: {error or type(error).__name__} ({type(error).__name__})") from None


def channels_of(path: Path, decoding: Decoding = RGB) -> int:
    """Channels that a file holds."""
    if (file := file_of(str(path))) != str(path):
        with h5py.File(file) as opened:
            return int(opened[KEY].shape[-1])
    values = _values(path)
    return 1 if values.ndim == 2 else values.shape[-1]


def _values(path: Path) -> np.ndarray:
    """Values of a file, (H, W) or (H, W, C)."""
    if path.suffix.lower() == ".npy":
        values = np.load(path)
        return np.moveaxis(values, 0, -1) if values.ndim == 3 and values.shape[0] < values.shape[2] else values
    if has_suffix(path, FITS):
        with fits_units(path) as units:
            data = next((unit.data for unit in units if unit.is_image and unit.data is not None), None)
            if data is None:
                raise ValueError("it has no image")
            values = np.asarray(data, dtype=np.float64)
        values = values[::-1] if values.ndim == 2 else np.moveaxis(values, 0, -1)[::-1]
        return values[..., 0] if values.shape[-1] == 1 and values.ndim == 3 else values
    with Image.open(path) as image:
        image.load()
    return np.asarray(image if image.mode == "L" else rgb(image))


def _channels(values: np.ndarray, decoding: Decoding) -> np.ndarray:
    if values.ndim == 2:
        values = values[..., None]
    if decoding.bands is not None:
        values = values[..., [int(band) for band in decoding.bands]]
    if values.dtype == np.uint8 and decoding.channels == 1 and values.shape[-1] == 3:
        values = np.asarray(Image.fromarray(values).convert("L"))[..., None]
    if values.shape[-1] != decoding.channels:
        raise DataError(
            f"it holds {values.shape[-1]} channel{'s' * (values.shape[-1] > 1)}, but channels={decoding.channels}. "
            f"Set channels={values.shape[-1]}, or leave it out"
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    return np.stack([_stretched(values[..., band].astype(np.float64)) for band in range(values.shape[-1])], axis=-1)


def _stretched(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    sky = float(np.median(finite)) if finite.size else 0.0
    noise = 1.4826 * float(np.median(np.abs(finite - sky))) if finite.size else 0.0
    noise = noise or float(np.ptp(finite) / 1000 if finite.size else 0.0) or 1.0
    scaled = np.where(np.isfinite(values), (values - sky) / noise, 0.0)
    bright = np.arcsinh(SOFTENING * np.clip(scaled, 0, None) / STRETCH) / np.arcsinh(SOFTENING) / 2
    return (np.clip(bright, 0, 1) * 255 + 0.5).astype(np.uint8)


def read_images(
    root: Path, images: Sequence[str], decoding: Decoding = RGB
) -> Iterator[list[tuple[str, np.ndarray | str | None]]]:
    """Parts of a list of images, in its order: files by their names alone, rows of HDF5 files decoded.

    Rows of one file that follow each other are read in contiguous slices that respect its chunks: a file whose chunks
    hold parts of many images is then decompressed once, not once an image.

    Args:
        root: Folder of the images.
        images: Paths in it, or addresses of rows.
        decoding: How they are decoded.

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


def read_rows(path: Path, rows: Sequence[int], decoding: Decoding = RGB) -> Iterator[np.ndarray | str]:
    """Images of an HDF5 file (`images`, uint8, shape (N, H, W, 3)), in the order of `rows`.

    Yields:
        Each image, or the reason why it cannot be read.
    """
    done = 0
    try:
        with h5py.File(path) as file:
            pixels = file[KEY]
            for start, stop in _slices(rows, pixels):
                wanted = rows[start:stop]
                present = [row for row in wanted if row < len(pixels)]
                first = min(present, default=0)
                block = pixels[first : max(present) + 1] if present else []
                for row in wanted:
                    done += 1
                    if row < len(pixels):
                        yield from_array(block[row - first], decoding)
                    else:
                        yield f"{path.name}#{row}: the file has {len(pixels):,} images, from #0 on"
    except FileNotFoundError:
        reason = f"{path.name} is not there"
    except (OSError, KeyError, RuntimeError) as error:
        reason = f"{path.name} cannot be read ({str(error).splitlines()[0]}); fetch it again"
    yield from (reason for _ in rows[done:])


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


def rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as `open_image` gives one that it has read."""
    if image.mode in ("RGB", "L", "YCbCr", "CMYK", "1"):
        return image.convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(np.asarray(image))
    transparent = image.convert("RGBA")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, transparent).convert("RGB")


def from_array(values: np.ndarray, decoding: Decoding = RGB) -> np.ndarray:
    """An image of numbers, as a file that holds them gives it.

    Args:
        values: Grey (H, W) or (H, W, 1), or red, green and blue (H, W, 3), and how opaque (H, W, 4). Whole numbers
            count up to 255, uint16 up to 65,535; colours as floats go from 0 to 1. Any other grey is brightness, as
            one band of a FITS file, first row lowest, and gets its stretch.
        decoding: How.

    Returns:
        The image, uint8 of shape (H, W, C).

    Raises:
        DataError: If they are none of these.
    """
    if decoding.channels != 3:
        return _channels(values, decoding)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    has_colours = values.ndim == 3 and values.shape[2] in (3, 4)
    if values.dtype.kind not in "uif" or not (values.ndim == 2 or has_colours) or not values.size:
        raise DataError(
            f"its values are {values.dtype} of shape {values.shape}; an image is (H, W), (H, W, 3) or (H, W, 4), of "
            "whole numbers or floats"
        )
    if values.dtype.kind in "ui" and values.dtype != np.uint16 and values.min() >= 0 and values.max() <= 255:
        values = values.astype(np.uint8)
    if values.ndim == 2 and values.dtype != np.uint8:
        return np.asarray(_grey(values))
    highest = 1 if values.dtype.kind == "f" else 65_535 if values.dtype == np.uint16 else 255
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= highest):  # NaN is neither
        raise DataError(
            f"its colours, {values.dtype}, go from {low:g} to {high:g}; they must lie in [0, {highest}]. What is no "
            "colour but brightness goes in as (H, W), or as a FITS file"
        )
    if values.dtype != np.uint8:
        values = (values * (255 / highest) + 0.5).astype(np.uint8)
    return np.asarray(rgb(Image.fromarray(values)))


def from_image(image: Image.Image, decoding: Decoding = RGB) -> np.ndarray:
    """One of Pillow's images as `open_image` gives one that it has read."""
    if decoding.channels == 3:
        return np.asarray(rgb(image))
    return _channels(np.asarray(image if image.mode == "L" else rgb(image)), decoding)


def _decoded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return rgb(image)


def _grey(values: np.ndarray) -> Image.Image:
    """Whole numbers of up to 16 bits scaled to 8; of others, and of floats, one band of brightness."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        return composite(values.astype(np.float64)[None])
    return Image.fromarray((values / 257 + 0.5).astype(np.uint8)).convert("RGB")


@contextmanager
def fits_units(path: Path) -> Iterator[Any]:
    """Opens a FITS file as the list of its units, without warnings about its headers: the values are what counts."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        with path.open("rb") as file, fits.open(file, memmap=False) as units:  # it leaves broken files open otherwise
            yield units


def _fits(path: Path) -> Image.Image:
    with fits_units(path) as units:
        data = next((unit.data for unit in units if unit.is_image and unit.data is not None), None)
        if data is None:
            raise ValueError("it has no image")
        values = np.asarray(data, dtype=np.float64)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) > MOST_BANDS:
        raise ValueError(
            f"its image has the shape {values.shape}; it must be (H, W) or (bands, H, W), at most {MOST_BANDS} bands"
        )
    return composite(values)


def composite(bands: np.ndarray) -> Image.Image:
    """A colour image of bands by an asinh stretch that keeps colours (Lupton et al. 2004, PASP 116, 133).

    The sky and its noise are estimated from the pixels (median, and median absolute deviation), so the unit is free.
    The first row of FITS is the lowest of the image.

    Args:
        bands: Brightness in each band from blue to red, shape (C, H, W); one gives grey, two are blue and red, and of
            more than three the first, the middle and the last are taken. What is not finite counts as sky.

    Returns:
        The image, RGB.
    """
    from astropy.visualization import make_lupton_rgb

    count = len(bands)
    chosen = bands[[0, count // 2, count - 1]] if count != 2 else np.stack([bands[0], bands.mean(0), bands[1]])
    filled = np.empty(chosen.shape)
    for number, band in enumerate(chosen):
        finite = band[np.isfinite(band)]
        sky = float(np.median(finite)) if finite.size else 0.0
        noise = 1.4826 * float(np.median(np.abs(finite - sky))) if finite.size else 0.0
        noise = noise or float(np.ptp(finite) / 1000 if finite.size else 0.0) or 1.0
        filled[number] = np.where(np.isfinite(band), (band - sky) / noise, 0.0)
    blue, green, red = filled[:, ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no light at all
        rgb = make_lupton_rgb(red, green, blue, minimum=0.0, stretch=STRETCH, Q=SOFTENING)
    return Image.fromarray(rgb)
