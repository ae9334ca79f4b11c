"""Modules and data that know nothing of galaxyml: the command fits what has Lightning's own methods."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.utils.data import DataLoader

from galaxyml import experiment, sweeps
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.run_dir import RunDir

Command = Callable[..., tuple[int, str]]


class PlainModule(L.LightningModule):
    def __init__(self, outputs: int = 37, single: bool = False) -> None:
        super().__init__()
        self.shown = slice(1 if single else None)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch["image"]), batch["target"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/loss", nn.functional.mse_loss(self.net(batch["image"]), batch["target"]))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return {"index": batch["index"], "output": self.net(batch["image"])[:, self.shown]}

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class PlainData(L.LightningDataModule):
    def setup(self, stage: str) -> None:
        random = np.random.default_rng(0)
        split = ["train"] * 32 + ["val"] * 16 + ["test"] * 16
        self.catalog = pd.DataFrame({"id": range(64), "split": split, "fold": 0, "a": random.random(64), "b": 0.5})
        target = torch.tensor(self.catalog[["a", "b"]].to_numpy(np.float32))
        images = target.mean(1)[:, None, None, None].expand(-1, 3, 8, 8)
        rows = [{"index": row, "image": images[row], "target": target[row]} for row in range(64)]
        self.rows: dict[str, Any] = {name: [rows[row] for row in range(64) if split[row] == name] for name in split}

    def train_dataloader(self) -> Any:
        return DataLoader(self.rows["train"], batch_size=8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows["val"], batch_size=8)

    def predict_dataloader(self) -> Any:
        return DataLoader(self.rows["val"] + self.rows["test"], batch_size=8)


MODULE = ("~module", "+module._target_=test_plain_modules.PlainModule")


def test_the_command_fits_any_lightning_module(command: Command, tmp_path: Path) -> None:
    status, output = command(*MODULE, "name=a", "monitor=val/loss")
    assert status == 0, output
    run = RunDir(tmp_path / "multirun" / "galaxyzoo" / "a" / "fold-0")
    catalog = run.catalog()
    for split in ("val", "test"):
        predictions = run.predictions(split)
        assert predictions is not None
        assert list(predictions["id"]) == list(catalog.loc[catalog["split"] == split, "id"])
    history = run.history()
    assert history is not None
    assert run.status()["value"] == history["val/loss"].iloc[-1]
    assert 0 < run.metrics()["val/rmse"] < 1
    assert (run.path / "report.html").is_file()
    assert list(run.path.glob("tensorboard/events*"))


def test_a_run_fits_to_any_lightning_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["galaxyml"])
    sweeps.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["task=images", "kind=numbers", "columns=[a,b]", "name=a", "trainer=cpu"])
    config.data = {"_target_": "test_plain_modules.PlainData"}
    config.module = {"_target_": "test_plain_modules.PlainModule", "outputs": 2}
    config.monitor, config.mode, config.epochs = "val/loss", "min", 2
    run = RunDir(tmp_path / "fold-0")
    run.start(config, [])
    value = experiment.run(config, run.path)
    test = run.predictions("test")
    assert test is not None
    assert list(test["id"]) == list(range(48, 64))
    assert any(name.startswith("val/") for name in run.metrics())
    assert (run.path / "report.md").is_file()
    assert experiment.run(config, run.path) == value


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor=val/rmse"], "ModelCheckpoint(monitor='val/rmse')` could not find the monitored key"),
        (["monitor=val/loss", "+module.single=true"], "predict_step gives outputs of shape (11, 1); there are 37"),
    ],
)
def test_what_a_module_lacks_is_one_error(command: Command, overrides: list[str], message: str) -> None:
    status, output = command(*MODULE, *overrides, "name=a", "epochs=1")
    assert status == 1
    assert message in output
    assert "Traceback" not in output
