"""Figures of a sweep: the monitored metric epoch by epoch, and what was swept against what it led to."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from galaxyml.evaluation.plots import BASELINE, DECADE, line_style, name_ends

NAMED = 10  # combinations that have a colour of their own
BEST = 5  # of more, those that are named
ENDS = {"pruned": "x", "failed": "X", "stopped": "s", "finished": ""}  # markers of lines by state
TRAINING = "o"  # of others
BEYOND = {True: "^", False: "v"}  # markers at the edge, where a line is outside, by whether a metric is to be low
# From the best to the worst, without the yellow that paper swallows.
SHADES = LinearSegmentedColormap.from_list("shades", mpl.colormaps["viridis"](np.linspace(0.0, 0.9, 256)))


@dataclass(frozen=True)
class Line:
    """The monitored metric of one job.

    Attributes:
        combination: What it was trained with.
        state: One of `galaxyml.runs.run_dir.STATES`.
        epochs: Counted from 1, shape (E,).
        values: Shape (E,).
        ends: Epochs after which a phase of the fit followed on another.
        job: Its name.
    """

    combination: str
    state: str
    epochs: np.ndarray
    values: np.ndarray
    ends: Sequence[int] = ()
    job: str = ""


def learning_curves(lines: Sequence[Line], metric: str, lower: bool) -> Figure:
    """One thin line a job, and a thick one for the mean of each combination of several jobs.

    Up to ten combinations have a colour and dashes of their own and their name at the end of their line, and so have up
    to ten jobs of a single one; of more, the shade tells how good the end is, and the best five are named. Lines that
    end before their fit did have a mark, and so has the edge where a line is far worse than the others. Where phases
    follow on each other, which they do after the same epochs in all jobs or are not marked, there is a dotted line.

    Args:
        lines: Those with at least one epoch.
        metric: Its name.
        lower: Whether it is to be low.
    """
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.combination, []).append(line)
    means = {name: _mean(members) for name, members in groups.items()}
    last = {name: float(values[-1]) for name, (_, values) in means.items()}
    order = sorted(groups, key=lambda name: (last[name] if lower else -last[name], name))
    many = len(groups) > NAMED
    jobs_apart = len(groups) == 1 and len(lines) <= NAMED
    if many:
        shades = Normalize(*_robust(np.array(list(last.values())), lower))
        colours = {name: SHADES(shades(last[name]) if lower else 1 - shades(last[name])) for name in groups}
        styles: dict[str, dict[str, Any]] = {name: {"color": colour} for name, colour in colours.items()}
    else:
        styles = {name: line_style(number) for number, name in enumerate(groups)}
    low, high = _robust(np.concatenate([line.values for line in lines]), lower)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    edge = high + room if lower else low - room
    beyond: list[float] = []
    for name in reversed(order):
        alone = len(groups[name]) == 1
        for number, line in enumerate(groups[name]):
            style = line_style(number) if jobs_apart else styles[name]
            axes.plot(
                line.epochs,
                line.values,
                **style | {"linewidth": 1.6 if jobs_apart or (alone and not many) else 0.9},
                alpha=1.0 if jobs_apart or alone else 0.45,
                marker="." if len(line.epochs) == 1 else "",
                label=line.job if jobs_apart else _short(name) if alone and not many else None,
            )
            if mark := ENDS.get(line.state, TRAINING):
                height = np.clip(line.values[-1], low - room, high + room)  # at the edge, where it is beyond
                axes.plot(line.epochs[-1], height, mark, color=style["color"], markersize=5, clip_on=False)
            outside = line.values > edge if lower else line.values < edge
            if outside.any():
                edges = np.full(outside.sum(), edge)
                axes.plot(line.epochs[outside], edges, BEYOND[lower], color=style["color"], markersize=6, clip_on=False)
                beyond += line.values[outside].tolist()
        if not alone and not jobs_apart:
            axes.plot(*means[name], **styles[name] | {"linewidth": 2.2}, label=None if many else _short(name))
    if len({tuple(line.ends) for line in lines}) == 1:
        for end in lines[0].ends:
            axes.axvline(end + 0.5, color="0.4", linestyle=":", linewidth=1)
    best = order[:BEST] if many else []
    handles = [Line2D([], [], color=styles[name]["color"], linewidth=2.2, label=_short(name)) for name in best]
    marks = {ENDS.get(line.state, TRAINING) for line in lines}
    for state, mark in {**ENDS, "still training": TRAINING}.items():
        if mark and mark in marks:
            handles.append(Line2D([], [], color="0.3", linestyle="", marker=mark, markersize=5, label=state))
    if beyond:
        text = f"▲ beyond the frame, up to {max(beyond):.3g}" if lower else f"▼ beyond the frame, to {min(beyond):.3g}"
        axes.set_title(text, loc="right", fontsize=8, color="0.3")
    if handles:
        title = f"the best {BEST} of {len(groups)}" if many else None
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8, title=title)
    axes.set(xlabel="epoch", ylabel=metric, ylim=(low - room, high + room))
    if len(lines) > 1:
        name_ends(figure, axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def parallel_coordinates(
    settings: dict[str, list[str]], values: np.ndarray, cut_short: np.ndarray, metric: str, lower: bool
) -> Figure:
    """One line a combination, through what was swept to the metric, whose shade it has; the best one is thick.

    Numbers have an axis to scale, logarithmic where they span a decade, and words have places.

    Args:
        settings: By key, what each of N combinations has.
        values: The metric, shape (N,); NaN where there is none.
        cut_short: Whether it is that of an early epoch, of a trial that was pruned: these are grey, shape (N,).
        metric: Its name.
        lower: Whether it is to be low.
    """
    figure = Figure(figsize=(max(5.5, 1.9 * (len(settings) + 1)), 4.8), layout="constrained")
    axes = figure.add_subplot()
    known = ~np.isnan(values)
    finished = known & ~cut_short
    low, high = _robust(values[finished] if finished.any() else values[known], lower)
    ends = np.clip((values - low) / (high - low or 1.0), -0.03, 1.03)
    heights = np.array([*(_axis(axes, number, key) for number, key in enumerate(settings.values())), ends])
    shades = Normalize(low, high if high > low else low + 1)
    colours: Colormap = SHADES if lower else SHADES.reversed()
    worst_first = np.argsort(np.where(cut_short, -np.inf, -values if lower else values), kind="stable")
    order = worst_first[known[worst_first]]
    best = order[-1] if finished.any() else None
    for row in order:
        style: dict[str, Any] = {"color": colours(shades(values[row])), "linewidth": 1.2, "alpha": 0.75, "zorder": 2}
        if cut_short[row]:
            style |= {"color": BASELINE, "alpha": 0.5, "zorder": 1, "linestyle": "--"}
        elif row == best:
            style |= {"linewidth": 3.0, "alpha": 1.0, "zorder": 3}
        axes.plot(range(len(heights)), heights[:, row], **style)
    for number in range(len(settings)):
        axes.axvline(number, color="0.25", linewidth=1, zorder=4)
    axes.set(xlim=(-0.35, len(settings) + 0.02), ylim=(-0.06, 1.06), yticks=[])
    names = [*settings, metric]
    axes.set_xticks(range(len(names)), [_in_lines(name) for name in names], fontsize=9)
    axes.tick_params(axis="x", length=0, pad=8)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(shades, colours), ax=axes, pad=0.0, aspect=28, shrink=1 / 1.12)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if cut_short[known].any():
        handle = Line2D([], [], color=BASELINE, linestyle="--", label="pruned: its last epoch")
        figure.legend(handles=[handle], loc="outside lower right", frameon=False, fontsize=8)
    return figure


def _mean(members: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs that a combination's jobs have in common, and the mean over those that did not end early, if any."""
    full = [line for line in members if line.state not in ("pruned", "failed", "stopped")] or list(members)
    epochs = full[0].epochs
    for line in full[1:]:
        epochs = np.intersect1d(epochs, line.epochs)
    if not len(epochs):
        return full[0].epochs, full[0].values
    return epochs, np.mean([line.values[np.isin(line.epochs, epochs)] for line in full], axis=0)


def _robust(values: np.ndarray, lower: bool) -> tuple[float, float]:
    """Lowest and highest value, without those that are so bad that the others could not be told apart."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    lower_quartile, median, upper_quartile = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 4 * max(upper_quartile - lower_quartile, 1e-12)
    inside = values[values <= median + reach] if lower else values[values >= median - reach]
    return float(inside.min()), float(inside.max())


def _axis(axes: Axes, position: int, values: Sequence[str]) -> np.ndarray:
    """Draws the ticks of one axis; gives the height of each value, from 0 to 1, shape (N,)."""
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(float)
    if not np.isfinite(numbers).all():
        words = sorted(set(values))
        heights = {word: (index + 0.5) / len(words) for index, word in enumerate(words)}
        for word, height in heights.items():
            _tick(axes, position, height, _short(word, 22) or "default")
        return np.array([heights[value] for value in values])
    low, high = float(numbers.min()), float(numbers.max())
    log = low > 0 and high / low >= DECADE
    ticks = np.unique(numbers)
    if len(ticks) > 6 and log:
        ticks = np.array(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)).tick_values(low, high))
    elif len(ticks) > 6:
        ticks = np.array(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high))
    scale = Normalize(low, high) if not log else LogNorm(low, high)
    last = -1.0
    for tick in ticks[(ticks >= low) & (ticks <= high)]:
        if (height := float(scale(tick))) - last > 0.045:
            last = height
            _tick(axes, position, height, f"{tick:g}")
    return np.asarray(scale(numbers))


def _tick(axes: Axes, position: int, height: float, text: str) -> None:
    axes.plot([position - 0.02, position], [height, height], color="0.25", linewidth=1, zorder=4)
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
    axes.text(position - 0.04, height, text, ha="right", va="center", fontsize=8, zorder=5, bbox=box)


def _in_lines(key: str) -> str:
    """A key in lines of 18 characters or so, broken at its dots."""
    return "\n".join(textwrap.wrap(key.replace(".", ". "), 19, break_long_words=False)).replace(". ", ".")


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) + 1 :]}"
