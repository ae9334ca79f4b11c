"""Figures of light curves and latents whose ink is the page's, light or dark."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from galaxyml.evaluation.curve_plots import BAND_COLOURS, BANDS, Curve
from galaxyml.kinds.anomalies.plots import UNKNOWN
from galaxyml.page.markup import INK

# The last of Rubin's colours is for white paper alone; this one shows on both.
COLOURS = (*BAND_COLOURS[:5], "#b06a4a")
MOST_NOISE = 4.0  # times the median error of a passband: beyond it, an observation does not set the panel's range


def curve_figure(curve: Curve) -> Figure:
    """A light curve, a panel a passband: observations, and the net's reconstruction with its standard deviation."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    panels = figure.subplots(3, 2, sharex=True)
    for band, axes in enumerate(panels.ravel()):
        _draw(axes, curve, band)
    _labelled(figure, "days since the reference time", "flux (FLUXCAL units)")
    return figure


def latent_figure(points: np.ndarray, above: np.ndarray, new: np.ndarray, titles: Sequence[str]) -> Figure:
    """A survey's objects in the plane, and new ones among them.

    Args:
        points: Of the survey, shape (N, 2).
        above: Whether each is above the threshold, shape (N,).
        new: Of the new objects, shape (n, 2).
        titles: Of these.
    """
    figure = Figure(figsize=(6.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(6000 / max(len(points), 1), 3, 16))
    axes.scatter(
        points[~above, 0], points[~above, 1], s=size, color="#8a94a6", alpha=0.6, linewidths=0, label="of the survey"
    )
    axes.scatter(
        points[above, 0],
        points[above, 1],
        s=1.5 * size,
        color=UNKNOWN,
        alpha=0.8,
        linewidths=0,
        label="above the threshold",
    )
    axes.scatter(
        new[:, 0], new[:, 1], s=130, marker="*", color="#2f80ed", edgecolors="white", linewidths=0.7, label="uploaded"
    )
    for title, place in zip(titles, new, strict=True):
        axes.annotate(title, place, (6, 4), textcoords="offset points", fontsize=9, color=INK)
    axes.set(xticks=[], yticks=[])
    _inked(axes)
    legend = figure.legend(frameon=False, fontsize=9, loc="outside upper center", ncols=3)
    for entry in legend.get_texts():
        entry.set_color(INK)
    return figure


def _draw(axes: Axes, curve: Curve, band: int) -> None:
    own, colour = curve.band == band, COLOURS[band]
    flux, error = curve.flux[own], curve.error[own]
    axes.errorbar(
        curve.time[own], flux, error, color=colour, linestyle="none", marker="o", markersize=3, elinewidth=0.8
    )
    values = [np.zeros(1)]
    if curve.model is not None and own.any():
        times, fluxes, spread = curve.model
        axes.plot(times, fluxes[band], color=colour, linewidth=1.3)
        values.append(fluxes[band])
        if spread is not None:
            ends = fluxes[band] - spread[band], fluxes[band] + spread[band]
            axes.fill_between(times, *ends, color=colour, alpha=0.2, linewidth=0)
    if own.any():
        kept = (error <= MOST_NOISE * np.median(error)) | (np.abs(flux) > 5 * error)
        values += [flux[kept] - error[kept], flux[kept] + error[kept]]
    every = np.concatenate(values)
    margin = 0.06 * float(np.ptp(every)) or 1.0
    axes.set_ylim(every.min() - margin, every.max() + margin)
    axes.set_title(f"{BANDS[band]}  ({own.sum()})", fontsize=10, color=INK)
    _inked(axes)


def _inked(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)


def _labelled(figure: Figure, x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=10, color=INK)
    figure.supylabel(y, fontsize=10, color=INK)
