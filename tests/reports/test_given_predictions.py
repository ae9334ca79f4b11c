"""A table of another tool's predictions in the place of a run: the run's own, written down, are the same to compare."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galaxyml.reports.compare import compare
from galaxyml.runs.errors import DataError, UsageError, UserError
from galaxyml.runs.run_dir import RunDir


@pytest.fixture(params=["galaxyzoo", "spirals", "surveys", "plasticc"])
def run(request: pytest.FixtureRequest, page_run: Callable[[str], Path]) -> Path:
    return page_run(request.param)


def own(run: Path) -> tuple[str, pd.DataFrame]:
    """A split with known truth, and the run's predictions for it."""
    folder = RunDir(run)
    split = "val" if folder.has_predictions("val") and "plasticc" not in str(run) else "survey"
    table = folder.predictions(split)
    assert table is not None
    return split, table


def test_a_runs_own_predictions_in_a_table_do_not_differ_from_it(run: Path, tmp_path: Path) -> None:
    split, table = own(run)
    table.sample(frac=1, random_state=0).rename(columns={"id": "id_str"}).to_csv(tmp_path / "own.csv", index=False)
    found = compare(run, tmp_path / "own.csv", split=split, resamples=50, least=4)
    others = found[found["run"] == str(tmp_path / "own.csv")]
    differences = others["difference"].dropna()  # what is not defined on these few objects
    assert len(differences) > len(others) / 2
    assert np.allclose(differences, 0, atol=1e-6)


def test_worse_predictions_are_worse_by_what_their_errors_say(page_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = page_run("galaxyzoo")
    _, table = own(run)
    columns = [str(name) for name in table if name != "id"]
    catalog = RunDir(run).catalog().set_index("id").loc[table["id"], columns].to_numpy()
    noise = np.random.default_rng(0).normal(0, 0.2, catalog.shape)
    worse = table.assign(**dict(zip(columns, (table[columns].to_numpy() + noise).T, strict=True)))
    worse.iloc[10:].to_parquet(tmp_path / "worse.parquet")  # ten galaxies are not in it
    found = compare(run, tmp_path / "worse.parquet", split="val", resamples=50)
    rmse = found[(found["metric"] == "rmse") & (found["column"] == "")].set_index("run")["value"]
    for name, predicted in ((run, table), (tmp_path / "worse.parquet", worse)):
        expected = np.sqrt(((predicted[columns].to_numpy() - catalog)[10:] ** 2).mean())
        assert rmse[str(name)] == pytest.approx(expected, abs=1e-6)


def test_probabilities_must_be_some(page_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = page_run("spirals")
    _, table = own(run)
    scores = table.drop(columns="id") * 3
    scores.assign(id=table["id"]).to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(
        DataError, match=r"scores\.csv: the probabilities of \S+ sum to 3; those of the classes sum to 1"
    ):
        compare(run, tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="Class1.1"), r"has no column 'Class1\.1'\. Did you mean .* name the columns"),
        (
            lambda table: table.assign(id=table["id"].astype(str) + "x"),
            r"names none of the objects of .*: its .* are id \(\w+x, …\).* column id",
        ),
        (lambda table: table.drop(columns="id"), r"besides the predictions are none\. Give it a column id"),
        (lambda table: table.assign(**{"Class1.1": "n/a"}), r", id \d+: Class1\.1 is 'n/a'; it must be a number"),
        (lambda table: pd.concat([table, table[:1]]), r"has two rows for \d+\. Take one out"),
    ],
)
def test_a_table_that_cannot_be_compared_is_told(
    page_run: Callable[[str], Path], tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    run = page_run("galaxyzoo")
    change(own(run)[1]).to_csv(tmp_path / "theirs.csv", index=False)
    with pytest.raises(UserError, match=f"theirs.csv.*{said}"):
        compare(run, tmp_path / "theirs.csv")


def test_tables_alone_have_no_truth(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id,score\n1,2\n")
    with pytest.raises(UsageError, match=r"a\.csv is a table, as are all others: name a run"):
        compare(tmp_path / "a.csv", tmp_path / "b.csv")
