"""Figures that several tasks, the report and TensorBoard share; drawn without a screen."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

MODEL, BASELINE = "#1f5fa8", "#b8b8b8"


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
