"""Finished runs that speak together."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

from galaxyml.evaluation.joined import NetOutputs, between, mean_table
from galaxyml.evaluation.stacking import least_squares_weights
from galaxyml.inference import ensemble, predict
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, normalise, project

Command = Callable[..., tuple[int, str]]
COLUMNS = DecisionTree.load("kaggle").columns


def simplex(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same weights by a general solver."""
    count = len(outputs)

    def error(weights: np.ndarray) -> float:
        return float(np.nanmean((np.tensordot(weights, outputs, 1) - targets) ** 2))

    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    start = np.full(count, 1 / count)
    options = {"ftol": 1e-14, "maxiter": 500}
    return minimize(error, start, bounds=[(0, 1)] * count, constraints=sums, method="SLSQP", options=options).x


@pytest.mark.parametrize("seed", range(6))
def test_fitted_weights_are_a_general_solvers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.random((40, 5))
    targets[3, 2] = np.nan
    noise = rng.normal(size=(4, 40, 5)) * rng.uniform(0.05, 0.6, (4, 1, 1)) + rng.normal(size=(1, 40, 5)) * 0.1
    outputs = targets + noise + rng.normal(0, 0.1, (4, 1, 5))
    outputs[:, 3, 2] = 0.5
    found = least_squares_weights(outputs, targets)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, simplex(outputs, targets), atol=2e-4)


def test_weights_of_the_perfect_the_useless_and_the_equal() -> None:
    targets = np.random.default_rng(0).random((30, 3))
    np.testing.assert_allclose(least_squares_weights(np.stack([targets, targets + 1]), targets), [1, 0], atol=1e-7)
    np.testing.assert_allclose(
        least_squares_weights(np.stack([targets + 0.1, targets + 5]), targets), [1, 0], atol=1e-7
    )
    np.testing.assert_allclose(least_squares_weights(np.stack([targets, targets]), targets).sum(), 1)
    independent = targets + np.random.default_rng(1).normal(size=(2, 30, 3))
    fitted = least_squares_weights(independent, targets)
    variance = ((independent - targets) ** 2).mean((1, 2))
    cross = ((independent[0] - targets) * (independent[1] - targets)).mean()
    closed = (variance[1] - cross) / (variance.sum() - 2 * cross)  # of two, by the derivative
    np.testing.assert_allclose(fitted[0], closed, atol=1e-9)


def test_spread_over_folds_is_that_of_each_folds_mean_over_models() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((2, 3, 7, 2))  # models, folds, galaxies, columns
    shares = [0.7 / 3] * 3 + [0.3 / 3] * 3
    found = between([*values[0], *values[1]], shares, [0, 1, 2, 0, 1, 2])
    assert found is not None
    np.testing.assert_allclose(found, (0.7 * values[0] + 0.3 * values[1]).std(0), rtol=1e-6)
    assert between(list(values[0]), [1 / 3] * 3, [4, 4, 4]) is None


def test_a_rows_mean_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    tables = [pd.DataFrame(rng.random((50, 3)).astype(np.float32), columns=list("abc")) for _ in range(5)]
    shares = [0.1, 0.2, 0.3, 0.15, 0.25]
    whole = mean_table(tables, shares)
    for row in range(50):
        alone = mean_table([table.iloc[[row]] for table in tables], shares)
        pd.testing.assert_frame_equal(alone, whole.iloc[[row]], check_exact=True)
    stacked = np.stack([table.to_numpy(np.float64) for table in tables])
    np.testing.assert_allclose(whole, np.tensordot(shares, stacked, 1), rtol=1e-6)
    said = NetOutputs.equal(tables)
    np.testing.assert_allclose(said.mean, stacked.mean(0), rtol=1e-6)
    assert said.between is not None
    np.testing.assert_allclose(said.between, stacked.std(0), rtol=1e-5)
    assert said.spread is None


def said_by(run: RunDir, split: str, by: str = "") -> pd.DataFrame:
    table = run.predictions(split, by=by)
    assert table is not None
    return table.set_index("id")


def tensor(table: pd.DataFrame) -> torch.Tensor:
    return torch.tensor(table.to_numpy(np.float64))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of these tests are kept, once made."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def models(command: Command, kept: Path) -> tuple[Path, Path]:
    """Two sweeps over the same folds: other nets, other sizes, other views."""
    made = Path("multirun/galaxyzoo")
    if not (kept / "two").is_dir():
        assert command("epochs=1", "name=one", "-m", "fold=0,1")[0] == 0
        more = ("model=test_resnet", "size=48", "epochs=1", "predict_views=3", "folds=5")
        status, said = command("name=two", *more, "-m", "fold=0,1")
        assert status == 0, said
        shutil.copytree(made, kept, dirs_exist_ok=True)
    shutil.copytree(kept, made, dirs_exist_ok=True)
    return made / "one", made / "two"


def test_models_are_averaged_scored_and_asked_again(
    models: tuple[Path, Path], sky: Path, tmp_path: Path, in_process: Command
) -> None:
    one, two = models
    status, said = in_process(ensemble.main, one, two / "fold-0", two / "fold-1", "--out", "both")
    assert status == 0, said
    both = RunDir("both")
    assert both.shares() == [0.25] * 4
    nets = [said_by(RunDir(folder), "val", "net")[COLUMNS] for folder in models]
    mean = (nets[0] + nets[1].loc[nets[0].index]) / 2
    found = said_by(both, "val")
    projected = project(tensor(mean), DecisionTree.load("kaggle")).numpy()
    np.testing.assert_allclose(found.loc[mean.index, COLUMNS], projected, atol=1e-6)
    assert {"val/rmse", "val/normalised_rmse", "val/projected_rmse", "val/coverage_95"} <= set(both.metrics())
    report = (both.path / "report.md").read_text()
    assert "2 models, 4 nets" in report
    assert "| multirun/galaxyzoo/one | 2 | 0.5" in report
    assert (both.path / "submission.csv").is_file()

    assert in_process(predict.main, "both", sky / "images_test_rev1", "--out", tmp_path / "p.parquet")[0] == 0
    again = pd.read_parquet(tmp_path / "p.parquet")
    again.index = again["path"].map(lambda path: int(Path(path).stem))
    expected = said_by(both, "test")
    assert (again.loc[expected.index, expected.columns] == expected).all(axis=None)
    intervals = said_by(both, "test", "intervals")
    shown = [name for name in again.columns if re.search("_(low|high)95$", name)]
    assert len(shown) == 2 * 37
    assert (again.loc[intervals.index, shown] == intervals[shown]).all(axis=None)


def test_fitted_weights_never_see_the_galaxies_that_they_weigh(models: tuple[Path, Path], in_process: Command) -> None:
    assert in_process(ensemble.main, *models, "--out", "fitted", "--weights", "fitted")[0] == 0
    made = RunDir("fitted")
    shares = made.shares()
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == shares[1]
    catalog = made.catalog().set_index("id")
    tables = [said_by(RunDir(folder), "val", "net")[COLUMNS] for folder in models]
    ids = tables[0].index
    outputs = np.stack([table.loc[ids].to_numpy(np.float64) for table in tables])
    targets, fold = catalog.loc[ids, COLUMNS].to_numpy(float), catalog.loc[ids, "fold"].to_numpy()
    assert 2 * shares[0] == pytest.approx(simplex(outputs, targets)[0], abs=2e-3)
    said = said_by(made, "val", "net").loc[ids, COLUMNS].to_numpy()
    for part in (0, 1):
        weights = simplex(outputs[:, fold != part], targets[fold != part])
        expected = np.tensordot(weights, outputs[:, fold == part], 1)
        np.testing.assert_allclose(said[fold == part], expected, atol=2e-3)


def test_of_a_single_fold_each_half_is_weighed_by_the_other(models: tuple[Path, Path], in_process: Command) -> None:
    folders = [folder / "fold-0" for folder in models]
    rng = np.random.default_rng(0)
    for number, folder in enumerate(folders):  # each is good at one half of the galaxies
        table = said_by(RunDir(folder), "val", "net").sort_index()
        truth = RunDir(folder).catalog().set_index("id").loc[table.index, COLUMNS]
        scale = np.where(np.arange(len(table)) % 2 == number, 0.1, 0.3)[:, None]
        table[COLUMNS] = (truth + scale * rng.normal(size=truth.shape)).astype(np.float32)
        RunDir(folder).write_predictions("val", table.reset_index(), by="net")
    assert in_process(ensemble.main, *folders, "--out", "single", "--weights", "fitted")[0] == 0
    tables = [said_by(RunDir(folder), "val", "net")[COLUMNS].sort_index() for folder in folders]
    outputs = np.stack([table.to_numpy(np.float64) for table in tables])
    targets = RunDir("single").catalog().set_index("id").loc[tables[0].index, COLUMNS].to_numpy(float)
    said = said_by(RunDir("single"), "val", "net").loc[tables[0].index, COLUMNS].to_numpy()
    for half in (0, 1):
        inside = np.arange(len(targets)) % 2 == half
        weights = simplex(outputs[:, ~inside], targets[~inside])
        np.testing.assert_allclose(said[inside], np.tensordot(weights, outputs[:, inside], 1), atol=2e-3)
    assert abs(least_squares_weights(outputs, targets)[0] - simplex(outputs[:, ::2], targets[::2])[0]) > 0.2


def test_folds_alone_are_joined(models: tuple[Path, Path], in_process: Command) -> None:
    one = models[0]
    assert in_process(ensemble.main, one / "fold-1", one / "fold-0", "--out", "folds")[0] == 0
    sweep, joined = RunDir(one), RunDir("folds")
    ours = said_by(joined, "val")
    pd.testing.assert_frame_equal(ours, said_by(sweep, "val").loc[ours.index])
    assert joined.metrics()["val/rmse"] == pytest.approx(sweep.metrics()["val/rmse"])
    assert joined.metrics()["folds"]["val/rmse"]["runs"] == 2


def test_what_does_not_belong_together_is_refused(
    models: tuple[Path, Path], command: Command, spirals_sky: Path, in_process: Command, tmp_path: Path
) -> None:
    one, two = models
    for more in (["name=folds", "folds=3"], ["name=few", "limit=40"], ["name=seeded", "seed=1"]):
        assert command("epochs=1", *more)[0] == 0
    assert command("task=spirals", "model=tiny", "epochs=1", "name=run")[0] == 0
    changed = Path("changed")
    shutil.copytree(one / "fold-0", changed)
    for name in ("val", "test"):
        table = pd.read_parquet(changed / "predictions" / "net" / f"{name}.parquet")
        table.rename(columns={"Class11.6": "other"}).to_parquet(changed / "predictions" / "net" / f"{name}.parquet")
    zoo = Path("multirun/galaxyzoo")
    for args, told in (
        ([one, zoo / "folds"], "another split than .*: [0-9]+ of 72 galaxies are in another fold"),
        ([one, zoo / "few"], r"40 and|52 and|and 72 galaxies"),
        ([one, zoo / "seeded"], "another split than"),
        ([one, "multirun/spirals/run"], "task=spirals"),
        ([one, two / "fold-0"], "give the same folds of each model"),
        ([one, one / "fold-1"], "is named twice"),
        ([two / "fold-0", changed], "predicts other columns than .*Class11.6, other"),
        ([one, "nowhere"], "nowhere is not there"),
    ):
        status, said = in_process(ensemble.main, *args, "--out", tmp_path / "refused")
        assert status == 2
        assert re.search(told, said), said
        assert not (tmp_path / "refused").exists()
    status, said = in_process(ensemble.main, one, two, "--out", one)
    assert "it is there already" in said
    assert (one / "metrics.json").is_file()


def test_weights_of_classes_are_fitted_to_other_folds_by_log_loss(
    command: Command, spirals_sky: Path, in_process: Command
) -> None:
    for name, epochs in (("first", 1), ("second", 2)):
        given = ("task=spirals", "split=folds", f"epochs={epochs}", f"name={name}", "-m", "fold=0,1")
        status, said = command(*given)
        assert status == 0, said
    folders = [Path("multirun/spirals") / name for name in ("first", "second")]
    status, said = in_process(ensemble.main, *folders, "--out", "both", "--weights", "fitted")
    assert status == 0, said
    both = RunDir("both")
    tables = [
        pd.concat([said_by(RunDir(folder / f"fold-{fold}"), "val") for fold in (0, 1)]).sort_index()
        for folder in folders
    ]
    catalog = both.catalog().set_index("id").loc[tables[0].index]
    probabilities = np.stack([table[["elliptical", "spiral"]].to_numpy() for table in tables])
    of_truth = np.take_along_axis(probabilities, catalog["label"].to_numpy()[None, :, None], axis=2)[..., 0]

    def best(inside: np.ndarray) -> float:
        """Weight of the first model by a fine grid."""
        grid = np.linspace(0, 1, 2001)
        losses = [-np.log(weight * of_truth[0, inside] + (1 - weight) * of_truth[1, inside]).mean() for weight in grid]
        return float(grid[np.argmin(losses)])

    assert 2 * both.shares()[0] == pytest.approx(best(np.ones(len(catalog), bool)), abs=1e-2)
    logits = [
        pd.concat([said_by(RunDir(folder / f"fold-{fold}"), "val", "net") for fold in (0, 1)]) for folder in folders
    ]
    mean = said_by(both, "val", "net")
    for fold in (0, 1):
        ids = catalog.index[catalog["fold"] == fold]
        weight = best((catalog["fold"] != fold).to_numpy())
        expected = weight * logits[0].loc[ids] + (1 - weight) * logits[1].loc[ids]
        np.testing.assert_allclose(mean.loc[ids, expected.columns], expected, atol=2e-2)


def test_constrain_is_not_needed_to_average(models: tuple[Path, Path]) -> None:
    """A mean of consistent fractions is consistent."""
    tree = DecisionTree.load("kaggle")
    tables = [said_by(RunDir(folder), "val")[COLUMNS] for folder in models]
    mean = tensor((tables[0] + tables[1].loc[tables[0].index]) / 2)
    np.testing.assert_allclose(normalise(mean, tree).numpy(), mean.numpy(), atol=1e-6)
