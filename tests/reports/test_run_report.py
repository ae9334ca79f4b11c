"""The report of a run that the command made."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from galaxyml.data.splits import Holdout
from galaxyml.evaluation.words import Words
from galaxyml.kinds import fractions
from galaxyml.reports import run_report
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree

Command = Callable[..., tuple[int, str]]


def in_order(text: str, *parts: str) -> None:
    """Makes sure that a text has these parts, one after the other."""
    at = 0
    for part in parts:
        assert part in text[at:], part
        at += text[at:].index(part) + len(part)


def test_a_report_answers_first_and_then_says_how(command: Command, tmp_path: Path) -> None:
    status, said = command("scale=smoke", "limit=60", "figures=true", "epochs=1", "name=first")
    assert status == 0, said
    run = tmp_path / "multirun" / "galaxyzoo" / "first"
    assert "A smoke test: too small to judge." in said
    assert "joined" not in said
    for folder in (run, run / "fold-0"):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["verdict"]["sentence"] == "A smoke test: too small to judge."
        assert metrics["verdict"]["better"] is None
    text = (run / "report.md").read_text()
    assert text.splitlines()[0] == "# galaxyzoo: first"
    assert (run / "fold-0" / "report.md").read_text().startswith("# galaxyzoo: first, fold-0\n")
    in_order(
        text,
        "> ",
        "**A smoke test: too small to judge.**",
        "| RMSE, validation galaxies | ",
        "| RMSE, test galaxies | ",
        "| Pearson, validation galaxies | ",
        "![rmse by column]",
        "## Figures",
        "![loss curves]",
        "## Best and worst galaxies",
        "![best galaxies]",
        "![worst galaxies]",
        "## Validation (out of fold)",
        "## Per column (validation)",
        "## Tables as files",
        "[the table of metrics](https://github.com/galaxyml/galaxyml/blob/main/docs/numbers.md#metrics)",
        "## Data",
        "### Split",
        "## Provenance",
        "## To cite",
    )
    page = (run / "report.html").read_text()
    in_order(page, "<h1", '<p class="answer">', '<div class="table"', "<img", "<nav", "<h2", "<details>", "Provenance")

    tree = DecisionTree.load("kaggle")
    of_val = text.partition("## Per column (test)")[0]
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) `(Class[\d.]+)` \| ", of_val, re.MULTILINE)
    assert [column for _, _, column in rows] == tree.columns
    assert [name for _, name, _ in rows] == [tree.labels[column] for column in tree.columns]
    assert [question for question, _, _ in rows if question.strip()] == [question.text for question in tree.questions]

    table = pd.read_csv(run / "tables" / "metrics.csv").fillna({"column": ""})
    for row in table.to_dict("records"):
        key = "/".join(filter(None, (row["split"], row["metric"], row["column"])))
        assert row["model"] == pytest.approx(metrics_of(run)[key])
    of_smooth = table[(table["column"] == "Class1.1") & (table["metric"] == "rmse") & (table["split"] == "val")]
    assert of_smooth["answer"].tolist() == ["smooth"]
    assert of_smooth["baseline (column mean)"].item() == pytest.approx(metrics_of(run)["val/mean_rmse/Class1.1"])
    assert metrics_of(run)["val/rmse_low"] < metrics_of(run)["val/rmse"] < metrics_of(run)["val/rmse_high"]


def metrics_of(run: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run / "metrics.json").read_text())
    return found


def test_joined_folds_are_judged_together(command: Command, tmp_path: Path) -> None:
    status, said = command("epochs=1", "name=two", "-m", "fold=0,1")
    assert status == 0, said
    run = tmp_path / "multirun" / "galaxyzoo" / "two"
    verdict = json.loads((run / "metrics.json").read_text())["verdict"]
    assert verdict["sentence"] in said
    assert f"**{verdict['sentence']}**" in (run / "report.md").read_text()
    assert verdict["better"] == (verdict["gain_low"] > 0)
    assert (run / "report.md").read_text().startswith("# galaxyzoo: two, 2 folds joined\n")
    metrics = metrics_of(run)
    assert verdict["gain"] == pytest.approx(100 * (1 - metrics["val/rmse"] / metrics["val/mean_rmse"]), rel=1e-4)
    assert "verdict" not in json.loads((run / "metrics.json").read_text())["folds"]


def test_folds_are_counted_in_the_heading_and_ends_have_the_digits_of_their_value() -> None:
    words = Words("fractions", "rmse")
    folds = {"val/rmse": {"mean": 0.1926, "std": 0.0075, "runs": 5}, "val/r": {"mean": 0.5, "std": 0.1, "runs": 4}}
    metrics = {"val/rmse": 0.19264, "val/rmse_low": 0.19, "val/rmse_high": 0.19533, "val/r": 0.5, "folds": folds}
    header, *rows = run_report.summary(metrics, "val", words)
    assert header[-1] == "5 folds: mean ± std"
    assert rows[0] == ["rmse", "0.1926 [0.1900, 0.1953]", "0.1926 ± 0.0075"]
    assert rows[1][-1] == "0.5000 ± 0.1000 (4)"


def test_counts_over_folds_are_whole() -> None:
    words = Words("votes", "pearson", counts=("common_features",))
    metrics = {"val/common_features": 23.0, "folds": {"val/common_features": {"mean": 27.0, "std": 0.0, "runs": 2}}}
    assert run_report.summary(metrics, "val", words)[1] == ["common_features", "23", "27 ± 0"]


def test_columns_that_do_not_explain_themselves_have_a_note() -> None:
    metrics = {"val/rmse": 0.1, "val/net_rmse": 0.2, "val/mean_rmse": 0.3, "test/rmse": 0.1, "test/projected_rmse": 0.2}
    text = "\n".join(run_report.summaries(metrics, fractions.WORDS, "galaxies"))
    of_val, _, of_test = text.partition("## Test galaxies")
    assert "Model output: the fractions as the net says them." in of_val
    assert "After projecting: the nearest fractions" in of_test
    assert "After" not in of_val
    assert "Model output" not in of_test


def test_what_is_in_no_fold_is_not_called_one(tmp_path: Path) -> None:
    class Joined(RunDir):
        def members(self) -> list[RunDir]:
            return [RunDir(tmp_path / "fold-0"), RunDir(tmp_path / "fold-1")]

    run = Joined(tmp_path)
    split = {"_target_": "galaxyml.data.splits.Holdout", "val": 0.15, "test": 0.15, "folds": 5}
    run.start(OmegaConf.create({"split": split, "seed": 0}), [])
    targets = np.random.default_rng(0).random((100, 2))
    fold = Holdout(0.15, 0.15, 5)(targets, seed=0)
    catalog = pd.DataFrame({"id": range(100), "fold": fold, "split": np.where(fold < 0, "test", "train")})
    run.write_catalog(catalog)
    text = "\n".join(run_report._split(run, "galaxies"))
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][2:] == [
        *(f"| fold {number}" for number in range(5)),
        f"| {run_report.IN_NO_FOLD}",
        "| tested on",
    ]
