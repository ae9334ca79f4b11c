import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

from galaxyml.evaluation.calibration import reliability, softmax
from galaxyml.evaluation.plots import line_style
from galaxyml.kinds.classes import plots
from galaxyml.kinds.classes.metrics import confusion

LONG = [f"In-between Round Smooth {k}" for k in range(12)]


def sample(classes: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    logits = rng.standard_normal((count, classes))
    logits[np.arange(count), labels] += 1.5
    return labels, softmax(logits)


def drawn(figure: Figure) -> Figure:
    """The figure, after it was laid out and drawn as a file is."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def legend(figure: Figure) -> list[str]:
    found = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    return [text.get_text() for one in found if one is not None for text in one.get_texts()]


@pytest.mark.parametrize("classes", [2, 12])
def test_confusion_shows_counts_and_shares(classes: int) -> None:
    labels, probabilities = sample(classes)
    matrix = confusion(labels, probabilities.argmax(1), classes)
    matrix[0] = 0  # a class without objects
    axes = drawn(plots.confusion_figure(matrix, LONG[:classes])).axes[0]
    cells = [text.get_text() for text in axes.texts]
    assert cells[0] == "0"
    assert cells[-1] == f"{matrix[-1, -1]}\n{matrix[-1, -1] / matrix[-1].sum():.0%}"
    assert axes.get_yticklabels()[1].get_text() == f"{LONG[1]} ({matrix[1].sum()})"


def test_every_class_has_its_own_line() -> None:
    lines = [tuple(line_style(k).values()) for k in range(20)]
    assert len(set(lines)) == 20


def test_roc_legend_holds_the_area() -> None:
    labels, probabilities = sample(3)
    texts = legend(drawn(plots.roc_figure(labels, probabilities, LONG[:3])))
    for k in range(3):
        expected = roc_auc_score(labels == k, probabilities[:, k])
        assert texts[k] == f"{LONG[k]}: AUC {expected:.3f}"


def test_precision_recall_legend_holds_the_average_and_chance() -> None:
    labels, probabilities = sample(2)
    texts = legend(drawn(plots.precision_recall_figure(labels, probabilities, ["a", "b"])))
    expected = average_precision_score(labels == 1, probabilities[:, 1])
    assert texts[1] == f"b: AP {expected:.3f} (chance {(labels == 1).mean():.3f})"


def test_curves_leave_out_what_is_not_defined() -> None:
    labels, probabilities = sample(3)
    labels[labels == 2] = 0
    assert len(legend(drawn(plots.roc_figure(labels, probabilities, LONG[:3])))) == 2
    alike = np.zeros_like(labels)
    for draw in (plots.roc_figure, plots.precision_recall_figure):
        assert legend(drawn(draw(alike, probabilities, LONG[:3]))) == []


def test_two_classes_have_one_roc_curve() -> None:
    labels, probabilities = sample(2)
    assert len(legend(drawn(plots.roc_figure(labels, probabilities, ["a", "b"])))) == 1


def test_reliability_legend_holds_the_error() -> None:
    labels, probabilities = sample(4)
    curves = {"model output": reliability(probabilities, labels), "flat": reliability(np.full((300, 4), 0.25), labels)}
    figure = drawn(plots.reliability_figure(curves))
    assert legend(figure) == [f"{name}: ECE {curve.ece:.3f}" for name, curve in curves.items()]
    above, below = (axes.get_position() for axes in figure.axes)
    assert (above.x0, above.x1) == pytest.approx((below.x0, below.x1), abs=0.01)


def test_f1_shows_each_value() -> None:
    f1 = np.array([0.0, 0.5, 1.0])
    intervals = np.array([[np.nan, np.nan], [0.4, 0.6], [1.0, 1.0]])
    figure = drawn(plots.f1_figure(LONG[:3], f1, intervals))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.000", "0.500", "1.000"]
    assert legend(figure) == legend(drawn(plots.f1_figure(LONG[:3], f1))) == []


def test_gaps_and_odd_intervals_are_drawn() -> None:
    table = pd.DataFrame({"from": [0, 0.05, 0.1], "to": [0.05, 0.1, 0.3], "galaxies": [9, 0, 9]})
    table["macro_f1"] = [0.8, np.nan, 0.6]
    table["macro_f1_low"], table["macro_f1_high"] = [0.82, np.nan, 0.5], [0.9, np.nan, 0.7]  # the first is above it
    figure = drawn(plots.by_property_figure("redshift", table))
    assert figure.axes[0].get_ylabel() == "macro F1"
    assert figure.axes[1].get_xlabel() == "redshift"


@pytest.mark.parametrize("draw", [plots.roc_figure, plots.precision_recall_figure])
@pytest.mark.parametrize("classes", [7, 9, 10])
def test_many_classes_have_a_panel_each_the_worst_first(draw: Callable[..., Figure], classes: int) -> None:
    labels, probabilities = sample(classes, 400)
    labels[labels == 2] = 0  # which has no object and no curve
    names = [f"class {k}" for k in range(classes)]
    figure = drawn(draw(labels, probabilities, names))
    assert len(figure.axes) == classes - 1
    titles = [axes.get_title() for axes in figure.axes]
    assert sorted(title.split("\n")[0] for title in titles) == [name for name in sorted(names) if name != "class 2"]
    found = [float(title.split("\n")[1].split()[1]) for title in titles]
    assert found == sorted(found)
    for axes, title in zip(figure.axes, titles, strict=True):
        k = names.index(title.split("\n")[0])
        measure = roc_auc_score if draw is plots.roc_figure else average_precision_score
        assert f" {measure(labels == k, probabilities[:, k]):.3f}" in title
        assert sum(line.get_color() == plots.MODEL and len(line.get_xdata()) > 2 for line in axes.lines) == 1  # type: ignore[arg-type]


def test_a_class_without_objects_has_no_f1() -> None:
    figure = drawn(plots.f1_figure(LONG[:3], np.array([0.2, 0.0, 0.0]), support=np.array([5, 0, 7])))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.200", "no objects", "0.000"]
