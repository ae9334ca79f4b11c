"""Arrays of numbers, of a file or given as they are: pictures of 8 bits, or bands."""

import numpy as np
from PIL import Image

from galaxyml.data.images.fits import MOST_BANDS
from galaxyml.data.images.pictures import of_planes
from galaxyml.data.images.stretch import Bands, white_level
from galaxyml.runs.errors import DataError

_SHAPES = (
    "its values are {} of shape {}; an image is (H, W), (H, W, 3), (H, W, 4) or (bands, H, W), of whole numbers or "
    "floats"
)


def of_array(values: np.ndarray, channels: int) -> Image.Image | Bands:
    """What an array holds: a picture of 8 bits, or bands.

    Args:
        values: As of `galaxyml.data.images.decode.from_array`.
        channels: That are wanted: of more than three, or two, all are bands.

    Raises:
        DataError: If it is no image.
    """
    if values.dtype.kind not in "uif" or values.ndim not in (2, 3) or not values.size:
        raise DataError(_SHAPES.format(values.dtype, values.shape))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[:, :, 0] if values.shape[2] == 1 else values[0]
    if values.dtype.kind in "ui" and values.dtype != np.uint16 and values.min() >= 0 and values.max() <= 255:
        values = values.astype(np.uint8)
    if values.ndim == 2:
        return Image.fromarray(values) if values.dtype == np.uint8 else of_planes(values[None])
    is_last = _channels_last(values.shape)
    bands = values.transpose(2, 0, 1) if is_last else values
    if channels in (1, 3) and len(bands) in ((3, 4) if is_last else (3,)):
        return _of_three(bands, is_last)
    return of_planes(bands)


def _of_three(bands: np.ndarray, is_last: bool) -> Image.Image | Bands:
    """Red, green and blue, and perhaps how opaque, or three bands of brightness from blue to red."""
    kind, low, high = bands.dtype.kind, bands.min(), bands.max()  # NaN is in no range
    highest = 1 if kind == "f" else white_level(bands)
    # Brightness may have any unit, in which all of it is small: whole numbers are judged by `white_level`.
    if highest and low >= 0 and (0.5 if kind == "f" and not is_last else 0) < high <= highest:
        scaled = bands if highest == 255 else bands * (255 / highest) + 0.5
        return Image.fromarray(np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0)))
    if kind == "u" and is_last:
        return of_planes(bands[2::-1])  # counts in red, green and blue
    if is_last and len(bands) == 3:
        raise DataError(
            f"its colours, {bands.dtype}, go from {low:g} to {high:g}; they must lie in [0, {highest or 255}]. "
            "What is no colour but brightness goes in as (H, W), as (bands, H, W), or as a FITS file"
        )
    return of_planes(bands)


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last axis of (A, B, C) is that of the channels, or else the first.

    Raises:
        DataError: If neither can be.
    """
    first, last = shape[0] <= MOST_BANDS, shape[2] <= MOST_BANDS
    if not (first or last):
        raise DataError(_SHAPES.format("numbers", shape))
    return last and (not first or shape[2] in (3, 4) or shape[2] <= shape[0])
