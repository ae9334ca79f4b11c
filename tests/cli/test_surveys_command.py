"""The task `surveys` as a user runs it, on a small simulated sky of three surveys."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxyml.reports import compare

Command = Callable[..., tuple[int, str]]
SMALL = ("task=surveys", "embedded=0", "resamples=50", "least=4", "tuning.head_epochs=2", "views=2")


def folder(tmp_path: Path, name: str) -> Path:
    return tmp_path / "multirun" / "surveys" / name


def test_one_command_makes_the_progression_and_the_shift_report(
    command: Command, surveys_sky: Path, tmp_path: Path, judged_as_scored: Callable[[Path, str], set[str]]
) -> None:
    status, said = command(*SMALL, "name=all", "figures=true", "-m", "fold=0,1", "folds=2")
    assert status == 0, said
    assert "Test galaxies" in said
    sweep = folder(tmp_path, "all")
    metrics = json.loads((sweep / "metrics.json").read_text())
    for split in ("val", "test"):
        for name in ("pearson", "head_pearson", "untrained_pearson", "mean_pearson", "gain_over_head", "mae_low"):
            assert np.isfinite(metrics[f"{split}/{name}"])
    assert "test/pearson_drop" in metrics
    assert judged_as_scored(sweep, "val") >= {"pearson", "mae", "rmse", "mae/sdss", "pearson/sdss:edge_on_yes"}
    assert judged_as_scored(sweep, "test") >= {"pearson", "mae", "rmse", "rmse/ukidss"}

    catalog = pd.read_parquet(sweep / "catalog.parquet").set_index("id")
    val, test = (pd.read_parquet(sweep / "predictions" / f"{split}.parquet") for split in ("val", "test"))
    assert set(catalog.loc[val["id"], "survey"]) == {"sdss", "decals12"}
    assert set(catalog.loc[test["id"], "survey"]) == {"ukidss"}
    assert len(val) == (catalog["split"] == "val").sum()
    whole = [name for name in val if str(name).startswith("smooth_or_features_")]
    np.testing.assert_allclose(pd.concat([val, test])[whole].sum(axis=1), 1)
    slight = val.set_index("id")["bulge_size_just_noticeable"]
    assert (slight.isna() == (catalog.loc[slight.index, "survey"] == "decals12")).all()

    progression = pd.read_csv(sweep / "tables" / "progression.csv")
    assert list(dict.fromkeys(progression["stage"])) == ["baseline (column mean)", "untrained", "head", "full"]
    assert len(pd.read_csv(sweep / "fold-0" / "tables" / "phases.csv")) == 2
    audit = pd.read_csv(sweep / "tables" / "audit.csv")
    assert (audit["by"] == "position").all()
    assert not set(audit["trained"]) & set(catalog.index)
    report = (sweep / "report.md").read_text()
    assert "| metric | model | baseline (column mean) | untrained | head alone |" in report
    assert {path.stem.split("_")[0] for path in (sweep / "figures").iterdir()} >= {"1", "2", "3", "5", "6", "7"}


def test_two_runs_are_compared_galaxy_by_galaxy(command: Command, surveys_sky: Path, tmp_path: Path) -> None:
    for name, train in (("one", "[sdss]"), ("two", "[sdss,decals12]")):
        status, said = command(*SMALL, "tune=all", f"train={train}", "features=26", f"name={name}")
        assert status == 0, said
    runs = [str(folder(tmp_path, name) / "fold-0") for name in ("one", "two")]
    compare.main([*runs, "--split", "test", "--resamples", "40", "--least", "4", "--out", str(tmp_path / "c.csv")])
    table = pd.read_csv(tmp_path / "c.csv")
    own, other = (json.loads((Path(run) / "metrics.json").read_text()) for run in runs)
    rows = table[(table["feature"] == "edge_on_yes") & (table["metric"] == "pearson")]
    key = "test/pearson/ukidss:edge_on_yes"
    np.testing.assert_allclose(rows["value"], [own[key], other[key]])
    last = rows.iloc[1]
    assert last["low"] <= last["difference"] <= last["high"]
    compare.main([*runs, runs[0], "--resamples", "40", "--least", "4", "--out", str(tmp_path / "c.csv")])
    table = pd.read_csv(tmp_path / "c.csv").query("feature == 'edge_on_yes' and metric == 'pearson'")
    np.testing.assert_allclose(table["value"], [own[key], other[key], own[key]])
    assert table["difference"].iloc[2] == 0


@pytest.mark.parametrize(
    "options",
    [
        ("heads=own", "features=9"),
        ("head=linear", "loss=fractions", "overlap=true", "balance=1"),
        ("head=answers", "loss=multinomial", "numbers={sdss:decals12}", "features=52"),
    ],
)
def test_heads_losses_and_mixes_work_together(
    command: Command, surveys_sky: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    status, said = command(*SMALL, "tune=all", "epochs=1", *options, "name=mixed")
    assert status == 0, said
    metrics = json.loads((folder(tmp_path, "mixed") / "metrics.json").read_text())
    assert np.isfinite(metrics["test/mae"])


def test_low_rank_matrices_are_tuned_and_come_back(command: Command, surveys_sky: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="galaxyml[lora] is not installed")
    line = (*SMALL, "model=test_vit", "tune=[head,lora]", "name=lora")
    status, said = command(*line)
    assert status == 0, said
    run = folder(tmp_path, "lora") / "fold-0"
    before, after = (
        torch.load(run / part, weights_only=True)["state_dict"]
        for part in ("phases/head/checkpoints/last.ckpt", "checkpoints/last.ckpt")
    )
    kept = {key.replace(".base_layer", ""): value for key, value in after.items() if "lora_" not in key}
    moved = {key for key in before if not torch.equal(before[key], kept[key])}
    assert moved == {key for key in before if key.startswith("net.net.head.")}
    assert any("lora_B" in key and value.abs().sum() > 0 for key, value in after.items())

    shutil.copytree(run.parent, run.parents[1] / "again")
    again = run.parents[1] / "again" / "fold-0"
    for name in ("metrics.json", "history.csv", "checkpoints"):  # as if it had been stopped between the phases
        path = again / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert command(*line[:-1], "name=again")[0] == 0
    resumed = torch.load(again / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(after[key], resumed[key]) for key in after)

    from galaxyml.inference.predict import predict

    catalog = pd.read_parquet(run / "catalog.parquet").set_index("id")
    test = pd.read_parquet(run / "predictions" / "test.parquet").head(3)
    images = [str(surveys_sky / catalog.loc[name, "image"]) for name in test["id"]]
    predict(run, images, tmp_path / "p.csv")
    elsewhere = pd.read_csv(tmp_path / "p.csv")
    outputs = ["edge_on_yes", "bar_yes"]
    np.testing.assert_allclose(elsewhere[outputs], test[outputs], rtol=1e-5)


def test_a_galaxy_that_is_judged_stops_the_run_where_that_is_asked_for(
    command: Command, surveys_sky: Path, tmp_path: Path
) -> None:
    status, said = command(*SMALL, "leakage=error", "name=strict")
    assert status == 1
    assert "leakage=error: galaxies to train on are judged as well" in said
    assert not folder(tmp_path, "strict").exists() or not list(folder(tmp_path, "strict").rglob("*.ckpt"))


def test_a_survey_whose_files_are_not_there_is_named(command: Command, surveys_sky: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data" / "surveys"
    shutil.copytree(surveys_sky, copy)
    (copy / "ukidss" / "ukidss_catalog.csv").unlink()
    status, said = command(*SMALL, f"data_dir={copy.parent}", "name=missing")
    assert status == 2
    assert "has no ukidss/ukidss_catalog.csv" in said
