"""Pictures: what Pillow reads, of any mode. Those of 8 bits stay as they are, others hold brightness or fine levels."""

from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from galaxyml.data.images.quiet import quiet
from galaxyml.data.images.stretch import Bands, white_level
from galaxyml.runs.errors import DataError

MOST_PAGES = 16
_SAMPLE_FORMAT, _UNSIGNED = 339, 1  # of TIFF


def read_picture(file: BinaryIO, kind: str) -> Image.Image | Bands:
    """A picture, turned as its EXIF data say.

    Several pages of a TIFF that are grey and of one size are its bands, from blue to red; else the first page counts,
    as the first frame of a film does.

    Args:
        file: Its content.
        kind: What it is, as Pillow calls it: nothing else is tried.
    """
    with quiet(), Image.open(file, formats=(kind,)) as image:
        pages = getattr(image, "n_frames", 1) if kind == "TIFF" else 1
        is_fine = image.mode == "RGB" and any("RGB;16" in str(tile[3]) for tile in image.tile)
        first = _page(image)
        if 1 < pages <= MOST_PAGES and isinstance(first, np.ndarray):
            arrays = [first]
            for number in range(1, pages):
                image.seek(number)
                page = _page(image)
                if not isinstance(page, np.ndarray) or page.shape != first.shape:
                    break
                arrays.append(page)
            else:
                return of_planes(np.stack(arrays))
        if is_fine and (colours := _fine_colours(file, kind)) is not None:
            return colours
    return from_pillow(first) if isinstance(first, Image.Image) else of_planes(first[None])


def of_planes(values: np.ndarray) -> Bands:
    """Grey planes (C, H, W) of numbers as the bands of an image, from blue to red."""
    highest, choice = white_level(values), ""
    if values.dtype.kind == "u" and highest is None:
        choice = (
            f"its whole numbers go up to {int(values.max()):,} and do not fill {8 * values.dtype.itemsize} bits: they "
            "are counts of a detector, which are stretched"
        )
    return Bands(values, step=float(values.dtype.kind in "ui"), highest=highest, choice=choice)


def from_pillow(image: Image.Image) -> Image.Image | Bands:
    """A picture of 8 bits as it is, or the numbers of one that has more."""
    values = _numbers(image)
    return image if values is None else of_planes(values[None])


def eight_bits(image: Image.Image, channels: int) -> np.ndarray:
    """A picture of 8 bits in any mode as uint8 of shape (H, W, channels); transparent parts are black.

    Raises:
        DataError: If it is neither to be grey nor to have colours.
    """
    if channels not in (1, 3):
        count = channels_of_picture(image)
        raise DataError(
            f"it is a picture {'of red, green and blue' if count == 3 else 'of grey alone'}; channels={channels} takes "
            f"files of {channels} bands (FITS, npy, pages of a TIFF)"
        )
    if image.mode not in ("RGB", "L", "YCbCr", "CMYK", "1"):
        transparent = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, transparent).convert("RGB")
    if channels == 3:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.asarray(image.convert("L"))[:, :, None]


def channels_of_picture(image: Image.Image) -> int:
    """1 of grey, 3 of colours."""
    return 1 if image.mode in ("1", "L", "LA", "La") else 3


def _page(image: Image.Image) -> Image.Image | np.ndarray:
    """A page that is decoded and turned: an array (H, W) of grey on a TIFF's page, else the image."""
    image.load()
    turned = ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) in range(2, 9) else image
    values = _numbers(turned, image)
    if values is None and getattr(image, "n_frames", 1) > 1 and image.format == "TIFF" and image.mode == "L":
        values = np.asarray(turned)
    if values is not None:
        return values
    return turned.copy() if getattr(image, "n_frames", 1) > 1 else turned  # a film reads its file until it is closed


def _numbers(image: Image.Image, original: Image.Image | None = None) -> np.ndarray | None:
    """Numbers of more than 8 bits, of the type that the file has; None where there are none."""
    if image.mode == "F":
        return np.asarray(image)
    if not image.mode.startswith("I"):
        return None
    values = np.asarray(image)
    original = original or image
    bits = original.tag_v2.get(258, (32,)) if hasattr(original, "tag_v2") else (32,)
    if original.format == "PNG":  # of 16 bits, whichever mode Pillow has for it
        return values.astype(np.uint16)
    if values.dtype == np.int32 and hasattr(original, "tag_v2"):
        is_unsigned = original.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
        return values.view(np.uint32) if is_unsigned and bits[0] == 32 else values
    return values.astype(values.dtype.newbyteorder("="))


def _fine_colours(file: BinaryIO, kind: str) -> Bands | None:
    """Counts of red, green and blue in 16 bits, of which Pillow decodes the upper 8 alone; None where those suffice."""
    halves = []
    for orders in ("BL", "LB"):
        file.seek(0)
        with Image.open(file, formats=(kind,)) as image:
            image.tile = [type(tile)(*tile[:3], _swapped(tile[3], *orders)) for tile in image.tile]
            image.load()
            halves.append(np.asarray(image).astype(np.uint16))
    values = halves[0] << 8 | halves[1]
    return None if white_level(values) else of_planes(values[:, :, ::-1].transpose(2, 0, 1))


def _swapped(arguments: Any, big: str, little: str) -> Any:
    """Arguments of Pillow's decoder for the bytes in another order; native is little-endian where Pillow has wheels."""
    mode = arguments if isinstance(arguments, str) else arguments[0]
    mode = f"RGB;16{big if mode.endswith('B') else little}"
    return mode if isinstance(arguments, str) else (mode, *arguments[1:])
