"""Figures of anomaly scores, of what a net makes of light curves, and of light curves; drawn without a screen."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from galaxyml.evaluation.plots import BASELINE, MODEL, legend_mark, outlined, unit_axes, with_legend
from galaxyml.kinds.anomalies.metrics import pr_auc, pr_curve, recall_curve, roc_auc, roc_curve

UNKNOWN = "#d1603d"
# Known classes are to be told apart without shouting: the "light" and "muted" schemes of Tol 2021, mixed by hue.
KNOWN_COLOURS = (
    *("#77aadd", "#ee8866", "#44bb99", "#eedd88", "#aa4499", "#bbcc33", "#332288", "#ffaabb"),
    *("#117733", "#99ddff", "#999933", "#cc6677", "#c2a5cf", "#8c6d46"),
)
UNKNOWN_LOOKS = (("*", "#e6002e"), ("^", "#111111"), ("D", "#ff8c00"), ("s", "#0047d6"), ("P", "#00a83e"))
MOST_POINTS = 150  # of a class on its box


def roc_figure(scores: dict[str, np.ndarray], unknown: np.ndarray) -> Figure:
    """ROC curve of each detector, its area in the legend, and chance; the first is the model, and stands out.

    Args:
        scores: By what the legend calls them, shape (N,) each, higher the more anomalous.
        unknown: Whether each object is an anomaly, shape (N,); some are and some are not.
    """
    figure, axes = unit_axes()
    axes.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--", label="chance: AUC 0.500", zorder=3)
    for k, (name, values) in enumerate(scores.items()):
        axes.plot(*roc_curve(values, unknown), label=f"{name}: AUC {roc_auc(values, unknown):.3f}", **outlined(k))
    axes.set(xlabel="false positive rate (known objects)", ylabel="true positive rate (unknown objects)")
    return with_legend(figure)


def pr_figure(scores: dict[str, np.ndarray], unknown: np.ndarray) -> Figure:
    """Precision against recall of each detector, average precision in the legend, and chance: the prevalence.

    Args:
        scores: By what the legend calls them, shape (N,) each, higher the more anomalous.
        unknown: Whether each object is an anomaly, shape (N,); some are.
    """
    figure, axes = unit_axes()
    label = f"chance: prevalence {unknown.mean():.3f}"
    axes.axhline(unknown.mean(), color=BASELINE, linewidth=1, linestyle="--", label=label, zorder=3)
    for k, (name, values) in enumerate(scores.items()):
        label = f"{name}: AP {pr_auc(values, unknown):.3f}"
        axes.plot(*pr_curve(values, unknown), label=label, drawstyle="steps-pre", **outlined(k))
    axes.set(xlabel="recall (share of the unknown found)", ylabel="precision (share of unknown among the found)")
    return with_legend(figure)


def recall_figure(scores: dict[str, np.ndarray], unknown: np.ndarray) -> Figure:
    """How many of the anomalies one finds by looking at the highest scores, beside chance and the best there is.

    Args:
        scores: By what the legend calls them, shape (N,) each, higher the more anomalous.
        unknown: Whether each object is an anomaly, shape (N,); some are.
    """
    figure, axes = unit_axes()
    count, anomalies = len(unknown), int(np.count_nonzero(unknown))
    looked = np.unique(np.geomspace(1, count, 500).round())
    best = np.minimum(looked / anomalies, 1)
    axes.plot(looked, best, color="black", linewidth=1, linestyle=":", label="perfect ranking")
    axes.plot(looked, looked / count, color=BASELINE, linewidth=1, linestyle="--", label="chance", zorder=3)
    for k, (name, values) in enumerate(scores.items()):
        curve = recall_curve(values, unknown)
        label = f"{name}: {np.interp(anomalies, *curve):.3f} after {anomalies:,}"
        axes.plot(looked, np.interp(looked, *curve), label=label, **outlined(k))
    axes.set(xscale="log", xlim=(1, count))
    axes.set(xlabel=f"objects looked at, of {count:,}", ylabel=f"share of the {anomalies:,} unknown found")
    return with_legend(figure)


def score_figure(scores: np.ndarray, names_of_class: np.ndarray, unknown: np.ndarray, threshold: float) -> Figure:
    """Scores by class, highest median first: boxes of the middle half, whiskers of 5 to 95 %, and some of the objects.

    At the right stands what share of a class lies above the threshold. Objects outside all whiskers may lie outside
    the figure, and infinite scores are drawn as the most extreme of the others.

    Args:
        scores: Shape (N,), higher the more anomalous.
        names_of_class: Name of each object's class, shape (N,).
        unknown: Whether each object is an anomaly, shape (N,).
        threshold: Score above which an object is called an anomaly; no line is drawn where it is infinite.
    """
    names, of_class = np.unique(names_of_class.astype(str), return_inverse=True)
    finite = scores[np.isfinite(scores)]
    shown = np.clip(scores, finite.min(), finite.max())
    order = sorted(range(len(names)), key=lambda k: -np.median(shown[of_class == k]))
    colours = [UNKNOWN if unknown[of_class == k].any() else MODEL for k in order]
    figure = Figure(figsize=(7.2, 0.3 * len(names) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    reach = []
    for row, (k, colour) in enumerate(zip(order, colours, strict=True)):
        reach += _draw_box(axes, row, shown[of_class == k], colour)
        share = f"{(scores[of_class == k] > threshold).mean():.0%}"
        axes.annotate(share, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour)
    drawn = {MODEL: "known class", UNKNOWN: "unknown class"}
    labels = [label for colour, label in drawn.items() if colour in colours]
    handles = [Line2D([], [], color=colour, linewidth=6, alpha=0.5) for colour in drawn if colour in colours]
    if np.isfinite(threshold):
        handles.append(axes.axvline(threshold, color="black", linewidth=1, linestyle="--"))
        labels.append("threshold (share above it at the right)")
        reach.append(threshold)
    margin = 0.06 * np.ptp(reach) or 1.0
    axes.set(xlim=(min(reach) - margin, max(reach) + margin), ylim=(len(names) - 0.4, -0.6), xlabel="anomaly score")
    axes.set_yticks(range(len(names)), [f"{names[k]} ({(of_class == k).sum():,})" for k in order], fontsize=8)
    for colour, label in zip(colours, axes.get_yticklabels(), strict=True):
        label.set_color(colour)
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def latent_figure(points: np.ndarray, names: np.ndarray, unknown: np.ndarray, title: str) -> Figure:
    """Objects in the plane by class: known ones muted, unknown ones on top of them with markers of their own.

    Args:
        points: A 2-D embedding, such as that of `embedding`, shape (N, 2).
        names: Name of each object's class, shape (N,).
        unknown: Whether each object is of an unknown class, shape (N,).
        title: Above the figure.
    """
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    names = names.astype(str)
    known_names, unknown_names = np.unique(names[~unknown]), np.unique(names[unknown])
    size = float(np.clip(24_000 / max(len(points), 1), 2.5, 24))
    alpha = float(np.clip(50 / np.sqrt(max(len(points), 1)), 0.35, 0.9))
    handles = []

    # All known classes are drawn as one, in random order: otherwise the last of them would hide the others.
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~unknown))
    colours = np.array(KNOWN_COLOURS)[np.searchsorted(known_names, names[rows]) % len(KNOWN_COLOURS)]
    axes.scatter(points[rows, 0], points[rows, 1], s=size, c=colours, alpha=alpha, linewidths=0, rasterized=True)
    for k, name in enumerate(known_names):
        colour = KNOWN_COLOURS[k % len(KNOWN_COLOURS)]
        handles.append(legend_mark(f"{name} ({(names[~unknown] == name).sum():,})", marker="o", color=colour))
    for k, name in enumerate(unknown_names):
        x, y = points[unknown & (names == name)].T
        marker, colour = UNKNOWN_LOOKS[k % len(UNKNOWN_LOOKS)]
        size = float(np.clip(6000 / len(x), 12, 42)) * (1.9 if marker == "*" else 1)
        look: dict[str, Any] = {"marker": marker, "color": colour}
        axes.scatter(x, y, s=size, edgecolors="white", linewidths=0.5, rasterized=True, **look)
        handles.append(legend_mark(f"{name} ({len(x):,}), unknown", **look))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8.5)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_color(BASELINE)
    return figure


def _draw_box(axes: Axes, row: int, scores: np.ndarray, colour: str) -> list[float]:
    """One class of `score_figure`; gives the ends of its whiskers."""
    low, lower, middle, upper, high = np.percentile(scores, [5, 25, 50, 75, 95])
    rng = np.random.default_rng(row)
    points = rng.choice(scores, min(len(scores), MOST_POINTS), replace=False)
    heights = row + rng.uniform(-0.3, 0.3, len(points))
    axes.scatter(points, heights, s=5, color=colour, alpha=0.35, linewidths=0, rasterized=True)
    axes.hlines(row, low, high, color=colour, linewidth=1)
    axes.barh(row, upper - lower, 0.62, lower, facecolor=to_rgba(colour, 0.25), edgecolor=colour)
    axes.vlines(middle, row - 0.31, row + 0.31, color=colour, linewidth=2)
    return [low, high]
