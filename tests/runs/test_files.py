"""Files that the system refuses to read or to write: each a sentence, wherever that shows."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from galaxyml import __main__, experiment
from galaxyml.runs.errors import DataError
from galaxyml.runs.files import refused_file
from galaxyml.training.stopping import WholeCheckpoints

Command = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "a.bin: the disk is full. Free some space or choose another folder"),
        (errno.EDQUOT, "a.bin: the disk quota is used up. Free some space"),
        (errno.EROFS, "a.bin: the file system is read-only. "),
        (errno.EACCES, "a.bin: you may not read or write it. Give yourself the permission (chmod), or "),
    ],
)
def test_what_the_system_refuses_is_a_sentence(number: int, sentence: str) -> None:
    error = refused_file(OSError(number, os.strerror(number), "a.bin"))
    assert str(error).startswith(sentence)


def test_other_errors_of_the_system_are_none_of_the_users(tmp_path: Path) -> None:
    assert refused_file(FileNotFoundError(errno.ENOENT, "", "a.bin")) is None
    assert refused_file(PermissionError(errno.EACCES, "")) is None  # of a socket, as no file is named


def test_a_checkpoint_for_which_the_disk_is_too_small_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full")  # whatever is written there is too much
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    open_file = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", **more: open_file(full if mode == "wb" else self, mode, **more)
    )
    with pytest.raises(DataError, match=r"last\.ckpt cannot be written: the disk is full\. Free some space"):
        WholeCheckpoints().save_checkpoint({"weights": torch.zeros(10_000)}, tmp_path / "last.ckpt")


def test_a_run_for_which_the_disk_is_full_ends_with_a_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.out")

    monkeypatch.setattr(experiment, "build_module", full)
    status, said = command("name=full")
    assert status == 1
    assert (
        said
        == "error: events.out: the disk is full. Free some space or choose another folder, then run the same command.\n"
    )


def test_a_user_without_a_home_folder_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(sys, "argv", ["galaxyml", "report", "nowhere"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "There is no home folder. Set HOME to a folder that you may write to" in capsys.readouterr().err
