"""Folders of the wrong kind, given to subcommands: each is told, with what to give instead."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import galaxyml
from galaxyml.cli import report
from galaxyml.inference import predict
from galaxyml.runs.errors import UsageError
from galaxyml.runs.run_dir import RunDir
from galaxyml.sweeps import run_job

Run = Callable[[str], Path]


@pytest.fixture
def unfinished(page_run: Run, tmp_path: Path) -> Path:
    """A sweep whose first fold was stopped."""
    sweep = tmp_path / "multirun" / "galaxyzoo" / "half"
    shutil.copytree(page_run("galaxyzoo") / "fold-0", sweep / "fold-0")
    (sweep / "fold-0" / "metrics.json").unlink()
    RunDir(sweep / "fold-0").update_status(state="stopped")
    return sweep


def test_a_job_is_one_of_a_sweeps(page_run: Run) -> None:
    sweep = page_run("galaxyzoo")
    with pytest.raises(
        UsageError, match=r"mine is a sweep\. Give one of its runs: .*/fold-0.*; or the command that made"
    ):
        run_job.main([str(sweep)])


def test_a_checkpoint_does_not_predict(page_run: Run, tmp_path: Path) -> None:
    fold = page_run("galaxyzoo") / "fold-0"
    with pytest.raises(
        UsageError, match=r"last\.ckpt is a checkpoint: .* Give the folder of its run: .*/mine/fold-0\."
    ):
        galaxyml.load(fold / "checkpoints" / "last.ckpt")
    shutil.copy(fold / "checkpoints" / "last.ckpt", tmp_path / "own.ckpt")
    with pytest.raises(
        UsageError, match=r"own\.ckpt is a checkpoint: .* Give the folder of a run that the command has"
    ):
        galaxyml.load(tmp_path / "own.ckpt")


def test_a_sweep_that_was_stopped_is_told_so_at_once(unfinished: Path) -> None:
    with pytest.raises(UsageError, match=r"half is not finished\. The same command with name=half carries on\."):
        galaxyml.load(unfinished)
    with pytest.raises(UsageError, match=r"fold-0 is not finished \(stopped\): it has no metrics\.json\. The command"):
        galaxyml.load(unfinished / "fold-0")


def test_a_folder_of_sweeps_is_told_with_what_it_holds(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (unfinished.parent, unfinished.parents[2] / "nowhere"):
        with pytest.raises(UsageError, match=r"it holds sweeps\. Give one of them: .*/half|nowhere is not there"):
            report.main([str(folder)])
    assert "writing the report" not in "".join(capsys.readouterr())


def test_what_goes_first_is_said(page_run: Run, galaxies: list[Path], tmp_path: Path) -> None:
    run = str(page_run("galaxyzoo"))
    with pytest.raises(UsageError, match=r"pictures is not there\. .* The order is RUN IMAGES: is the run .*/mine\?"):
        predict.main(["pictures", run, "--out", str(tmp_path / "a.csv")])


def test_an_interval_of_what_has_none_is_refused(page_run: Run, galaxies: list[Path], tmp_path: Path) -> None:
    line = [str(page_run("spirals")), str(galaxies[0]), "--out", str(tmp_path / "a.csv")]
    with pytest.raises(UsageError, match=r"--interval 80, in .*: this run's predictions have no intervals\."):
        predict.main([*line, "--interval", "80"])
    predict.main([*line, "--interval", "all"])


def test_a_predictor_says_what_it_is(page_run: Run) -> None:
    assert repr(galaxyml.load(page_run("spirals"))).endswith("/mine: spirals, GalaxyCNN>")
