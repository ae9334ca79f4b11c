"""The report of a run that the command made."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from galaxyml.evaluation.words import Words
from galaxyml.reports import run_report
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
