"""Folders that processes take, in processes of their own, which are quick: they import nothing heavy."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from galaxyml.runs import run_lock
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_lock import LAUNCH, RUN, Holder, folder_lock, holder

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that does something with a folder; see `holding.py`."""
    processes = []

    def started(what: str, folder: Path, name: str = RUN, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(Path(__file__).with_name("holding.py")), what, str(folder), name]
        options: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        processes.append(subprocess.Popen(command, text=True, env={**os.environ, **environment}, **options))
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def held(start: Start, tmp_path: Path) -> "subprocess.Popen[str]":
    """A process that has the folder `run`."""
    process = start("hold", tmp_path / "run")
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    return process


def leave(folder: Path, holder: Holder, age: float = 0.0) -> None:
    """A lock file as a process has left it, with a sign of life some seconds ago."""
    folder.mkdir(exist_ok=True)
    (folder / RUN).write_text(json.dumps(asdict(holder)))
    os.utime(folder / RUN, (time.time() - age,) * 2)


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_folder_that_a_process_has_is_refused_with_its_name(held: "subprocess.Popen[str]", tmp_path: Path) -> None:
    before = (tmp_path / "run" / RUN).read_bytes()
    with pytest.raises(UserError) as refused, folder_lock(tmp_path / "run"):
        pass
    assert re.fullmatch(
        rf"{tmp_path / 'run'} is in use by process {held.pid} on {socket.gethostname()} \(since \d{{4}}-[\d:\- ]+\)\. "
        r"Give --wait to begin when it has ended, or choose another name=…\.",
        str(refused.value),
    )
    assert (tmp_path / "run" / RUN).read_bytes() == before
    with folder_lock(tmp_path / "run", LAUNCH):  # another matter
        pass
    held.communicate("\n")
    with folder_lock(tmp_path / "run"):
        pass


def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "new"):
        assert holder(tmp_path / "new") is not None
    assert not (tmp_path / "new").exists()
    with suppress(KeyError), folder_lock(tmp_path / "used"):
        (tmp_path / "used" / "file").touch()
        raise KeyError
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_the_same_process_cannot_take_a_folder_twice(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(UserError, match=f"by process {os.getpid()} "), folder_lock(tmp_path):
        pass


def test_a_killed_process_leaves_its_folder_to_the_next(held: "subprocess.Popen[str]", tmp_path: Path) -> None:
    held.kill()  # and nobody has asked for its status yet, so that its number is still there
    wait_until(lambda: holder(tmp_path / "run") is None)
    assert (tmp_path / "run" / RUN).is_file()
    with folder_lock(tmp_path / "run"):
        found = holder(tmp_path / "run")
        assert found is not None
        assert found.pid == os.getpid()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_waiting_process_begins_when_the_other_one_has_ended(
    held: "subprocess.Popen[str]", start: Start, tmp_path: Path, number: int
) -> None:
    waiting = start("hold", tmp_path / "run", **{run_lock.WAIT: "1"})
    assert waiting.stdout is not None
    said = waiting.stdout.readline()
    assert f"is in use by process {held.pid} on " in said
    assert said.endswith("; this one waits for its end.\n")
    held.send_signal(number)
    assert waiting.stdout.readline() == "has it\n"


def test_processes_that_race_for_a_folder_have_it_one_at_a_time(start: Start, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    leave(tmp_path, replace(Holder(), pid=gone.pid))  # which all of them find at once
    racing = [start("take_turns", tmp_path, **{run_lock.WAIT: "1", "GALAXYML_CONSOLE": "WARNING"}) for _ in range(6)]
    said = [process.communicate(timeout=60) for process in racing]
    assert [process.returncode for process in racing] == [0] * 6, said
    assert not tmp_path.exists()  # as nothing else was in it


def test_a_number_that_another_process_has_now_is_not_mistaken(tmp_path: Path) -> None:
    leave(tmp_path, Holder())
    assert holder(tmp_path) is not None
    leave(tmp_path, replace(Holder(), began="1"))  # this number, but another time
    assert holder(tmp_path) is None
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("skew", [0.0, -3600.0, 3600.0])
def test_a_process_of_another_machine_is_known_by_its_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    elsewhere = Holder(host="node7", pid=1, namespace="another machine")
    leave(tmp_path, elsewhere, age=run_lock.DEAD_AFTER - 20)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + skew)  # of this machine, which is not the file system's
    with pytest.raises(UserError, match="by process 1 on node7 "), folder_lock(tmp_path):
        pass
    monkeypatch.undo()
    leave(tmp_path, elsewhere, age=run_lock.DEAD_AFTER + 1)
    monkeypatch.setattr(time, "time", lambda: clock() + skew)
    with folder_lock(tmp_path):
        pass


def test_a_lock_file_that_says_nothing_is_known_by_its_age(tmp_path: Path) -> None:
    (tmp_path / RUN).touch()
    assert holder(tmp_path) is not None
    os.utime(tmp_path / RUN, (time.time() - run_lock.DEAD_AFTER - 1,) * 2)
    assert holder(tmp_path) is None


def test_signs_of_life_are_given(held: "subprocess.Popen[str]", tmp_path: Path) -> None:
    lock = tmp_path / "run" / RUN
    os.utime(lock, (1, 1))
    wait_until(lambda: lock.stat().st_mtime > 1)


def test_a_process_that_has_lost_its_folder_ends(held: "subprocess.Popen[str]", tmp_path: Path) -> None:
    leave(tmp_path / "run", Holder())
    assert held.wait(timeout=10) == 1
    _, said = held.communicate()
    assert said.startswith(
        f"error: {tmp_path / 'run'} is no longer this process's, which ends here: the folder was deleted, or "
    )
    assert holder(tmp_path / "run") == json_holder(tmp_path / "run")


def json_holder(folder: Path) -> Holder:
    return Holder(**json.loads((folder / RUN).read_text()))


def test_a_forked_process_does_not_let_go(start: Start, tmp_path: Path) -> None:
    said, _ = start("forked", tmp_path).communicate(timeout=10)
    assert said == "True\n"
    assert not (tmp_path / RUN).exists()


def test_a_folder_where_nothing_can_be_written_is_answered(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"run\.lock cannot be written: a part of that path is a file, not a folder\. "),
        folder_lock(tmp_path / "file"),
    ):
        pass
