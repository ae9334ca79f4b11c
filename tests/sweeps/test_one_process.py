"""Two commands, or jobs, that come to the same folder: one of them works there."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sweeping import SMALL, Sweeps, assert_equal

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
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    assert command("name=busy", "epochs=1", "optim.lr=no number")[0] == 1  # leaves a configuration, and nothing else
    RunDir(run).update_status(state="training")
    pid = occupy(run, RUN)
    before = contents(run)

    status, said = in_process(run_job.main, run)
    assert status != 0
    assert said.startswith(f"error: multirun/galaxyzoo/busy/fold-0 is in use by process {pid} on ")

    status, said = command("name=busy", "epochs=1", "optim.lr=no number")
    assert status == 1
    assert f"fold-0 is in use by process {pid} on " in said
    assert "fold-0: refused, as another process works on it" in said

    status, said = command("name=busy", "epochs=2", "optim.lr=no number")
    assert status == 1
    assert "holds a run of another configuration: epochs (1 then, 2 now)" in said
    assert contents(run) == before


@pytest.fixture
def sweeps(sky: Path, tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path, sky.parent)


def wait_for_training(run: Path, process: "subprocess.Popen[str]") -> None:
    status = run / "status.json"
    while not status.is_file() or '"training"' not in status.read_text():
        assert process.poll() is None
        time.sleep(0.05)


def test_of_two_terminals_one_runs_the_sweep_and_the_other_is_refused_or_waits(sweeps: Sweeps) -> None:
    line = "name=both epochs=60 -m fold=0,1"
    with (sweeps.folder / "first.txt").open("w") as said_by_first:
        first = sweeps.start(line, said_by_first.fileno())
    wait_for_training(sweeps.folder / "multirun" / "galaxyzoo" / "both" / "fold-0", first)
    status, said = sweeps.run(line)
    assert status != 0
    assert said.startswith(f"error: multirun/galaxyzoo/both is in use by process {first.pid} on ")
    status, said = sweeps.run(f"{line} --wait")
    assert said.startswith(f"multirun/galaxyzoo/both is in use by process {first.pid} on ")
    assert status == 0, said
    assert first.wait() == 0
    assert all("finished before, kept" in (run / "galaxyml.log").read_text() for run in sweeps.runs("both"))


def test_a_job_that_was_killed_is_taken_over(sweeps: Sweeps) -> None:
    sweeps.small = SMALL
    line = "name=killed epochs=30 fold=0"
    first = sweeps.start(line)
    run = sweeps.folder / "multirun" / "galaxyzoo" / "killed" / "fold-0"
    wait_for_training(run, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert (run / RUN).is_file()
    assert sweeps.run(line)[0] == 0, sweeps.said
    assert sweeps.run("name=unbroken epochs=30 fold=0")[0] == 0
    assert_equal(sweeps.runs("killed"), sweeps.runs("unbroken"))
    assert not list(run.glob("*.lock"))
