"""Figures of predicted classes, for reports and TensorBoard; drawn without a screen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from galaxyml.evaluation.calibration import Reliability
from galaxyml.evaluation.plots import (
    BASELINE,
    COLOURS,
    MODEL,
    NARROW,
    line_style,
    reliability_curves,
    unit_axes,
    with_legend,
)

TOGETHER = 5  # curves that can be told apart in one panel
MOST_WIDE = 5  # panels that stand side by side
COARSE = 500  # points of a curve in the background


def confusion_figure(confusion: np.ndarray, names: Sequence[str]) -> Figure:
    """Counts in the cells, the share of the true class as colour and in percent.

    Args:
        confusion: Rows true, columns predicted; shape (K, K).
        names: Of the K classes.
    """
    having = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(having, 1)
    side = max(0.62 * len(names), 2.0)
    longest = max(map(len, names))
    figure = Figure(figsize=(side + 0.075 * longest + 2.4, side + 0.055 * longest + 1.2), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black" if confusion[row, column] else BASELINE
        text = f"{confusion[row, column]:,.0f}" + (f"\n{share:.0%}" if having[row, 0] else "")
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7, linespacing=1.25)
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(ticks, [f"{name} ({n:,.0f})" for name, n in zip(names, having[:, 0], strict=True)], fontsize=8)
    axes.set(xlabel="predicted class", ylabel="true class (objects)")
    axes.set_xticks(ticks[1:] - 0.5, minor=True)
    axes.set_yticks(ticks[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, shrink=0.7, pad=0.02, format=PercentFormatter(1.0))
    bar.set_label("share of the true class", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def roc_figure(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Figure:
    """ROC curve of each class against all others, with its area.

    Of two classes the second alone is drawn, as the first's curve is its mirror image. More than five have a panel
    each, the worst first, with the others' curves in grey.

    Args:
        labels: Shape (N,).
        probabilities: Shape (N, K).
        names: Of the K classes; those without objects, or with all of them, have no curve.
    """
    curves = []
    for k, positive, scores in _curves(labels, probabilities):
        if len(names) == 2 and k == 0:
            continue
        false, true, _ = roc_curve(positive, scores)
        area = float(auc(false, true))
        curves.append(ClassCurve(k, names[k], f"AUC {area:.3f}", area, false, true))
    axes_names = "false positive rate", "true positive rate"
    if len(curves) > TOGETHER:
        figure, panels = panels_apart(curves, *axes_names)
        for axes in panels:
            axes.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--", zorder=1)
        return figure
    figure, axes = unit_axes()
    axes.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--")
    for curve in curves:
        axes.plot(curve.x, curve.y, label=f"{curve.name}: {curve.text}", **line_style(curve.number))
    axes.set(xlabel=axes_names[0], ylabel=axes_names[1])
    return with_legend(figure)


def precision_recall_figure(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Figure:
    """Precision against recall of each class, with its average precision.

    A tick at the right edge and the text say what share of the objects has the class: the precision of chance. More
    than five classes have a panel each, the worst first, with the others' curves in grey.

    Args:
        labels: Shape (N,).
        probabilities: Shape (N, K).
        names: Of the K classes; those without objects, or with all of them, have no curve.
    """
    curves, chances = [], []
    for k, positive, scores in _curves(labels, probabilities):
        precision, recall, _ = precision_recall_curve(positive, scores)
        average, prevalence = float(average_precision_score(positive, scores)), float(positive.mean())
        text = f"AP {average:.3f} (chance {prevalence:.3f})"
        curves.append(ClassCurve(k, names[k], text, average, recall, precision, "steps-post"))
        chances.append(prevalence)
    if len(curves) > TOGETHER:
        figure, panels = panels_apart(curves, "recall", "precision")
        places, colours = panels, [MODEL] * len(panels)
        chances = [chances[curves.index(curve)] for curve in worst_first(curves)]
    else:
        figure, axes = unit_axes()
        for curve in curves:
            label = f"{curve.name}: {curve.text}"
            axes.plot(curve.x, curve.y, label=label, drawstyle=curve.drawstyle, **line_style(curve.number))
        axes.set(xlabel="recall", ylabel="precision")
        places, colours = [axes] * len(curves), [COLOURS[curve.number % len(COLOURS)] for curve in curves]
    for axes, colour, chance in zip(places, colours, chances, strict=True):
        axes.plot([1.0, 1.025], [chance] * 2, color=colour, linewidth=2.5, clip_on=False)
    return figure if len(curves) > TOGETHER else with_legend(figure)


@dataclass(frozen=True, eq=False)
class ClassCurve:
    """A curve of one class.

    Attributes:
        number: Of the class.
        name: Of the class.
        text: How good it is, for people.
        value: The same, best when high.
        x: Shape (n,).
        y: Shape (n,).
        drawstyle: As matplotlib's lines have it.
    """

    number: int
    name: str
    text: str
    value: float
    x: np.ndarray
    y: np.ndarray
    drawstyle: str = "default"


def worst_first(curves: Sequence[ClassCurve]) -> list[ClassCurve]:
    """Curves by how good they are."""
    return sorted(curves, key=lambda curve: curve.value)


def panels_apart(curves: Sequence[ClassCurve], xlabel: str, ylabel: str) -> tuple[Figure, list[Axes]]:
    """A panel a class, the worst first, with its curve in colour before those of the others in grey."""
    high = -(-len(curves) // MOST_WIDE)
    wide = -(-len(curves) // high)
    figure = Figure(figsize=(1.8 * wide + 0.4, 2.25 * high + 0.4), layout="constrained")
    panels = [figure.add_subplot(high, wide, number) for number in range(1, len(curves) + 1)]
    for number, (axes, own) in enumerate(zip(panels, worst_first(curves), strict=True)):
        for curve in curves:
            coarse = slice(None, None, 1 + len(curve.x) // COARSE)
            look: dict[str, Any] = {"color": "0.85", "linewidth": 0.8, "drawstyle": curve.drawstyle, "zorder": 0.5}
            axes.plot(curve.x[coarse], curve.y[coarse], **look)
        axes.plot(own.x, own.y, color=MODEL, linewidth=1.8, drawstyle=own.drawstyle, zorder=2)
        axes.set_title(f"{shorten(own.name, 28, placeholder='…')}\n{own.text}", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(0, 1.01), box_aspect=1, xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        below = number + wide < len(panels)
        axes.tick_params(labelsize=8, labelleft=number % wide == 0, labelbottom=not below)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return figure, panels


def reliability_figure(curves: dict[str, Reliability]) -> Figure:
    """Accuracy against confidence, with one standard error, above how many objects are that sure.

    Args:
        curves: By what the legend calls them.
    """
    figure, above, below = _above_counts(5.2, 6.8)
    reliability_curves(above, curves)
    for curve, colour in zip(curves.values(), COLOURS, strict=False):
        below.stairs(curve.count, curve.edges, color=colour, linewidth=1.3)
        below.stairs(curve.count, curve.edges, color=colour, fill=True, alpha=0.15)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", box_aspect=1)
    below.set(xlabel="confidence (probability of the predicted class)", box_aspect=1 / 4)
    return figure


def f1_figure(
    names: Sequence[str], f1: np.ndarray, intervals: np.ndarray | None = None, support: np.ndarray | None = None
) -> Figure:
    """One horizontal bar a class; none for a class without objects, of which F1 says nothing.

    Args:
        names: Of the K classes.
        f1: Shape (K,).
        intervals: Lower and upper ends, shape (K, 2); NaN where there are none.
        support: How many objects each has, shape (K,); None where all have some.
    """
    absent = np.zeros(len(names), bool) if support is None else np.asarray(support) == 0
    f1 = np.where(absent, 0.0, f1)
    if intervals is not None:
        intervals = np.where(absent[:, None], np.nan, intervals)
    figure = Figure(figsize=(NARROW, 0.32 * len(names) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    axes.barh(rows, f1, height=0.7, color=MODEL)
    ends = f1 if intervals is None else np.fmax(f1, intervals[:, 1])
    if intervals is not None:
        for colour, width in (("white", 3.2), ("black", 1.4)):  # to be seen on the bar and beside it
            axes.hlines(rows, intervals[:, 0], intervals[:, 1], color=colour, linewidth=width)
    for row, (value, end) in enumerate(zip(f1, ends, strict=True)):
        text, colour = ("no objects", "0.45") if absent[row] else (f"{value:.3f}", "black")
        axes.text(end + 0.012, row, text, va="center", fontsize=8, color=colour)
    axes.set_yticks(rows, names, fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel="F1")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def by_property_figure(name: str, table: pd.DataFrame) -> Figure:
    """Macro F1 in bins of a property, with error bars, above how many objects each bin holds.

    Args:
        name: Of the property, as the horizontal axis says it.
        table: One row a bin: its ends `from` and `to`, in units of the property; `macro_f1`, NaN where it is not known,
            and the ends of its error bar, `macro_f1_low` and `macro_f1_high`; and how many `galaxies` it holds.
    """
    figure, above, below = _above_counts(6, 4.4)
    lower, upper, f1, low, high = table[["from", "to", "macro_f1", "macro_f1_low", "macro_f1_high"]].to_numpy().T
    middle = (lower + upper) / 2
    above.hlines(f1, lower, upper, color=MODEL, linewidth=1.8)
    above.vlines(middle, low, high, color=MODEL, linewidth=1.2)
    above.plot(middle, f1, color=MODEL, marker="o", markersize=4.5, linestyle="none")
    above.set(ylabel="macro F1")
    below.stairs(table["galaxies"], [*lower, upper[-1]], color=BASELINE, fill=True)
    below.set(xlabel=name, ylim=(0, None))
    return figure


def _above_counts(width: float, height: float) -> tuple[Figure, Axes, Axes]:
    """A figure with axes above flat ones for numbers of objects."""
    figure = Figure(figsize=(width, height), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    below.set(ylabel="objects")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, above, below


def _curves(labels: np.ndarray, probabilities: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Index, objects that have it (bool), and probabilities of each class that some objects have and some not."""
    for k, scores in enumerate(probabilities.T):
        positive = labels == k
        if 0 < positive.sum() < len(positive):
            yield k, positive, scores
