import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color, to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from galaxyml.evaluation.curve_plots import BAND_COLOURS, Curve, curves_figure
from galaxyml.evaluation.embedding import embedding
from galaxyml.kinds.anomalies import plots
from galaxyml.kinds.anomalies.figures import _classes_drawn

KNOWN = [f"known {k:02}" for k in range(14)]
UNKNOWN = [f"unknown {k}" for k in range(5)]


def sample(count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, names and marks of 14 known and 5 unknown classes."""
    rng = np.random.default_rng(0)
    names = rng.permutation(np.resize([*KNOWN, *UNKNOWN], count))
    unknown = np.isin(names, UNKNOWN)
    return rng.standard_normal(count) + unknown, names, unknown


def curve(title: str = "SNIa", **more: object) -> Curve:
    rng = np.random.default_rng(1)
    band = np.arange(60) % 5  # nothing in y
    return Curve(
        time=np.arange(60.0),
        band=band,
        flux=100 * np.exp(-(((np.arange(60) - 30) / 10) ** 2)),
        error=rng.uniform(1, 3, 60),
        title=title,
        **more,  # type: ignore[arg-type]
    )


def drawn(figure: Figure) -> Figure:
    """The figure, after it was laid out and drawn as a file is."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def legend(figure: Figure) -> list[str]:
    found = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    return [text.get_text() for one in found if one is not None for text in one.get_texts()]


def line(axes: Axes, start: str) -> Line2D:
    """The line whose label starts so."""
    (found,) = [one for one in axes.lines if str(one.get_label()).startswith(start)]
    return found


def data(found: Line2D) -> np.ndarray:
    """What a line goes through, shape (2, n)."""
    return np.array(found.get_data(), float)


def test_roc_shows_each_area_and_chance() -> None:
    scores, _, unknown = sample()
    figure = drawn(plots.roc_figure({"forest": scores, "inverted": -scores}, unknown))
    area = roc_auc_score(unknown, scores)
    assert legend(figure) == ["chance: AUC 0.500", f"forest: AUC {area:.3f}", f"inverted: AUC {1 - area:.3f}"]
    x, y = data(line(figure.axes[0], "forest"))
    assert np.trapezoid(y, x) == pytest.approx(area)
    np.testing.assert_array_equal(data(line(figure.axes[0], "chance")), [[0, 1], [0, 1]])


def test_precision_recall_shows_each_average_and_the_prevalence() -> None:
    scores, _, unknown = sample()
    figure = drawn(plots.pr_figure({"forest": scores}, unknown))
    average = average_precision_score(unknown, scores)
    assert legend(figure) == [f"chance: prevalence {unknown.mean():.3f}", f"forest: AP {average:.3f}"]
    found = line(figure.axes[0], "forest")
    recall, precision = data(found)
    assert found.get_drawstyle() == "steps-pre"
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(average)
    assert set(data(line(figure.axes[0], "chance"))[1]) == {unknown.mean()}


def test_recall_stands_between_the_perfect_ranking_and_none() -> None:
    scores, _, unknown = sample()
    figure = drawn(plots.recall_figure({"forest": scores, "perfect too": unknown + 0.0}, unknown))
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    looked, found = data(line(axes, "forest"))
    best, chance = (data(line(axes, name))[1] for name in ("perfect ranking", "chance"))
    np.testing.assert_allclose(data(line(axes, "perfect too"))[1], best)
    np.testing.assert_allclose(chance, looked / 400)
    assert (found <= best + 1e-12).all()
    assert found[-1] == best[-1] == chance[-1] == 1
    order = np.argsort(-scores)
    at_n = unknown[order][: unknown.sum()].mean()
    assert legend(figure)[2] == f"forest: {at_n:.3f} after {unknown.sum()}"
    at = np.flatnonzero(looked == 10)[0]
    assert found[at] == pytest.approx(unknown[order][:10].sum() / unknown.sum())


def test_many_detectors_have_lines_of_their_own() -> None:
    scores, _, unknown = sample()
    figure = plots.roc_figure({f"detector {k:02}": scores for k in range(14)}, unknown)
    looks = {(found.get_color(), found.get_linestyle()) for found in figure.axes[0].lines[1:]}
    assert len(looks) == 14


def test_classes_stand_by_their_median_score() -> None:
    scores, names, unknown = sample()
    figure = drawn(plots.score_figure(scores, names, unknown, 1.5))
    axes = figure.axes[0]
    expected = pd.Series(scores).groupby(names).median().sort_values(ascending=False)
    ticks = axes.get_yticklabels()
    assert [tick.get_text().rpartition(" (")[0] for tick in ticks] == list(expected.index)
    for place, (name, median) in enumerate(expected.items()):
        of_it = scores[names == name]
        box = axes.patches[place]
        assert box.get_extents().width > 0
        low, high = np.percentile(of_it, [25, 75])
        assert (box.get_x(), box.get_x() + box.get_width()) == (pytest.approx(low), pytest.approx(high))  # type: ignore[attr-defined]
        assert ticks[place].get_text() == f"{name} ({len(of_it)})"
        assert axes.texts[place].get_text() == f"{(of_it > 1.5).mean():.0%}"
        assert low <= median <= high
        colour = plots.UNKNOWN if name in UNKNOWN else plots.MODEL
        assert same_color(ticks[place].get_color(), colour)
    (threshold,) = [found for found in axes.lines if found.get_linestyle() == "--"]
    assert set(data(threshold)[0]) == {1.5}


def test_infinite_scores_and_thresholds_are_drawn_within_bounds() -> None:
    scores, names, unknown = sample()
    scores[:30], scores[30:40] = np.inf, -np.inf
    figure = drawn(plots.score_figure(scores, names, unknown, np.inf))
    assert np.isfinite(figure.axes[0].get_xlim()).all()
    assert legend(figure) == ["known class", "unknown class"]
    drawn(plots.score_figure(np.zeros(400), names, unknown, 0.0))


@pytest.mark.parametrize("count", [30, 400, 5000])
def test_embedding_shows_every_object_in_the_colour_of_its_class(count: int) -> None:
    rng = np.random.default_rng(0)
    _, names, unknown = sample(count)
    points = rng.standard_normal((count, 2))
    figure = drawn(plots.latent_figure(points, names, unknown, "Latents"))
    axes = figure.axes[0]
    assert axes.get_title() == "Latents"
    expected = [f"{name} ({(names == name).sum():,})" for name in sorted(set(names[~unknown]))]
    expected += [f"{name} ({(names == name).sum():,}), unknown" for name in sorted(set(names[unknown]))]
    assert legend(figure) == expected
    known, *others = (found for found in axes.collections if isinstance(found, PathCollection))
    assert known.get_rasterized()
    places, colours = np.asarray(known.get_offsets(), float), np.asarray(known.get_facecolor(), float)
    by_place = {tuple(place): tuple(colour[:3]) for place, colour in zip(places, colours, strict=True)}
    for row in np.flatnonzero(~unknown):
        place = KNOWN.index(names[row])
        assert by_place[tuple(points[row])] == to_rgba(plots.KNOWN_COLOURS[place])[:3]
    for name, found in zip(UNKNOWN, others, strict=True):
        np.testing.assert_allclose(np.asarray(found.get_offsets(), float), points[names == name])


def test_embedding_is_drawn_of_known_or_unknown_objects_alone() -> None:
    _, names, unknown = sample(60)
    points = np.random.default_rng(0).standard_normal((60, 2))
    for which in (unknown, ~unknown):
        figure = drawn(plots.latent_figure(points[which], names[which], unknown[which], ""))
        assert len(legend(figure)) == len(set(names[which]))


def test_few_objects_are_laid_out_on_their_principal_axes() -> None:
    latents = np.random.default_rng(0).standard_normal((12, 5)) * [5, 3, 1, 1, 1]
    rows, places = embedding(latents, seed=0)
    np.testing.assert_array_equal(rows, np.arange(12))
    np.testing.assert_allclose(np.abs(places), np.abs(PCA(2).fit_transform(latents)), atol=1e-5)
    for shape in ((1, 4), (2, 4), (5, 1)):
        _, places = embedding(np.arange(np.prod(shape), dtype=float).reshape(shape), seed=0)
        assert places.shape == (shape[0], 2)
        assert np.isfinite(places).all()


def test_many_objects_are_laid_out_with_their_neighbours() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 150)
    latents = rng.standard_normal((150, 6)) + 8 * np.eye(6)[group]
    rows, places = embedding(latents, seed=3, most=90)
    assert places.shape == (90, 2)
    assert len(set(rows)) == 90
    assert (np.diff(rows) > 0).all()
    nearest = NearestNeighbors(n_neighbors=6).fit(places).kneighbors(return_distance=False)
    assert (group[rows][nearest] == group[rows][:, None]).mean() > 0.95
    again, same = embedding(latents, seed=3, most=90)
    np.testing.assert_array_equal(again, rows)
    np.testing.assert_array_equal(same, places)


def test_curves_are_drawn_by_band_with_their_errors() -> None:
    one = curve()
    axes = drawn(curves_figure([one])).axes[0]
    bars = [found for found in axes.containers if isinstance(found, ErrorbarContainer)]
    assert len(bars) == 5
    for band, (points, _, (error,)) in enumerate(bars):
        of_it = one.band == band
        np.testing.assert_array_equal(points.get_xdata(), one.time[of_it])
        np.testing.assert_array_equal(points.get_ydata(), one.flux[of_it])
        assert same_color(points.get_color(), BAND_COLOURS[band])
        ends = np.array(error.get_segments())[:, :, 1]
        np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * one.error[of_it])
    assert axes.get_title() == "SNIa"


def test_model_is_drawn_in_the_bands_that_were_observed() -> None:
    times = np.linspace(0, 60, 50)
    fluxes = np.arange(6)[:, None] + np.zeros(50)
    spread = np.full((6, 50), 2.0)
    for given_spread in (spread, None):
        axes = drawn(curves_figure([curve(model=(times, fluxes, given_spread))])).axes[0]
        models = [found for found in axes.lines if data(found).shape[1] == 50]
        assert [np.unique(data(found)[1]).item() for found in models] == [0, 1, 2, 3, 4]
        assert all(same_color(found.get_color(), BAND_COLOURS[k]) for k, found in enumerate(models))
        bands = [found for found in axes.collections if found.get_alpha() == 0.15]
        assert len(bands) == (5 if given_spread is not None else 0)
        for k, found in enumerate(bands):
            heights = np.asarray(found.get_paths()[0].vertices)[:, 1]
            assert (heights.min(), heights.max()) == (k - 2, k + 2)
            assert tuple(np.asarray(found.get_facecolor())[0, :3]) == to_rgba(BAND_COLOURS[k])[:3]


def test_marked_observation_is_ringed() -> None:
    axes = drawn(curves_figure([curve(marked=(31.4, 2))])).axes[0]
    (ring,) = [found for found in axes.lines if found.get_fillstyle() == "none"]
    assert data(ring)[:, 0].tolist() == [32, curve().flux[32]]  # the nearest in that band


def test_badly_measured_outliers_set_no_scale_and_are_pointed_at() -> None:
    one = curve()
    one.flux[7], one.error[7] = -5000, 4000
    axes = drawn(curves_figure([one])).axes[0]
    low, high = axes.get_ylim()
    assert -50 < low < 0
    assert 100 < high < 150
    (arrow,) = [found for found in axes.lines if found.get_marker() == "v"]
    assert data(arrow)[:, 0].tolist() == [7, low]
    marked = Curve(one.time, one.band, one.flux, one.error, "", marked=(7, int(one.band[7])))
    assert drawn(curves_figure([marked])).axes[0].get_ylim()[0] < -5000
    dips = Curve(one.time, one.band, -3000.0 * (one.time == 9), np.where(one.time == 9, 50, one.error), "")
    assert drawn(curves_figure([dips])).axes[0].get_ylim()[0] < -3000


def test_panels_fill_the_grid_row_by_row() -> None:
    figure = drawn(curves_figure([curve(title=str(k)) for k in range(7)], columns=3))
    assert [axes.get_title() for axes in figure.axes] == [str(k) for k in range(7)]
    spots = [axes.get_subplotspec() for axes in figure.axes]
    assert [(spot.rowspan.start, spot.colspan.start) for spot in spots if spot] == [divmod(k, 3) for k in range(7)]
    assert figure.get_supxlabel() == "time (days)"
    assert legend(figure) == list("ugrizy")
    assert not any(axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes)


def test_single_observations_are_drawn() -> None:
    lone = Curve(np.array([3.0]), np.array([5]), np.array([2.0]), np.array([0.0]), "one", marked=(3.0, 5))
    low, high = drawn(curves_figure([lone])).axes[0].get_ylim()
    assert low < 2 < high


def test_real_light_curves_are_drawn(real: Path) -> None:
    table = pd.read_csv(real / "plasticc" / "training_set.csv", nrows=4000)
    curves = [
        Curve(
            one["mjd"].to_numpy(),
            one["passband"].to_numpy(),
            one["flux"].to_numpy(),
            one["flux_err"].to_numpy(),
            str(id),
        )
        for id, one in table.groupby("object_id")
    ]
    figure = drawn(curves_figure(curves))
    assert len(figure.axes) == len(curves)


def test_only_classes_that_are_there_are_named() -> None:
    scores, names, unknown = sample()
    figure = drawn(plots.score_figure(scores[~unknown], names[~unknown], unknown[~unknown], np.inf))
    assert legend(figure) == ["known class"]
    for marks, said in (
        (unknown, "; known classes in blue, unknown ones in orange"),
        (unknown[unknown], "; unknown classes alone, in orange"),
        (unknown[~unknown], "; there is no unknown class"),
    ):
        assert _classes_drawn(marks, "in blue", "in orange") == said


def test_the_model_is_drawn_thicker_than_what_it_is_compared_with() -> None:
    scores, _, unknown = sample()
    for draw in (plots.roc_figure, plots.pr_figure, plots.recall_figure):
        axes = draw({"model": scores, "forest": -scores, "random": scores**2}, unknown).axes[0]
        model = line(axes, "model")
        assert all(model.get_linewidth() > 2 * other.get_linewidth() for other in axes.lines if other is not model)
