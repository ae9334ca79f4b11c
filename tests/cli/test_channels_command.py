"""Images of one and of five channels through the command: fit, report, predictions, bundle, page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from galaxyml.cli.overrides import prepare
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.tables.contents import settings
from galaxyml.inference import bundle, load
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.runs.errors import UserError
from galaxyml.sky import write_images
from galaxyml.tasks.images import Images

Command = Callable[..., tuple[int, str]]
COUNT = 40


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FITS cubes of the simulated sky, with their table."""
    folder = tmp_path_factory.mktemp("cubes") / "five"
    write_images(folder, count=COUNT, seed=1, size=40, bands=5)
    return folder


@pytest.fixture(scope="module")
def arrays(cubes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as npy, each of shape (H, W, 5)."""
    return _converted(cubes, tmp_path_factory.mktemp("arrays"), "npy", np.save)


@pytest.fixture(scope="module")
def grey(cubes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The band r alone, as grey PNG."""

    def save(path: Path, values: np.ndarray) -> None:
        scaled = np.clip(values[..., 2] / values[..., 2].max(), 0, 1)
        Image.fromarray((scaled * 255).astype(np.uint8)).save(path)

    return _converted(cubes, tmp_path_factory.mktemp("grey"), "png", save)


def _converted(cubes: Path, folder: Path, suffix: str, save: Callable[[Path, np.ndarray], Any]) -> Path:
    table = pd.read_csv(cubes / "labels.csv")
    for path in table["path"]:
        values = np.moveaxis(fits.getdata(cubes / path), 0, -1).astype(np.float32)[::-1]
        save(folder / f"{Path(path).stem}.{suffix}", np.ascontiguousarray(values))
    table.assign(path=table["id"] + f".{suffix}").to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("kind", "channels", "net"), [("cubes", 5, "tiny"), ("arrays", 5, "test_resnet"), ("grey", 1, "tiny")]
)
def test_images_of_any_channels_are_learnt_and_predicted_as_in_the_run(
    kind: str, channels: int, net: str, command: Command, request: pytest.FixtureRequest, tmp_path: Path, apart: None
) -> None:
    folder: Path = request.getfixturevalue(kind)
    figures = "figures=true" if kind == "cubes" else "figures=false"
    status, said = command(
        "task=images", f"data_dir={folder}", "columns=[redshift]", f"model={net}", "name=a", "epochs=1", figures
    )
    assert status == 0, said
    run = tmp_path / "multirun" / "images" / "a"
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    assert [decoding.channels for decoding in predictor.decodings] == [channels]
    expected = pd.read_parquet(run / "predictions" / "test.parquet").set_index("id")["redshift"]
    paths = pd.read_csv(folder / "labels.csv").set_index("id").loc[expected.index, "path"]
    found = predictor.predict([folder / path for path in paths])
    np.testing.assert_array_equal(found["redshift"], expected)
    bundle.write(run, tmp_path / "a.zip")
    again = load(tmp_path / "a.zip").predict([folder / path for path in paths])
    pd.testing.assert_frame_equal(again, found)
    if kind == "arrays":  # what is there already counts as the file that holds it
        given = predictor.predict([np.load(folder / path) for path in paths])
        pd.testing.assert_frame_equal(given.drop(columns=["id", "path"]), found.drop(columns=["id", "path"]))
    if kind == "cubes":
        assert (run / "report.html").is_file()
        assert list((run / "figures").glob("*.png"))
    _on_the_page(predictor, run, folder / paths.iloc[0], found["redshift"].iloc[0])


def _on_the_page(predictor: ImagePredictor, run: Path, image: Path, expected: float) -> None:
    pytest.importorskip("captum", reason="galaxyml[demo] is not installed")
    from galaxyml.page import examples
    from galaxyml.page.images import ImageModel
    from galaxyml.page.uploads import read_upload

    model = ImageModel(predictor, run)
    answer = model.ask(read_upload(image, predictor.decodings))
    assert answer.row["redshift"] == expected
    assert model.attribution_html(answer).count("<img") == 2
    assert "<img" in model.neighbours_html(answer)
    shown = examples.galaxies("images", predictor.decodings[0])
    assert len(shown) == examples.COUNT
    for example in shown[:2]:  # they can be tried
        path = run.parent / example.name
        path.write_bytes(example.content)
        assert np.isfinite(model.ask(read_upload(path, predictor.decodings)).row["redshift"])


def test_the_keys_are_kept_and_repeated(command: Command, cubes: Path, tmp_path: Path, apart: None) -> None:
    keys = ("bands=[2,1]", "stretch=percentile", "hdu=0")
    status, said = command("task=images", f"data_dir={cubes}", "columns=[redshift]", "name=b", "epochs=1", *keys)
    assert status == 0, said
    run = tmp_path / "multirun" / "images" / "b"
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    assert predictor.decodings == [Decoding(2, "percentile", 0, (2, 1))]
    expected = pd.read_parquet(run / "predictions" / "val.parquet").set_index("id")["redshift"]
    found = predictor.predict([cubes / "images" / f"{name}.fits" for name in expected.index])
    np.testing.assert_array_equal(found["redshift"], expected)


def test_channels_are_those_of_the_first_image_unless_they_are_given(cubes: Path, grey: Path, images_sky: Path) -> None:
    table = {"columns": ["redshift"]}
    for folder, channels in ((cubes, 5), (grey, 1), (images_sky, 3)):
        assert settings({"data_dir": str(folder), **table})["channels"] == str(channels)
        assert Images(folder, columns=["redshift"]).framing.decoding.channels == channels
    assert "channels" not in settings({"data_dir": str(cubes), "channels": "3", **table})
    assert settings({"data_dir": str(cubes), "bands": ["g", "r"], **table})["channels"] == "2"
    assert Images(cubes, columns=["redshift"], bands=["g", "r"]).framing.decoding.channels == 2
    assert Images(cubes, columns=["redshift"], channels=3).framing.decoding.channels == 3
    assert settings({"source": "simulated", "simulate.bands": "5"})["channels"] == "5"
    assert settings({"source": "simulated"})["channels"] == "3"


def test_bands_of_a_sweep_need_their_number(cubes: Path) -> None:
    with pytest.raises(UserError, match=r"bands=.*: of a sweep over it, channels="):
        prepare(["task=images", f"data_dir={cubes}", "columns=[redshift]", "bands=[g,r],[r,i]"])


@pytest.mark.parametrize("channels", ["4", "5"])
def test_other_channels_than_asked_are_one_message(command: Command, grey: Path, channels: str) -> None:
    status, said = command(
        "task=images", f"data_dir={grey}", "columns=[redshift]", "name=c", "epochs=1", f"channels={channels}"
    )
    assert status != 0
    assert "Traceback" not in said
    assert f"channels={channels}" in said
    assert "G00000.png" in said


@pytest.mark.parametrize("given", ["channels=null", "channels=0", "stretch=log"])
def test_impossible_keys_are_one_message(command: Command, given: str) -> None:
    status, said = command(given, "name=d", "epochs=1")
    assert status != 0
    assert given in said
    assert "Traceback" not in said


def test_jpegs_become_grey_where_one_channel_is_asked_for(command: Command, tmp_path: Path, apart: None) -> None:
    status, said = command("channels=1", "name=grey", "epochs=1", "limit=30")
    assert status == 0, said
    config = tmp_path / "multirun" / "galaxyzoo" / "grey"
    predictor = load(config)
    assert isinstance(predictor, ImagePredictor)
    assert predictor.decodings[0].channels == 1
    assert np.isfinite(json.loads((config / "metrics.json").read_text())["val/rmse"])
