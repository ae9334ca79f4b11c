"""Stages on a run whose catalog and predictions are made up, so that every number can be checked by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxyml.evaluation.joined import join, spread
from galaxyml.kinds.fractions import WORDS, Fractions, metrics
from galaxyml.kinds.fractions.constrain import Constrain
from galaxyml.kinds.fractions.figures import path
from galaxyml.kinds.fractions.score import ScoreFractions
from galaxyml.kinds.fractions.submission import Submission, check
from galaxyml.reports import run_report
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, normalise, project, violation

TREE = DecisionTree.load("kaggle")
COLUMNS = TREE.columns
BENCHMARK = "all_zeros_benchmark.csv"


def votes(count: int, seed: int) -> np.ndarray:
    return normalise(torch.rand(count, 37, generator=torch.Generator().manual_seed(seed)).double(), TREE).numpy()


@pytest.fixture
def catalog() -> pd.DataFrame:
    """20 labelled galaxies in 2 folds, 6 to predict."""
    table = pd.DataFrame(np.vstack([votes(20, 0), np.full((6, 37), np.nan)]), columns=COLUMNS)
    table.insert(0, "id", np.arange(500, 526)[::-1])
    table.insert(1, "split", ["train"] * 20 + ["test"] * 6)
    table.insert(2, "fold", [0, 1] * 10 + [-1] * 6)
    return table


def made_up(path: Path, catalog: pd.DataFrame, fold: int) -> RunDir:
    """A run that held one fold out and predicted noise."""
    run = RunDir(path)
    catalog = catalog.copy()
    catalog.loc[catalog["fold"] == fold, "split"] = "val"
    run.write_catalog(catalog)
    benchmark = catalog.loc[catalog["split"] == "test", ["id"]].rename(columns={"id": "GalaxyID"})
    benchmark.reindex(columns=["GalaxyID", *COLUMNS], fill_value=0).to_csv(path / BENCHMARK, index=False)
    counts = {"train": 10, "val": 10, "test": 6}
    run.write_provenance(
        0, "CPU", {"source": "made up", "folder": str(path), "sha256": {}, "objects": counts, "notes": []}
    )
    rng = np.random.default_rng(fold)
    for split in ("val", "test"):
        ids = catalog.loc[catalog["split"] == split, "id"].to_numpy()
        table = pd.DataFrame(rng.normal(0.3, 0.3, (len(ids), 37)).astype(np.float32), columns=COLUMNS)
        table.insert(0, "id", ids)
        run.write_predictions(split, table, by="net")
        run.write_predictions(split, table)
    return run


@pytest.fixture
def run(tmp_path: Path, catalog: pd.DataFrame) -> RunDir:
    return made_up(tmp_path / "fold-0", catalog, 0)


def values(run: RunDir, split: str, by: str = "") -> np.ndarray:
    table = run.predictions(split, by)
    assert table is not None
    return table[COLUMNS].to_numpy()


@pytest.mark.parametrize("constraint", ["project", "normalise", "none"])
def test_constrain_keeps_what_the_net_said_beside_it(run: RunDir, constraint: str) -> None:
    before = values(run, "val", "net")
    Constrain(TREE, constraint)(run)
    Constrain(TREE, constraint)(run)  # a second time changes nothing
    np.testing.assert_array_equal(values(run, "val", "net"), before)
    said = torch.tensor(before).double()
    expected = {"project": project(said, TREE), "normalise": normalise(said, TREE), "none": said}[constraint]
    np.testing.assert_allclose(values(run, "val"), expected.numpy(), atol=1e-12)


def test_there_are_three_constraints() -> None:
    with pytest.raises(UserError, match=r"constraint=projekt: there is no such constraint\. Did you mean project"):
        Constrain(TREE, "projekt")


@pytest.mark.parametrize("constraint", ["project", "normalise", "none"])
def test_scores_show_all_three_constraints(run: RunDir, catalog: pd.DataFrame, constraint: str) -> None:
    Constrain(TREE, constraint)(run)
    found = ScoreFractions(TREE)(run)
    said = torch.tensor(values(run, "val", "net")).double()
    truth = catalog.loc[catalog["fold"] == 0, COLUMNS].to_numpy()
    assert found["val/net_rmse"] == pytest.approx(metrics.rmse(said.numpy(), truth))
    assert found["val/normalised_rmse"] == pytest.approx(metrics.rmse(normalise(said, TREE).numpy(), truth))
    assert found["val/projected_rmse"] == pytest.approx(metrics.rmse(project(said, TREE).numpy(), truth))
    assert found["val/projected_rmse"] < found["val/net_rmse"]
    chosen = {"project": "projected_", "normalise": "normalised_", "none": "net_"}[constraint]
    assert found["val/rmse"] == pytest.approx(found[f"val/{chosen}rmse"])


def test_without_constraint_a_submission_is_what_the_net_said(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    Constrain(TREE, "none")(run)
    with caplog.at_level("INFO"):
        Submission(TREE, BENCHMARK, constraint="none")(run)
    assert "constraint=none: sums in submission.csv are off from the tree's by up to" in caplog.text
    written = pd.read_csv(run.path / "submission.csv")[COLUMNS].to_numpy()
    np.testing.assert_allclose(written, values(run, "test", "net"), atol=1e-7)


def test_every_score_stands_beside_the_column_means(run: RunDir, catalog: pd.DataFrame) -> None:
    Constrain(TREE)(run)
    found = ScoreFractions(TREE)(run)
    truth = catalog.loc[catalog["fold"] == 0, COLUMNS].to_numpy()
    means = np.tile(catalog.loc[catalog["fold"] == 1, COLUMNS].mean().to_numpy(), (10, 1))  # from the training fold
    assert found["val/rmse"] == pytest.approx(metrics.rmse(values(run, "val"), truth))
    assert found["val/net_rmse"] == pytest.approx(metrics.rmse(values(run, "val", "net"), truth))
    assert found["val/mean_rmse"] == pytest.approx(metrics.rmse(means, truth))
    assert found["val/mean_pearson"] == 0
    assert found["val/violation"] < 1e-12
    assert found["val/net_violation"] == pytest.approx(float(violation(torch.tensor(values(run, "val", "net")), TREE)))
    assert found["val/pearson"] == pytest.approx(np.mean([found[f"val/pearson/{column}"] for column in COLUMNS]))
    assert not any(name.startswith("test/") for name in found)  # nothing is known of the test set
    assert np.isfinite(list(found.values())).all()


def test_diverged_predictions_are_told(run: RunDir) -> None:
    table = run.predictions("val")
    assert table is not None
    table.loc[3, "Class4.1"] = np.nan
    run.write_predictions("val", table, by="net")
    with pytest.raises(UserError, match=r"not finite, so training has diverged. Lower optim\.lr"):
        ScoreFractions(TREE)(run)


def test_submission_has_the_benchmarks_rows_order_and_header(run: RunDir) -> None:
    benchmark = pd.read_csv(run.path / BENCHMARK).sample(frac=1, random_state=0)
    benchmark.to_csv(run.path / BENCHMARK, index=False)
    Constrain(TREE)(run)
    Submission(TREE, BENCHMARK)(run)
    written = pd.read_csv(run.path / "submission.csv")
    assert (run.path / "submission.csv").read_text().splitlines()[0] == ",".join(benchmark.columns)
    assert written["GalaxyID"].tolist() == benchmark["GalaxyID"].tolist()
    table = run.predictions("test")
    assert table is not None
    np.testing.assert_allclose(written[COLUMNS], table.set_index("id").loc[written["GalaxyID"], COLUMNS], atol=1e-8)


def test_a_submission_that_breaks_the_tree_is_not_written(run: RunDir) -> None:
    with pytest.raises(ValueError, match="set constraint=project"):
        Submission(TREE, BENCHMARK)(run)
    assert not (run.path / "submission.csv").exists()


def test_check_finds_each_kind_of_mistake() -> None:
    table = pd.DataFrame(votes(4, 1), columns=COLUMNS)
    table.insert(0, "GalaxyID", [7, 8, 9, 10])
    ids, header = np.array([7, 8, 9, 10]), list(table.columns)
    check(table, ids, header, TREE)
    with pytest.raises(ValueError, match="rows in their order"):
        check(table[::-1], ids, header, TREE)
    with pytest.raises(ValueError, match="rows in their order"):
        check(table[:3], ids, header, TREE)
    with pytest.raises(ValueError, match="header"):
        check(table[header[::-1]], ids, header, TREE)
    with pytest.raises(ValueError, match="outside"):
        check(table.assign(**{"Class1.1": 1.2}), ids, header, TREE)
    with pytest.raises(ValueError, match="sums that are off"):
        check(table.assign(**{"Class11.1": 0.0}), ids, header, TREE)


def test_joined_folds_hold_each_galaxy_once_and_average_the_test(tmp_path: Path, catalog: pd.DataFrame) -> None:
    runs = [made_up(tmp_path / f"fold-{fold}", catalog, fold) for fold in (0, 1)]
    into = RunDir(tmp_path)
    join([runs], into)
    assert [member.path.resolve() for member in into.members()] == [run.path.resolve() for run in runs]
    table = into.predictions("val")
    assert table is not None
    assert table["id"].tolist() == catalog["id"][:20].tolist()
    for fold in (0, 1):
        np.testing.assert_allclose(table.loc[fold::2, COLUMNS], values(runs[fold], "val"), atol=1e-7)
    mean = (values(runs[0], "test") + values(runs[1], "test")) / 2
    np.testing.assert_allclose(values(into, "test"), mean, atol=1e-7)


def test_runs_that_do_not_belong_together_are_not_joined(tmp_path: Path, catalog: pd.DataFrame) -> None:
    first = made_up(tmp_path / "fold-0", catalog, 0)
    with pytest.raises(UserError, match="two runs hold out the same objects"):
        join([[first, made_up(tmp_path / "again", catalog, 0)]], RunDir(tmp_path))
    other = made_up(tmp_path / "fold-1", catalog.assign(id=catalog["id"] + 1), 1)
    with pytest.raises(UserError, match="other objects or other folds"):
        join([[first, other]], RunDir(tmp_path))


def test_spread_is_over_runs(tmp_path: Path) -> None:
    runs = [RunDir(tmp_path / str(number)) for number in range(3)]
    for run, value in zip(runs, (1.0, 2.0, 6.0), strict=True):
        run.write_metrics({"val/rmse": value} | ({"only/here": 1.0} if value == 1 else {}))
    assert spread(runs) == {"val/rmse": {"mean": 3.0, "std": pytest.approx(np.sqrt(7)), "runs": 3}}
    assert spread(runs[:1])["val/rmse"] == {"mean": 1.0, "std": 0.0, "runs": 1}


def test_report_shows_each_number_beside_the_trivial_one(run: RunDir) -> None:
    found = {"val/rmse": 0.1, "val/net_rmse": 0.12, "val/mean_rmse": 0.16, "val/rmse/Class1.1": 0.2}
    run.write_metrics(found)
    assert run_report.summary(run.metrics(), "val", WORDS)[1] == ["rmse", "0.1000", "0.1200", "0.1600"]
    joined = found | {"folds": {"val/rmse": {"mean": 0.11, "std": 0.01, "runs": 5}}}
    header, row = run_report.summary(joined, "val", WORDS)
    assert (header[-1], row[-1]) == ("5 folds: mean ± std", "0.1100 ± 0.0100")
    header, row = run_report.by_column(found, "val", Fractions("kaggle"))
    assert header[:3] == ["question", "answer", "RMSE"]
    assert row[:3] == [TREE.questions[0].text, "smooth `Class1.1`", "0.2000"]
    assert run_report.summary(found, "test", WORDS) == []


def test_metrics_of_an_unfinished_run_are_asked_for_in_vain(run: RunDir) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        run.metrics()
    with pytest.raises(UserError, match="is not the folder of a run"):
        _ = run.config


def test_files_appear_whole_or_not_at_all(run: RunDir) -> None:
    run.write_metrics({"val/rmse": 0.5})
    with pytest.raises(TypeError):
        run.write_metrics({"val/rmse": object()})
    assert json.loads((run.path / "metrics.json").read_text()) == {"val/rmse": 0.5}
    assert not [path for path in run.path.iterdir() if path.name.startswith(".metrics")]


def test_said_path_follows_the_largest_answers() -> None:
    galaxy = dict.fromkeys(COLUMNS, 0.0) | {"Class1.2": 0.9, "Class2.1": 0.8, "Class9.2": 0.7, "Class6.1": 1.0}
    assert path(np.array(list(galaxy.values())), TREE) == "features or disk 0.90, edge-on 0.80, boxy bulge 0.70"
