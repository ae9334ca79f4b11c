"""Figures that kinds share."""

import io
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from galaxyml.evaluation.plots import COLOURS, apart, image_grid, line_style, loss_curves


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO())
    return figure


def test_names_stand_at_the_ends_of_their_lines_and_touch_nowhere() -> None:
    epochs = np.arange(5)
    histories = {
        f"fold-{k}": pd.DataFrame(
            {"epoch": epochs, "train/loss": np.exp(-epochs) + 0.1, "val/loss": np.exp(-epochs) + 0.2 + k / 1000}
        )
        for k in range(8)
    }
    figure = drawn(loss_curves(histories))
    for axes in figure.axes:
        assert sorted(text.get_text() for text in axes.texts) == sorted(histories)
        boxes = sorted((Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0)
        assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))
    ends = {text.get_text(): text.get_position()[1] for text in figure.axes[1].texts}
    assert sorted(ends, key=lambda name: ends[name]) == sorted(histories)  # as their losses


def test_a_line_of_one_epoch_is_seen() -> None:
    history = pd.DataFrame({"epoch": [0], "train/loss": [1.0], "val/loss": [2.0]})
    assert [line.get_marker() for axes in drawn(loss_curves({"a": history})).axes for line in axes.lines] == [".", "."]


def test_heights_are_apart_and_no_further_than_they_must_be() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        heights, step = np.sort(rng.random(6)), 0.1
        found = apart(heights, step)
        assert (np.diff(found) >= step - 1e-12).all()
        moved = np.square(found - heights).sum()
        for _ in range(200):  # no other heights that are apart are nearer
            other = found + rng.normal(0, 0.05, 6)
            if (np.diff(other) >= step).all():
                assert np.square(other - heights).sum() >= moved - 1e-12
    np.testing.assert_allclose(apart(np.array([0.0, 0.5, 1.0]), 0.1), [0.0, 0.5, 1.0])


def test_neighbours_differ_in_colour_and_dashes() -> None:
    styles = [line_style(k) for k in range(4 * len(COLOURS))]
    assert len({(style["color"], style["linestyle"]) for style in styles}) == len(styles)
    assert all(a["linestyle"] != b["linestyle"] for a, b in pairwise(styles))


def test_captions_are_broken_to_the_width_of_their_image() -> None:
    image, long = np.zeros((20, 20, 3), np.uint8), "true: features or disk 0.94, not edge-on 0.90, no bar 0.58"
    figure = drawn(image_grid([image] * 4, [long, "short", "a\nb", long]))
    for axes in figure.axes:
        below = axes.xaxis.label.get_window_extent()
        assert below.width <= 1.15 * axes.get_window_extent().width


@pytest.mark.parametrize(("lowest", "scale"), [(0.01, "log"), (1.0, "linear"), (-0.5, "linear"), (0.0, "linear")])
def test_losses_are_logarithmic_where_they_fall_far_and_all_have_a_logarithm(lowest: float, scale: str) -> None:
    history = pd.DataFrame({"epoch": [0, 1], "train/loss": [3.0, 1.0], "val/loss": [3.0, lowest]})
    assert loss_curves({"one": history, "other": history + 1}).axes[1].get_yscale() == scale
