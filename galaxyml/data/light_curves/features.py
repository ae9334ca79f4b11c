"""Features of light curves by hand, the baseline of a net.

Fluxes are differences from a template, so that they may be negative, in FLUXCAL units (zero point 27.5 mag, as SNANA
has it, Kessler et al. 2009). They are taken as they are: PLAsTiCC's are already corrected for dust.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from galaxyml.data.light_curves.columns import LightCurves
from galaxyml.data.light_curves.inputs import CONDITIONS
from galaxyml.data.light_curves.reader import BANDS
from galaxyml.runs.errors import UserError, shorten
from galaxyml.runs.progress import track

OBSERVATIONS = 500_000  # at a time: some 200 MB
SOFTENING = 10.0  # FLUXCAL units; asinh(flux / 10) is linear within the noise and logarithmic beyond, as luptitudes are
DAYS = 10.0  # likewise of times: months and years differ by a factor
CLEAR = 5.0  # signal to noise of a peak whose shape is measured
ZERO_POINT = 27.5

OF_BAND = ("mean", "max", "min", "excess", "skew", "kurtosis", "chi2", "eta")
COLOURS = tuple(pairwise(BANDS))
NEAR_PEAK, LATER = (-10.0, 10.0), (20.0, 60.0)  # days from the peak in which colours are measured
PERCENTILES = (5, 25, 50, 75, 95)
OF_OBJECT = (
    *("count", "snr_max", *(f"snr_{share:02d}" for share in PERCENTILES), "chi2", "stetson_j", "stetson_k", "mad_std"),
    *("detected", "negative", "detections", "span", "first_to_peak", "peak_to_last", "longest_gap"),
    *("half_before", "half_after", "tenth_before", "tenth_after", "rise", "fall", "bright_elsewhere"),
)
NAMES = (
    *(f"{name}_{band}" for name in OF_BAND for band in BANDS),
    *(f"delay_{band}" for band in BANDS),
    *(f"peak_{blue}_{red}" for blue, red in COLOURS),
    *(f"later_{blue}_{red}" for blue, red in COLOURS),
    *OF_OBJECT,
    "absolute_peak",
    *CONDITIONS,
)


def features(curves: LightCurves, objects: pd.DataFrame) -> pd.DataFrame:
    """Features of every object.

    What does not exist, for want of observations or of a clear peak, is NaN. Times are asinh(days / 10), fluxes of a
    band asinh(flux / 10). Of each band:

    - `mean` (weighted by 1 / error²), `max` and `min` flux; `excess`: the standard deviation beyond what errors make.
    - `skew` and `kurtosis` (as asinh; 0 for a Gaussian) of the fluxes, from the moments of the sample.
    - `chi2`: log10 of the reduced chi-square about the weighted mean.
    - `eta`: squared differences of successive fluxes by squared deviations from the mean (von Neumann 1941, Annals of
      Mathematical Statistics 12, 367); about 2 for noise.
    - `delay`: time from the object's peak to the band's, where that is clear, which is S/N >= 5.

    The peak of a band is the observation whose flux less its error is largest; the object's is that of the band whose
    peak has the largest S/N. Of neighbouring bands, `peak_u_g` and so on within 10 days of the peak and `later_u_g` and
    so on 20 to 60 days after it: the bluer less the redder weighted mean flux, by the quadratic sum of both and of
    their errors. Of all bands together:

    - `count` of observations, and as asinh(S/N) that at the peak, `snr_max`, and percentiles, `snr_05` to `snr_95`.
    - `chi2` as above, and `stetson_k` (Stetson 1996, PASP 108, 851), about the weighted mean of each band.
    - `stetson_j` (ibid., as asinh), of successive observations less than a day apart, in whatever bands.
    - `mad_std`: median absolute deviation by standard deviation, of fluxes less the weighted mean of their band.
    - `detected`, `negative`: shares of observations that are detected, and that are negative by more than 5 errors.
    - `detections`, how many; `span`, `first_to_peak`, `peak_to_last`, `longest_gap`: times between them.
    - `half_before`, `half_after`, `tenth_before`, `tenth_after`: times from the peak to the nearest observation below
      half and a tenth of the peak of its own band, bands without a clear peak aside; to the first or last, if none is.
    - `rise`, `fall`: least-squares slope a day of such relative fluxes, over 50 days before and after the peak.
    - `bright_elsewhere`: of such relative fluxes above a half, the share that is over 100 days from the peak.

    Of the catalog `photoz`, `photoz_err`, `mwebv`, `galactic` and `ddf`, and `absolute_peak`, the magnitude of the peak
    less the distance modulus.

    Args:
        curves: N objects.
        objects: With `id`, `photoz`, `photoz_err`, `distmod` (NaN for galactic objects), `mwebv`, `galactic` and `ddf`,
            in any order; there may be more.

    Returns:
        N rows in the order of `curves`: `id`, then float32 columns `NAMES`.

    Raises:
        UserError: There are no light curves, or a column or an object is missing in `objects`.
    """
    if not len(curves):
        raise UserError("There are no light curves to make features of. Take another sample.")
    if missing := [name for name in ("id", *CONDITIONS, "distmod") if name not in objects]:
        raise UserError(
            f"Features need the column '{missing[0]}' of the objects; there are: {', '.join(map(str, objects))}."
        )
    rows = pd.Index(objects["id"]).get_indexer(pd.Index(curves.ids))
    if (unknown := rows < 0).any():
        raise UserError(
            f"{int(unknown.sum())} of {len(rows)} light curves have no row in the table of objects: id "
            f"{shorten(curves.ids[unknown].tolist())}. Add their rows, or leave the curves out."
        )
    conditions = objects[[*CONDITIONS, "distmod"]]
    bounds = _chunks(curves.offsets)
    tables = []
    for start, stop in track(pairwise(bounds), "Light curves to features", len(bounds) - 1):
        values = _features(curves, start, stop)
        catalog = conditions.iloc[rows[start:stop]]
        peak = np.where(values["peak"] > 0, values["peak"], np.nan)
        values["absolute_peak"] = ZERO_POINT - 2.5 * np.log10(peak) - catalog["distmod"].to_numpy(np.float64)
        values |= {name: catalog[name].to_numpy(np.float64) for name in CONDITIONS}
        tables.append(pd.DataFrame({name: values[name].astype(np.float32) for name in NAMES}))
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "id", curves.ids)
    return table


def _chunks(offsets: np.ndarray) -> list[int]:
    """Bounds of runs of objects that have about `OBSERVATIONS` together, and one object or more."""
    starts = np.searchsorted(offsets[:-1], np.arange(offsets[0], offsets[-1], OBSERVATIONS))
    return np.unique([0, *starts, len(offsets) - 1]).tolist()


class Segments:
    """Rows that belong to S segments; those of a segment lie together.

    Args:
        of: Segment of each row, ascending, shape (M,).
        size: S.
    """

    def __init__(self, of: np.ndarray, size: int) -> None:
        self.of, self.size = of, size
        self.count = np.bincount(of, minlength=size)
        self.some = np.flatnonzero(self.count)
        self.starts = (self.count.cumsum() - self.count)[self.some]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """(M,) -> (S,), as the other methods; 0 where a segment is empty, and NaN with those."""
        return np.bincount(self.of, values, self.size)

    def mean(self, values: np.ndarray) -> np.ndarray:
        return _ratio(self.sum(values), self.count)

    def max(self, values: np.ndarray) -> np.ndarray:
        return self._reduce(np.maximum, values)

    def min(self, values: np.ndarray) -> np.ndarray:
        return self._reduce(np.minimum, values)

    def quantiles(self, values: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Linear between order statistics, as numpy's; (M,) -> (len(shares), S)."""
        quantiles = np.full((len(shares), self.size), np.nan)
        ordered = values[np.lexsort((values, self.of))]
        rank = np.multiply.outer(shares, self.count[self.some] - 1)
        below = np.floor(rank).astype(np.int64)
        above = self.starts + np.ceil(rank).astype(np.int64)
        low = ordered[self.starts + below]
        quantiles[:, self.some] = low + (rank - below) * (ordered[above] - low)
        return quantiles

    def highest(self, values: np.ndarray) -> np.ndarray:
        """Row of the first of the largest values, shape (S,); -1 where a segment is empty."""
        rows = np.flatnonzero(values == self.max(values)[self.of])
        highest = np.full(self.size, -1)
        highest[self.of[rows[::-1]]] = rows[::-1]
        return highest

    def where(self, wanted: np.ndarray) -> "Segments":
        """The same segments with some of their rows."""
        return Segments(self.of[wanted], self.size)

    def _reduce(self, ufunc: np.ufunc, values: np.ndarray) -> np.ndarray:
        reduced = np.full(self.size, np.nan)
        if len(self.some):
            reduced[self.some] = ufunc.reduceat(values, self.starts)
        return reduced


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where the divisor is not positive."""
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def _days(days: np.ndarray) -> np.ndarray:
    return np.arcsinh(days / DAYS)


def _at(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values at rows, NaN at -1."""
    return np.append(values, np.nan)[rows]


def _features(curves: LightCurves, start: int, stop: int) -> dict[str, np.ndarray]:
    """Features of the objects from `start` to `stop`, and the flux `peak` of their peak."""
    n, bands = stop - start, len(BANDS)
    rows = slice(int(curves.offsets[start]), int(curves.offsets[stop]))
    owner = np.repeat(np.arange(n), np.diff(curves.offsets[start : stop + 1]))
    time, flux, error = (np.asarray(column[rows], np.float64) for column in (curves.mjd, curves.flux, curves.error))
    band, detected = np.asarray(curves.band[rows], np.int64), np.asarray(curves.detected[rows], bool)
    of_band = owner * bands + band
    by_band = np.argsort(of_band, kind="stable")
    each = Segments(of_band[by_band], n * bands)
    whole = Segments(owner, n)

    statistics, level = _of_bands(each, flux[by_band], error[by_band])
    table = {
        f"{name}_{band}": v.reshape(n, bands)[:, b] for name, v in statistics.items() for b, band in enumerate(BANDS)
    }

    top = np.append(by_band, -1)[each.highest((flux - error)[by_band])]  # -1 where a band has no observation
    clear = (peak_snr := _at(flux / error, top)) >= CLEAR
    best = np.where(np.isnan(peak_snr), -np.inf, peak_snr).reshape(n, bands).argmax(axis=1)
    peak = top[np.arange(n) * bands + best]
    peak_time = _at(time, peak)
    delay = np.where(clear, _at(time, top), np.nan).reshape(n, bands) - peak_time[:, None]
    table |= {f"delay_{band}": _days(delay[:, b]) for b, band in enumerate(BANDS)}
    table |= {"peak": _at(flux, peak), "snr_max": np.arcsinh(_at(flux / error, peak))}

    since = time - peak_time[owner]
    for name, (first, last) in {"peak": NEAR_PEAK, "later": LATER}.items():
        table |= _colours(name, each, by_band, (since >= first) & (since <= last), flux, error)
    table |= _of_objects(whole, time, flux, error, detected, level[of_band])
    table |= _of_detections(whole.where(detected), time[detected], peak_time)
    relative = np.where(clear[of_band], flux / np.where(clear, _at(flux, top), 1.0)[of_band], np.nan)
    return table | _of_peaks(whole, since, relative)


def _of_bands(each: Segments, flux: np.ndarray, error: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Statistics of each band of each object, and its weighted mean."""
    weight = error**-2
    level = _ratio(each.sum(weight * flux), each.sum(weight))
    away = flux - each.mean(flux)[each.of]
    squares = each.sum(away**2)
    varies = squares > 0  # exactly 0 of equal fluxes: sums of single-precision values in double precision are exact
    variance = np.where(varies, squares, np.nan) / each.count.clip(1)
    follows = np.flatnonzero(each.of[1:] == each.of[:-1])
    steps = np.bincount(each.of[follows], (flux[follows + 1] - flux[follows]) ** 2, each.size)
    beyond = _ratio(squares, each.count - 1) - each.mean(error**2)
    chi2 = _ratio(each.sum(weight * (flux - level[each.of]) ** 2), each.count - 1)
    return {
        "mean": np.arcsinh(level / SOFTENING),
        "max": np.arcsinh(each.max(flux) / SOFTENING),
        "min": np.arcsinh(each.min(flux) / SOFTENING),
        "excess": np.arcsinh(np.sqrt(beyond.clip(min=0)) / SOFTENING),
        "skew": each.mean(away**3) / variance**1.5,
        "kurtosis": np.arcsinh(each.mean(away**4) / variance**2 - 3),
        "chi2": np.log10(chi2.clip(min=1e-3)),
        "eta": steps / np.where(varies, squares, np.nan),
    }, level


def _of_objects(
    whole: Segments, time: np.ndarray, flux: np.ndarray, error: np.ndarray, detected: np.ndarray, level: np.ndarray
) -> dict[str, np.ndarray]:
    """Statistics over all bands; `level` is the weighted mean of each observation's band."""
    snr, away = flux / error, flux - level
    normed = away / error
    table = {
        "count": whole.count.astype(np.float64),
        "chi2": np.log10(_ratio(whole.sum(normed**2), whole.count - 1).clip(min=1e-3)),
        "stetson_k": _ratio(whole.mean(np.abs(normed)), np.sqrt(whole.mean(normed**2))),
        "mad_std": _mad(whole, away),
        "detected": whole.mean(detected.astype(np.float64)),
        "negative": whole.mean((snr < -CLEAR).astype(np.float64)),
    }
    for share, values in zip(PERCENTILES, whole.quantiles(snr, np.array(PERCENTILES) / 100), strict=True):
        table[f"snr_{share:02d}"] = np.arcsinh(values)
    pair = np.flatnonzero((whole.of[1:] == whole.of[:-1]) & (np.diff(time) < 1))
    both = normed[pair] * normed[pair + 1]
    pairs = whole.where(pair)
    return table | {"stetson_j": np.arcsinh(pairs.mean(np.sign(both) * np.sqrt(np.abs(both))))}


def _mad(whole: Segments, away: np.ndarray) -> np.ndarray:
    """Median absolute deviation by standard deviation."""
    middle = whole.quantiles(away, np.array([0.5]))[0]
    spread = whole.quantiles(np.abs(away - middle[whole.of]), np.array([0.5]))[0]
    return _ratio(spread, np.sqrt(whole.mean((away - whole.mean(away)[whole.of]) ** 2)))


def _of_detections(seen: Segments, time: np.ndarray, peak_time: np.ndarray) -> dict[str, np.ndarray]:
    first, last = seen.min(time), seen.max(time)
    gaps = np.flatnonzero(seen.of[1:] == seen.of[:-1])
    return {
        "detections": seen.count.astype(np.float64),
        "span": _days(last - first),
        "first_to_peak": _days(peak_time - first),
        "peak_to_last": _days(last - peak_time),
        "longest_gap": _days(seen.where(gaps).max(time[gaps + 1] - time[gaps])),
    }


def _of_peaks(whole: Segments, since: np.ndarray, relative: np.ndarray) -> dict[str, np.ndarray]:
    """The shape about the peak, from days since it and flux by the peak of its band (NaN where that is not clear)."""
    use = ~np.isnan(relative)
    shown, since, relative = whole.where(use), since[use], relative[use]
    first, last = shown.min(since), shown.max(since)
    table = {}
    for name, share in {"half": 0.5, "tenth": 0.1}.items():
        low = relative < share
        before, after = low & (since < 0), low & (since > 0)
        table[f"{name}_before"] = _days(-np.fmax(shown.where(before).max(since[before]), first))
        table[f"{name}_after"] = _days(np.fmin(shown.where(after).min(since[after]), last))
    for name, near in {"rise": (since >= -50) & (since <= 0), "fall": (since >= 0) & (since <= 50)}.items():
        segments, days, light = shown.where(near), since[near], relative[near]
        days = days - segments.mean(days)[segments.of]
        # With a day's error, so that it is never steeper than 1.
        table[name] = _ratio(segments.sum(days * light), segments.sum(days**2) + segments.count)
    high = relative > 0.5
    table["bright_elsewhere"] = shown.where(high).mean((np.abs(since[high]) > 100).astype(np.float64))
    return table


def _colours(
    name: str, each: Segments, by_band: np.ndarray, near: np.ndarray, flux: np.ndarray, error: np.ndarray
) -> dict[str, np.ndarray]:
    """Colours of mean fluxes weighted by 1 / error², of the observations that are `near`."""
    near = near[by_band]
    segments, weight = each.where(near), error[by_band][near] ** -2
    total = segments.sum(weight)
    mean = _ratio(segments.sum(weight * flux[by_band][near]), total).reshape(-1, len(BANDS))
    noise = _ratio(np.ones(each.size), total).reshape(-1, len(BANDS))
    size = mean**2 + noise
    return {
        f"{name}_{blue}_{red}": (mean[:, b] - mean[:, b + 1]) / np.sqrt(size[:, b] + size[:, b + 1])
        for b, (blue, red) in enumerate(COLOURS)
    }
