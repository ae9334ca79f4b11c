"""Figures that kinds share."""

import io
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from galaxyml.data.duplicates import marked
from galaxyml.evaluation.plots import (
    COLOURS,
    apart,
    image_grid,
    interval_figure,
    line_style,
    loss_curves,
    outlined,
    without_duplicates,
)


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


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* of an sRGB colour under D65, in which equal distances look equally large (CIE 15:2004)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_lines_that_share_a_dash_differ_in_colour_and_the_model_stands_out() -> None:
    styles = [line_style(k) for k in range(len(COLOURS))]
    for one, other in combinations(styles, 2):
        if one["linestyle"] == other["linestyle"]:
            assert np.linalg.norm(lab(one["color"]) - lab(other["color"])) > 40
    model, *others = (outlined(k) for k in range(10))
    assert all(model["linewidth"] >= 2 * other["linewidth"] for other in others)
    assert all(lab(model["color"])[0] < lab(other["color"])[0] - 20 for other in others)


def test_an_object_under_two_ids_is_shown_once() -> None:
    catalog = marked(pd.DataFrame({"id": [10, 11, 12, 13, 14]}), np.array([0, 1, 0, 2, 1]))
    rows = np.array([4, 3, 2, 1, 0])  # of predictions in another order
    order = np.array([1, 2, 0, 4, 3])
    assert without_duplicates(order, catalog, rows).tolist() == [1, 2, 0]  # 13, 12 = 10, 14 = 11
    alone = pd.DataFrame({"id": [10, 11, 12, 13, 14]})
    assert marked(alone, np.arange(5)) is alone
    assert without_duplicates(order, alone, rows).tolist() == order.tolist()


@pytest.mark.parametrize("columns", [4, 37])
def test_intervals_leave_no_line_hidden_and_no_half_column_empty(columns: int) -> None:
    levels, asked = np.array([0.5, 0.8, 0.95]), np.linspace(0.1, 0.9, 9)
    shares = np.tile(levels[:, None], columns)
    curves = {"all fractions": asked + 0.01, "predicted within (0, 1)": asked + 0.01}
    figure = drawn(interval_figure([f"Class{k}" for k in range(columns)], levels, shares, shares, asked, curves, "all"))
    lines = [line for line in figure.axes[2].lines if line.get_label() in curves]
    assert lines[0].get_linewidth() > lines[1].get_linewidth() + 2  # seen around the one above it
    lowest = min(axes.get_position().y0 for axes in figure.axes[2:])
    assert lowest < figure.axes[0].get_position().y0 + 0.2
    for line in figure.axes[3].lines[:2] if columns == 37 else []:
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), 1.0)  # percentage points
