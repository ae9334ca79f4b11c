"""What the page tells of a run, and its examples."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import galaxyml
from galaxyml.inference import load
from galaxyml.page import examples
from galaxyml.page.app import titles
from galaxyml.page.provenance import SMOKE, about, how_sure
from galaxyml.runs.run_dir import RunDir
from galaxyml.sky.survey import DECALS, SDSS

pytestmark = pytest.mark.usefixtures("apart")
Make = Callable[[str], Path]


def test_a_run_is_told_by_its_net_data_and_score(page_run: Make) -> None:
    told = about(load(page_run("galaxyzoo")))
    metrics = RunDir(page_run("galaxyzoo")).metrics()
    assert told.facts["model"] == "GalaxyCNN, mean of 2 nets"
    assert told.facts["learnt from"] == "the simulated sky"
    assert f"{metrics['test/rmse']:.3f}" in told.facts["score"]
    assert "Galaxy Zoo" in told.html()


@pytest.mark.parametrize(("commit", "end"), [("0123456789abcdef", ", commit 01234567"), (None, "")])
def test_a_run_is_told_by_its_version_and_by_the_commit_of_a_checkout(
    commit: str | None, end: str, page_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance = RunDir(page_run("galaxyzoo")).provenance() | {"commit": commit}
    monkeypatch.setattr(RunDir, "provenance", lambda run: provenance)
    assert about(load(page_run("galaxyzoo"))).facts["made by"] == f"galaxyml {galaxyml.__version__}{end}"


def test_a_smoke_test_promises_nothing(page_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load(page_run("spirals"))
    promise = predictor.kind.promise
    assert how_sure(predictor, promise) == promise
    metrics = predictor.run.metrics() | {"verdict": {"sentence": "A smoke test: too small to judge.", "better": None}}
    monkeypatch.setattr(predictor.run, "metrics", lambda: metrics)
    assert how_sure(predictor, promise) == SMOKE


def test_tabs_of_equal_tasks_are_told_apart(page_run: Make, tmp_path: Path) -> None:
    one, other = load(page_run("galaxyzoo")), load(page_run("spirals"))
    sources = [one.run.path, other.run.path, one.run.path / "fold-1"]
    assert titles(sources[:2], [one, other]) == ["galaxyzoo", "spirals"]
    assert titles(sources, [one, other, load(sources[2])]) == ["galaxyzoo: mine", "spirals", "galaxyzoo: fold-1"]


@pytest.mark.parametrize(
    ("task", "sides"), [("galaxyzoo", {SDSS.cutout}), ("galaxy10", {DECALS.cutout}), ("surveys", {424})]
)
def test_examples_are_galaxies_in_the_middle_by_each_surveys_look(task: str, sides: set[int]) -> None:
    shown = examples.galaxies(task)
    assert len(shown) >= examples.COUNT
    assert len({example.name for example in shown}) == len({example.caption for example in shown}) == len(shown)
    for example in shown:
        pixels = np.asarray(Image.open(io.BytesIO(example.content)).convert("L"), float)
        assert {*pixels.shape} == sides
        middle = len(pixels) // 2
        assert pixels[middle - 8 : middle + 8, middle - 8 : middle + 8].mean() > np.median(pixels) + 10


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    shown = examples.galaxies("galaxy10")[:3]
    for example in shown:
        (tmp_path / example.name).write_bytes(example.content)
    assert examples.read(tmp_path) == shown
