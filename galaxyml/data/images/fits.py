"""FITS files: which of their HDUs hold the image, and which of their planes are its bands."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml

from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.quiet import quiet
from galaxyml.data.images.stretch import Bands
from galaxyml.runs.errors import DataError, shorten

MOST_BANDS = 16
# Names of the image, the preferred first; words of names that are never it; of those that are where there is no other;
# filters from blue to red.
SCIENCE, NO_IMAGE, RATHER_OTHERS, FILTERS = yaml.safe_load(
    Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
).values()
_UNNAMED = "COMPRESSED_IMAGE"  # as fpack and astropy call a compressed image that has no name
_HUBBLE = r"F\d{3,4}[A-Z]\w?"  # filters of HST and JWST


@dataclass(frozen=True)
class _Image:
    """An HDU with an image: its number, its name (empty where it has none), its shape without axes of length 1."""

    number: int
    name: str
    shape: tuple[int, ...]
    unit: Any

    def __str__(self) -> str:
        return f"{self.number} ({self.name})" if self.name else str(self.number)

    @property
    def words(self) -> list[str]:
        """Words of the name: the numbers at their ends are dropped, unless filters have them."""
        parts = re.split(r"[^A-Z0-9]+", self.name)
        return [part if part in FILTERS or re.fullmatch(_HUBBLE, part) else part.rstrip("0123456789") for part in parts]

    @property
    def band(self) -> str:
        """The filter that its name has; empty where it has none."""
        return next((word for word in reversed(self.words) if word in FILTERS or re.fullmatch(_HUBBLE, word)), "")


@dataclass(frozen=True)
class _Plane:
    """One band: a plane of an HDU, or all of it."""

    name: str
    image: _Image
    index: int | None = None


@contextmanager
def fits_units(file: BinaryIO) -> Iterator[Any]:
    """Opens a FITS file as the list of its units, without warnings about its headers: the values are what counts."""
    from astropy.io import fits

    with quiet(), fits.open(file, memmap=False) as units:
        yield units


def read_fits(file: BinaryIO, decoding: Decoding) -> Bands:
    """The bands of a FITS file.

    Without `hdu` and `bands` these are those of the image of the sky, known by its name (`SCIENCE`), never what is
    named a weight, an error or a mask (`NO_IMAGE`): a plane, a cube of planes, or several HDUs of one shape that are
    named by filters or have no name. Filters are put from blue to red, where all are known; else the file's order
    counts. Axes of length 1 are dropped.

    Raises:
        DataError: If it has no image, or lacks what was asked for; the message says what it has.
    """
    with fits_units(file) as units:
        images = _images(units)
        planes = _named_planes(images, _science(units, images, decoding.hdu), decoding)
        if decoding.bands is None and len(planes) > MOST_BANDS:
            raise _wrong_shape(planes[0].image.shape)
        steps = {plane.image.number: _step(plane.image.unit) for plane in planes}
        data = {plane.image.number: _data(plane.image) for plane in planes}
        values = [data[plane.image.number] for plane in planes]
        values = [
            value if plane.index is None else value[plane.index] for value, plane in zip(values, planes, strict=True)
        ]
    names = tuple(plane.name for plane in planes)
    return Bands(np.stack(values), names, max(steps.values()), is_fits=True, choice=_in_words(images, planes))


def _images(units: Any) -> list[_Image]:
    """All HDUs that hold an image."""
    from astropy.io import fits

    found = []
    for number, unit in enumerate(units):
        kinds = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
        if isinstance(unit, kinds) and not isinstance(unit, fits.GroupsHDU) and len(unit.shape) > 1 and min(unit.shape):
            sides = tuple(side for side in unit.shape if side != 1)
            shape = sides if len(sides) > 1 else tuple(unit.shape[-2:])
            name = unit.name.upper()
            found.append(_Image(number, "" if name == _UNNAMED else name, shape, unit))
    return found


def _science(units: Any, images: Sequence[_Image], hdu: str | int | None) -> list[_Image]:
    """The HDU of the image, or several that are its bands."""
    if hdu is not None:
        return [_asked(units, images, hdu)]
    if not images:
        raise DataError("it has no image")
    sky = [image for image in images if not {*NO_IMAGE} & {*image.words}]
    sky = [image for image in sky if not {*RATHER_OTHERS} & {*image.words}] or sky
    if not sky:
        raise DataError(
            f"it has no image but {shorten([str(image) for image in images])}, which by their names are weights, masks "
            "or errors; hdu=… takes one of them"
        )
    named = [image for name in SCIENCE for image in sky if image.name == name]
    if named:
        return named[:1]
    planes = [image for image in sky if len(image.shape) == 2]
    filters = [image for image in planes if image.band]
    filters = [image for image in filters if image.shape == filters[0].shape]
    if 1 < len({image.band for image in filters}) == len(filters):
        return filters
    if 1 < len(planes) == len(sky) <= MOST_BANDS and not any(image.name for image in sky):
        return planes if len({image.shape for image in planes}) == 1 else sky[:1]
    worded = [image for name in SCIENCE for image in sky if name in image.words]
    return (worded or sky)[:1]


def _asked(units: Any, images: Sequence[_Image], hdu: str | int) -> _Image:
    """The HDU of a name or number."""
    wanted = str(hdu).strip().upper()
    found = [image for image in images if image.unit.name.upper() == wanted] or [
        image for image in images if str(image.number) == wanted
    ]
    if found:
        return found[0]
    listed = shorten([str(image) for image in images], shown=MOST_BANDS) if images else "none"
    is_there = wanted in {str(number) for number in range(len(units))} | {str(unit.name).upper() for unit in units}
    raise DataError(
        f"hdu={hdu}: {'that HDU holds no image' if is_there else 'there is no such HDU'}; its HDUs with an image are "
        f"{listed}"
    )


def _named_planes(images: Sequence[_Image], chosen: Sequence[_Image], decoding: Decoding) -> list[_Plane]:
    """The bands that are read, in the order asked for."""
    planes = [plane for image in chosen for plane in _planes(image)]
    order = _order([plane.name.upper() for plane in planes])
    if order is not None:
        planes = [planes[row] for row in np.argsort(order)]
    if decoding.bands is None:
        return planes
    others = [_Plane(image.name, image) for image in images if len(image.shape) == 2]
    found = []
    for band in decoding.bands:
        name = str(band).strip().upper()
        plane = next(
            (
                plane
                for candidates in (planes, others)
                for plane in candidates
                if name and name in (plane.name.upper(), plane.image.name if plane.index is None else "")
            ),
            None,
        )
        if plane is None and name.isdigit() and int(name) < len(planes):
            plane = planes[int(name)]
        if plane is None:
            raise DataError(
                f"bands={band}: there is no such band; it has "
                + shorten([f"{n} ({p.name})" if p.name else str(n) for n, p in enumerate(planes)], shown=MOST_BANDS)
            )
        found.append(plane)
    if len(shapes := {plane.image.shape[-2:] for plane in found}) > 1:
        raise DataError(f"bands={shorten(decoding.bands)}: they have different shapes, {shorten(sorted(shapes))}")
    return found


def _order(names: Sequence[str]) -> list[float] | None:
    """Places of filters from blue to red; None where one is not known, or occurs twice.

    Filters of HST and JWST go by their numbers, as `F606W` in nm. Beside optical ones those below 200 are infrared, as
    `F160W` at 1,600 nm.
    """
    numbers = [float(name[1:].rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) for name in names if re.fullmatch(_HUBBLE, name)]
    if len(numbers) == len(names):
        is_optical = any(500 <= number < 1000 for number in numbers)
        order = [10 * number if is_optical and number < 200 else number for number in numbers]
    else:
        order = [float(FILTERS.index(name)) for name in names if name in FILTERS]
    return order if len(set(order)) == len(names) else None


def _planes(image: _Image) -> list[_Plane]:
    """The planes of an HDU, named by its header's `BANDS` (`grz`), or `BAND0`, `BAND1` and so on."""
    if len(image.shape) == 2:
        return [_Plane(image.band.lower() or image.name, image)]
    if len(image.shape) > 3:
        raise _wrong_shape(image.shape)
    count = image.shape[0]
    header = image.unit.header
    text = str(header.get("BANDS", "")).strip()
    names = re.split(r"[\s,;]+", text) if re.search(r"[\s,;]", text) else list(text)
    if len(names) != count:
        names = [str(header.get(f"BAND{number}", "")).strip() for number in range(count)]
    return [_Plane(name, image, index) for index, name in enumerate(names)]


def _wrong_shape(shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"its image has the shape {shape}; it must be (H, W) or (bands, H, W), at most {MOST_BANDS} bands; "
        "bands=[…] takes some of more"
    )


def _step(unit: Any) -> float:
    """What the values of an HDU are multiples of; 0 where they are floats."""
    header = unit.header
    return abs(float(header.get("BSCALE", 1))) if int(header["BITPIX"]) > 0 else 0.0


def _data(image: _Image) -> np.ndarray:
    values = np.asarray(image.unit.data).reshape(image.shape)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _in_words(images: Sequence[_Image], planes: Sequence[_Plane]) -> str:
    """What was chosen of several images; empty where there is one."""
    read = list(dict.fromkeys(str(plane.image) for plane in planes))
    if len(images) < 2:
        return ""
    if len(read) > 1:
        known = _order([plane.name.upper() for plane in planes]) is not None
        return f"its HDUs {', '.join(read)} are read as bands, {'from blue to red' if known else 'in this order'}"
    return f"its HDU {read[0]} is read, of {shorten([str(image) for image in images], shown=MOST_BANDS)}"
