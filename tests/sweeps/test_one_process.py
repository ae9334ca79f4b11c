"""Two commands, or jobs, that come to the same folder: one of them works there."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from galaxyml.runs import run_lock
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.run_lock import LAUNCH, RUN, Holder
from galaxyml.sweeps import run_job

Command = Callable[..., tuple[int, str]]
Occupy = Callable[[Path, str], int]


@pytest.fixture
def occupy() -> Iterator[Occupy]:
    """Gives a folder to a living process that does nothing; returns its number."""
    process = subprocess.Popen(["sleep", "600"])

    def occupied(folder: Path, name: str) -> int:
        folder.mkdir(parents=True, exist_ok=True)
        sleeping = replace(Holder(), pid=process.pid, began=run_lock._began(process.pid))
        (folder / name).write_text(json.dumps(asdict(sleeping)))
        return process.pid

    yield occupied
    process.kill()
    process.wait()


def contents(folder: Path) -> dict[str, bytes]:
    """All files but Hydra's record of the command, which it writes before it asks a launcher."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "multirun.yaml")
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("folds", "folder", "launcher"),
    [("0", "taken/fold-0", "serial"), ("0,1", "taken", "serial"), ("0,1", "taken", "pool")],
)
def test_a_command_whose_runs_another_one_has_made_is_refused_and_changes_nothing(
    command: Command, occupy: Occupy, tmp_path: Path, folds: str, folder: str, launcher: str
) -> None:
    pid = occupy(tmp_path / "multirun" / "galaxyzoo" / folder, LAUNCH)
    before = contents(tmp_path)
    status, said = command("name=taken", "-m", f"fold={folds}", f"hydra/launcher={launcher}")
    assert status != 0
    assert said.startswith(f"error: multirun/galaxyzoo/{folder} is in use by process {pid} on ")
    assert said.endswith("Give --wait to begin when it has ended, or choose another name=….\n")
    assert said.count("\n") == 1
    assert contents(tmp_path) == before


def test_a_command_may_wait_for_the_end_of_another(
    command: Command, occupy: Occupy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = occupy(tmp_path / "multirun" / "galaxyzoo" / "taken" / "fold-0", LAUNCH)
    said: list[str] = []

    def end_it(text: str) -> None:
        said.append(text)
        os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(run_lock, "say", end_it)
    status, printed = command("name=taken", "epochs=1", "--wait")
    assert status == 0, printed
    assert len(said) == 1
    assert said[0].startswith(f"multirun/galaxyzoo/taken/fold-0 is in use by process {pid} on ")
    assert said[0].endswith("; this one waits for its end.")
    assert os.environ[run_lock.WAIT] == "0"  # not for the next command of this process


def test_commands_may_make_different_runs_of_one_sweep(command: Command, occupy: Occupy, tmp_path: Path) -> None:
    sweep = tmp_path / "multirun" / "galaxyzoo" / "shared"
    occupy(sweep / "fold-0", LAUNCH)
    status, said = command("name=shared", "epochs=1", "fold=1")
    assert status == 0, said
    assert (sweep / "fold-1" / "metrics.json").is_file()
    assert not list(sweep.glob("fold-1/*.lock"))


def test_a_job_that_another_process_works_on_is_refused_and_stays_as_it_is(
    command: Command, in_process: Command, occupy: Occupy, tmp_path: Path
) -> None:
    run = tmp_path / "multirun" / "galaxyzoo" / "busy" / "fold-0"
    assert command("name=busy", "epochs=1")[0] == 0
    for path in run.iterdir():  # a run that has only begun: a configuration, and nothing else
        if path.name != ".hydra":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    RunDir(run).update_status(state="training")
    pid = occupy(run, RUN)
    before = contents(run)

    status, said = in_process(run_job.main, run)
    assert status != 0
    assert said.startswith(f"error: multirun/galaxyzoo/busy/fold-0 is in use by process {pid} on ")

    status, said = command("name=busy", "epochs=1")
    assert status == 1
    assert f"fold-0 is in use by process {pid} on " in said
    assert "fold-0: refused, as another process works on it" in said

    status, said = command("name=busy", "epochs=2")
    assert status == 1
    assert "holds a run of another configuration: epochs (1 then, 2 now)" in said
    assert contents(run) == before
