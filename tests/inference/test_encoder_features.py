"""Features of images by an encoder alone, without any run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from encoder_hub import write_encoder
from PIL import Image

from galaxyml.inference import predict

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(apart: None, in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return partial(in_process, predict.main)


def test_features_are_those_of_timm_of_images_scaled_as_the_encoder_expects(
    ask: Command, galaxies: list[Path], tmp_path: Path
) -> None:
    net = write_encoder(tmp_path / "encoder")
    options = ("--features-only", "--encoder", "size=48,crop=0.5")
    status, said = ask("local-dir:encoder", *galaxies[:5], "--out", "found/", *options)
    assert status == 0, said
    found = pd.read_parquet("found/predictions")
    assert list(found) == ["id", "path", "features"]
    assert len(found) == 5
    for path, features in zip(found["path"], found["features"], strict=True):
        image = Image.open(path)
        low, high = image.size[0] * 0.25, image.size[0] * 0.75
        resized = image.resize((48, 48), Image.Resampling.BICUBIC, box=(low, low, high, high))
        pixels = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None] / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        with torch.inference_mode():
            expected = net((pixels - mean[:, None, None]) / std[:, None, None])[0].numpy()
        np.testing.assert_allclose(np.asarray(features, np.float32), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ("local-dir:encoder", ["--out", "f/"], "is an encoder, which has features and no predictions"),
        (
            "local-dir:encoder",
            ["--out", "f/", "--features-only", "--encoder", "sise=3"],
            "--encoder sise=…: encoders have",
        ),
        ("local-dir:gone", ["--out", "f/", "--features-only"], "local-dir:gone"),
        ("sky", ["--out", "f/", "--features-only", "--encoder", "size=3"], "--encoder is of encoders by name"),
        ("local-dir:encoder", ["--out", "f.csv", "--features-only"], "is of predictions in a folder"),
    ],
)
def test_what_encoders_cannot_do_is_said(
    ask: Command, galaxies: list[Path], tmp_path: Path, run: str, options: list[str], said: str
) -> None:
    write_encoder(tmp_path / "encoder")
    status, printed = ask(run, galaxies[0], *options)
    assert status != 0
    assert said in printed
    assert not Path("f").exists()
