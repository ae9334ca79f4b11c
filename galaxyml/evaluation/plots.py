"""Figures that several tasks, the report and TensorBoard share; drawn without a screen."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from galaxyml.data.images.decode import open_image
from galaxyml.evaluation.calibration import Reliability
from galaxyml.runs.run_dir import RunDir

LOSS_CURVES = "Loss over the epochs, of what is trained on and of validation objects, a line a net."  # as a caption
MODEL, BASELINE, ACCENT = "#1f5fa8", "#b8b8b8", "#d1603d"
COLOURS = (MODEL, "#d1603d", "#3a8f5c", "#8757a6", "#c9a227", "#4fb0c6", "#a63d57", "#7d8b2f", "#e58fb1", "#6b6b6b")


def bars(names: list[str], values: np.ndarray, baseline: np.ndarray | None = None, label: str = "RMSE") -> Figure:
    """One horizontal bar a name; values and baseline of shape (K,)."""
    figure = Figure(figsize=(8, 0.24 * len(names) + 0.8), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(names))
    if baseline is not None:
        axes.barh(at, baseline, height=0.8, color=BASELINE, label="trivial predictor")
    axes.barh(at, values, height=0.45, color=MODEL, label="model")
    axes.set_yticks(at, names, fontsize=8)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=label)
    if baseline is not None:
        axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def loss_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Training and validation loss over the epochs, one line a run."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for place, name in enumerate(("train/loss", "val/loss"), start=1):
        axes = figure.add_subplot(1, 2, place)
        for run, history in histories.items():
            if name in history:
                axes.plot(history["epoch"] + 1, history[name], label=run, linewidth=1.3)
        axes.set(yscale="log", xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def scatter_grid(
    predicted: np.ndarray, target: np.ndarray, names: Sequence[str], ends: tuple[float, float] | None = None
) -> Figure:
    """Predictions against targets, a panel a number.

    Args:
        predicted: Shape (N, K).
        target: Shape (N, K).
        names: Titles of the first panels, at most K.
        ends: Of all axes; None for those of each number.
    """
    figure, panels = _panels(len(names))
    for k, (axes, name) in enumerate(zip(panels, names, strict=True)):
        both = np.concatenate([predicted[:, k], target[:, k]])
        line = ends if ends is not None else (both.min(), both.max())
        axes.plot(line, line, color="0.6", linewidth=0.8)
        axes.scatter(target[:, k], predicted[:, k], s=6, alpha=_alpha(len(predicted)), color=MODEL, linewidths=0)
        axes.set(title=name, aspect="equal", adjustable="datalim")
        if ends is not None:
            axes.set(xlim=ends, ylim=ends, adjustable="box")
        axes.title.set_fontsize(9)
    figure.supxlabel("true")
    figure.supylabel("predicted")
    return figure


def error_grid(predicted: np.ndarray, target: np.ndarray, names: Sequence[str]) -> Figure:
    """Errors against what is true, a panel a number, with the running median; arguments as for `scatter_grid`."""
    figure, panels = _panels(len(names))
    for at, (axes, name) in enumerate(zip(panels, names, strict=True)):
        error = predicted[:, at] - target[:, at]
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.scatter(target[:, at], error, s=6, alpha=_alpha(len(predicted)), color=MODEL, linewidths=0)
        parts = [part for part in np.array_split(np.argsort(target[:, at]), 10) if len(part)]
        middle = [np.median(target[part, at]) for part in parts]
        axes.plot(middle, [np.median(error[part]) for part in parts], color=ACCENT, linewidth=1.5)
        axes.set_title(name, fontsize=9)
    figure.supxlabel("true")
    figure.supylabel("predicted − true (line: running median)")
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, at most four in a row."""
    wide = min(4, count)
    high = -(-count // wide)
    figure = Figure(figsize=(max(3.1 * wide, 4), 3.2 * high), layout="constrained")
    return figure, [figure.add_subplot(high, wide, place) for place in range(1, count + 1)]


def _alpha(count: int) -> float:
    """How opaque so many points are that lie over each other."""
    return min(1.0, 300 / max(count, 1) + 0.05)


def picture_grid(pictures: list[np.ndarray], captions: list[str], title: str = "") -> Figure:
    """Pictures, each uint8 of shape (H, W, 3), with a few lines of text below each."""
    wide = min(4, len(pictures))
    high = -(-len(pictures) // wide)
    figure = Figure(figsize=(2.9 * wide, 3.7 * high), layout="constrained")
    figure.suptitle(title)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True), start=1):
        axes = figure.add_subplot(high, wide, place)
        axes.imshow(picture)
        axes.set_xlabel(caption, fontsize=7.5)
        axes.set(xticks=[], yticks=[])
    return figure


def central_part(run: RunDir, image: str, fraction: float = 0.5) -> np.ndarray:
    """The central part of an object's original picture, uint8 of shape (H, W, 3)."""
    picture = open_image(run.source(image))
    width, height = picture.size
    left, upper = width * (1 - fraction) / 2, height * (1 - fraction) / 2
    return np.asarray(picture.crop((int(left), int(upper), int(width - left), int(height - upper))))


def legend_mark(label: str, marker: str, color: str) -> Line2D:
    """A marker for a legend."""
    return Line2D([], [], linestyle="none", marker=marker, color=color, markersize=6, markeredgewidth=0, label=label)


def write_images(
    run: RunDir, name: str, title: str, told: str, images: pd.Series, captions: list[str], crop: float
) -> None:
    """Writes a figure of some objects' original images; none where there are no objects.

    Args:
        run: Whose images, and whose figure.
        name: Of the figure.
        title: Above the images.
        told: What is seen, in a sentence.
        images: As the catalog has them.
        captions: Below each.
        crop: Central part that is shown, a fraction of the side.
    """
    if len(images):
        pictures = [central_part(run, image, crop) for image in images]
        run.write_figure(name, picture_grid(pictures, captions, title), told)


def unit_axes() -> tuple[Figure, Axes]:
    """A figure with axes from 0 to 1 both ways."""
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1.01), box_aspect=1, anchor="W")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def with_legend(figure: Figure) -> Figure:
    """The figure with a legend beside its axes, wide enough for it."""
    axes = figure.axes[0]
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8.5)
    figure.set_size_inches(5.3 + 0.061 * max(map(len, labels), default=0), 4.6)
    return figure


def reliability_curves(axes: Axes, curves: Mapping[str, Reliability], errors: bool = True) -> None:
    """Draws accuracy against confidence, with a legend.

    Args:
        axes: Where.
        curves: By what the legend calls them.
        errors: Whether with one standard error.
    """
    axes.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--")
    for (name, curve), colour in zip(curves.items(), cycle(COLOURS), strict=False):
        error = np.sqrt(curve.accuracy * (1 - curve.accuracy) / np.maximum(curve.count, 1)) if errors else None
        look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.3}
        axes.errorbar(curve.confidence, curve.accuracy, error, label=f"{name}: ECE {curve.ece:.3f}", **look)
    if curves:
        axes.legend(loc="upper left", frameon=False, fontsize=9)


def line_style(k: int) -> dict[str, Any]:
    """Colour of the k-th line; dashes tell those apart that share one."""
    return {"color": COLOURS[k % len(COLOURS)], "linewidth": 1.5, "linestyle": ("-", "--")[k // len(COLOURS) % 2]}
