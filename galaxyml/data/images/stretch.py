"""Brightness becomes pixels of 8 bits: what is sky and its noise, what is blank, and the stretches."""

from dataclasses import dataclass, field

import numpy as np

from galaxyml.data.images.decoding import Decoding
from galaxyml.runs.errors import DataError

# Of the asinh stretch, in units of the sky's noise: chosen so that a sky of noise 1 looks as in SDSS's own images, and
# what is a thousand times brighter is white.
SOFTENING, STRETCH = 6.5, 22.0
PERCENTILES = (0.5, 99.5)  # of the stretch `percentile`: what is black, what is white
MISSING = (-99.0, -999.0, -9999.0, -99999.0, -32768.0, -2147483648.0)  # values that surveys write where there is none
_HUGE = 1e29  # nothing on the sky: 1e30, or the largest float
_LARGEST = 1e100  # beyond it, and below its inverse, squares and quotients may not be numbers
_GAP = 10.0  # from a blank's value to the next, in units of that one's distance from the median
_FEW, _MANY, _TAIL = 0.001, 0.25, 0.005  # shares of pixels


@dataclass(frozen=True)
class Bands:
    """What a file holds of an image, unless it is a picture of 8 bits.

    Attributes:
        values: Brightness in each band, from blue to red, the first row lowest; or levels (black is 0), the first row
            uppermost. Shape (C, H, W), of the type that the file has.
        names: Of the bands; empty for one without.
        step: What the values are multiples of; 0 where they are continuous.
        highest: The level that is white; None for brightness.
        is_fits: Whether the first row is the lowest, whatever the values are.
        choice: What was chosen of the file, in words; empty where there was no choice.
    """

    values: np.ndarray
    names: tuple[str, ...] = field(default=())
    step: float = 0.0
    highest: int | None = None
    is_fits: bool = False
    choice: str = ""

    @property
    def listed(self) -> str:
        """The bands by number and name.

        >>> Bands(np.zeros((2, 1, 1)), ("g", "")).listed
        '0 (g), 1'
        """
        names = self.names or ("",) * len(self.values)
        return ", ".join(f"{number} ({name})" if name else str(number) for number, name in enumerate(names))


def white_level(values: np.ndarray) -> int | None:
    """The level that is white in an image of whole numbers; None where they are counts, that is brightness.

    Numbers of 8 bits are levels. Unsigned ones of 16 or 32 bits are where the largest lies in the upper half of what
    their type holds; below it they are counts of a detector, that such a file merely has room for.

    >>> white_level(np.array([40_000], np.uint16)), white_level(np.array([1_100], np.uint16))
    (65535, None)
    """
    if values.dtype.kind != "u":
        return None
    highest = int(np.iinfo(values.dtype).max)
    return highest if highest == 255 or int(values.max()) > highest // 2 else None


def pixels(bands: Bands, decoding: Decoding) -> np.ndarray:
    """An image of 8 bits, uint8 of shape (H, W, channels), the first row uppermost.

    Three channels are red, green and blue: of two bands red and blue, with their mean between them, of more than three
    the last, the middle and the first. One is grey, the mean of several bands. Any other number are the bands in order.

    Raises:
        DataError: If it has another number of bands, one value alone, or values that the stretch does not take.
    """
    count = len(bands.values)
    if decoding.channels not in (1, 3, count):
        raise DataError(
            f"it has {count} band{'s' * (count != 1)}: {bands.listed}. For channels={decoding.channels} choose as many "
            f"with bands=[…], or train with channels={count}"
        )
    if decoding.stretch == "none" or (bands.highest is not None and decoding.stretch == "asinh"):
        image, upwards = _levels(bands, decoding.channels), bands.is_fits
    else:
        image, upwards = _stretched(bands, decoding), True
    return np.ascontiguousarray(image[::-1] if upwards else image)


def _levels(bands: Bands, channels: int) -> np.ndarray:
    """Values that are levels already, black at 0, as (H, W, channels)."""
    values = np.where(np.isfinite(bands.values), bands.values, 0)
    low, high = values.min(), values.max()
    highest = bands.highest or (
        int(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1 if high <= 1 else 255
    )
    if low < 0 or high > highest:
        raise DataError(
            f"its values, {values.dtype}, go from {low:g} to {high:g}; stretch=none takes them as they are: in [0, 1], "
            "in [0, 255], or unsigned whole numbers of up to 32 bits"
        )
    _check_values(bands.values)
    chosen = _chosen(values, channels)
    if channels == 1:
        chosen = chosen.mean(axis=0, keepdims=True)
    scaled = (chosen / (highest / 255) + 0.5).astype(np.uint8)
    return np.moveaxis(scaled[::-1] if channels == 3 else scaled, 0, -1)


def _stretched(bands: Bands, decoding: Decoding) -> np.ndarray:
    """Brightness as (H, W, channels), row by row as it comes."""
    values = np.stack([_without_blanks(band) for band in bands.values])
    chosen = _chosen(values, decoding.channels)
    _check_values(chosen)
    units = np.stack([_in_noise(band, bands.step) for band in chosen])
    seen = np.isfinite(chosen)
    if decoding.channels == 1 and len(units) > 1:
        units = (units.sum(axis=0) / np.maximum(seen.sum(axis=0), 1))[None]
        seen = seen.any(axis=0)[None]
    if decoding.stretch == "asinh":
        if decoding.channels == 3:
            return colour(units)
        if decoding.channels == 1:
            return colour(units.repeat(3, axis=0))[:, :, :1]
        scaled = asinh(units)
    else:
        low, high = _limits(units[seen], decoding.stretch)
        scaled = (units - low) / (high - low)
    levels = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)  # rounded down, as in `colour`
    return np.moveaxis(levels[::-1] if decoding.channels == 3 else levels, 0, -1)


def colour(units: np.ndarray) -> np.ndarray:
    """A colour image by an asinh stretch of the intensity, which keeps colours (Lupton et al. 2004, PASP 116, 133).

    Args:
        units: Blue, green and red above the sky, in units of its noise, shape (3, H, W).

    Returns:
        Red, green and blue, uint8 of shape (H, W, 3).
    """
    from astropy.visualization import make_lupton_rgb

    blue, green, red = units
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no light at all
        return make_lupton_rgb(red, green, blue, minimum=0.0, stretch=STRETCH, Q=SOFTENING)


def asinh(units: np.ndarray) -> np.ndarray:
    """The stretch of `colour` for each band by itself: in [0, 1] up to white, of the same shape.

    Bands share one scale, that of their noise, so that colours are kept where their depths are.
    """
    return np.arcsinh(units * (SOFTENING / STRETCH)) * (0.1 / np.arcsinh(0.1 * SOFTENING))


def sky_and_noise(values: np.ndarray, step: float = 0.0) -> tuple[float, float]:
    """Median of an image's values, and its noise from the median absolute deviation.

    Args:
        values: Those that are no blanks, shape (N,).
        step: What they are multiples of. Where the noise is no more than some steps, medians of rounded numbers are
            too coarse, and those of the numbers that were rounded are estimated.

    Returns:
        The sky and its noise; where that is 0, a thousandth of the range, or that of rounding, or 1.
    """
    if not values.size:
        return 0.0, 1.0
    sky = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - sky)))
    if noise < 10 * step:
        sky, noise = _of_rounded(values, step) or (sky, noise)
    return sky, noise or max(float(np.ptp(values)) / 1000, step / 12**0.5) or 1.0


def _of_rounded(values: np.ndarray, step: float) -> tuple[float, float] | None:
    """Sky and noise of numbers that were rounded to steps; None where they cannot be told.

    Half-way between two steps it is known how many of the original numbers were lower. In between, that share is
    interpolated as for a normal distribution.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    levels, counts = np.unique(values, return_counts=True)
    shares = np.cumsum(counts) / values.size
    row = int(np.searchsorted(shares, 0.5))
    if row == 0 or shares[row - 1] < _TAIL or row == len(levels) - 1 or shares[row] > 1 - _TAIL:
        return None  # all on one side of what is most common, as in an image without noise, or one that was clipped
    edges, scores = levels[:-1] + step / 2, ndtri(shares[:-1])
    sky = float(np.interp(0.0, scores, edges))

    def excess(deviation: float) -> float:
        low, high = np.interp([sky - deviation, sky + deviation], edges, scores)
        return float(ndtr(high) - ndtr(low)) - 0.5

    farthest = float(edges[-1] - edges[0])
    return (sky, 1.4826 * brentq(excess, 0.0, farthest)) if excess(farthest) > 0 else None


def blanks(band: np.ndarray) -> np.ndarray:
    """Where an image holds nothing: what is not finite, a value that stands for nothing, borders of zeros.

    A value stands for nothing if it is the lowest, occurs more than once, and lies further below the next one than ten
    times what that lies below the median; or if it is one that surveys write (-99, -9999, …; 1e30) and far from
    uncommon. Zeros do in solid parts that reach the border, unless zero is a value like others elsewhere, or the image
    fades to it.

    Args:
        band: Brightness, float64 of shape (H, W).

    Returns:
        The mask, shape (H, W).
    """
    blank = ~np.isfinite(band)
    for value in _missing(band[~blank]):
        blank |= band == value
    return blank | _zero_border(band, blank)


def _missing(values: np.ndarray) -> list[float]:
    """Values of an image that stand for nothing."""
    found: list[float] = []
    size = values.size
    while size and len(found) < 4:
        low, high = values.min(), values.max()
        rest, below = values[values > low], values[values < high]
        if not rest.size:
            break  # one value alone, which is for others to judge
        count = values.size - rest.size
        gap, depth = rest.min() - low, np.median(rest) - rest.min()
        if (
            (count > 1 and gap > _GAP * depth > 0)
            or (low in MISSING and count > max(1, _FEW * size))
            or (low < -_HUGE and rest.min() > 1e-6 * low)
        ):
            found.append(float(low))
            values = rest
        elif high > _HUGE and below.max() < 1e-6 * high:
            found.append(float(high))
            values = below
        else:
            break
    return found


def _zero_border(band: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Solid parts of zeros at the border that hold nothing."""
    zero = (band == 0) & ~blank
    nothing = np.zeros_like(zero)
    if zero.sum() < 0.01 * zero.size:
        return nothing

    from scipy import ndimage

    square = np.ones((3, 3), bool)
    around = ndimage.binary_opening(np.pad(zero | blank, 3, constant_values=True), square)
    parts, _ = ndimage.label(around)
    area = (parts == parts[0, 0])[3:-3, 3:-3] & zero
    outside = ~(area | blank)
    rest = band[outside]
    is_data = not rest.size or (rest == 0).mean() > _MANY or np.ptp(rest) == 0
    if is_data or ndimage.binary_opening(outside, square).sum() < 0.5 * outside.sum():  # photons, one by one
        return nothing
    if (rest < 0).mean() < 0.01:
        beside = band[ndimage.binary_dilation(area, square, iterations=2) & outside]
        if not beside.size or np.median(beside) < 0.5 * np.median(rest):
            return nothing
    return area


def _without_blanks(band: np.ndarray) -> np.ndarray:
    """Brightness with NaN where there is none, float64, of a size that can be reckoned with: the unit is free."""
    values = band.astype(np.float64)
    values[blanks(values)] = np.nan
    largest = np.max(np.abs(values), initial=0, where=np.isfinite(values))
    if largest and not 1 / _LARGEST < largest < _LARGEST:
        values = np.ldexp(values, -int(np.frexp(largest)[1]))
    return values


def _in_noise(band: np.ndarray, step: float) -> np.ndarray:
    """Brightness above the sky in units of its noise; blanks are sky."""
    finite = np.isfinite(band)
    sky, noise = sky_and_noise(band[finite], step if step < _LARGEST else 0)
    return np.where(finite, (band - sky) / noise, 0.0)


def _chosen(values: np.ndarray, channels: int) -> np.ndarray:
    """Bands that are shown in a number of channels; for three blue, green and red."""
    count = len(values)
    if channels != 3:
        return values
    if count == 2:
        return np.stack([values[0], values.mean(0), values[1]])
    return values[[0, count // 2, count - 1]]


def _limits(values: np.ndarray, stretch: str) -> tuple[float, float]:
    """What is black and what is white of values, all bands alike."""
    low, high = float(values.min()), float(values.max())
    if stretch == "zscale":
        from astropy.visualization import ZScaleInterval

        limits = ZScaleInterval().get_limits(values)
    elif stretch == "percentile":
        limits = np.percentile(values, PERCENTILES)
    else:
        limits = (low, high)
    return (float(limits[0]), float(limits[1])) if limits[1] > limits[0] else (low, high)


def _check_values(bands: np.ndarray) -> None:
    """Refuses an image that shows nothing.

    Raises:
        DataError: If no band has more than one value.
    """
    values = [band[np.isfinite(band)] for band in bands]
    if any(band.size and np.ptp(band) > 0 for band in values):
        return
    given = np.unique(np.concatenate(values))
    if not given.size:
        raise DataError("it has nothing but blanks (NaN)")
    raise DataError(f"all its pixels have one value ({', '.join(f'{value:g}' for value in given[:3])})")
