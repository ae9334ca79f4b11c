"""Figures of a summary: groups, distributions, the sky."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator, PercentFormatter

from galaxyml.evaluation.plots import ACCENT, BASELINE, MODEL, NARROW
from galaxyml.inference.healpix import centres, coarser, pixels
from galaxyml.inference.summary.groups import Partition
from galaxyml.inference.summary.tallies import BINS, ORDER, NumberHistogram, ShareHistogram

PANELS = 60  # histograms of a figure at most
WIDE = 4  # of them in a row
COARSEST, FINEST = 3, 7  # orders of a map of all the sky
FULL, FULL_OF_SHARES = 10, 100  # objects of an average pixel, from which on pixels may be smaller
FIELD = 50.0  # degrees across, up to which a map shows a field and not all the sky
HIGH = 75.0  # degrees of declination up to which it does
STEEP = 30.0  # from the lowest to the highest count, above which a map's colours are logarithmic


def groups(partitions: Sequence[Partition]) -> Figure:
    """How many objects are in each class, or give each answer to a question, of those that reach it."""
    wide = min(2, len(partitions))
    rows = [list(partitions[start : start + wide]) for start in range(0, len(partitions), wide)]
    tall = [max(len(partition.groups) for partition in row) + 2.2 for row in rows]
    figure = Figure(figsize=(NARROW if wide == 1 else 10, 0.24 * sum(tall) + 0.4), layout="constrained")
    grid = figure.add_gridspec(len(rows), wide, height_ratios=tall)
    for number, row in enumerate(rows):
        for column, partition in enumerate(row):
            axes = figure.add_subplot(grid[number, column])
            counts = np.array([group.count for group in partition.groups], float)
            shares = counts / max(counts.sum(), 1)
            axes.barh(np.arange(len(counts)), shares, height=0.7, color=MODEL)
            for place, (share, count) in enumerate(zip(shares, counts, strict=True)):
                axes.text(share + 0.01, place, f"{count:,.0f}", va="center", fontsize=7.5)
            axes.set_yticks(np.arange(len(counts)), [group.name for group in partition.groups], fontsize=8)
            axes.set(ylim=(tall[number] - 2.7, -0.6), xlim=(0, 1.18 * max(float(shares.max(initial=0)), 0.05)))
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(axis="x", labelsize=7.5)
            axes.set_title(f"{partition.title}  ({partition.count:,})", fontsize=9, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def distributions(histograms: Mapping[str, ShareHistogram | NumberHistogram], label: str) -> Figure:
    """Histograms, a panel each, at most `PANELS` of them.

    Args:
        histograms: By title.
        label: Of all values.
    """
    shown = list(histograms.items())[:PANELS]
    wide = min(WIDE, len(shown))
    high = -(-len(shown) // wide)
    figure = Figure(figsize=(max(2.5 * wide, 4.5), 1.55 * high + 0.4), layout="constrained")
    for number, (title, histogram) in enumerate(shown, start=1):
        axes = figure.add_subplot(high, wide, number)
        if isinstance(histogram, ShareHistogram):
            draw_bins(axes, histogram.counts, np.linspace(0, 1, BINS + 1))
        else:
            edges = span(histogram)
            draw_bins(axes, histogram.binned(edges), edges)
        axes.set_title(title if len(title) < 42 else f"{title[:40]}…", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supylabel("objects", fontsize=9)
    figure.supxlabel(label, fontsize=9)
    return figure


def draw_bins(axes: Axes, counts: np.ndarray, edges: np.ndarray) -> None:
    """Bars without gaps, logarithmic where most of them would not be seen."""
    axes.stairs(counts, edges, fill=True, color=MODEL, linewidth=0)
    filled = counts[counts > 0]
    if len(filled) and filled.max() > 50 * np.median(filled):
        axes.set_yscale("log")
        axes.set_ylim(0.8, None)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_ylim(0, None)
    axes.set_xlim(edges[0], edges[-1])
    axes.spines[["top", "right"]].set_visible(False)


def span(histogram: NumberHistogram, bins: int = BINS) -> np.ndarray:
    """Edges of bins for all numbers but the outermost 0.1 % of each end, of which none is narrower than is known."""
    if not histogram.count:
        return np.array([0.0, 1.0])
    low, high = histogram.quantile(0.001), histogram.quantile(0.999)
    largest = max(abs(low), abs(high))
    if high <= low:
        low, high = low - 0.01 * (largest or 1), high + 0.01 * (largest or 1)
    room = 0.01 * (high - low)
    return np.linspace(low - room, high + room, max(min(bins, int((high - low) / (0.004 * largest or 1))), 5) + 1)


def unlike_training(histogram: NumberHistogram) -> Figure:
    """How far objects are from the training set, with the distance from which on they are out of distribution."""
    figure = Figure(figsize=(NARROW, 2.8), layout="constrained")
    axes = figure.add_subplot()
    low, high = max(min(histogram.quantile(0.001), 0.5), 1e-3), max(histogram.high, 1.5)
    edges = np.geomspace(low, high * 1.02, 61)
    draw_bins(axes, histogram.binned(edges), edges)
    axes.axvline(1, color=ACCENT, linewidth=1.4, linestyle="--", label="1 % of validation images are beyond")
    axes.set(xscale="log", xlabel="ood_distance", ylabel="objects")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.legend(frameon=False, fontsize=8)
    return figure


def scores(histogram: NumberHistogram) -> Figure:
    """Scores of light curves."""
    figure = Figure(figsize=(NARROW, 2.8), layout="constrained")
    axes = figure.add_subplot()
    edges = span(histogram)
    draw_bins(axes, histogram.binned(edges), edges)
    axes.set(xlabel="score: how unlike the known classes", ylabel="objects")
    return figure


def density(counts: np.ndarray) -> tuple[Figure, str]:
    """A map of objects per square degree, and a sentence about its pixels; counts of order `ORDER`."""
    order = readable_order(counts)
    in_pixels = coarser(counts, ORDER, order).astype(float)
    area = 41_252.96 / len(in_pixels)
    values = np.where(in_pixels > 0, in_pixels / area, np.nan)
    return _map(counts, values, order, "objects per square degree"), _pixels(order)


def share(of_them: np.ndarray, counts: np.ndarray) -> tuple[Figure, str]:
    """A map of a share of objects, and a sentence about its pixels; counts of order `ORDER`."""
    order = readable_order(counts, FULL_OF_SHARES)
    all_of_them = coarser(counts, ORDER, order)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = coarser(of_them, ORDER, order) / all_of_them
    return _map(counts, values, order, "share out of distribution", percent=True), _pixels(order)


def readable_order(counts: np.ndarray, full: int = FULL) -> int:
    """The finest order of pixels that hold so many objects on average, of those that are not empty."""
    centre = field_of(counts)
    orders = range(ORDER if centre is not None else FINEST, COARSEST, -1)
    for order in orders:
        filled = coarser(counts, ORDER, order)
        if filled.sum() >= full * np.count_nonzero(filled):
            return order
    return COARSEST


def field_of(counts: np.ndarray) -> tuple[float, float, float, float] | None:
    """Right ascension and declination of the middle of a field, and half its width in each, in degrees.

    Returns:
        None where objects are all over the sky, or near a pole.
    """
    filled = np.flatnonzero(counts)
    if not len(filled):
        return None
    ra, dec = centres(filled, ORDER)
    turn = np.radians(ra)
    middle = float(np.degrees(np.arctan2(np.sin(turn).mean(), np.cos(turn).mean())))
    offset = (ra - middle + 180) % 360 - 180
    low, high = float(dec.min()), float(dec.max())
    middle = (middle + (float(offset.min()) + float(offset.max())) / 2) % 360
    half = (float(offset.max()) - float(offset.min())) / 2
    upright = (low + high) / 2
    across = max(2 * half * np.cos(np.radians(upright)), high - low)
    if max(abs(low), abs(high)) > HIGH or across > FIELD or half > 90:
        return None
    edge = 0.2 + 0.04 * across
    return middle, upright, half + edge / np.cos(np.radians(upright)), (high - low) / 2 + edge


def _pixels(order: int) -> str:
    width = np.sqrt(41_252.96 / (12 * 4**order))
    size = f"{width:.1f} degrees" if width >= 1 else f"{60 * width:.0f} arcminutes"
    return f"HEALPix pixels of order {order}, {size} wide; right ascension grows to the left."


def _map(counts: np.ndarray, values: np.ndarray, order: int, label: str, percent: bool = False) -> Figure:
    field = field_of(counts)
    figure, axes = _sky_axes(field)
    ra, dec, inside, extent = _raster(field)
    shown = np.full(ra.shape, np.nan)
    shown[inside] = values[pixels(ra[inside], dec[inside], order)]
    known = values[np.isfinite(values)]
    look: dict[str, Any] = {"cmap": "viridis", "interpolation": "nearest", "origin": "lower", "extent": extent}
    if percent:
        look |= {"vmin": 0, "vmax": max(float(np.quantile(known, 0.99)), 0.01) if len(known) else 1, "cmap": "magma"}
    elif len(known):
        low, high = np.quantile(known, [0.02, 0.995])
        look["norm"] = LogNorm(low, high) if high > STEEP * low else Normalize(0, high)
    drawn = axes.imshow(shown, aspect=axes.get_aspect(), **look)
    bar = figure.colorbar(drawn, ax=axes, orientation="horizontal", shrink=0.6, aspect=40, pad=0.03)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.minorticks_off()
    plain = FuncFormatter(lambda value, _: f"{value:,g}")
    bar.ax.xaxis.set_major_formatter(PercentFormatter(1.0) if percent else plain)
    return figure


def _sky_axes(field: tuple[float, float, float, float] | None) -> tuple[Figure, Axes]:
    """Axes for a map, with lines of right ascension and declination."""
    if field is not None:
        ra, dec, half_ra, half_dec = field
        stretch = 1 / np.cos(np.radians(dec))
        ratio = half_dec * stretch / half_ra
        figure = Figure(figsize=(7.5, float(np.clip(7.5 * ratio, 2.5, 7.5)) + 1.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=(ra + half_ra, ra - half_ra), ylim=(dec - half_dec, dec + half_dec), aspect=stretch)
        axes.set(xlabel="right ascension (degrees)", ylabel="declination (degrees)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value % 360:g}"))
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
        return figure, axes
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-2.05, 2.05), ylim=(-1.05, 1.05), aspect=1)
    axes.axis("off")
    turn = np.linspace(-180, 180, 181)
    lines: dict[str, Any] = {"color": BASELINE, "linewidth": 0.5, "alpha": 0.7}
    for dec in range(-60, 90, 30):
        axes.plot(*mollweide(turn, np.full_like(turn, dec)), **lines)
        x, y = mollweide(np.array([180.0]), np.array([float(dec)]))
        axes.text(x[0] - 0.03, y[0], f"{dec:+d}°" if dec else "0°", ha="right", va="center", fontsize=7)
    for ra in range(0, 360, 60):
        offset = (ra - 180 + 180) % 360 - 180
        axes.plot(*mollweide(np.full(91, -offset), np.linspace(-90, 90, 91)), **lines)
        if ra:
            x, y = mollweide(np.array([-float(offset)]), np.array([0.0]))
            axes.text(x[0], y[0] + 0.02, f"{ra}°", ha="center", va="bottom", fontsize=7)
    angle = np.linspace(0, 2 * np.pi, 361)
    axes.plot(2 * np.cos(angle), np.sin(angle), color="0.4", linewidth=0.8)
    return figure, axes


def _raster(
    field: tuple[float, float, float, float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """Right ascension and declination of a map's pixels, which of them are on the sky, and where the map ends."""
    if field is not None:
        ra, dec, half_ra, half_dec = field
        x = np.linspace(ra + half_ra, ra - half_ra, 700)
        y = np.linspace(dec - half_dec, dec + half_dec, 700)
        at_ra, at_dec = np.meshgrid(x, y)
        extent = (ra + half_ra, ra - half_ra, dec - half_dec, dec + half_dec)
        return at_ra % 360, at_dec, np.abs(at_dec) <= 90, extent
    x, y = np.meshgrid(np.linspace(-2, 2, 1400), np.linspace(-1, 1, 700))
    inside = (x / 2) ** 2 + y**2 < 1
    theta = np.arcsin(np.clip(y, -1, 1))
    dec = np.degrees(np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where(inside, 90 * x / np.cos(theta), 0.0)
    return (180 - offset) % 360, dec, inside, (-2.0, 2.0, -1.0, 1.0)


def mollweide(offset: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places on a map of all the sky, two wide for one high (Snyder 1987, eqs. 31-1 to 31-5).

    Args:
        offset: Degrees to the right of the middle, in [-180, 180].
        dec: Declination in degrees.
    """
    phi = np.radians(dec)
    theta = phi.copy()
    for _ in range(100):
        step = (2 * theta + np.sin(2 * theta) - np.pi * np.sin(phi)) / np.maximum(2 + 2 * np.cos(2 * theta), 1e-9)
        theta = np.clip(theta - step, -np.pi / 2, np.pi / 2)
    return offset / 90 * np.cos(theta), np.sin(theta)
