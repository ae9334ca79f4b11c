"""The classification tasks by the command, as users type it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from galaxyml.runs.run_dir import RunDir, caption
from galaxyml.sky.galaxy10 import CLASSES

Command = Callable[..., tuple[int, str]]


def test_folds_and_seeds_of_galaxy10_become_one_table(
    command: Command, galaxy10_sky: Path, tmp_path: Path, judged_as_scored: Callable[[Path, str], set[str]]
) -> None:
    status, said = command(
        "task=galaxy10", "model=astrocnn", "epochs=1", "figures=true", "name=grid", "-m", "fold=0,1", "seed=0,1"
    )
    assert status == 0, said
    assert "Warning" not in said
    sweep = tmp_path / "multirun" / "galaxy10" / "grid"
    values = []
    for seed in (0, 1):
        joined = sweep / "joined" / f"seed-{seed}"
        found = json.loads((joined / "metrics.json").read_text())
        catalog = pd.read_parquet(joined / "catalog.parquet").set_index("id")
        for split, folds in (("val", {0, 1}), ("test", {-1})):
            said_of = pd.read_parquet(joined / "predictions" / f"{split}.parquet").set_index("id")
            assert set(catalog.loc[said_of.index, "fold"]) == folds
            assert said_of.index.is_unique
            labels, predicted = catalog.loc[said_of.index, "label"], said_of[list(CLASSES)].to_numpy().argmax(1)
            means = {"accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "nll", "brier", "ece"}
            assert judged_as_scored(joined, split) >= means | {"f1/Round Smooth", "auc/Round Smooth"}
            assert found[f"{split}/macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
        values.append(found["val/macro_f1"])
    assert all(caption(path) for path in sweep.rglob("figures/*.png"))
    page = (sweep / "joined" / "seed-0" / "report.html").read_text()
    assert page.count("<figure>") == page.count("<figcaption>") == len(RunDir(sweep / "joined" / "seed-0").figures())
    for told in (
        "Which of ten morphological classes",
        "majority class",
        "Split",
        "python -m galaxyml",
        "arXiv:1706.04599",
    ):
        assert told in page
    report = (sweep / "report.md").read_text()
    assert "## Over seeds: mean ± standard deviation" in report
    assert f"| all | 2 | {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} |" in report


def test_spirals_reports_its_steps_and_carries_its_table(command: Command, spirals_sky: Path, tmp_path: Path) -> None:
    status, said = command("task=spirals", "epochs=1", "name=run", "labels_from=debiased", "labels_from.cut=0.7")
    assert status == 0, said
    assert "P_CS_DEBIASED or P_EL_DEBIASED at least 0.7: " in said
    sweep = tmp_path / "multirun" / "spirals" / "run"
    for folder in (sweep, sweep / "fold-0"):
        report = (folder / "report.md").read_text()
        assert "## From the tables to the sample" in report
        assert "| OBJID is in gz2_filename_mapping.csv |" in report
        joined = pd.read_csv(folder / "tables" / "joined.csv")
        assert sorted(joined["OBJID"]) == sorted(pd.read_parquet(folder / "catalog.parquet")["id"])


def test_folds_without_a_test_part_warn_of_nothing(command: Command, galaxy10_sky: Path, tmp_path: Path) -> None:
    for tune in ("all", "head"):
        status, said = command(
            "task=galaxy10", "model=astrocnn", "epochs=1", f"name={tune}", "split=folds", f"tune={tune}"
        )
        assert status == 0, said
        assert "Warning" not in said
        predictions = tmp_path / "multirun" / "galaxy10" / tune / "fold-0" / "predictions"
        assert [path.name for path in predictions.glob("*.parquet")] == ["val.parquet"]


@pytest.mark.parametrize("task", ["galaxy10", "spirals"])
def test_the_simulated_sky_serves_each_task(command: Command, tmp_path: Path, task: str) -> None:
    status, said = command(
        f"task={task}", "source=simulated", "simulate.count=60", "simulate.size=64", "epochs=1", "name=sky"
    )
    assert status == 0, said
    assert "on the simulated sky" in said
    assert (tmp_path / "multirun" / task / "sky" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("args", "refusal", "message"),
    [
        (["task=galaxy10", "loss=mse"], 2, r"This loss compares numbers.*loss=cross_entropy or loss=focal"),
        (["task=galaxyzoo", "loss=focal"], 2, r"This loss takes class indices.*such as loss=mse"),
        (["task=galaxy10", "folds=6"], 2, "there is room for 5 validation parts"),
        (["task=galaxy10", "views=9"], 2, r"views=9: it must be a whole number from 1 \(plain\) to 8"),
        (["task=spirals", "predict_views=9"], 2, r"predict_views=9: it must be a whole number from 1 \(plain\) to 8"),
        (
            ["task=spirals", "labels_from.cut=0.5", "labels_from=votes", "labels_from.cut=2"],
            2,
            r"labels_from.cut=2: it must be a vote fraction",
        ),
        (["task=spirals", "table=nothing.csv"], 2, r"nothing\.csv is missing\. The files are"),
    ],
)
def test_wrong_input_is_answered_with_a_sentence(
    command: Command, galaxy10_sky: Path, spirals_sky: Path, args: list[str], refusal: int, message: str
) -> None:
    import re

    status, said = command(*args, "epochs=1", "name=wrong")
    assert status == refusal  # 1 where the first batch tells
    assert "Traceback" not in said, said
    assert re.search(message, said), said
