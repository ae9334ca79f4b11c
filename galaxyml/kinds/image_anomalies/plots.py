"""Figures of ranked images; drawn without a screen."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from galaxyml.data.images.visible import visible
from galaxyml.evaluation.plots import BASELINE, COLOURS

ACROSS = 8  # images in a line
PAD = 0.02  # inches, and shares of an image, between them
RINGED = 20  # of the highest scores, in the figure of features
LONGEST = 18  # characters of an id in a caption


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str]) -> Figure:
    """Images in lines, the first at the top left, with two short lines of text below each.

    Args:
        images: uint8 of shape (H, W, C) each.
        captions: Of each.
    """
    lines = -(-len(images) // ACROSS)
    across = min(ACROSS, len(images))
    figure = Figure(
        figsize=(1.25 * across, 1.6 * lines),
        layout=ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD, wspace=PAD, hspace=PAD),
    )
    panels = figure.subplots(lines, across, squeeze=False).flatten()
    for axes, image, text in zip(panels, images, captions, strict=False):
        axes.imshow(visible(image))
        axes.set_xlabel(text, fontsize=6.5, labelpad=2)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes in panels[len(images) :]:
        axes.set_axis_off()
    return figure


def features_figure(points: np.ndarray, scores: np.ndarray, title: str) -> Figure:
    """Images in the plane, coloured by how high they rank; those that rank highest are ringed.

    Args:
        points: A 2-D embedding, shape (N, 2).
        scores: Of the same images, shape (N,).
        title: Above the figure.
    """
    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(scores)
    share = np.empty(len(scores))
    share[order] = (np.arange(len(scores)) + 0.5) / len(scores)
    size = float(np.clip(24_000 / max(len(points), 1), 2.5, 24))
    drawn = axes.scatter(
        points[order, 0], points[order, 1], c=share[order], s=size, cmap="viridis", vmin=0, vmax=1, linewidths=0
    )
    top = order[-RINGED:]
    axes.scatter(points[top, 0], points[top, 1], s=60, facecolors="none", edgecolors="#d1603d", linewidths=1.2)
    figure.colorbar(drawn, ax=axes, label="share of the images that rank lower")
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_color(BASELINE)
    return figure


def families_figure(names: Sequence[str], families: Mapping[str, np.ndarray]) -> Figure:
    """What each family of numbers adds to the sum of some images, beyond what it adds to half of all.

    Args:
        names: Of the images, the highest score first.
        families: By name, shape (n,) each.
    """
    figure = Figure(figsize=(7.2, 0.24 * len(names) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    right, left = np.zeros(len(names)), np.zeros(len(names))
    for (family, added), colour in zip(families.items(), COLOURS, strict=False):
        begin = np.where(added >= 0, right, left)
        axes.barh(rows, added, 0.72, begin, color=colour, label=family)
        right, left = right + added.clip(min=0), left + added.clip(max=0)
    axes.set_yticks(rows, names, fontsize=8)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="added to the sum, beyond the median of all images")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(families), frameon=False, fontsize=9)
    return figure


def short(name: str) -> str:
    """The end of a name, as much of it as there is room for below an image."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
