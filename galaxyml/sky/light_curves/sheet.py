"""An image with light curves of every class, to see whether they look like light curves of their class."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from galaxyml.sky.light_curves.photometry import NAMES
from galaxyml.sky.light_curves.population import KINDS, Member, member

COLUMNS = 3
COLORS = ("#6a3d9a", "#1f78b4", "#33a02c", "#e6a800", "#e31a1c", "#7f4a1e")  # of ugrizy
BEFORE, AFTER = 60.0, 200.0  # days shown around the peak of explosions
NOISY = 4.0  # times the median error of its band: not shown


def light_curve_sheet(path: Path, seed: int = 0) -> None:
    """Writes `sheet` as an image; the suffix says in which format."""
    sheet(seed).savefig(path, dpi=80)


def sheet(seed: int = 0) -> Figure:
    """Draws a row for each class: three light curves with error bars, a color a band.

    Explosions are shown around their peaks, all others through the whole survey.

    Args:
        seed: Of the objects.
    """
    figure = Figure(figsize=(5 * COLUMNS, 1.7 * len(KINDS)), layout="constrained")
    for number, axes in zip(KINDS, figure.subplots(len(KINDS), COLUMNS), strict=True):
        for column, axis in enumerate(axes):
            _draw(axis, number, member(number, np.random.default_rng([seed, number, column])))
    figure.axes[0].legend(fontsize=6, ncols=6, loc="upper right")
    return figure


def _draw(axis: Axes, number: int, shown: Member) -> None:
    curve, p = shown.curve, shown.parameters
    near = np.ones(len(curve.mjd), dtype=bool)
    if KINDS[number].redshift is not None and "peak" in p:
        phase = (curve.mjd - p["peak"]) / (1 + p["redshift"])
        near = (phase > -BEFORE) & (phase < AFTER)
    for band, (name, color) in enumerate(zip(NAMES, COLORS, strict=True)):
        own = near & (curve.band == band)
        if not own.any():
            continue
        own &= curve.flux_err < NOISY * np.median(curve.flux_err[own])
        axis.errorbar(
            curve.mjd[own], curve.flux[own], curve.flux_err[own], fmt="o", ms=2, lw=0.6, color=color, label=name
        )
    field = "deep" if shown.deep else "wide"
    axis.set_title(f"{number} {KINDS[number].name}, z = {p['redshift']:.3f}, {field}", fontsize=7, pad=2)
    axis.axhline(0, color="0.7", lw=0.5)
    axis.tick_params(labelsize=6)
