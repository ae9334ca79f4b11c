"""The exported folder is a Space that runs."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from galaxyml.page.export import export
from galaxyml.page.nearest import FILE, TrainingSet
from galaxyml.runs.errors import UserError

pytestmark = pytest.mark.usefixtures("apart")
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def space(page_run: Make, sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs."""
    folder = tmp_path_factory.mktemp("export") / "space"
    export([page_run("galaxyzoo"), page_run("spirals")], folder)
    return folder


def test_the_folder_has_what_a_space_needs(space: Path) -> None:
    head = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert head["sdk"] == "gradio"
    assert head["sdk_version"] == version("gradio")
    assert (space / head["app_file"]).is_file()
    assert len(head["short_description"]) <= 60  # else Hugging Face refuses the push
    assert "galaxyzoo" in (space / "README.md").read_text()
    pinned = dict(re.findall(r"^([a-z-]+)==(.+)$", (space / "requirements.txt").read_text(), re.MULTILINE))
    assert {"torch", "captum", "gradio", "timm"} <= pinned.keys()
    for number, task in enumerate(("galaxyzoo", "spirals"), start=1):
        folder = space / "runs" / f"{number}-{task}-mine"
        assert (folder / "model.zip").is_file()
        assert len(TrainingSet.read(folder / FILE).labels) > 10
        assert len(list((folder / "examples").glob("*.jpg"))) == 8


def test_nothing_in_it_names_this_machine(space: Path, sky: Path) -> None:
    for path in space.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(sky.parent).encode() not in content
            assert str(space.parent).encode() not in content


def test_the_folder_serves_its_runs_by_its_own_code(space: Path, tmp_path: Path) -> None:
    keep = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    told = keep | {"GALAXYML_CACHE": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    app = subprocess.Popen(
        [sys.executable, "app.py"], cwd=space, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert app.stdout is not None
    try:
        for name in ("1-galaxyzoo-mine", "2-spirals-mine"):
            assert re.search(rf"^Loading .*{name}.model\.zip$", app.stdout.readline())
        line = app.stdout.readline()
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", line)
        with urllib.request.urlopen(address) as page:
            assert "gx-examples" in page.read().decode()
    finally:
        app.send_signal(signal.SIGTERM)
        rest, _ = app.communicate(timeout=30)
    assert "closed" in rest
    assert "Traceback" not in rest
    assert app.returncode == 0
    assert list(tmp_path.iterdir()) == []  # all that it needs is in the folder


def test_a_folder_that_is_there_is_kept(page_run: Make, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export([page_run("spirals")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_of_light_curves_is_refused_and_nothing_is_written(page_run: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="light curves"):
        export([page_run("plasticc")], tmp_path / "space")
    assert list(tmp_path.iterdir()) == []
