"""Figures of light curves; drawn without a screen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galaxyml.evaluation.plots import BASELINE, legend_mark

BANDS = "ugrizy"
# Rubin's colours on white, which colour-blind readers can tell apart: lsst.utils.plotting, after technote RTN-045.
BAND_COLOURS = ("#0c71ff", "#49be61", "#c61c00", "#ffc200", "#f341a2", "#5d0000")


@dataclass(frozen=True)
class Curve:
    """A light curve as a panel shows it.

    Attributes:
        time: Days, shape (n,).
        band: 0 to 5 for u g r i z y, shape (n,).
        flux: In FLUXCAL units, shape (n,).
        error: One standard deviation of the flux, shape (n,).
        title: Above the panel.
        model: Times in days, shape (T,), fluxes, shape (6, T), and their standard deviations, shape (6, T), or None.
        marked: Time and band of an observation to be ringed.
    """

    time: np.ndarray
    band: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    title: str
    model: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
    marked: tuple[float, int] | None = None


def curves_figure(curves: Sequence[Curve], columns: int = 4) -> Figure:
    """Light curves, a panel each, with the flux that a model gives as lines and its standard deviation as bands.

    Panels have scales of their own, set by the model and by the better measured half of the observations; the rest may
    lie outside, and arrows at the edge then say where.

    Args:
        curves: What to draw, in the order of reading.
        columns: How many panels stand side by side.
    """
    wide = min(columns, max(len(curves), 1))
    high = -(-len(curves) // wide)
    figure = Figure(figsize=(2.9 * wide + 0.5, 2.2 * high + 0.7), layout="constrained")
    for number, curve in enumerate(curves, start=1):
        axes = figure.add_subplot(high, wide, number)
        draw_curve(axes, curve)
        axes.set_title(curve.title, fontsize=10)
        axes.tick_params(labelsize=8, length=2)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    handles = [legend_mark(band, marker="o", color=colour) for band, colour in zip(BANDS, BAND_COLOURS, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=6, frameon=False, fontsize=9, handletextpad=0)
    figure.supxlabel("time (days)", fontsize=10)
    figure.supylabel("flux (FLUXCAL units)", fontsize=10)
    return figure


def draw_curve(axes: Axes, curve: Curve, noise: float = 1.0, colours: Sequence[str] = BAND_COLOURS) -> None:
    """One panel with a light curve, see `curves_figure`.

    Args:
        axes: The panel.
        curve: What to draw.
        noise: Errors of the observations that set the panel's range, at most, in units of the median error.
        colours: Of the six passbands.
    """
    low, high = _flux_range(curve, noise)
    axes.axhline(0, color=BASELINE, linewidth=0.6, zorder=0)
    for band in np.unique(curve.band):
        colour, of_it = colours[band], curve.band == band
        time, flux = curve.time[of_it], curve.flux[of_it]
        axes.errorbar(
            time,
            flux,
            curve.error[of_it],
            color=colour,
            linestyle="none",
            marker="o",
            markersize=2.6,
            markeredgewidth=0,
            elinewidth=0.6,
            alpha=0.75,
        )
        for outside, edge, marker in ((flux > high, high, "^"), (flux < low, low, "v")):
            if outside.any():
                edges = np.full(outside.sum(), edge)
                axes.plot(time[outside], edges, marker, color=colour, markersize=3, clip_on=False)
        if curve.model is not None:
            times, fluxes, spread = curve.model
            axes.plot(times, fluxes[band], color=colour, linewidth=1.1)
            if spread is not None:
                ends = fluxes[band] - spread[band], fluxes[band] + spread[band]
                axes.fill_between(times, *ends, color=colour, alpha=0.15, linewidth=0)
    if curve.marked is not None:
        row = _nearest(curve, *curve.marked)
        axes.plot(curve.time[row], curve.flux[row], "o", markersize=9, color="black", fillstyle="none", zorder=5)
    axes.set(ylim=(low, high))
    axes.spines[["top", "right"]].set_visible(False)


def _flux_range(curve: Curve, noise: float) -> tuple[float, float]:
    """Ends of a panel's flux axis: what is measured well or detected, the model, and the marked observation."""
    shown = (curve.error <= noise * np.median(curve.error)) | (np.abs(curve.flux) > 5 * curve.error)
    if curve.marked is not None:
        shown[_nearest(curve, *curve.marked)] = True
    flux, error = curve.flux[shown], curve.error[shown]
    values = [flux - error, flux + error]
    if curve.model is not None:
        values.append(curve.model[1][np.unique(curve.band)].ravel())
    fluxes = np.concatenate(values)
    margin = 0.05 * np.ptp(fluxes) or 1.0
    return float(fluxes.min() - margin), float(fluxes.max() + margin)


def _nearest(curve: Curve, time: float, band: int) -> int:
    """Row of the observation in a band that is nearest to a time in days."""
    return int(np.where(curve.band == band, np.abs(curve.time - time), np.inf).argmin())
