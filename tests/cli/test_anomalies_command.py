"""Images without labels by the command, as users type it, and what goes on from there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from galaxyml.data.tables.unlabelled import settings
from galaxyml.inference import bundle, load, predict
from galaxyml.inference.alike import command as alike
from galaxyml.inference.embedded import embed
from galaxyml.runs.errors import UsageError
from galaxyml.runs.run_dir import RunDir

Command = Callable[..., tuple[int, str]]
SKY = ("model=winner_small", "start=sky", "size=64")
QUICK = ("epochs=1", "predict_views=2", "beside=null", "embedded=0", "top=8")


@pytest.fixture
def own(images_sky: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images_sky, tmp_path / "own"))


def test_a_folder_is_ranked_judged_searched_and_labelled(
    command: Command, in_process: Command, own: Path, tmp_path: Path
) -> None:
    words = ("task=anomalies", f"data_dir={own}", "truth.column=kind", "truth.odd=[merger]", "name=mine", *SKY)
    status, said = command(*words, *QUICK, "figures=true")
    assert status == 0, said
    assert "Warning" not in said
    run = tmp_path / "multirun" / "anomalies" / "mine"
    table = pd.read_csv(own / "labels.csv").set_index("id")
    ranking = pd.read_csv(run / "anomalies.csv")
    assert sorted(ranking["id"]) == sorted(table.index)
    odd = table.loc[ranking["id"], "kind"] == "merger"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["survey/roc_auc"] == pytest.approx(roc_auc_score(odd, ranking["score"]), abs=2e-3)
    assert metrics["survey/roc_auc/merger"] == pytest.approx(metrics["survey/roc_auc"])
    report = (run / "report.md").read_text()
    assert "images, all ranked, of which" in report
    assert "most_unusual.png" in report
    assert {"answers", "asymmetry", "pixels"} >= set(ranking["reason"])

    status, said = command(*words, *QUICK, "figures=true")
    assert status == 0
    assert "finished before, kept" in said

    for main, given in ((predict.main, (own / "images", "--out", tmp_path / "x.csv")), (bundle.main, ("x.zip",))):
        status, said = in_process(main, run, *given)
        assert status != 0
        assert "ranks the images of its own folder among each other" in said

    predictor = load(run, for_features=True)
    objects = embed(predictor, run, [str(own / "images")])
    encoded = RunDir(run / "fold-0").predictions("survey", by="encoded")
    assert encoded is not None
    names = [f"{name}.jpg" for name in encoded["id"]]
    rows = [objects.row(name) for name in names]
    np.testing.assert_allclose(objects.features[rows], np.stack(list(encoded["features"])), rtol=2e-3, atol=1e-3)
    assert objects.odds is not None
    np.testing.assert_allclose(objects.odds[rows], encoded["odds"], atol=1e-4)
    assert np.corrcoef(objects.unusual.score[rows], ranking.set_index("id")["score"].loc[encoded["id"]])[0, 1] > 0.999

    image = own / table["path"].iloc[0]
    status, said = in_process(alike.main, run, image, "--count", "3", "--out", tmp_path / "alike.csv")
    assert status == 0, said
    assert pd.read_csv(tmp_path / "alike.csv")["id"].iloc[0] == table.index[0]  # the image itself, among those ranked


def test_a_run_that_was_broken_off_carries_on_with_the_answers_of_its_start(
    command: Command, own: Path, tmp_path: Path
) -> None:
    words = ("task=anomalies", f"data_dir={own}", "name=mine", "figures=false", "predict_views=1", "beside=null", *SKY)
    status, said = command(*words, "epochs=2")
    assert status == 0, said
    run = tmp_path / "multirun" / "anomalies" / "mine" / "fold-0"
    first = pd.read_csv(run.parent / "anomalies.csv")
    for path in (run / "metrics.json", run / "checkpoints" / "fitted", *(run / "predictions").rglob("*.parquet")):
        path.unlink()
    status, said = command(*words, "epochs=2")
    assert status == 0, said
    assert "carries on from its last checkpoint" in said
    pd.testing.assert_frame_equal(first, pd.read_csv(run.parent / "anomalies.csv"))


def test_an_autoencoder_is_trained_on_the_images_themselves(command: Command, own: Path, tmp_path: Path) -> None:
    status, said = command(
        "task=anomalies", f"data_dir={own / 'images'}", "model=tiny", "tune=all", "name=own", "size=64", *QUICK
    )
    assert status == 0, said
    assert "from scratch" in said
    ranking = pd.read_csv(tmp_path / "multirun" / "anomalies" / "own" / "anomalies.csv")
    assert set(ranking["reason"]) <= {"features", "asymmetry", "pixels"}
    assert "true_class" not in ranking


def test_what_is_left_open_follows_from_the_net_and_the_first_image(own: Path) -> None:
    given = {"data_dir": str(own)}
    assert settings(given) == {"channels": "3"}
    assert settings(given | {"model": "tiny"}) == {"start": None, "size": "128", "channels": "3"}
    assert settings(given | {"model": "tiny", "start": "sky", "size": "64"}) == {"channels": "3"}
    assert settings({"bands": ["0", "2"]}) == {"channels": "2"}
    assert settings({"channels": "1"}) == {}


def test_a_run_that_ranks_says_what_takes_it(command: Command, own: Path, tmp_path: Path) -> None:
    status, said = command(
        "task=anomalies", f"data_dir={own}", "model=tiny", "name=tiny", "size=64", "figures=false", *QUICK[:3]
    )
    assert status == 0, said
    with pytest.raises(UsageError, match="galaxyml alike and galaxyml label take this run"):
        load(tmp_path / "multirun" / "anomalies" / "tiny")
