import io
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from galaxyml.evaluation.calibration import reliability
from galaxyml.kinds.votes.metrics import fraction_reliability
from galaxyml.kinds.votes.plots import (
    against_truth_figure,
    calibration_figure,
    degradation_figure,
    progression_figure,
    space_figure,
)
from galaxyml.trees.ontology import Ontology


def drawn(figure: Figure) -> Figure:
    """The figure, after it was laid out and drawn as a file is."""
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    return figure


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


def assert_apart(shown: list[Text]) -> None:
    """No text lies over another one."""
    for one, other in itertools.combinations(shown, 2):
        a, b = one.get_window_extent(), other.get_window_extent()
        assert not a.padded(-1).overlaps(b.padded(-1)), (one.get_text(), other.get_text())


def values(count: int, seed: int = 0) -> np.ndarray:
    middle = np.random.default_rng(seed).uniform(-0.1, 0.95, count)
    return np.stack([middle, middle - 0.04, middle + 0.04], axis=1)


@pytest.mark.parametrize("surveys", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 9, 36])
def test_degradation_has_a_bar_a_feature_and_survey(count: int, surveys: int) -> None:
    ontology = Ontology.load()
    features = ontology.features[:count]
    labels = [ontology.label(name) for name in features]
    asked = [ontology.question_of(name).name for name in features]
    found = {f"survey {k}": values(count, k) for k in range(surveys)}
    found["survey 0"][0] = np.nan
    axes = drawn(degradation_figure(labels, asked, found)).axes[0]
    assert len(axes.patches) == count * surveys
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    widths = [bar.get_width() for bar in bars]
    expected = np.concatenate([np.nan_to_num(each[:, 0]) for each in found.values()])
    np.testing.assert_allclose(widths, expected)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # read from above
    assert_apart([*axes.get_yticklabels(), *axes.texts])
    places = [bar.get_y() for bar in bars]
    assert len(set(np.round(places, 6))) == count * surveys  # no bar hides another


@pytest.mark.parametrize("count", [0, 30, 3000])
def test_predictions_against_the_truth_leave_out_who_was_not_asked(count: int) -> None:
    rng = np.random.default_rng(0)
    said, true = rng.random((count, 2)), rng.random((count, 2))
    true[: count // 2, 1] = np.nan
    figure = drawn(against_truth_figure(["smooth", "bar"], {"sdss": (said, true)}))
    assert [axes.get_ylabel() for axes in figure.axes] == ["smooth", "bar"]
    assert figure.axes[1].texts[0].get_text() == f"{count - count // 2:,} galaxies"
    if count == 30:
        assert [np.shape(axes.collections[0].get_offsets())[0] for axes in figure.axes] == [30, 15]


def test_calibration_legend_holds_the_errors() -> None:
    rng = np.random.default_rng(0)
    said, votes = rng.random((400, 2)), np.full((400, 2), 20.0)
    curves = {name: fraction_reliability(said, said**power, votes) for name, power in (("sdss", 1), ("ukidss", 2))}
    labels = rng.integers(0, 2, 400)
    chances = np.stack([said[:, 0], 1 - said[:, 0]], axis=1)
    figure = drawn(calibration_figure(curves, {"sdss": reliability(chances, labels)}))
    legends = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
    shown = [text.get_text() for text in legends[0].get_texts()]
    assert shown == [f"{name}: ECE {curve.ece:.3f}" for name, curve in curves.items()]
    assert_apart([axes.xaxis.label for axes in figure.axes if axes.get_xlabel()] + [axes.title for axes in figure.axes])
    drawn(calibration_figure(curves, {}))  # no question with a majority


@pytest.mark.parametrize("count", [1, 3, 5])
def test_calibration_of_many_surveys_writes_nothing_over_something_else(count: int) -> None:
    rng = np.random.default_rng(0)
    said, votes = rng.random((400, 2)), np.full((400, 2), 20.0)
    curves = {f"a survey of a long name {k}": fraction_reliability(said, said ** (k + 1), votes) for k in range(count)}
    figure = drawn(calibration_figure(curves, curves))
    ticks = {id(tick) for axes in figure.axes for tick in axes.get_xticklabels() + axes.get_yticklabels()}
    assert_apart([text for text in texts(figure) if id(text) not in ticks and text.get_window_extent().width])


def test_feature_space_counts_each_survey() -> None:
    rng = np.random.default_rng(0)
    survey = np.array(["sdss"] * 50 + ["ukidss"] * 30)
    smooth = rng.random(80)
    smooth[:10] = np.nan
    figure = drawn(space_figure(rng.standard_normal((80, 2)), survey, smooth, "smooth"))
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["sdss (50)", "ukidss (30)"]
    drawn(space_figure(rng.standard_normal((80, 2)), survey, np.full(80, np.nan), "smooth"))


@pytest.mark.parametrize("surveys", [1, 2, 5])
def test_progression_shows_each_stage(surveys: int) -> None:
    names = ["trained on", "ukidss", "gama", "a survey", "another"][:surveys]
    stages = ("untrained", "head", "full")
    r = {stage: values(surveys, k) for k, stage in enumerate(stages)}
    r["untrained"][0, 1:] = np.nan  # without an interval
    mae = {"baseline (column mean)": values(surveys, 7), **r}
    figure = drawn(progression_figure(names, r, mae))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "baseline (column mean)",
        "untrained",
        "head",
        "full",
    ]
    assert [len(axes.patches) for axes in figure.axes] == [3 * surveys, 4 * surveys]
    for axes in figure.axes:
        assert_apart(list(axes.get_xticklabels()))
    # A stage has the same colour in both panels.
    colours = [{container[0].get_facecolor() for container in axes.containers} for axes in figure.axes]
    assert colours[0] < colours[1]
