"""What objects are compared by is what the run's nets make of them, wherever it comes from."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from galaxyml.data.images.views import central_pixels
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.inference import embedded, load, predict
from galaxyml.inference.embedded import Embedded, embed, of_curves
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.runs.errors import DataError, UsageError, UserError

pytestmark = pytest.mark.usefixtures("apart")
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(page_run: Make) -> Path:
    return page_run("galaxyzoo")


@pytest.fixture
def predictor(run: Path) -> ImagePredictor:
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    return predictor


@pytest.fixture
def pictures(galaxies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder has a folder of nine pictures, one of which is none."""
    monkeypatch.chdir(tmp_path)
    folder = Path("mine")
    (folder / "more").mkdir(parents=True)
    for number in range(8):
        shutil.copy(galaxies[number], folder / ("more" if number > 5 else "") / f"{number}.jpg")
    (folder / "bad.jpg").write_text("<html>")
    return folder


def same(found: Embedded, expected: Embedded) -> None:
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.features, expected.features)
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)


def test_features_and_predictions_are_those_of_predict(run: Path, predictor: ImagePredictor, pictures: Path) -> None:
    bad: list[str] = []
    found = embed(predictor, run, ["mine"], bad=bad)
    assert found.ids == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "more/6.jpg", "more/7.jpg"]
    assert len(bad) == 1
    assert "bad.jpg" in bad[0]
    pd.testing.assert_frame_equal(found.table, predictor.predict("mine", bad=[]), check_exact=True)
    predict.main([str(run), "mine", "--out", "many/", "--features", "--interval", "all", "--shard-rows", "4"])
    told = pd.read_parquet("many/predictions")
    np.testing.assert_array_equal(found.features, np.stack(list(told["features"])).astype(np.float32))
    assert found.features.dtype == np.float32
    assert found.by == "what the last layers of its 2 nets see"
    of_folder = embed(predictor, run, ["many/"])
    np.testing.assert_array_equal(of_folder.features, found.features)
    assert of_folder.ids == found.ids
    assert list(of_folder.table) == [*found.table]
    for row in (0, 7):
        assert of_folder.gallery.picture(row, 40).tobytes() == found.gallery.picture(row, 40).tobytes()


def test_images_of_a_folder_of_predictions_are_found_from_anywhere(
    run: Path, predictor: ImagePredictor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    names = ["../mine/3.jpg", "../mine/bad.jpg", "../mine/4.jpg"]
    pd.DataFrame({"id": ["c", "x", "d"], "path": names}).to_csv("deep/list.csv", index=False)
    predict.main([str(run), "deep/list.csv", "--out", "many/", "--features"])
    monkeypatch.chdir(tmp_path / "deep")
    found = embed(predictor, run, ["../many"])
    assert found.ids == ["c", "d"]
    expected = embed(predictor, run, ["../mine/3.jpg", "../mine/4.jpg"])
    np.testing.assert_array_equal(found.features, expected.features)
    assert found.gallery.picture(1, 30).tobytes() == expected.gallery.picture(1, 30).tobytes()


def test_what_is_kept_is_read_again_until_an_image_changes(
    run: Path, predictor: ImagePredictor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_bad: list[str] = []
    first = embed(predictor, run, ["mine"], tmp_path / "cache", first_bad)
    looked_at: list[int] = []
    made = embedded.frames_in_batches

    def counted(folder: Path, images: Any, *others: Any) -> Any:
        looked_at.append(len(images))
        return made(folder, images, *others)

    monkeypatch.setattr(embedded, "frames_in_batches", counted)
    bad: list[str] = []
    same(embed(predictor, run, ["mine"], tmp_path / "cache", bad), first)
    assert not looked_at
    assert bad == first_bad
    with pytest.raises(DataError, match="An image cannot be read"):
        embed(predictor, run, ["mine"], tmp_path / "cache")
    assert looked_at.pop() == 9
    shutil.copy("mine/0.jpg", "mine/3.jpg")
    os.utime("mine/3.jpg", ns=(1, 1))
    changed = embed(predictor, run, ["mine"], tmp_path / "cache", [])
    assert looked_at == [9]
    np.testing.assert_array_equal(changed.features[3], first.features[0])
    np.testing.assert_array_equal(np.delete(changed.features, 3, axis=0), np.delete(first.features, 3, axis=0))


def test_a_table_says_its_own_of_images_that_were_looked_at_before(
    run: Path, predictor: ImagePredictor, pictures: Path, tmp_path: Path
) -> None:
    first = embed(predictor, run, ["mine/0.jpg", "mine/1.jpg"], tmp_path / "cache")
    table = pd.DataFrame({"id": ["a", "b"], "path": ["mine/0.jpg", "mine/1.jpg"], "z": [0.1, 0.2]})
    table.to_csv("list.csv", index=False)
    found = embed(predictor, run, ["list.csv"], tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "embedded").iterdir())) == 1
    assert found.ids == ["a", "b"]
    assert found.table["z"].tolist() == [0.1, 0.2]
    np.testing.assert_array_equal(found.features, first.features)


def test_a_kept_file_that_is_damaged_is_made_anew(
    run: Path, predictor: ImagePredictor, pictures: Path, tmp_path: Path
) -> None:
    first = embed(predictor, run, ["mine/0.jpg", "mine/1.jpg"], tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "embedded").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    same(embed(predictor, run, ["mine/0.jpg", "mine/1.jpg"], tmp_path / "cache"), first)


class Headless(nn.Module):
    """A net without a head of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> Any:
        return self.net(images)


def test_nets_without_a_head_are_compared_by_looks(run: Path, predictor: ImagePredictor, pictures: Path) -> None:
    expected = predictor.predict(["mine/0.jpg", "mine/1.jpg"])
    for member in predictor.members:
        member.model.net = Headless(member.model.net)
    found = embed(predictor, run, ["mine/0.jpg", "mine/1.jpg"])
    framing = predictor.framings[0]
    pixels = torch.from_numpy(np.stack([framing.read(pictures / name) for name in ("0.jpg", "1.jpg")]))
    looks = appearance(central_pixels(pixels, framing.size))
    np.testing.assert_array_equal(found.features, looks.astype(np.float32))
    assert found.by == "brightness, colours and noise"
    pd.testing.assert_series_equal(found.table["Class1.1"], expected["Class1.1"])


def test_light_curves_are_compared_by_their_latents(page_run: Make, plasticc_sky: Path) -> None:
    run = page_run("plasticc")
    predictor = load(run)
    assert isinstance(predictor, LightCurvePredictor)
    found = embed(predictor, run, [str(plasticc_sky)])
    (member,) = predictor.members
    encoded = member.run.predictions("survey", by="encoded")
    assert encoded is not None
    assert found.ids == encoded["id"].astype(str).tolist()
    latents = member.detectors.standard(seen(encoded, ["latent"]))
    np.testing.assert_allclose(found.features, latents, rtol=1e-4, atol=1e-4)
    ranked = predictor.predict(plasticc_sky).set_index("object_id")
    assert found.table["score"].tolist() == ranked.loc[found.table["object_id"], "score"].tolist()
    drawn = found.gallery.picture(3, 120)
    assert drawn.size == (120, 120)
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 10


def test_light_curves_that_a_run_has_learnt_from(page_run: Make, plasticc_sky: Path) -> None:
    run = page_run("plasticc")
    predictor = load(run)
    assert isinstance(predictor, LightCurvePredictor)
    (member,) = predictor.members
    found = of_curves(predictor, *predictor.open_training(member.run, plasticc_sky))
    encoded = member.run.predictions("train", by="encoded")
    assert encoded is not None
    by_id = dict(zip(found.ids, found.features, strict=True))
    assert set(by_id) == set(encoded["id"].astype(str))
    latents = member.detectors.standard(seen(encoded, ["latent"]))
    in_order = np.stack([by_id[str(name)] for name in encoded["id"]])
    np.testing.assert_allclose(in_order, latents, rtol=1e-4, atol=1e-4)


def test_objects_are_shown_as_far_as_the_net_sees_them(
    run: Path, predictor: ImagePredictor, pictures: Path, tmp_path: Path
) -> None:
    found = embed(predictor, run, ["mine/0.jpg"])
    shown = found.gallery.picture(0, 32)
    whole = Image.open("mine/0.jpg").convert("RGB")
    crop = predictor.framings[0].crop
    side = round(crop * min(whole.size))
    left = (whole.size[0] - side) // 2
    expected = whole.crop((left, left, left + side, left + side)).resize((32, 32), Image.Resampling.LANCZOS)
    assert shown.tobytes() == expected.tobytes()
    Path("mine/0.jpg").unlink()
    assert found.gallery.picture(0, 96).getpixel((2, 2)) == (160, 166, 176)


def test_ids_are_all_different(run: Path, predictor: ImagePredictor, pictures: Path) -> None:
    table = pd.DataFrame({"id": ["a", "a", "b"], "path": ["mine/0.jpg", "mine/1.jpg", "mine/2.jpg"]})
    table.to_csv("list.csv", index=False)
    predict.main([str(run), "list.csv", "--out", "many/", "--features-only"])
    found = embed(predictor, run, ["many"])
    assert found.ids == ["a", "a (2)", "b"]
    assert found.row("a (2)") == 1
    with pytest.raises(UsageError, match=r"There is no object c; there are a, a \(2\), b\."):
        found.row("c")


def test_what_cannot_be_used_is_told(
    run: Path, page_run: Make, predictor: ImagePredictor, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"The image cannot be read: mine/bad\.jpg"):
        embed(predictor, run, ["mine/bad.jpg"], bad=[])
    with pytest.raises(DataError, match="An image cannot be read"):
        embed(predictor, run, ["mine"])
    predict.main([str(run), "mine", "--out", "plain/"])
    with pytest.raises(UsageError, match=r"plain has predictions without features, .* --out FOLDER/ --features"):
        embed(predictor, run, ["plain"])
    predict.main([str(run), "mine", "--out", "many/", "--features"])
    other = page_run("spirals")
    with pytest.raises(UsageError, match="many has features of another run"):
        embed(load(other), other, ["many"])
    curves = page_run("plasticc")
    with pytest.raises(UsageError, match="is a run of light curves, whose predictions have no features"):
        embed(load(curves), curves, ["many"])
    monkeypatch.setattr(embedded, "MOST", 5)
    with pytest.raises(UsageError, match=r"9 images are too many at once.* --out FOLDER/ --features"):
        embed(predictor, run, ["mine"], bad=[])
