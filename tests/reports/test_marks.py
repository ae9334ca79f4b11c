"""What the project promises to reach; minutes each."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str]]


def reached(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    assert found["val/violation"] < 1e-6
    assert found["val/rmse"] <= found["val/net_rmse"]  # the constraints help, where the net does not have them
    return found


@pytest.mark.slow
def test_real_galaxies_are_learnt_from_scratch(command: Command, real: Path, tmp_path: Path) -> None:
    line = ("experiment=galaxyzoo_small", "trainer=auto", f"data_dir={real}", "name=real", "-m", "fold=0,1,2,3,4")
    status, said = command(*line, "model=winner_small", "size=64", "epochs=80", "batch_size=32")
    assert status == 0, said
    found = reached(tmp_path / "multirun" / "galaxyzoo" / "real")
    assert found["val/rmse"] < 0.70 * found["val/mean_rmse"]
    assert abs(found["val/coverage_95"] - 0.95) < 0.03


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
def test_fifty_real_images_can_be_learnt_by_heart(command: Command, real: Path, tmp_path: Path) -> None:
    import h5py
    import pandas as pd

    from galaxyml.inference.predict import predict

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


@pytest.mark.slow
def test_real_votes_are_predicted_better_than_by_ridge_on_frozen_features(
    command: Command, real: Path, tmp_path: Path
) -> None:
    import numpy as np
    import torch
    from sklearn.linear_model import RidgeCV

    from galaxyml.data.images.store import Framing
    from galaxyml.data.images.views import plain
    from galaxyml.models.backbones import timm_net
    from galaxyml.runs.run_dir import RunDir

    weights = real / "weights" / "tf_efficientnet_lite0.pth"
    line = ("experiment=surveys_small", "trainer=auto", f"data_dir={real}", f"model.weights={weights}", "name=small")
    own = ("model=tf_efficientnet_lite0", "size=160", "batch_size=32", "embedded=0", "resamples=0", "predict_views=4")
    status, said = command(*line, *own, "task=surveys", "views=4", "tuning.head_epochs=10", "epochs=8")
    assert status == 0, said
    run = RunDir(tmp_path / "multirun" / "surveys" / "small" / "fold-0")
    catalog = run.catalog().query("survey == 'sdss'")
    framing, net = Framing(160, 0.5), timm_net("tf_efficientnet_lite0", 1, weights=str(weights)).eval()
    pixels = [framing.read(real / "surveys" / image) for image in catalog["image"]]
    with torch.no_grad():
        parts = [
            net.net.forward_head(net.net.forward_features(net.normalised(plain(part, 160))), pre_logits=True)
            for part in torch.from_numpy(np.stack(pixels)).split(64)
        ]
    train, val = ((catalog["split"] == split).to_numpy() for split in ("train", "val"))
    features = torch.cat(parts).numpy()
    features = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
    predictions = run.predictions("val")
    assert predictions is not None
    predictions = predictions.set_index("id").reindex(catalog["id"])
    found: list[tuple[float, float]] = []
    for name in predictions:
        true, votes = catalog[name].to_numpy(float), catalog[f"{name}_votes"].to_numpy(float)
        known, judged = train & ~np.isnan(true), val & ~np.isnan(true)
        if judged.sum() < 20:
            continue
        ridge = RidgeCV(10.0 ** np.arange(6)).fit(features[known], true[known], votes[known])
        both = np.stack([predictions[name].to_numpy()[judged], ridge.predict(features[judged]), true[judged]])
        spread = np.cov(both, aweights=votes[judged])
        r = spread[:2, 2] / np.sqrt(np.diag(spread)[:2] * spread[2, 2])
        found.append((float(r[0]), float(r[1])))
    assert len(found) > 25
    ours, theirs = np.array(found).T
    assert ours.mean() > theirs.mean() + 0.05
    assert (ours > theirs).mean() > 0.7
