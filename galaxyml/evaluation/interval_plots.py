"""Figures of intervals, for the report; drawn without a screen."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from galaxyml.evaluation.plots import BASELINE, MODEL

SHADES = ("#8fbde8", "#3f84cc", "#123a6b", "#d1603d", "#3a8f5c")  # of levels, the lowest first


def interval_figure(
    names: Sequence[str],
    levels: np.ndarray,
    shares: np.ndarray,
    wide: np.ndarray,
    asked: np.ndarray,
    curves: Mapping[str, np.ndarray],
    title: str,
    unit: str = "",
) -> Figure:
    """How often intervals hold the truth and how wide they are column by column, and over all columns by level.

    Args:
        names: Of the K columns.
        levels: Shares that the intervals are to hold, in (0, 1), shape (L,).
        shares: What they hold, shape (L, K); NaN where no truth is known.
        wide: Their mean widths, shape (L, K).
        asked: More levels, shape (C,).
        curves: By what the legend calls them, the shares held at these, shape (C,) each.
        title: What the figure is called.
        unit: What the widths are measured in, as a part of their label.
    """
    figure = Figure(figsize=(12, max(0.21 * len(names), 3.6) + 1.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    held, width, over_all = figure.subplots(1, 3, width_ratios=[1.25, 1, 1.25])
    at = np.arange(len(names))
    for number in reversed(range(len(levels))):
        shade = SHADES[number % len(SHADES)]
        held.axvline(levels[number], color=shade, linewidth=0.8, linestyle="--")
        held.plot(shares[number], at, "o", color=shade, markersize=4.5)
        width.barh(at, wide[number], height=0.7, color=shade, label=f"{levels[number]:.0%}")
    held.set(xlim=(min(levels.min() - 0.1, np.nanmin(shares) - 0.02), 1.01), xlabel="share held (dashed: asked)")
    width.set(xlim=(0, None), xlabel=f"mean width{unit}")
    handles, labels = width.get_legend_handles_labels()
    width.legend(handles[::-1], labels[::-1], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    for axes in (held, width):
        axes.set_yticks(at, names if axes is held else [""] * len(names), fontsize=8)
        axes.set(ylim=(len(names) - 0.4, -0.6), axisbelow=True)
        axes.grid(axis="y", alpha=0.25)
    over_all.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--")
    for (name, share), colour in zip(curves.items(), (BASELINE, MODEL)[-len(curves) :], strict=True):
        over_all.plot(asked, share, "o-", color=colour, markersize=4, linewidth=1.3, label=name)
    over_all.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1, anchor="N", xlabel="share asked", ylabel="share held")
    over_all.yaxis.set_major_formatter(PercentFormatter(1.0))
    over_all.legend(loc="upper left", frameon=False, fontsize=8)
    over_all.grid(alpha=0.3)
    for axes in (held, over_all):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (held, width, over_all):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure
