"""Figures of light curves and latents whose ink is the page's, light or dark."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from galaxyml.evaluation.curve_plots import BAND_COLOURS, BANDS, Curve, draw_curve
from galaxyml.kinds.anomalies.plots import UNKNOWN
from galaxyml.page.markup import INK

# The last of Rubin's colours is for white paper alone; this one shows on both.
COLOURS = (*BAND_COLOURS[:5], "#b06a4a")
NOISE = 4.0  # times the median error of a passband: beyond it, an observation does not set the panel's range


def curve_figure(curve: Curve) -> Figure:
    """A light curve, a panel a passband: observations, and the net's reconstruction with its standard deviation."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    for band, axes in enumerate(figure.subplots(3, 2, sharex=True).ravel()):
        own = curve.band == band
        if own.any():
            columns = {name: getattr(curve, name)[own] for name in ("time", "band", "flux", "error")}
            draw_curve(axes, replace(curve, **columns), NOISE, COLOURS)
        axes.set_title(f"{BANDS[band]}  ({own.sum()})", fontsize=10, color=INK)
        _ink(axes)
    figure.supxlabel("days since the reference time", fontsize=10, color=INK)
    figure.supylabel("flux (FLUXCAL units)", fontsize=10, color=INK)
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
    for (x, y), scale, colour, alpha, label in (
        (points[~above].T, 1.0, "#8a94a6", 0.6, "of the survey"),
        (points[above].T, 1.5, UNKNOWN, 0.8, "above the threshold"),
    ):
        axes.scatter(x, y, s=scale * size, color=colour, alpha=alpha, linewidths=0, label=label)
    x, y = new.T
    axes.scatter(x, y, s=130, marker="*", color="#2f80ed", edgecolors="white", linewidths=0.7, label="uploaded")
    for title, point in zip(titles, new, strict=True):
        axes.annotate(title, point, (6, 4), textcoords="offset points", fontsize=9, color=INK)
    axes.set(xticks=[], yticks=[])
    _ink(axes)
    figure.legend(frameon=False, fontsize=9, loc="outside upper center", ncols=3, labelcolor=INK)
    return figure


def _ink(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
