import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from galaxyml.evaluation.correlation import by_column
from galaxyml.evaluation.plots import image_grid
from galaxyml.kinds.votes import WORDS, Votes
from galaxyml.kinds.votes.features import label, question_of, questions
from galaxyml.kinds.votes.figures import ShiftFigures
from galaxyml.kinds.votes.score import ScoreVotes, column_means
from galaxyml.kinds.votes.scored import ScoredVotes
from galaxyml.reports import run_report
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.ontology import Ontology

FEATURES = (
    "smooth_or_features_smooth",
    "smooth_or_features_features_disk",
    "smooth_or_features_artifact",
    "edge_on_yes",
    "edge_on_no",
    "bar_yes",
    "bar_no",
    "odd_yes",
    "odd_no",
)
CAMPAIGNS = {"sdss": "gz2", "decals": "gzd5", "ukidss": "ukidss"}
HOLDS = {"head": 0.55, "untrained": 0.02, "": 0.85}  # what part of the true chances a stage of training knows


def made_up(path: Path, count: int = 900, lost: float = 0.5, bar_lost: float = 0.9, joined: bool = False) -> RunDir:
    """Volunteers of three surveys vote with known chances; nets know a part of them, and less on the third survey.

    Args:
        path: The run's folder.
        count: Galaxies.
        lost: What part of its knowledge a net loses on the survey never seen.
        bar_lost: The same, of bars.
        joined: Whether the folds of a sweep were joined, so that all are held out.
    """
    rng = np.random.default_rng(0)
    survey = rng.choice(["sdss", "decals", "ukidss"], count, p=[0.4, 0.3, 0.3])
    tested = survey == "ukidss"
    columns = list(questions(FEATURES).values())
    chances = np.concatenate([rng.dirichlet(np.full(len(c), 0.8), count) for c in columns], axis=1)
    true, votes = np.full(chances.shape, np.nan), np.zeros(chances.shape)
    for places in columns:
        number = rng.integers(5, 45, count)
        asked = (rng.random(count) < 0.7) | (0 in places)
        if places[0] == FEATURES.index("odd_yes"):
            asked &= survey != "decals"  # whose campaign has no such question
        counts = rng.multinomial(number, chances[:, places] / chances[:, places].sum(1, keepdims=True))
        true[:, places] = np.where(asked[:, None], counts / number[:, None], np.nan)
        votes[:, places] = np.where(asked, number, 0)[:, None]
    fold = np.where(tested, -1, rng.integers(0, 3, count))
    split = np.where(tested, "test", np.where(joined | (fold == 0), "val", "train"))
    catalog = pd.DataFrame({"id": [f"{name}:{k}" for k, name in enumerate(survey)], "image": "one.jpg"})
    catalog = catalog.assign(split=split, fold=fold, survey=survey, campaign=[CAMPAIGNS[name] for name in survey])
    for k, name in enumerate(FEATURES):
        catalog[name], catalog[f"{name}_votes"] = true[:, k], votes[:, k]
    run = RunDir(path)
    run.write_catalog(catalog)
    Image.linear_gradient("L").save(path / "one.jpg")
    data = {"source": "made up", "folder": str(path), "sha256": {}, "objects": {"train": 1, "val": 1, "test": 1}}
    run.start(OmegaConf.create({"fold": 0, "data": {}}), [])
    run.write_provenance(0, "CPU", data | {"notes": []})
    for by, holds in HOLDS.items():
        said = np.empty_like(chances)
        for places in columns:
            share = np.full((count, 1), holds)
            share[tested] *= 1 - (bar_lost if places[0] == FEATURES.index("bar_yes") else lost)
            noise = rng.dirichlet(np.full(len(places), 0.8), count)
            said[:, places] = share * chances[:, places] + (1 - share) * noise
        lacks = np.array([name.startswith("odd") for name in FEATURES])
        said[np.ix_(survey == "decals", lacks)] = np.nan
        for name in ("val", "test"):
            inside = rng.permutation(np.flatnonzero(split == name))
            table = pd.DataFrame(said[inside], columns=list(FEATURES))
            table.insert(0, "id", catalog["id"].to_numpy()[inside])
            run.write_predictions(name, table, by=by)
    return run


def known(run: RunDir, survey: str, split: str, by: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Said, true and votes of one survey, joined by pandas."""
    table = run.predictions(split, by)
    assert table is not None
    both = table.merge(run.catalog(), on="id", suffixes=("_said", ""))
    both = both[both["survey"] == survey].sort_values("id")
    return (
        both[[f"{name}_said" for name in FEATURES]].to_numpy(),
        both[list(FEATURES)].to_numpy(),
        both[[f"{name}_votes" for name in FEATURES]].to_numpy(),
    )


COMMON = [k for k, name in enumerate(FEATURES) if not name.startswith("odd")]  # decals was not asked what is odd


def mean_r(run: RunDir, survey: str, split: str, by: str = "", columns: Sequence[int] = COMMON) -> float:
    return float(by_column(*known(run, survey, split, by))["pearson"][list(columns)].mean())


def test_predictions_and_truth_stand_side_by_side(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = ScoredVotes.load(run, "val", run.catalog())
    assert found is not None
    assert list(found.columns) == list(FEATURES)
    assert found.surveys() == ["decals", "sdss"]
    order = np.argsort(found.of("sdss").ids)
    for values, expected in zip(
        (found.of("sdss").predicted, found.of("sdss").target, found.of("sdss").votes),
        known(run, "sdss", "val"),
        strict=True,
    ):
        np.testing.assert_allclose(values[order], expected)
    catalog = run.catalog()
    assert (catalog["id"].to_numpy()[found.rows] == found.ids).all()
    assert found.only(["bar_no", "odd_yes"]).target.shape[1] == 2
    assert ScoredVotes.load(run, "survey", catalog) is None
    assert ScoredVotes.load(run, "val", catalog, by="nothing") is None


def test_scores_are_means_over_features_then_surveys(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = ScoreVotes(resamples=100)(run)
    home = [mean_r(run, survey, "val") for survey in ("sdss", "decals")]
    assert found["val/pearson"] == pytest.approx(np.mean(home))
    assert found["test/pearson"] == pytest.approx(mean_r(run, "ukidss", "test"))
    assert found["test/head_pearson"] == pytest.approx(mean_r(run, "ukidss", "test", "head"))
    assert found["val/untrained_pearson"] == pytest.approx(
        np.mean([mean_r(run, survey, "val", "untrained") for survey in ("sdss", "decals")])
    )
    assert found["val/pearson/sdss"] == pytest.approx(mean_r(run, "sdss", "val", columns=range(9)))
    assert found["val/pearson/decals"] == pytest.approx(home[1])
    errors = [by_column(*known(run, survey, "val")) for survey in ("sdss", "decals")]
    assert found["val/mae"] == pytest.approx(np.mean([each["mae"][COMMON] for each in errors]))
    assert found["val/rmse"] == pytest.approx(np.sqrt(np.mean([each["mse"][COMMON] for each in errors])))
    assert found["val/r2"] == pytest.approx(np.mean([each["r2"][COMMON] for each in errors]))
    assert found["val/pearson/sdss:odd_yes"] == pytest.approx(errors[0]["pearson"][7])
    assert "val/pearson/decals:odd_yes" not in found
    for key in ("val/pearson", "test/pearson", "test/mae", "test/pearson/ukidss", "test/pearson/ukidss:bar_yes"):
        split, name, *column = key.split("/")
        low, high = ("/".join([split, name + end, *column]) for end in ("_low", "_high"))
        assert found[low] < found[key] < found[high], key
    assert np.isfinite(list(found.values())).all()


def test_a_known_loss_is_found_where_it_is(tmp_path: Path) -> None:
    found = ScoreVotes(resamples=200)(made_up(tmp_path, count=3000))
    drops = {
        key.partition(":")[2]: value for key, value in found.items() if key.startswith("test/pearson_drop/ukidss:")
    }
    assert set(drops) == set(FEATURES)
    assert min(drops.values()) > 0.1
    for name in ("bar_yes", "bar_no"):
        assert drops[name] > max(value for key, value in drops.items() if not key.startswith("bar")) + 0.1
        assert found[f"test/pearson_drop_low/ukidss:{name}"] > 0.5
    assert found["test/pearson_drop"] == pytest.approx(found["val/pearson"] - found["test/pearson"])
    assert found["test/pearson_drop_low"] < found["test/pearson_drop"] < found["test/pearson_drop_high"]
    assert found["test/pearson_drop/ukidss"] == found["test/pearson_drop"]  # of the only such survey
    home = np.mean([found[f"val/pearson/{survey}:bar_yes"] for survey in ("sdss", "decals")])
    assert drops["bar_yes"] == pytest.approx(home - found["test/pearson/ukidss:bar_yes"])
    alone = found["val/pearson/sdss:odd_yes"]  # the one survey trained on that has it
    assert drops["odd_yes"] == pytest.approx(alone - found["test/pearson/ukidss:odd_yes"])


def test_nothing_is_lost_where_nothing_differs(tmp_path: Path) -> None:
    found = ScoreVotes(resamples=200)(made_up(tmp_path, count=3000, lost=0, bar_lost=0))
    assert found["test/pearson_drop_low"] < 0 < found["test/pearson_drop_high"]
    assert abs(found["test/pearson_drop"]) < 0.03


def test_gains_are_paired(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = ScoreVotes(resamples=200)(run)
    gain = mean_r(run, "ukidss", "test") - mean_r(run, "ukidss", "test", "head")
    assert found["test/gain_over_head"] == pytest.approx(gain)
    assert found["test/gain_over_head/ukidss"] > 0
    assert 0 < found["val/gain_over_head_low"] < found["val/gain_over_head"] < found["val/gain_over_untrained_low"]
    for by in ("head", "untrained"):  # the same outputs gain nothing, and that is certain
        for split in ("val", "test"):
            table = run.predictions(split)
            assert table is not None
            run.write_predictions(split, table.sample(frac=1, random_state=1), by=by)
    same = ScoreVotes(resamples=50)(run)
    assert same["test/gain_over_head"] == same["test/gain_over_head_low"] == same["test/gain_over_head_high"] == 0


def test_column_means_see_other_folds_alone(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    catalog = run.catalog()
    final = ScoredVotes.load(run, "val", run.catalog())
    assert final is not None
    said = column_means(catalog, final)
    train = catalog[(catalog["fold"] >= 0) & (catalog["fold"] != 0)]
    expected = np.average(train["bar_yes"].fillna(0), weights=train["bar_yes_votes"])
    np.testing.assert_allclose(said[:, FEATURES.index("bar_yes")], expected)
    assert np.allclose(said[:, 5] + said[:, 6], 1)
    found = ScoreVotes(resamples=0)(run)
    assert found["val/mean_pearson"] == found["test/mean_pearson/ukidss"] == 0
    # Means of three columns differ from each other, so that over all columns they correlate with the truth.
    assert 0.05 < found["test/mean_flattened_pearson"] < found["test/flattened_pearson"]
    _, true, votes = known(run, "ukidss", "test")
    means = column_means(catalog, ScoredVotes.load(run, "test", catalog) or final)[: len(true)]
    mae = by_column(means, true, votes)["mae"][COMMON].mean()
    assert found["test/mean_mae"] == pytest.approx(mae)
    assert not any("_low" in key for key in found)


def test_means_of_other_folds_correlate_with_nothing(tmp_path: Path) -> None:
    run = made_up(tmp_path, joined=True)
    final = ScoredVotes.load(run, "val", run.catalog())
    assert final is not None
    means = column_means(run.catalog(), final)
    assert len(np.unique(means[:, 0])) == 3  # joined over folds they anticorrelate with what they leave out …
    assert (by_column(means, final.target, final.votes)["pearson"] < 0).all()
    found = ScoreVotes(resamples=0)(run)
    assert found["val/mean_pearson"] == found["val/mean_pearson/sdss"] == 0  # … which is no knowledge
    assert pd.DataFrame(run.table_rows("progression"))["r"][0] == 0


def test_calibration_is_that_of_the_votes(tmp_path: Path) -> None:
    run = made_up(tmp_path, count=3000)
    found = ScoreVotes(resamples=0)(run)
    assert found["test/fraction_ece/ukidss"] > 2 * found["val/fraction_ece/sdss"]
    said, true, _ = known(run, "ukidss", "test")
    confidence, right = [], []
    for places in questions(FEATURES).values():
        for row in range(len(said)):
            values = true[row, places]
            if np.isnan(values).any() or np.isclose(*np.sort(values)[-2:]):
                continue
            confidence.append(said[row, places].max())
            right.append(said[row, places].argmax() == values.argmax())
    assert found["test/argmax_accuracy/ukidss"] == pytest.approx(np.mean(right))
    gaps = pd.Series(np.array(right, float) - confidence).groupby(np.ceil(np.array(confidence) * 10))
    assert found["test/argmax_ece/ukidss"] == pytest.approx(gaps.sum().abs().sum() / len(right))


def test_surveys_are_resampled_apart_and_always_alike(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    final = ScoredVotes.load(run, "val", run.catalog())
    assert final is not None
    sdss = final.of("sdss")
    other = dataclasses.replace(sdss, strata=np.full(len(sdss.ids), "gama"))
    same, again, apart = (each.resampled({"": each.predicted}, 5).column("mae")[1:] for each in (sdss, sdss, other))
    np.testing.assert_array_equal(same, again)
    assert (same != apart)[:, 0].all()


def test_tables_hold_what_was_measured(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = ScoreVotes(resamples=50)(run)
    shift = pd.DataFrame(run.table_rows("shift"))
    assert len(shift) == 3 * len(FEATURES)
    row = shift[(shift["survey"] == "ukidss") & (shift["feature"] == "bar_yes")].iloc[0]
    _, true, votes = known(run, "ukidss", "test")
    assert row["question"] == "bar"
    assert row["galaxies"] == (~np.isnan(true[:, 5])).sum()
    assert row["votes"] == votes[:, 5].sum()
    assert row["r"] == pytest.approx(found["test/pearson/ukidss:bar_yes"])
    assert row["r_low"] == pytest.approx(found["test/pearson_low/ukidss:bar_yes"])
    assert row["drop"] == pytest.approx(row["in_r"] - row["r"])
    assert row["drop_high"] == pytest.approx(found["test/pearson_drop_high/ukidss:bar_yes"])
    assert shift[shift["survey"] == "sdss"]["drop"].isna().all()
    progression = pd.DataFrame(run.table_rows("progression"))
    assert progression["survey"].tolist() == ["trained on"] * 4 + ["ukidss"] * 4
    assert progression["stage"].tolist() == ["baseline (column mean)", "untrained", "head", "full"] * 2
    last = progression.iloc[-1]
    assert last["r"] == pytest.approx(found["test/pearson"])
    assert last["MSE"] == pytest.approx(found["test/rmse"] ** 2)
    assert progression["r"].to_numpy()[4:] == pytest.approx(np.sort(progression["r"].to_numpy()[4:]))


def test_surveys_of_few_galaxies_do_not_narrow_what_is_compared(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    catalog = run.catalog()
    few = np.flatnonzero(catalog["survey"] == "ukidss")[:10]
    catalog.loc[few, "survey"] = "gama"
    run.write_catalog(catalog)
    found = ScoreVotes(resamples=0)(run)
    assert found["val/pearson"] == pytest.approx(np.mean([mean_r(run, survey, "val") for survey in ("sdss", "decals")]))
    assert "test/pearson/ukidss" in found
    assert "test/pearson/gama" not in found
    assert ScoreVotes(resamples=0, least=5)(run)["test/pearson/gama"] != 0


def test_a_run_without_a_test_survey_has_no_drop(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    (tmp_path / "predictions" / "test.parquet").unlink()
    found = ScoreVotes(resamples=20)(run)
    assert found["val/pearson"] > 0
    assert not any(key.startswith("test/") for key in found)
    assert ShiftFigures()(run) == {}
    assert (tmp_path / "figures" / "1_degradation.png").is_file()


def test_order_of_rows_changes_nothing_but_the_resamples(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    before = ScoreVotes(resamples=0)(run)
    run.write_catalog(run.catalog().sample(frac=1, random_state=0))
    after = ScoreVotes(resamples=0)(run)
    assert list(before) == list(after)
    assert before == pytest.approx(after)


def test_features_of_two_kinds_of_fractions_are_told_apart(tmp_path: Path) -> None:
    assert question_of("bar_yes_debiased") == "bar, debiased"
    assert label("bar_yes_weighted_fraction") == "bar, weighted fraction"
    assert questions(["bar_yes", "bar_no", "bar_yes_debiased"]) == {"bar": [0, 1], "bar, debiased": [2]}
    run = made_up(tmp_path)
    catalog = run.catalog()
    for name in ("bar_yes", "bar_no"):
        catalog[f"{name}_debiased"], catalog[f"{name}_debiased_votes"] = catalog[name] ** 2, catalog[f"{name}_votes"]
    run.write_catalog(catalog)
    for split in ("val", "test"):
        for by in HOLDS:
            table = run.predictions(split, by)
            assert table is not None
            run.write_predictions(split, table.assign(bar_yes_debiased=table["bar_yes"], bar_no_debiased=0.5), by=by)
    found = ScoreVotes(resamples=0)(run)
    said, true, votes = known(run, "ukidss", "test")
    expected = by_column(said[:, 5:6], true[:, 5:6] ** 2, votes[:, 5:6])["pearson"][0]
    assert found["test/pearson/ukidss:bar_yes_debiased"] == pytest.approx(expected)
    assert found["test/pearson/ukidss:bar_no_debiased"] == 0  # a constant says nothing


def test_broken_runs_are_told(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    table, catalog = run.predictions("val"), run.catalog()
    assert table is not None
    table[["odd_yes", "odd_no"]] = table[["odd_yes", "odd_no"]].fillna(0.5)
    broken = table.copy()
    broken.loc[3, "smooth_or_features_smooth"] = np.nan
    run.write_predictions("val", broken)
    with pytest.raises(UserError, match="not finite, so training has diverged"):
        ScoreVotes()(run)
    run.write_predictions("val", table)  # of which stages have made shares
    run.write_predictions("val", table.assign(bar_yes=np.inf), by="net_head")
    with pytest.raises(UserError, match="not finite, so training has diverged"):
        ScoreVotes()(run)
    run.write_predictions("val", table, by="net_head")
    run.write_predictions("val", table.assign(id=[*table["id"][1:], "sdss:none"]))
    with pytest.raises(UserError, match="the catalog lacks galaxies that were predicted: sdss:none"):
        ScoreVotes()(run)
    run.write_predictions("val", table)
    run.write_predictions("val", table[1:], by="head")
    with pytest.raises(UserError, match=f"predictions of 'head' lack the galaxy {table['id'][0]}"):
        ScoreVotes()(run)
    run.write_predictions("val", table.drop(columns="bar_yes"))
    with pytest.raises(UserError, match=r"predicts no 'bar_yes'\. There are: bar_no"):
        ScoreVotes()(run)
    run.write_predictions("val", table)
    run.write_catalog(catalog[["id", "split", "fold", "survey", "bar_yes"]])
    with pytest.raises(UserError, match="is not a run on votes: its catalog has no column that ends in _votes"):
        ScoreVotes()(run)
    with pytest.raises(UserError, match="resamples=-1: it must be a whole number, 0 or more"):
        ScoreVotes(resamples=-1)
    with pytest.raises(UserError, match="crop=0: it must be above 0"):
        ShiftFigures(crop=0)


def test_figures_are_written(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    ScoreVotes(resamples=50)(run)
    rng = np.random.default_rng(0)
    ids = run.catalog()["id"].to_numpy(str)[:60]
    run.write_arrays("embedding", {"id": ids, "feature": rng.standard_normal((60, 8)).astype(np.float32)})
    run.write_history([{"epoch": 0, "train/loss": 1.0, "val/loss": 1.1}])
    assert ShiftFigures()(run) == {}
    assert {path.stem for path in run.figures()} == {
        "1_degradation",
        "2_predicted_against_true",
        "3_calibration",
        "4_feature_space",
        "5_best_decals",
        "5_best_sdss",
        "5_best_ukidss",
        "5_worst_decals",
        "5_worst_sdss",
        "5_worst_ukidss",
        "6_progression",
        "7_loss_curves",
    }


def test_failures_are_the_largest_errors_of_the_most_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: dict[str, list[str]] = {}

    def grid(images: list[np.ndarray], texts: list[str], title: str) -> Figure:
        captions[title.partition(",")[0]] = texts
        return image_grid(images, texts, title)

    monkeypatch.setattr("galaxyml.evaluation.plots.image_grid", grid)
    run = made_up(tmp_path)
    ShiftFigures()(run)
    table = run.predictions("test")
    assert table is not None
    both = table.merge(run.catalog(), on="id", suffixes=("_said", "")).set_index("id")
    each = {name: both[f"{name}_votes"] * (both[f"{name}_said"] - both[name]) ** 2 for name in FEATURES}
    errors = pd.DataFrame(each).fillna(0)
    worst = errors.sum(axis=1).nlargest(4)
    assert [text.split("\n")[0] for text in captions["ukidss: predicted worst"]] == worst.index.tolist()
    votes = pd.DataFrame({name: both[f"{name}_votes"] for name in FEATURES}).where(errors.notna()).fillna(0)
    most = (votes > 0).sum(axis=1)
    best = (errors.sum(axis=1) / votes.sum(axis=1))[most >= most.median()].nsmallest(4)
    assert [text.split("\n")[0] for text in captions["ukidss: predicted best"]] == best.index.tolist()
    name = errors.loc[worst.index[0]].idxmax()
    row = both.loc[worst.index[0]]
    expected = f"predicted {row[f'{name}_said']:.2f}, true {row[name]:.2f} ({row[f'{name}_votes']:.0f} votes)"
    assert captions["ukidss: predicted worst"][0].split("\n")[1] == f"{label(str(name))}: {expected}"


def test_figures_need_no_embedding_and_no_intervals(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    ScoreVotes(resamples=0)(run)
    ShiftFigures()(run)
    names = {path.stem for path in run.figures()}
    assert "4_feature_space" not in names
    assert {"1_degradation", "6_progression"} <= names


def test_the_report_shows_splits_surveys_and_intervals(tmp_path: Path) -> None:
    found = ScoreVotes(resamples=20)(made_up(tmp_path))
    rows = {row[0]: row for row in run_report.summary(found, "test", WORDS)[1:]}
    assert rows["pearson"][1].startswith(f"{found['test/pearson']:.4f} [")
    assert "pearson_drop" in rows
    table = run_report.by_column(found, "test", object.__new__(Votes))  # whose words need no vocabulary
    answers = {row[1]: row[0] for row in table}
    assert answers["all of ukidss `ukidss`"] == ""
    assert answers["bar `ukidss:bar_yes`"] == f"ukidss: {Ontology.load().question_of('bar_yes').text}"
