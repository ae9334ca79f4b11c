"""What the project promises to reach; minutes each."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str]]


def reached(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    assert found["val/violation"] < 1e-6
    assert found["val/rmse"] < found["val/net_rmse"]  # the constraints help
    return found


@pytest.mark.slow
def test_real_galaxies_are_learnt_from_scratch(command: Command, real: Path, tmp_path: Path) -> None:
    line = ("experiment=galaxyzoo_small", "trainer=auto", f"data_dir={real}", "name=real", "-m", "fold=0,1,2,3,4")
    status, said = command(*line, "model=tiny", "size=128", "epochs=80", "batch_size=32")
    assert status == 0, said
    found = reached(tmp_path / "multirun" / "galaxyzoo" / "real")
    assert found["val/rmse"] < 0.80 * found["val/mean_rmse"]


@pytest.mark.slow
def test_real_spirals_are_told_from_ellipticals(command: Command, real: Path, tmp_path: Path) -> None:
    weights = f"model.weights={real / 'weights' / 'tf_efficientnet_lite0.pth'}"
    line = (
        "experiment=spirals_votes",
        "trainer=auto",
        f"data_dir={real}",
        weights,
        "name=votes",
        "-m",
        "fold=0,1,2,3,4",
    )
    model = ("model=tf_efficientnet_lite0", "size=160", "epochs=10", "batch_size=32")
    status, said = command(*line, *model, "task=spirals")
    assert status == 0, said
    found = json.loads((tmp_path / "multirun" / "spirals" / "votes" / "metrics.json").read_text())
    assert found["val/macro_f1"] >= 0.87
    assert found["val/ece"] <= 0.05


@pytest.mark.slow
def test_fifty_real_pictures_can_be_learnt_by_heart(command: Command, real: Path, tmp_path: Path) -> None:
    import h5py
    import pandas as pd

    from galaxyml.predict import predict

    plain = ("data.augment=null", "model.dropout=0", "model.head_dropout=0", "split=folds")
    line = ("task=galaxy10", "model=astrocnn", "size=64", "epochs=60", f"data_dir={real}", "name=heart", *plain)
    status, said = command(*line, "trainer=auto", "batch_size=16")
    assert status == 0, said
    run = tmp_path / "multirun" / "galaxy10" / "heart" / "fold-0"
    path = real / "galaxy10" / "Galaxy10_DECals.h5"
    predict(run, [str(path)], tmp_path / "p.parquet")
    found, catalog = pd.read_parquet(tmp_path / "p.parquet"), pd.read_parquet(run / "catalog.parquet")
    with h5py.File(path) as file:
        labels = file["ans"][:]
    names = list(found.columns[1:11])
    trained = (catalog["split"] == "train").to_numpy()
    assert (found.loc[trained, "class"] == [names[label] for label in labels[trained]]).all()


@pytest.mark.slow
def test_the_demo_learns_the_simulated_sky(command: Command, tmp_path: Path) -> None:
    line = ("source=simulated", "scale=demo", "name=demo", "trainer=auto", "-m", "fold=0,1,2,3,4")
    status, said = command(*line, "size=128", "epochs=25", "batch_size=32")
    assert status == 0, said
    found = reached(tmp_path / "multirun" / "galaxyzoo" / "demo")
    assert found["val/rmse"] < 0.75 * found["val/mean_rmse"]
    assert found["test/rmse"] < found["folds"]["test/rmse"]["mean"]  # type: ignore[index]
