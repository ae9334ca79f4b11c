import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from survey_forms import in_form, ztf_name

from galaxyml.inference.predict import predict
from galaxyml.reports import compare
from galaxyml.runs.errors import DataError, UserError

pytestmark = pytest.mark.usefixtures("plasticc_sky")  # where the command looks for files
Command = Callable[..., tuple[int, str]]
FEW_TREES = (
    "detector.detector.detectors.forest.trees=20",
    *(f"beside.{name}.detector.trees=20" for name in ("features", "latents", "forest")),
    *(f"beside.{name}.detector.trees=5" for name in ("class_features", "class_forests")),
)
SMALL = ("task=plasticc", "epochs=1", "batch_size=64", "top=0", "embedded=0")
QUICK = (*SMALL, *FEW_TREES)


@pytest.fixture
def curves(plasticc_sky: Path, tmp_path: Path) -> Path:
    """A copy of the small sky that a test may spoil."""
    return Path(shutil.copytree(plasticc_sky, tmp_path / "data" / "plasticc"))


def test_a_run_ranks_the_survey_and_measures_both_protocols(
    command: Command, plasticc_sky: Path, tmp_path: Path
) -> None:
    line = (
        "task=plasticc",
        "leave_out=[Mira,92]",
        "epochs=2",
        "batch_size=64",
        *FEW_TREES,
        "top=3",
        "embedded=60",
        "figures=true",
        "name=mine",
    )
    status, said = command(*line)
    assert status == 0, said
    folder = tmp_path / "multirun" / "plasticc" / "mine"
    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("test", "survey"):
        assert {f"{split}/roc_auc", f"{split}/features_roc_auc", f"{split}/random_pr_auc"} <= set(metrics)
    assert {"test/roc_auc/Mira", "test/roc_auc/RRL", "survey/roc_auc/PISN"} <= set(metrics)
    anomalies = pd.read_csv(folder / "anomalies.csv")
    assert set(anomalies["object_id"]) == set(pd.read_csv(plasticc_sky / "test_set_metadata.csv")["object_id"])
    truth = pd.read_csv(plasticc_sky / "test_set_truth.csv").set_index("object_id")["true_target"]
    strange = truth.loc[anomalies["object_id"]].isin([991, 992, 993, 994, 53, 92]).to_numpy()
    assert strange.mean() == pytest.approx(metrics["survey/prevalence"])
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"1_roc_test", "1_roc_survey", "2_precision_recall_survey", "3_recall_survey", "4_scores_survey"} <= drawn
    assert {"5_latents_test", "5_latents_survey", "6_best", "7_worst", "8_reconstructions", "9_loss_curves"} <= drawn
    assert "warning" not in said.lower()
    report = (folder / "report.md").read_text()
    assert "objects to learn from" in report
    assert "Objects of the survey" in report
    assert "anomalies" in said
    assert "predict new images" not in said

    status, said = command(*line)
    assert status == 0, said
    assert "finished before, kept" in said


def test_classes_are_left_out_in_turn_and_compared(command: Command, tmp_path: Path) -> None:
    status, said = command(*QUICK, "limit=60", "name=turns", "-m", "leave_out=53,92", "seed=0,1")
    assert status == 0, said
    folder = tmp_path / "multirun" / "plasticc" / "turns"
    report = (folder / "report.md").read_text()
    assert "| leave_out-53 |" in report
    assert "Over seeds" in report
    assert "test/features_roc_auc" in report


def test_folds_are_joined_compared_and_rank_other_light_curves(
    command: Command,
    plasticc_sky: Path,
    tmp_path: Path,
    judged_as_scored: Callable[[Path, str], set[str]],
    in_process: Callable[..., tuple[int, str]],
) -> None:
    status, said = command(*QUICK, "split=folds", "folds=2", "name=folds", "-m", "fold=0,1")
    assert status == 0, said
    folder = tmp_path / "multirun" / "plasticc" / "folds"
    val = pd.read_parquet(folder / "predictions" / "val.parquet")
    catalog = pd.read_parquet(folder / "catalog.parquet")
    assert set(val["id"]) == set(catalog.loc[catalog["fold"] >= 0, "id"])
    assert np.isfinite(val["score"]).all()
    assert (folder / "anomalies.csv").is_file()
    shared = judged_as_scored(folder, "survey")
    assert shared >= {"roc_auc", "pr_auc", "purity_25"}
    assert any(name.startswith("roc_auc/") for name in shared)
    given = (folder, folder / "fold-0", "--split", "survey", "--out", tmp_path / "c.csv")
    status, said = in_process(compare.main, *given)
    assert status == 0, said
    assert "ROC AUC" in said
    table = pd.read_csv(tmp_path / "c.csv").query("metric == 'roc_auc' and column.isna()")
    found = [json.loads((path / "metrics.json").read_text())["survey/roc_auc"] for path in (folder, folder / "fold-0")]
    np.testing.assert_allclose(table["value"], found)

    survey = tmp_path / "night"
    survey.mkdir()
    for name in ("test_set.csv", "test_set_metadata.csv"):
        shutil.copy(plasticc_sky / name, survey)
    predict(folder, [str(survey)], tmp_path / "ranked.csv")
    own, ranked = pd.read_csv(folder / "anomalies.csv"), pd.read_csv(tmp_path / "ranked.csv")
    pd.testing.assert_frame_equal(ranked, own.drop(columns="true_class"))
    with pytest.raises(UserError, match=r"a run of light curves: give one folder"):
        predict(folder, [str(survey / "test_set.csv")], tmp_path / "ranked.csv")
    (survey / "test_set_metadata.csv").unlink()
    with pytest.raises(DataError, match=r"night: it must be a folder with light curves to rank and their metadata"):
        predict(folder, [str(survey)], tmp_path / "ranked.csv")


def test_tables_of_another_survey_are_learnt_from_by_classes_of_their_own(
    command: Command, plasticc_sky: Path, tmp_path: Path
) -> None:
    curves, metadata = (pd.read_csv(plasticc_sky / f"training_set{end}.csv") for end in ("", "_metadata"))
    in_form("ALeRCE", tmp_path / "mine" / "plasticc", curves, metadata)
    classes = metadata["target"].map({90: "SN", 42: "SN", 88: "QSO", 92: "RRL", 16: "odd"})
    table = pd.DataFrame({"oid": metadata["object_id"].map(ztf_name), "classALeRCE": classes})
    table.to_csv(tmp_path / "mine" / "plasticc" / "objects.csv", index=False)
    line = ("task=plasticc", "epochs=1", "top=0", "embedded=0", *FEW_TREES, f"data_dir={tmp_path / 'mine'}", "name=own")
    status, said = command(*line, "classes=[SN,QSO,RRL]", "outputs=3")
    assert status == 0, said
    folder = tmp_path / "multirun" / "plasticc" / "own"
    catalog = pd.read_parquet(folder / "fold-0" / "catalog.parquet").merge(table, left_on="object", right_on="oid")
    named = catalog["classALeRCE"].fillna("")
    assert (catalog["name"] == named).all()
    assert set(catalog.loc[catalog["split"].isin(["train", "val"]), "name"]) == {"SN", "QSO", "RRL"}
    assert set(catalog.loc[catalog["split"] == "survey", "name"]) == {""}
    assert catalog.loc[catalog["name"] == "odd", "unknown"].all()
    ranked = pd.read_csv(folder / "anomalies.csv")
    assert set(ranked["object_id"]) == set(catalog.loc[catalog["split"] == "survey", "object"])
    status, said = command(*line, "classes=[SN,QSO,RRL]", "outputs=3", "leave_out=odd", "name=other")
    assert status == 2
    assert "there is no such class" in said
    (tmp_path / "mine" / "plasticc" / "objects.csv").unlink()
    status, said = command(*line, "name=none")
    assert status == 1
    assert "no object has a class, so there is nothing to learn" in said


def test_classes_of_ones_own_are_refused_on_plasticcs_files(command: Command) -> None:
    status, said = command(*QUICK, "classes=[SNIa,SNIIx]", "outputs=2", "name=typo")
    assert status == 2
    assert "classes=SNIIx: there is no such class" in said


@pytest.mark.parametrize("encoder", ["recurrent", "transformer"])
def test_other_encoders_and_detectors_run(command: Command, tmp_path: Path, encoder: str) -> None:
    status, said = command(
        *SMALL, f"encoder={encoder}", "encoder.width=16", "detector=class_forests", "limit=60", "name=other"
    )
    assert status == 0, said
    assert (tmp_path / "multirun" / "plasticc" / "other" / "anomalies.csv").is_file()


def test_half_precision_runs_to_the_end(command: Command, tmp_path: Path) -> None:
    status, said = command(*QUICK, "trainer.precision=bf16-mixed", "top=1", "limit=60", "name=half")
    assert status == 0, said
    assert (tmp_path / "multirun" / "plasticc" / "half" / "anomalies.csv").is_file()


def test_a_run_that_was_stopped_ends_as_an_unbroken_one(
    command: Command, plasticc_sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(__file__).parents[1] / "training"
    monkeypatch.syspath_prepend(str(folder))
    line = ["task=plasticc", *SMALL[2:], *FEW_TREES, "epochs=3", "limit=100", "trainer=cpu"]
    line.append("callbacks={stop:{_target_:interrupting.InterruptAt,epoch:1}}")
    assert command(*line, "name=unbroken")[0] == 0
    monkeypatch.setenv("INTERRUPT_WITH", "SIGTERM")
    assert command(*line, "name=broken")[0] == 143
    monkeypatch.delenv("INTERRUPT_WITH")
    status, said = command(*line, "name=broken")
    assert status == 0, said
    assert "carries on from its last checkpoint" in said
    broken, unbroken = (tmp_path / "multirun" / "plasticc" / name for name in ("broken", "unbroken"))
    pd.testing.assert_frame_equal(pd.read_csv(broken / "anomalies.csv"), pd.read_csv(unbroken / "anomalies.csv"))
    pd.testing.assert_frame_equal(
        pd.read_csv(broken / "fold-0" / "history.csv"), pd.read_csv(unbroken / "fold-0" / "history.csv")
    )


def test_mistakes_in_stages_are_told_before_the_fit(command: Command, tmp_path: Path) -> None:
    status, said = command(*QUICK, "false_alarms=2", "name=early")
    assert status == 2
    assert "epoch 1" not in said
    assert not (tmp_path / "multirun").exists()


def test_it_runs_on_its_own_simulated_sky(command: Command, tmp_path: Path) -> None:
    status, said = command(*QUICK, "source=simulated", "simulate.count=80", "name=sky")
    assert status == 0, said
    assert "on the simulated sky" in said


def test_without_a_survey_and_without_anything_left_out_known_objects_are_ranked(
    command: Command, curves: Path, tmp_path: Path
) -> None:
    for path in curves.glob("test_set*"):
        path.unlink()
    status, said = command(*QUICK, f"data_dir={curves.parent}", "name=few")
    assert status == 0, said
    folder = tmp_path / "multirun" / "plasticc" / "few"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "test/false_alarm_rate" in metrics
    assert "test/roc_auc" not in metrics
    assert (folder / "anomalies.csv").is_file()


def test_without_truth_the_survey_is_ranked_all_the_same(command: Command, curves: Path, tmp_path: Path) -> None:
    (curves / "test_set_truth.csv").unlink()
    status, said = command(*QUICK, f"data_dir={curves.parent}", "name=blind")
    assert status == 0, said
    folder = tmp_path / "multirun" / "plasticc" / "blind"
    assert "true_class" not in pd.read_csv(folder / "anomalies.csv")
    assert not any(key.startswith("survey/") for key in json.loads((folder / "metrics.json").read_text()))


def spoil(path: Path, line: int, text: str) -> None:
    """Puts another text in the place of a line (the first is 1)."""
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (3, "nan", "flux"),
        (3, "inf", "flux"),
        (4, "-1.0", "flux_err"),
        (4, "0", "flux_err"),
        (2, "6", "passband"),
    ],
)
def test_bad_observations_are_told_by_file_and_line(
    command: Command, curves: Path, tmp_path: Path, column: int, value: str, message: str
) -> None:
    path = curves / "training_set.csv"
    parts = path.read_text().splitlines()[40].split(",")
    parts[column] = value
    spoil(path, 41, ",".join(parts))
    status, said = command(*QUICK, f"data_dir={curves.parent}", "name=bad")
    assert status == 1
    assert "training_set.csv" in said
    assert "line 41" in said
    assert f"object {parts[0]}" in said
    assert message in said
    assert "Traceback" not in said


def test_objects_without_metadata_are_refused_and_those_without_observations_left_out(
    command: Command, curves: Path, tmp_path: Path
) -> None:
    metadata = curves / "training_set_metadata.csv"
    lines = metadata.read_text().splitlines()
    metadata.write_text("\n".join([*lines, lines[-1].replace(lines[-1].split(",")[0], "99999999")]) + "\n")
    status, said = command(*QUICK, f"data_dir={curves.parent}", "name=more")
    assert status == 0, said
    assert "has observations: 320 of 321 kept" in said
    metadata.write_text("\n".join(lines[:-1]) + "\n")
    status, said = command(*QUICK, f"data_dir={curves.parent}", "name=fewer")
    assert status == 1
    assert lines[-1].split(",")[0] in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("leave_out=Mirra", "there is no such class"),
        ("size=64", "task=plasticc has no 'size'"),
        ("loss=focal", "task=plasticc has no 'loss'"),
        ("model=resnet50", "takes no light curves"),
        ("false_alarms=2", "false_alarms=2: it must be a share"),
        ("outputs=15", "there are 14 classes"),
        ("top=-1", "top=-1"),
        ("detector=forrest", "There is no detector 'forrest'"),
        ("module.beta=-1", "module.beta=-1"),
        ("data_dir=/nowhere", "There is no folder /nowhere/plasticc"),
    ],
)
def test_impossible_commands_are_refused_with_the_reason(command: Command, argument: str, message: str) -> None:
    status, said = command(*QUICK, argument, "name=wrong")
    assert status == 2
    assert message in said
    assert "Traceback" not in said


def test_a_task_of_images_refuses_what_only_light_curves_have(command: Command) -> None:
    status, said = command("leave_out=6")
    assert status == 2
    assert "task=galaxyzoo has no 'leave_out'; these tasks have it: plasticc" in said
