"""What the page says of an image is what the run says; why, and what is alike."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.views import plain
from galaxyml.inference import bundle, load, predict
from galaxyml.inference.alike.search import alike
from galaxyml.inference.alike.searched import open_set
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.kinds.classes import Classes
from galaxyml.kinds.view import View
from galaxyml.page import explain, nearest
from galaxyml.page.images import NEIGHBOURS, ImageModel
from galaxyml.page.nearest import TrainingSet
from galaxyml.page.uploads import Upload, read_upload
from galaxyml.training.prediction_module import PredictionModule

pytestmark = pytest.mark.usefixtures("apart")
Make = Callable[[str], Path]


def opened(source: Path) -> ImageModel:
    predictor = load(source)
    assert isinstance(predictor, ImagePredictor)
    return ImageModel(predictor, source)


@pytest.fixture(scope="module")
def model(page_run: Make, sky: Path) -> Callable[[str], ImageModel]:
    made: dict[str, ImageModel] = {}

    def of(task: str) -> ImageModel:
        if task not in made:
            made[task] = opened(page_run(task))
        return made[task]

    return of


def numbers(html: str) -> dict[str, float]:
    """Numbers of bars by what stands before them."""
    rows = re.findall(r'<th scope="row">(?:<span.*?</span> )?(.*?)</th>.*?<data value="([^"]+)">', html, re.DOTALL)
    return {name: float(value) for name, value in rows}


@pytest.mark.parametrize("task", ["galaxyzoo", "spirals", "surveys"])
@pytest.mark.parametrize("as_bundle", [False, True])
def test_the_numbers_are_those_of_predict_to_the_last_bit(
    task: str, as_bundle: bool, page_run: Make, model: Callable[[str], ImageModel], galaxies: list[Path], tmp_path: Path
) -> None:
    source, shown = page_run(task), model(task)
    if as_bundle:
        bundle.write(source, tmp_path / "model.zip")
        source, shown = tmp_path / "model.zip", opened(tmp_path / "model.zip")
    for path in galaxies[:2]:
        predict.main([str(source), str(path), "--out", str(tmp_path / "p.parquet"), "--interval", "all"])
        expected = pd.read_parquet(tmp_path / "p.parquet").drop(columns=["id", "path"])
        asked = shown.ask(read_upload(path))
        pd.testing.assert_frame_equal(asked.table.drop(columns="path"), expected, check_exact=True)
        html, said = shown.numbers_html(asked), expected.iloc[0]
        values = numbers(html)
        kind = shown.predictor.kind
        if isinstance(kind, Classes):
            assert values == {name: said[name] for name in kind.classes}
            assert all(name in html for name in str(said["classes"]).split("|"))
        else:
            view: View = kind.view({str(name): value for name, value in said.items()})
            every = [float(value) for value in re.findall(r'<data value="([^"]+)">', html)]
            assert sorted(every) == sorted(bar.share for chart in (*view.charts, *view.others) for bar in chart.bars)
            ends = [name for name in map(str, expected) if "_low" in name or "_high" in name]
            unasked = int(expected.drop(columns=ends).isna().to_numpy().sum())  # by the campaign that is shown
            assert len(every) == len(expected.columns) - len(ends) - unasked - 2


def test_intervals_stand_beside_fractions(model: Callable[[str], ImageModel], galaxies: list[Path]) -> None:
    asked = model("galaxyzoo").ask(read_upload(galaxies[0]))
    row, html = asked.table.iloc[0], model("galaxyzoo").numbers_html(asked)
    assert f"{100 * row['Class1.1_low95']:.0f} to {100 * row['Class1.1_high95']:.0f}" in html


def test_an_image_unlike_the_training_set_is_told(model: Callable[[str], ImageModel]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    shown = model("spirals")
    asked = shown.ask(Upload("noise.png", {Decoding(): noise}))
    assert asked.table["ood"].item()
    assert "Unlike the training set" in shown.numbers_html(asked)


def test_names_of_files_are_text(model: Callable[[str], ImageModel], galaxies: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    path.write_bytes(galaxies[0].read_bytes())
    asked = model("spirals").ask(read_upload(path))
    assert "<img src=x" not in model("spirals").numbers_html(asked)


def test_attributions_sum_to_what_the_output_gains_from_sky_to_image(
    model: Callable[[str], ImageModel], galaxies: list[Path]
) -> None:
    shown = model("spirals")
    predictor = shown.predictor.members[0].model
    for path in galaxies[:3]:
        image = shown.ask(read_upload(path)).image
        with torch.no_grad():
            gain = (predictor(image) - predictor(explain.empty_sky(image)))[0, 1].item()
        total = explain.attribution(predictor, image, 1, steps=200).sum().item()
        assert total == pytest.approx(gain, rel=0.05, abs=1e-3)


class Corner(nn.Module):
    """A net that looks at one corner alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, :8, :8].mean((1, 2, 3))[:, None]


def test_the_map_shows_the_place_that_a_net_depends_on() -> None:
    predictor = PredictionModule(nn.Sequential(Corner(), nn.Linear(1, 2))).eval()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    strength = explain.heat(explain.attribution(predictor, image, 0))
    assert strength[:8, :8].mean() > 0.5
    assert strength[16:, 16:].max() < 1e-3
    assert explain.overlaid(image, strength).size == explain.shown(image).size


def test_other_outputs_can_be_explained(model: Callable[[str], ImageModel], galaxies: list[Path]) -> None:
    shown = model("galaxyzoo")
    asked = shown.ask(read_upload(galaxies[0]))
    assert shown.attribution_html(asked) == shown.attribution_html(asked, shown.explained(asked))
    assert shown.attribution_html(asked, "Class8.6") != shown.attribution_html(asked)
    assert shown.attribution_html(asked, "nonsense") == shown.attribution_html(asked)


@pytest.mark.parametrize("task", ["galaxyzoo", "spirals", "surveys"])
def test_a_training_galaxy_is_most_like_itself(task: str, page_run: Make, model: Callable[[str], ImageModel]) -> None:
    shown = model(task)
    net = shown.predictor.run.nets()[0]
    catalog = net.catalog()
    row = catalog[catalog["split"] == "train"].iloc[3]
    asked = shown.ask(Upload("x", {Decoding(): open_image(net.source(row["image"]))}))
    assert isinstance(shown.training, TrainingSet)
    (place, likeness), (_, second) = shown.training.nearest(
        nearest.compared(shown.predictor.members[0], asked.image)[0], 2
    )
    assert likeness == pytest.approx(1, abs=1e-4)
    assert second < likeness
    assert place == 3
    label = shown.predictor.kind.known({str(name): value for name, value in row.items()})
    assert shown.training.labels[place] == label
    assert label in shown.neighbours_html(asked)


def test_what_the_page_keeps_of_the_training_set_is_read_as_it_was_written(
    model: Callable[[str], ImageModel], tmp_path: Path
) -> None:
    kept = model("spirals").training
    assert isinstance(kept, TrainingSet)
    kept.write(tmp_path / "alike.parquet")
    again = TrainingSet.read(tmp_path / "alike.parquet")
    assert (again.thumbnails, again.labels) == (kept.thumbnails, kept.labels)
    np.testing.assert_array_equal(again.features, kept.features)


def test_a_second_page_of_a_run_takes_over_what_the_first_one_kept(
    page_run: Make, model: Callable[[str], ImageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model("spirals").training

    def never(*_: Any) -> TrainingSet:
        raise AssertionError("it is made anew")

    monkeypatch.setattr(nearest, "_collect", never)
    again = opened(page_run("spirals")).training
    assert isinstance(first, TrainingSet)
    assert isinstance(again, TrainingSet)
    assert again.labels == first.labels


def test_where_the_training_images_are_gone_a_sentence_says_so(
    page_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GALAXYML_CACHE", str(tmp_path / "cache"))
    from galaxyml.runs.run_dir import RunDir

    made = RunDir.provenance
    gone = {"folder": str(tmp_path / "gone")}
    monkeypatch.setattr(RunDir, "provenance", lambda run: made(run) | {"data": made(run)["data"] | gone})
    shown = opened(page_run("spirals"))
    assert isinstance(shown.training, str)
    assert "not on this machine" in shown.training
    assert str(tmp_path) not in shown.training


def test_a_bundle_says_that_it_has_no_training_images_or_reads_them_from_beside_it(
    page_run: Make, model: Callable[[str], ImageModel], galaxies: list[Path], tmp_path: Path
) -> None:
    bundle.write(page_run("spirals"), tmp_path / "model.zip")
    bare = opened(tmp_path / "model.zip")
    assert "as one file" in bare.neighbours_html(bare.ask(read_upload(galaxies[0])))
    kept = model("spirals").training
    assert isinstance(kept, TrainingSet)
    kept.write(tmp_path / nearest.FILE)
    with_them = opened(tmp_path / "model.zip")
    asked = with_them.ask(read_upload(galaxies[0]))
    assert with_them.neighbours_html(asked) == model("spirals").neighbours_html(asked)


def test_the_nearest_of_another_set_are_shown_as_the_command_finds_them(
    page_run: Make, galaxies: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for path in galaxies:
        shutil.copy(path, folder)
    run = page_run("galaxyzoo")
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    shown = ImageModel(predictor, run, open_set(predictor, run, [str(folder)]))
    asked = shown.ask(read_upload(galaxies[2]))
    assert "features" not in asked.table
    html = shown.found_html(asked)
    found = alike(run, [str(galaxies[2])], [str(folder)], count=NEIGHBOURS)
    labels = re.findall(r"<span>(.*?)</span>", html)
    assert [label.partition(": ")[0] for label in labels] == found["id"].tolist()
    assert labels[0] == f"{galaxies[2].name}: 1.00, the same"
    assert f"Of {len(galaxies):,} objects" in html
    assert str(tmp_path) not in html
    without = opened(run)
    assert without.found_html(without.ask(read_upload(galaxies[2]))) == ""


def test_nets_without_features_are_compared_by_looks() -> None:
    class Member:
        model = PredictionModule(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)))

    member: Any = Member()
    pixels = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    assert not nearest.has_features(member)
    assert nearest.compared(member, plain(pixels, 16)).shape == (5, 42)
