"""Figures that several tasks, the report and TensorBoard share; drawn without a screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.decoding import as_decoding
from galaxyml.data.images.visible import visible
from galaxyml.evaluation.calibration import Reliability
from galaxyml.runs.run_dir import RunDir

# As a caption.
LOSS_CURVES = "Loss over the epochs, of what is trained on (left) and of validation objects (right), a line a net."
MODEL, BASELINE, ACCENT = "#1f5fa8", "#b8b8b8", "#d1603d"
DECADE = 10.0  # from the lowest to the highest value of an axis that is logarithmic
PANEL = 2.6  # inches of a panel's side, where several stand in a row
NARROW = 6.2  # inches of a figure whose letters a phone can still show
WIDTH = 36  # letters of a line below an image
SHADES = ("#8fbde8", "#3f84cc", "#123a6b", "#d1603d", "#3a8f5c")  # of levels, the lowest first
ROOMY = 7.5  # inches of height from which on a figure of intervals has one panel more
# Of curves that may lie over each other: the first is seen around the second.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#f0a58a", "linewidth": 5.0, "marker": "o", "markersize": 7.5, "markeredgewidth": 0},
    {"color": MODEL, "linewidth": 1.2, "marker": "o", "markersize": 3},
)
DASHES = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)))
# Five apart, as the lines that share a dash are, they differ most.
COLOURS = (MODEL, "#d1603d", "#3a8f5c", "#8757a6", "#c9a227", "#6b6b6b", "#4fb0c6", "#e58fb1", "#7d8b2f", "#a63d57")


def bars(names: list[str], values: np.ndarray, baseline: np.ndarray | None = None, label: str = "RMSE") -> Figure:
    """One horizontal bar a name; values and baseline of shape (K,)."""
    figure = Figure(figsize=(NARROW, 0.24 * len(names) + 0.8), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    if baseline is not None:
        axes.barh(rows, baseline, height=0.8, color=BASELINE, label="baseline")
    axes.barh(rows, values, height=0.45, color=MODEL, label="model")
    axes.set_yticks(rows, names, fontsize=8)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=label)
    if baseline is not None:
        axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def loss_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Training and validation loss over the epochs, a line a run, with its name at its end."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("train/loss", "val/loss"), strict=True):
        lines = {run: history for run, history in histories.items() if name in history}
        for k, (run, history) in enumerate(lines.items()):
            marker = "." if len(history) == 1 else ""
            axes.plot(history["epoch"] + 1, history[name], label=run, marker=marker, **line_style(k))
        values = np.concatenate([[], *(history[name].dropna() for history in lines.values())])
        steep = bool(len(values)) and values.max() > DECADE * values.min() > 0
        axes.set(yscale="log" if steep else "linear", xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            name_ends(figure, axes)
    return figure


def name_ends(figure: Figure, axes: Axes, size: float = 8) -> None:
    """Writes the name of each line beside its end, in its colour; names move up or down where they would touch.

    Args:
        figure: That of the axes.
        axes: With lines that have labels, all limits and scales set.
        size: Of the letters, in points.
    """
    named = (line for line in axes.get_lines() if not str(line.get_label()).startswith("_"))
    lines = [line for line in named if np.size(line.get_xdata())]
    if not lines:
        return
    points = [(np.asarray(line.get_xdata())[-1], np.asarray(line.get_ydata())[-1]) for line in lines]
    axes.get_ylim()  # which brings the scale up to date
    ends = np.clip(axes.transAxes.inverted().transform(axes.transData.transform(points)), 0, 1)
    order = np.argsort(ends[:, 1], kind="stable")
    step = 1.6 * size / 72 / (axes.get_position().height * figure.get_figheight())  # a line of text and some room
    for row, height in zip(order, apart(ends[order, 1], step), strict=True):
        line: dict[str, Any] = {"color": lines[row].get_color(), "linewidth": 0.6, "alpha": 0.6}
        axes.annotate(
            str(lines[row].get_label()),
            tuple(ends[row]),
            (1.04, height),
            xycoords="axes fraction",
            va="center",
            fontsize=size,
            color=lines[row].get_color(),
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "shrinkA": 1, **line},
        )


def apart(heights: np.ndarray, step: float) -> np.ndarray:
    """Ascending heights moved as little as may be, in the sense of least squares, to be a step apart or more.

    >>> apart(np.array([0.0, 0.1, 1.0]), 0.3).round(2).tolist()
    [-0.1, 0.2, 1.0]
    """
    offsets = step * np.arange(len(heights))
    blocks: list[list[float]] = []  # which have come to touch, each with its mean height before its members' offsets
    for height in heights - offsets:
        blocks.append([float(height)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) + offsets


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
    figure, panels = _target_panels(target, predicted, names, "predicted")
    for k, axes in enumerate(panels):
        both = np.concatenate([predicted[:, k], target[:, k]])
        line = ends if ends is not None else (both.min(), both.max())
        axes.plot(line, line, color="0.6", linewidth=0.8)
        axes.set(aspect="equal", adjustable="datalim")
        if ends is not None:
            axes.set(xlim=ends, ylim=ends, adjustable="box")
    return figure


def error_grid(predicted: np.ndarray, target: np.ndarray, names: Sequence[str]) -> Figure:
    """Errors against targets, a panel a number, with the running median; arguments as for `scatter_grid`."""
    errors = predicted - target
    figure, panels = _target_panels(target, errors, names, "predicted − true (line: running median)")
    for k, axes in enumerate(panels):
        axes.axhline(0, color="0.6", linewidth=0.8)
        tenths = [rows for rows in np.array_split(np.argsort(target[:, k]), 10) if len(rows)]
        medians = [[np.median(values[rows, k]) for rows in tenths] for values in (target, errors)]
        axes.plot(*medians, color=ACCENT, linewidth=1.5)
    return figure


def _target_panels(
    target: np.ndarray, values: np.ndarray, names: Sequence[str], label: str
) -> tuple[Figure, list[Axes]]:
    """A figure of values against targets, both of shape (N, K), a panel a name."""
    written = Margins(left=0.7, right=0.1, bottom=0.3, top=0.27)  # numbers and title of each
    figure, panels = _grid(len(names), written, Margins(left=0.3, right=0.1, bottom=0.3, top=0.05))
    alpha = min(1.0, 300 / max(len(target), 1) + 0.05)  # many points lie over each other
    for k, (axes, name) in enumerate(zip(panels, names, strict=True)):
        axes.scatter(target[:, k], values[:, k], s=6, alpha=alpha, color=MODEL, linewidths=0)
        axes.set_title(name, fontsize=9)
        axes.locator_params(nbins=5)  # long numbers would touch each other
    figure.supxlabel("true")
    figure.supylabel(label)
    return figure, panels


@dataclass(frozen=True)
class Margins:
    """Room around something, in inches."""

    left: float
    right: float
    bottom: float
    top: float


def _grid(count: int, each: Margins, whole: Margins) -> tuple[Figure, list[Axes]]:
    """A figure of square panels, at most four in a row, whose places need not be found by measuring all letters.

    Args:
        count: How many.
        each: Around each panel, for what is written beside it.
        whole: Around all of them.
    """
    wide = min(4, count)
    high = -(-count // wide)
    across, down = each.left + PANEL + each.right, each.bottom + PANEL + each.top
    width = whole.left + wide * across + whole.right
    height = whole.bottom + high * down + whole.top
    figure = Figure(figsize=(width, height))
    panels = []
    for number in range(count):
        row, column = divmod(number, wide)
        left = whole.left + column * across + each.left
        bottom = whole.bottom + (high - 1 - row) * down + each.bottom
        panels.append(figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height)))
    return figure, panels


def image_grid(images: list[np.ndarray], captions: list[str], title: str = "") -> Figure:
    """Images, each uint8 of shape (H, W, C), with a few lines of text below each."""
    texts = ["\n".join(fill(line, WIDTH, subsequent_indent="  ") for line in text.splitlines()) for text in captions]
    lines = max(text.count("\n") + 1 for text in texts)
    written = Margins(left=0.1, right=0.1, bottom=0.17 * lines + 0.2, top=0.05)  # captions
    figure, panels = _grid(len(images), written, Margins(0, 0, 0, 0.4 if title else 0))
    figure.suptitle(title, y=1 - 0.12 / figure.get_figheight(), va="top")
    for axes, image, text in zip(panels, images, texts, strict=True):
        axes.imshow(visible(image))
        axes.set_xlabel(text, fontsize=10)
        axes.set(xticks=[], yticks=[])
    return figure


class CentralParts:
    """Central parts of objects' original images, as a run decodes them.

    Args:
        run: Whose images.
        fraction: Of an image's side that is shown.
    """

    def __init__(self, run: RunDir, fraction: float) -> None:
        data, keys = run.config.data, ("channels", "stretch", "hdu", "bands")
        self.decoding = as_decoding(**{key: data[key] for key in keys if key in data})
        self.folder, self.fraction = run.source("."), fraction

    def __call__(self, image: str) -> np.ndarray:
        """That of an image by its path in the data's folder, uint8 of shape (H, W, C)."""
        original = open_image(self.folder / image, self.decoding)
        height, width = original.shape[:2]
        left, upper = width * (1 - self.fraction) / 2, height * (1 - self.fraction) / 2
        return original[int(upper) : int(height - upper), int(left) : int(width - left)]


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
    """Coverage and width of intervals column by column, and their coverage over all columns by level.

    Where there is room, how far that is from what is asked has a panel of its own.

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
    height = max(0.21 * len(names), 3.6) + 1.2
    figure = Figure(figsize=(12, height), layout="constrained")
    figure.suptitle(title, fontsize=11)
    roomy = height > ROOMY
    panels = figure.subplot_mosaic("hwa;hwd" if roomy else "hwa", width_ratios=[1.25, 1, 1.25])
    held, width, over_all = (panels[name] for name in "hwa")
    rows = np.arange(len(names))
    for number in reversed(range(len(levels))):
        shade = SHADES[number % len(SHADES)]
        held.axvline(levels[number], color=shade, linewidth=0.8, linestyle="--")
        held.plot(shares[number], rows, "o", color=shade, markersize=4.5)
        width.barh(rows, wide[number], height=0.7, color=shade, label=f"{levels[number]:.0%}")
    held.set(xlim=(min(levels.min() - 0.1, np.nanmin(shares) - 0.02), 1.01), xlabel="share held (dashed: asked)")
    width.set(xlim=(0, None), xlabel=f"mean width{unit}")
    handles, labels = width.get_legend_handles_labels()
    width.legend(handles[::-1], labels[::-1], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    for axes in (held, width):
        axes.set_yticks(rows, names if axes is held else [""] * len(names), fontsize=8)
        axes.set(ylim=(len(names) - 0.4, -0.6), axisbelow=True)
        axes.grid(axis="y", alpha=0.25)
    over_all.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--")
    for (name, share), look in zip(curves.items(), LOOKS[-len(curves) :], strict=True):
        over_all.plot(asked, share, label=name, **look)
        if roomy:
            panels["d"].plot(asked, 100 * (share - asked), **look)
    over_all.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1, anchor="N", xlabel="share asked", ylabel="share held")
    over_all.yaxis.set_major_formatter(PercentFormatter(1.0))
    over_all.legend(loc="upper left", frameon=False, fontsize=8)
    over_all.grid(alpha=0.3)
    if roomy:
        off = panels["d"]
        off.axhline(0, color=BASELINE, linewidth=1, linestyle="--")
        off.set(xlim=(0, 1), xlabel="share asked", ylabel="share held − asked (percentage points)")
        off.grid(alpha=0.3)
    for name, axes in panels.items():
        if name != "w":
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure


def legend_mark(label: str, marker: str, color: str) -> Line2D:
    """A marker for a legend."""
    return Line2D([], [], linestyle="none", marker=marker, color=color, markersize=6, markeredgewidth=0, label=label)


def without_duplicates(order: np.ndarray, catalog: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """An order of predictions without those of objects that stand in it before, under another id.

    Args:
        order: Indices of predictions.
        catalog: With `duplicate_of` where there are such objects.
        rows: The row of each prediction in it.
    """
    if "duplicate_of" not in catalog:
        return order
    shown = catalog.iloc[rows[order]]
    first = shown["duplicate_of"].where(shown["duplicate_of"] != "", shown["id"].astype(str))
    return order[~first.duplicated().to_numpy()]


def write_images(
    run: RunDir, name: str, title: str, caption: str, images: pd.Series, captions: list[str], crop: float
) -> None:
    """Writes a figure of some objects' original images; none where there are no objects.

    Args:
        run: Whose images, and whose figure.
        name: Of the figure.
        title: Above the images.
        caption: What is seen, in a sentence.
        images: As the catalog has them.
        captions: Below each.
        crop: Central part that is shown, a fraction of the side.
    """
    if len(images):
        parts = map(CentralParts(run, crop), images)
        run.write_figure(name, image_grid(list(parts), captions, title), caption)


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


def reliability_curves(axes: Axes, curves: Mapping[str, Reliability], errors: bool = True, title: str = "") -> None:
    """Draws accuracy against confidence, with a legend.

    Args:
        axes: Where.
        curves: By what the legend calls them.
        errors: Whether with one standard error.
        title: Above the legend.
    """
    axes.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--")
    for (name, curve), colour in zip(curves.items(), cycle(COLOURS), strict=False):
        error = np.sqrt(curve.accuracy * (1 - curve.accuracy) / np.maximum(curve.count, 1)) if errors else None
        look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.3}
        axes.errorbar(curve.confidence, curve.accuracy, error, label=f"{name}: ECE {curve.ece:.3f}", **look)
    if curves:  # above the axes, as points may lie anywhere in them
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(**place, frameon=False, fontsize=9, title=title or None, title_fontsize=12, alignment="left")
    elif title:
        axes.set_title(title, loc="left")


def outlined(k: int) -> dict[str, Any]:
    """The first line is the model's, thick, dark and above the others; those behind it are thin."""
    if k == 0:
        return {"color": "black", "linewidth": 2.8, "linestyle": "-", "zorder": 2.5}
    return line_style(k - 1) | {"linewidth": 1.0}


def line_style(k: int) -> dict[str, Any]:
    """Colour and dashes of the k-th line, which differ from those of its neighbours, and of those in its colour."""
    dashes = DASHES[(k + k // len(COLOURS)) % len(DASHES)]
    return {"color": COLOURS[k % len(COLOURS)], "linewidth": 1.5, "linestyle": dashes}
