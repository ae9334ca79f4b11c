"""Figures of predicted vote fractions on several surveys; drawn without a screen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from galaxyml.evaluation.calibration import Reliability
from galaxyml.evaluation.plots import BASELINE, COLOURS, reliability_curves

MOST_POINTS = 1500  # that are drawn one by one; more are drawn as a density
SPACE_POINTS = 24_000  # by which the size of dots in a feature space is chosen


def degradation_figure(labels: Sequence[str], questions: Sequence[str], values: Mapping[str, np.ndarray]) -> Figure:
    """Correlation of each feature where the net was trained and where it was not, question by question.

    Args:
        labels: What each of the F features is called.
        questions: The question that each answers; those of one question follow each other.
        values: By what the legend says, the value and the ends of its interval, shape (F, 3); NaN where not measured.
    """
    heads = [k for k, question in enumerate(questions) if not k or question != questions[k - 1]]
    step = len(values) + 1.2
    unit = 0.17 if step * len(labels) < 50 else 0.11  # inches a bar
    figure = Figure(figsize=(8, unit * (step * len(labels) + 1.4 * len(heads)) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    # A heading takes 1.4 units, a feature as many as it has bars and a gap, so that all bars are equally thick.
    heads_above = np.searchsorted(heads, np.arange(len(questions)), side="right")
    y = np.arange(len(questions)) * step + heads_above * 1.4
    for k, (name, ends) in enumerate(values.items()):
        colour = COLOURS[k % len(COLOURS)]
        axes.barh(y + k, np.nan_to_num(ends[:, 0]), height=0.85, color=colour, alpha=0.9, label=name)
        _whiskers(axes, ends, y + k)
    axes.set_yticks(y + (len(values) - 1) / 2, labels, fontsize=8.5)
    look: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 8.5, "fontweight": "bold"}
    for first in heads:
        name = questions[first].replace("_", " ")
        axes.text(-0.008, y[first] - 1.15, name, transform=axes.get_yaxis_transform(), **look)
    axes.axvline(0, color="black", linewidth=0.8)
    lowest = min(0.0, *(float(np.nanmin(ends, initial=0.0)) for ends in values.values()))
    axes.set(xlim=(max(-1.0, lowest - 0.03) if lowest < 0 else 0, 1), ylim=(y[-1] + step - 0.6, y[0] - 2.0))
    axes.set_xlabel("Pearson's r between predicted and true fractions")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(len(values), 3), frameon=False, fontsize=9)
    return figure


def against_truth_figure(labels: Sequence[str], surveys: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Predicted against true fractions: a row a feature, a column a survey; points, or their density where many.

    Args:
        labels: What each of the F features is called.
        surveys: By name, predicted and true fractions, shape (N, F) each; NaN where not asked.
    """
    figure = Figure(figsize=(2.5 * len(surveys) + 0.9, 2.5 * len(labels) + 0.6), layout="constrained")
    panels = figure.subplots(len(labels), len(surveys), squeeze=False, sharex=True, sharey=True)
    for column, (name, (predicted, target)) in enumerate(surveys.items()):
        colour = COLOURS[column % len(COLOURS)]
        shades = LinearSegmentedColormap.from_list(name, ["white", colour])
        panels[0, column].set_title(name, fontsize=10, color=colour, fontweight="bold")
        for row, label in enumerate(labels):
            axes = panels[row, column]
            known = ~np.isnan(target[:, row])
            x, y = target[known, row], predicted[known, row]
            axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, zorder=3)
            if len(x) > MOST_POINTS:
                axes.hexbin(x, y, gridsize=24, extent=(0, 1, 0, 1), bins="log", cmap=shades, mincnt=1, linewidths=0.1)
            else:
                alpha = float(np.clip(12 / np.sqrt(max(len(x), 1)), 0.25, 0.9))
                axes.scatter(x, y, s=9, alpha=alpha, color=colour, linewidths=0)
            text = f"{len(x):,} galaxies"
            note = axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=8, zorder=5)
            note.set_bbox({"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1})
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1, xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(label, fontsize=9)
    figure.supxlabel("true fraction of votes", fontsize=10)
    figure.supylabel("predicted fraction", fontsize=10)
    return figure


def calibration_figure(fractions: Mapping[str, Reliability], answers: Mapping[str, Reliability]) -> Figure:
    """Observed against predicted fractions, and how often the likeliest answer is that of most volunteers.

    Args:
        fractions: By survey, with what share of the votes lies in each bin below.
        answers: By survey, with one standard error, and the share of questions in each bin below.
    """
    figure = Figure(figsize=(9.6, 6.1), layout="constrained")
    panels = figure.subplots(2, 2, height_ratios=[4, 1], sharex="col")
    for column, (curves, noun) in enumerate(((fractions, "votes"), (answers, "questions"))):
        above, below = panels[:, column]
        title = "Fractions" if curves is fractions else "Likeliest answer of a question"
        reliability_curves(above, curves, errors=curves is answers, title=title)
        for k, curve in enumerate(curves.values()):
            shares = curve.count / max(curve.count.sum(), 1)
            below.stairs(shares, curve.edges, color=COLOURS[k % len(COLOURS)], linewidth=1.3)
        above.set(xlim=(0, 1), ylim=(0, 1.01))
        below.set(ylim=(0, None))
        below.set_ylabel(f"share of\n{noun}", fontsize=8)
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set(ylabel="mean fraction of votes")
    panels[0, 1].set(ylabel="share that most volunteers say too")
    note = "exact fractions lie above the line"
    panels[0, 1].text(0.98, 0.02, note, transform=panels[0, 1].transAxes, ha="right", fontsize=8, color="0.4")
    panels[1, 0].set_xlabel("predicted fraction")
    panels[1, 1].set_xlabel("predicted fraction of the likeliest answer")
    return figure


def space_figure(points: np.ndarray, survey: np.ndarray, values: np.ndarray, label: str) -> Figure:
    """Galaxies in the plane, by survey and by a fraction.

    Args:
        points: A 2-D embedding, shape (N, 2).
        survey: Name of each galaxy's survey, shape (N,).
        values: In [0, 1], shape (N,); NaN where not known.
        label: What the values are.
    """
    names = np.unique(survey)
    figure = Figure(figsize=(10.5, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    size = float(np.clip(SPACE_POINTS / max(len(points), 1), 2.0, 20))
    order = np.random.default_rng(0).permutation(len(points))  # otherwise the last survey would hide the others
    colours = np.array([COLOURS[k % len(COLOURS)] for k in range(len(names))])
    x, y = points[order].T
    look: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    left.scatter(x, y, c=colours[np.searchsorted(names, survey[order])], alpha=0.7, **look)
    for k, name in enumerate(names):
        left.scatter([], [], color=colours[k], label=f"{name} ({(survey == name).sum():,})", s=24)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, frameon=False, fontsize=8.5)
    known = ~np.isnan(values[order])
    right.scatter(x[~known], y[~known], color=BASELINE, **look)
    drawn = right.scatter(x[known], y[known], c=values[order][known], cmap="viridis", vmin=0, vmax=1, **look)
    figure.colorbar(drawn, ax=right, shrink=0.8, pad=0.02).set_label(label, fontsize=9)
    for axes, title in ((left, "by survey"), (right, f"by {label}")):
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
        axes.spines[:].set_color(BASELINE)
    return figure


def progression_figure(surveys: Sequence[str], r: Mapping[str, np.ndarray], mae: Mapping[str, np.ndarray]) -> Figure:
    """Correlation and error after each stage of training, survey by survey.

    Args:
        surveys: S names.
        r: By stage, mean correlation and the ends of its interval, shape (S, 3); NaN where not measured.
        mae: By stage, mean absolute error and its ends, shape (S, 3).
    """
    figure = Figure(figsize=(max(7.0, 1.3 * len(surveys) * 2 + 2.4), 3.9), layout="constrained")
    panels = figure.subplots(1, 2)
    shown = list({**mae, **r})
    stage_colours = dict(zip([stage for stage in shown if stage != "baseline (column mean)"], COLOURS, strict=False))
    handles = {}
    for axes, stages, label in (
        (panels[0], r, "mean Pearson's r (higher is better)"),
        (panels[1], mae, "mean absolute error (lower is better)"),
    ):
        width = 0.8 / max(len(stages), 1)
        for k, (stage, ends) in enumerate(stages.items()):
            x = np.arange(len(surveys)) + (k - (len(stages) - 1) / 2) * width
            colour = stage_colours.get(stage, BASELINE)
            handles[stage] = axes.bar(x, np.nan_to_num(ends[:, 0]), width * 0.9, color=colour)
            _whiskers(axes, ends, x, upright=True)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(surveys)), surveys, fontsize=9)
        axes.set_ylabel(label)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    bars = [handles[stage] for stage in shown]
    figure.legend(bars, shown, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def _whiskers(axes: Axes, values: np.ndarray, place: np.ndarray, upright: bool = False) -> None:
    """Intervals over bars, to be seen on the bar and beside it; values of shape (n, 3)."""
    known = np.isfinite(values).all(axis=1)
    lines = axes.vlines if upright else axes.hlines
    for colour, width in (("white", 2.6), ("black", 1.1)):
        lines(place[known], values[known, 1], values[known, 2], color=colour, linewidth=width)
