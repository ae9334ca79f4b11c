"""Figures of a sweep: the monitored metric epoch by epoch, and what was swept against what it led to."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from matplotlib.ticker import LogLocator, MaxNLocator

from galaxyml.evaluation.plots import BASELINE
from galaxyml.reports.sweep_table import number

NAMED = 10  # combinations that have a colour of their own
BEST = 5  # of more, those that are named
DECADE = 10.0  # from the lowest to the highest value of an axis that is logarithmic
ENDS = {"pruned": "x", "failed": "X", "stopped": "s", "finished": ""}
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
    """

    combination: str
    state: str
    epochs: np.ndarray
    values: np.ndarray
    ends: Sequence[int] = ()


def learning_curves(lines: Sequence[Line], metric: str, lower: bool) -> Figure:
    """One thin line a job, and a thick one for the mean of each combination of several jobs.

    Up to ten combinations have a colour of their own; of more, the shade tells how good the end is, and the best five
    are named. Lines that end before their fit did have a mark. Where phases follow on each other, which they do after
    the same epochs in all jobs or are not marked, there is a dotted line.

    Args:
        lines: Those with at least one epoch.
        metric: Its name.
        lower: Whether it is to be low.
    """
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(line.combination for line in lines))
    means = {name: _mean([line for line in lines if line.combination == name]) for name in names}
    last = {name: float(values[-1]) for name, (_, values) in means.items()}
    order = sorted(names, key=lambda name: (last[name] if lower else -last[name], name))
    many = len(names) > NAMED
    if many:
        shades = Normalize(*_robust(np.array(list(last.values())), lower))
        colours = {name: SHADES(1 - shades(last[name]) if not lower else shades(last[name])) for name in names}
    else:
        colours = {name: mpl.colormaps["tab10"](at) for at, name in enumerate(names)}
    low, high = _robust(np.concatenate([line.values for line in lines]), lower)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    for name in reversed(order):
        members = [line for line in lines if line.combination == name]
        for line in members:
            alone = len(members) == 1
            axes.plot(
                line.epochs,
                line.values,
                color=colours[name],
                linewidth=1.6 if alone and not many else 0.9,
                alpha=1.0 if alone else 0.45,
                linestyle="--" if line.state == "pruned" else "-",
                marker="." if len(line.epochs) == 1 else "",
            )
            if mark := ENDS.get(line.state, "o"):
                at = np.clip(line.values[-1], low - room, high + room)  # at the edge, where it is beyond
                axes.plot(line.epochs[-1], at, mark, color=colours[name], markersize=5, clip_on=False)
        if len(members) > 1:
            axes.plot(*means[name], color=colours[name], linewidth=2.2)
    shown = order if not many else order[:BEST]
    if len({tuple(line.ends) for line in lines}) == 1:
        for end in lines[0].ends:
            axes.axvline(end + 0.5, color="0.4", linestyle=":", linewidth=1)
    handles = [mpl.lines.Line2D([], [], color=colours[name], linewidth=2.2, label=_short(name)) for name in shown]
    words = {"pruned": "pruned", "failed": "failed", "stopped": "stopped", "o": "still training"}
    for state, word in words.items():
        if any((line.state if line.state in ENDS else "o") == state for line in lines):
            mark = ENDS.get(state, state)
            handles.append(mpl.lines.Line2D([], [], color="0.3", linestyle="", marker=mark, markersize=5, label=word))
    title = f"the best {BEST} of {len(names)}" if many else None
    if len(handles) > 1 or names != ["all"]:
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8, title=title)
    axes.set(xlabel="epoch", ylabel=metric, ylim=(low - room, high + room))
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
    shown = ~np.isnan(values)
    heights = [_axis(axes, at, key, each) for at, (key, each) in enumerate(settings.items())]
    counted = values[shown & ~cut_short] if (shown & ~cut_short).any() else values[shown]
    low, high = _robust(counted, lower)
    span = high - low or 1.0
    ends = np.clip((values - low) / span, -0.03, 1.03)
    shades = Normalize(low, high if high > low else low + 1)
    map_: Colormap = SHADES if lower else SHADES.reversed()
    worst_first = np.argsort(np.where(cut_short, -np.inf, -values if lower else values), kind="stable")
    order = [at for at in worst_first if shown[at]]
    full = [at for at in order if not cut_short[at]]
    for at in order:
        points = np.array([height[at] for height in heights] + [ends[at]])
        colour = BASELINE if cut_short[at] else map_(shades(values[at]))
        best = bool(full) and at == full[-1]
        patch = PathPatch(
            _smooth(points),
            fill=False,
            edgecolor=colour,
            linewidth=3.0 if best else 1.2,
            alpha=1.0 if best else 0.5 if cut_short[at] else 0.75,
            linestyle="--" if cut_short[at] else "-",
            zorder=3 if best else 1 if cut_short[at] else 2,
        )
        axes.add_patch(patch)
    for at in range(len(settings)):
        axes.axvline(at, color="0.25", linewidth=1, zorder=4)
    axes.set(xlim=(-0.35, len(settings) + 0.02), ylim=(-0.06, 1.06), yticks=[])
    names = [*settings, metric]
    axes.set_xticks(range(len(names)), [_in_lines(name) for name in names], fontsize=9)
    axes.tick_params(axis="x", length=0, pad=8)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(shades, map_), ax=axes, pad=0.0, aspect=28, shrink=1 / 1.12)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if cut_short[shown].any():
        figure.legend(
            handles=[mpl.lines.Line2D([], [], color=BASELINE, linestyle="--", label="pruned: its last epoch")],
            loc="outside lower right",
            frameon=False,
            fontsize=8,
        )
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
    quarter, middle, most = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 4 * max(most - quarter, 1e-12)
    low, high = float(values.min()), float(values.max())
    if lower:
        inside = values[values <= middle + reach]
        return low, float(inside.max())
    inside = values[values >= middle - reach]
    return float(inside.min()), high


def _axis(axes: Axes, at: int, key: str, values: Sequence[str]) -> np.ndarray:
    """Draws the ticks of one axis; gives the height of each value, from 0 to 1, shape (N,)."""
    numbers = np.array([number(value) for value in values])
    if np.isnan(numbers).any():
        words = sorted(set(values))
        places = {word: (place + 0.5) / len(words) for place, word in enumerate(words)}
        for word, height in places.items():
            _tick(axes, at, height, _short(word, 22) or "default")
        return np.array([places[value] for value in values])
    low, high = float(numbers.min()), float(numbers.max())
    log = low > 0 and high / low >= DECADE
    ticks = np.unique(numbers)
    if len(ticks) > 6 and log:
        ticks = np.array(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)).tick_values(low, high))
    elif len(ticks) > 6:
        ticks = np.array(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high))

    def to_scale(value: np.ndarray) -> np.ndarray:
        if log:
            return np.log(value / low) / np.log(high / low)
        return (value - low) / ((high - low) or 1.0)

    taken = -1.0
    for tick in ticks[(ticks >= low) & (ticks <= high)]:
        if to_scale(tick) - taken > 0.045:
            taken = float(to_scale(tick))
            _tick(axes, at, taken, f"{tick:g}")
    return to_scale(numbers)


def _tick(axes: Axes, at: int, height: float, text: str) -> None:
    axes.plot([at - 0.02, at], [height, height], color="0.25", linewidth=1, zorder=4)
    axes.text(
        at - 0.04,
        height,
        text,
        ha="right",
        va="center",
        fontsize=8,
        zorder=5,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
    )


def _smooth(points: np.ndarray) -> Curve:
    """A line that leaves and reaches each axis at a right angle, so that it can be followed; heights (A,)."""
    corners, codes = [(0.0, points[0])], [Curve.MOVETO]
    for at, (here, there) in enumerate(itertools.pairwise(points)):
        corners += [(at + 0.4, here), (at + 0.6, there), (at + 1.0, there)]
        codes += [Curve.CURVE4] * 3
    return Curve(corners, codes)


def _in_lines(key: str, most: int = 18) -> str:
    """A key in lines that are not much longer, broken at its dots."""
    lines = [""]
    for part in key.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1] + part) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) + 1 :]}"
