"""Encoders by name on the command line: one run, sweeps, and all that follows, without the hub."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
import pytest
import torch
from encoder_hub import COMMIT, EncoderHub, write_encoder
from huggingface_hub import constants

from galaxyml import GalaxyZoo, SupervisedModule, load
from galaxyml.__main__ import main
from galaxyml.runs.run_dir import RunDir

NANO = "mwalmsley/zoobot-encoder-convnext_nano"
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def offline(hub: EncoderHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes hub and cache away."""
    write_encoder(tmp_path / "remote")
    hub.folders[NANO] = tmp_path / "remote"

    def leave() -> None:
        hub.close()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        shutil.rmtree(tmp_path / "hub")

    return leave


def test_a_run_of_the_hubs_encoder_predicts_without_the_hub(
    command: Command,
    in_process: Command,
    offline: Callable[[], None],
    tmp_path: Path,
    galaxies: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = (f"model=hf-hub:{NANO}", "tune=head", "views=1", "name=mine", "-m", "fold=0,1")
    status, printed = command(*line)
    assert status == 0, printed
    sentence = f"weights of hf-hub:{NANO}, commit aaaaaaaa, licence apache-2.0, learnt at 224 px; images stay in [0, 1]"
    assert f"fold-0: {sentence}, not normalised (model.scaling=unit)" in printed
    assert "random weights" not in printed
    sweep = tmp_path / "multirun" / "galaxyzoo" / "mine"
    assert {run.name for run in RunDir(sweep).children()} == {"fold-0", "fold-1"}
    (model,) = json.loads((sweep / "fold-0" / "provenance.json").read_text())["models"]
    assert (model["weights"], model["commit"], model["scaling"]) == (f"hf-hub:{NANO}", COMMIT, "unit")
    (joined,) = {path.parent for path in sweep.glob("joined/*/metrics.json")} or {sweep}
    for folder in (sweep / "fold-0", joined):
        report = (folder / "report.md").read_text()
        assert f"- {sentence}" in report
        assert "Walmsley et al. 2023, JOSS 8(85), 5312" in report

    offline()
    predicted = load(sweep).predict(galaxies[:3])
    predictor: Any = load(sweep / "fold-0")
    (member,) = predictor.members
    assert (member.model.net.mean.unique().tolist(), member.model.net.std.unique().tolist()) == ([0.0], [1.0])
    for words in (["bundle", str(sweep), "model.zip"], ["report", str(sweep)]):
        monkeypatch.setattr(sys, "argv", ["galaxyml", *words])
        status, printed = in_process(lambda _: main())
        assert status == 0, printed
    pd.testing.assert_frame_equal(load("model.zip").predict(galaxies[:3]), predicted)


def test_encoders_are_swept_beside_other_models(command: Command, offline: Callable[[], None], tmp_path: Path) -> None:
    write_encoder(tmp_path / "my encoders" / "v1.0", seed=1)
    models = f"tiny,hf-hub:{NANO}@v1,'local-dir:my encoders/v1.0'"
    status, printed = command(f"model={models}", "epochs=1", "name=swept", "-m")
    assert status == 0, printed
    sweep = tmp_path / "multirun" / "galaxyzoo" / "swept"
    names = {run.name for run in RunDir(sweep).children()}
    assert names == {
        "fold-0_model-tiny",
        "fold-0_model-hf-hub-mwalmsley-zoobot-encoder-convnext_nano@v1",
        "fold-0_model-local-dir-my encoders-v1.0",
    }
    table = pd.read_csv(sweep / "sweep.csv")
    assert set(table["model"]) == {"tiny", f"hf-hub:{NANO}@v1", "local-dir:my encoders/v1.0"}
    assert (table["state"] == "finished").all()


def test_a_mistake_in_the_name_is_refused_before_anything_is_written(
    command: Command, hub: EncoderHub, tmp_path: Path
) -> None:
    for name, said in {
        "hf-hub:a/none": "the hub has no repository of this name",
        "hf-hub:zoobot": "is no repository of the hub: give hf-hub:OWNER/NAME",
        "local-dir:none": "local-dir:none: there is no such folder",
    }.items():
        status, printed = command(f"model={name}", "name=wrong")
        assert (status, "\n" in printed.strip()) == (2, False)
        assert said in printed
    assert not (tmp_path / "multirun").exists()


def test_a_checkpoint_of_the_library_loads_without_the_hub(
    offline: Callable[[], None], sky: Path, tmp_path: Path
) -> None:
    data = GalaxyZoo(sky, size=32, cache_dir=tmp_path / "cache")
    data.prepare_data()
    data.setup("fit")
    model = SupervisedModule.for_data(data, net=f"hf-hub:{NANO}").eval()
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    offline()
    again = SupervisedModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), model(images))
    assert again.net.get_buffer("std").flatten().tolist() == [1.0, 1.0, 1.0]
