"""The page's command."""

from collections.abc import Callable
from pathlib import Path

import pytest

from galaxyml.page import command

Command = Callable[..., tuple[int, str]]


def test_what_is_missing_is_told_before_anything_is_loaded(
    in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = in_process(command.main, tmp_path / "nothing")
    assert status == 2
    assert said.startswith("error: ")
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    status, said = in_process(command.main, tmp_path)
    assert (status, said) == (1, "error: The page needs gradio and captum: pip install 'galaxyml[demo]'\n")


def test_a_folder_that_is_no_finished_run_is_told(in_process: Command, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'galaxyml[demo]'")
    status, said = in_process(command.main, tmp_path)
    assert status == 2
    assert "is not the folder of a run" in said
    (tmp_path / "model.zip").write_bytes(b"no zip")
    status, said = in_process(command.main, tmp_path / "model.zip")
    assert status == 2
    assert "no bundle" in said


def test_sharing_with_the_world_is_not_offered(in_process: Command) -> None:
    status, said = in_process(command.main, "--help")
    assert status == 0
    assert "--host" in said
    assert "share" not in said


def test_what_cannot_be_searched_is_told(
    in_process: Command, page_run: Callable[[str], Path], apart: None, tmp_path: Path
) -> None:
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'galaxyml[demo]'")
    run = page_run("spirals")
    status, said = in_process(command.main, run, "--among", tmp_path / "*.jpg")
    assert status == 2
    assert "No file matches" in said
    status, said = in_process(command.main, run, "--among", tmp_path, "--export", tmp_path / "space")
    assert status == 2
    assert "--among is of a page that is served here" in said
    status, said = in_process(command.main, page_run("plasticc"), "--among", tmp_path)
    assert status == 2
    assert "--among is of runs of images" in said
