import io
import re
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from galaxyml.evaluation.plots import BASELINE
from galaxyml.reports.sweep_plots import Line, learning_curves, parallel_coordinates


def line(name: str, values: Sequence[float], state: str = "finished") -> Line:
    return Line(name, state, np.arange(1, len(values) + 1), np.array(values))


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), dpi=50, bbox_inches="tight")
    return figure


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def test_each_combination_has_the_mean_of_its_jobs_as_a_thick_line() -> None:
    lines = [line("a", [3, 2, 1]), line("a", [5, 4]), line("a", [9], "failed"), line("b", [2, 2, 2])]
    axes = drawn(learning_curves(lines, "val/rmse", True)).axes[0]
    (mean,) = [each for each in axes.lines if each.get_linewidth() > 2]
    np.testing.assert_array_equal(mean.get_xdata(), [1, 2])
    np.testing.assert_array_equal(mean.get_ydata(), [4, 3])


def test_folds_are_told_apart_by_colour_dashes_and_their_names() -> None:
    lines = [
        Line("all", "finished", np.arange(1, 4), np.array([3.0, 2.0, 1.0 + k / 100]), (), f"fold-{k}") for k in range(5)
    ]
    axes = drawn(learning_curves(lines, "val/rmse", True)).axes[0]
    styles = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert len(set(styles)) == 5
    assert len({dashes for _, dashes in styles}) > 1
    assert {text.get_text(): text.get_color() for text in axes.texts} == {
        f"fold-{k}": colour for k, (colour, _) in enumerate(styles)
    }


def test_fifty_jobs_have_a_legend_that_can_be_read() -> None:
    rng = np.random.default_rng(0)
    ends = rng.permutation(50) / 100 + 0.1
    lines = [
        line(f"trial-{at:03}", [end + 0.2, end], "pruned" if at % 2 else "finished") for at, end in enumerate(ends)
    ]
    names = legend(drawn(learning_curves(lines, "val/rmse", True)))
    assert names[:5] == [f"trial-{at:03}" for at in np.argsort(ends)[:5]]
    assert names[5:] == ["pruned"]
    best_highest = legend(learning_curves(lines, "val/pearson", False))
    assert best_highest[:5] == [f"trial-{at:03}" for at in np.argsort(-ends)[:5]]


def test_one_run_that_has_diverged_does_not_hide_the_others() -> None:
    lines = [line(f"trial-{at}", [0.2, 0.1 + at / 100]) for at in range(8)] + [line("wild", [0.3, 1e6], "failed")]
    axes = drawn(learning_curves(lines, "val/rmse", True)).axes[0]
    assert axes.get_ylim()[1] < 1


@pytest.mark.parametrize(("ends", "marked"), [(([2], [2]), [2.5]), (([2], [1]), []), (([], []), [])])
def test_phases_are_marked_where_all_jobs_have_them_alike(ends: Sequence[list[int]], marked: list[float]) -> None:
    epochs, values = np.arange(1, 5), np.array([4.0, 3.0, 2.0, 1.0])
    lines = [Line(name, "finished", epochs, values, end) for name, end in zip("ab", ends, strict=True)]
    axes = drawn(learning_curves(lines, "val/rmse", True)).axes[0]
    assert [np.ravel(each.get_xdata())[0] for each in axes.lines if each.get_linestyle() == ":"] == marked


def test_long_keys_are_broken_at_their_dots() -> None:
    settings = {
        "data.augment.colour": ["0.1", "0.2"],
        "optim.weight_decay": ["1", "2"],
        "a_key_without_any_dot": ["1", "2"],
    }
    figure = parallel_coordinates(settings, np.array([1.0, 2.0]), np.zeros(2, bool), "val/rmse", True)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["data.augment.\ncolour", "optim.weight_decay", "a_key_without_any_dot", "val/rmse"]


def crossing(figure: Figure) -> list[Line2D]:
    """The lines through all axes; ticks have two ends."""
    return [line for line in figure.axes[0].lines if len(np.ravel(line.get_xdata())) > 2]


def through(figure: Figure) -> np.ndarray:
    """Heights at which each line crosses the axes, in the order in which they are drawn."""
    return np.array([line.get_ydata() for line in crossing(figure)])


@pytest.mark.parametrize("lower", [True, False])
def test_lines_cross_the_axes_at_their_values(lower: bool) -> None:
    settings = {"optim.lr": ["0.1", "0.001", "0.01"], "loss": ["mse", "focal", "mse"], "epochs": ["10", "20", "15"]}
    values = np.array([0.3, 0.2, 0.25])
    figure = drawn(parallel_coordinates(settings, values, np.zeros(3, bool), "val/rmse", lower))
    heights = {
        0.3: [1, 0.75, 0, 1],  # focal, mse from below
        0.2: [0, 0.25, 1, 0],
        0.25: [0.5, 0.75, 0.5, 0.5],
    }
    order = sorted(heights, reverse=lower)  # the best one last, on top of the others
    np.testing.assert_allclose(through(figure), [heights[value] for value in order], atol=1e-9)
    widths = [line.get_linewidth() for line in crossing(figure)]
    assert np.argmax(widths) == 2
    words = {text.get_text() for text in figure.axes[0].texts}
    assert words == {"0.1", "0.01", "0.001", "mse", "focal", "10", "15", "20"}


def test_pruned_trials_are_grey_and_do_not_stretch_the_scale() -> None:
    settings = {"optim.lr": ["0.1", "0.2", "0.3", "0.4"], "optim.weight_decay": ["0", "0.1", "0", "0.1"]}
    values = np.array([0.3, 0.2, 0.9, np.nan])
    figure = drawn(parallel_coordinates(settings, values, np.array([False, False, True, False]), "val/rmse", True))
    assert len(through(figure)) == 3
    (grey,) = [line for line in crossing(figure) if to_hex(line.get_color()) == BASELINE]
    assert np.ravel(grey.get_ydata())[-1] > 1
    assert legend(figure) == ["pruned: its last epoch"]
    assert {text.get_text() for text in figure.axes[0].texts} == {"0.1", "0.2", "0.3", "0.4", "0"}


def test_many_numbers_have_round_ticks() -> None:
    rng = np.random.default_rng(0)
    settings = {
        "optim.lr": [f"{value:.4g}" for value in 10 ** rng.uniform(-5, -1, 40)],
        "epochs": [str(k) for k in range(40)],
    }
    figure = drawn(parallel_coordinates(settings, rng.random(40), np.zeros(40, bool), "val/rmse", True))
    words = [text.get_text() for text in figure.axes[0].texts]
    assert all(re.fullmatch(r"0\.0*1|1e-0\d|\d0?|\d5", word) for word in words), words


@pytest.mark.parametrize(("sign", "mark"), [(1, "^"), (-1, "v")])
def test_a_line_that_leaves_the_frame_is_marked_where_it_does(sign: int, mark: str) -> None:
    values = sign * (0.1 + 0.02 * np.random.default_rng(0).random((5, 25)))
    values[0, [4, 9]] = sign * 0.9, sign * 0.5
    lines = [line(f"fold-{k}", own) for k, own in enumerate(values)]
    axes = drawn(learning_curves(lines, "val/score", sign > 0)).axes[0]
    (marks,) = [each for each in axes.lines if each.get_marker() == mark]
    np.testing.assert_array_equal(marks.get_xdata(), [5, 10])
    assert set(np.asarray(marks.get_ydata(), float)) <= set(axes.get_ylim())
    assert axes.get_title(loc="right").endswith(f"{sign * 0.9:.3g}")
    calm = drawn(learning_curves([line("a", values[1]), line("b", values[2])], "val/score", sign > 0)).axes[0]
    assert not calm.get_title(loc="right")
