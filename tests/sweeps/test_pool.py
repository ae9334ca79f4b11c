"""Runs side by side on one machine: where they run, and what becomes of those that end badly."""

import json
import os
import pty
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sweeping import Sweeps

from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.sweeps.pool import PoolLauncher
from galaxyml.sweeps.run_job import ended

CORES = len(os.sched_getaffinity(0))
TROUBLE = "callbacks={trouble:{_target_:troubles.TransientError}}"


@pytest.fixture
def sweeps(sky: Path, tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path, sky.parent)


def test_each_job_has_a_gpu_of_its_own_and_its_part_of_the_cores() -> None:
    slots = PoolLauncher(gpus=[0, 1, 2]).slots_for(5)
    assert [slot.gpus for slot in slots] == [("0",), ("1",), ("2",)]
    assert {slot.threads for slot in slots} == {max(1, CORES // 3)}


def test_a_job_may_have_several_gpus() -> None:
    slots = PoolLauncher(gpus=["a", "b", "c", "d", "e"], gpus_per_job=2).slots_for(9)
    assert [slot.gpus for slot in slots] == [("a", "b"), ("c", "d")]


def test_jobs_may_share_a_gpu_and_spread_over_all_of_them_first() -> None:
    slots = PoolLauncher(gpus=[0, 1], gpus_per_job=0.5).slots_for(9)
    assert [slot.gpus for slot in slots] == [("0",), ("1",), ("0",), ("1",)]


def test_there_are_no_more_slots_than_jobs() -> None:
    assert len(PoolLauncher(gpus=[0, 1, 2, 3]).slots_for(2)) == 2
    (one, two) = PoolLauncher(gpus=[], processes=8).slots_for(2)
    assert one.gpus is None
    assert one.threads == two.threads == max(1, CORES // 2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gpus": 2}, r"hydra.launcher.gpus=2: it must be auto, or a list such as \[0,1\]"),
        ({"gpus_per_job": 1.5}, "hydra.launcher.gpus_per_job=1.5: it must be a whole number of GPUs, or a share"),
        ({"gpus_per_job": float("nan")}, "hydra.launcher.gpus_per_job=nan: it must be a whole number"),
        ({"gpus_per_job": 0}, "hydra.launcher.gpus_per_job=0"),
        ({"processes": 0}, "hydra.launcher.processes=0: it must be auto, or a whole number, 1 or more"),
    ],
)
def test_impossible_slots_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PoolLauncher(**options).slots_for(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", ["fold=0", "fold=0,1"])
def test_a_command_with_impossible_slots_ends_with_one_line(command: Callable[..., tuple[int, str]], jobs: str) -> None:
    status, said = command("hydra/launcher=pool", "hydra.launcher.processes=0", "-m", jobs)
    assert (status, said) == (2, "error: hydra.launcher.processes=0: it must be auto, or a whole number, 1 or more.\n")


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"gpus_per_job=4: there are 2 GPUs \(0, 1\). Give 2 or less"):
        PoolLauncher(gpus=[0, 1], gpus_per_job=4).slots_for(1)


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (130, "stopped", "stopped by SIGINT"),
        (143, "stopped", "stopped by SIGTERM"),
        (-signal.SIGTERM, "stopped", "stopped by SIGTERM"),
        (7, "failed", "its process ended with status 7 and said nothing"),
    ],
)
def test_a_job_that_is_stopped_before_it_begins_has_not_failed(
    status: int, state: str, reason: str, tmp_path: Path
) -> None:
    outcome = ended(RunDir(tmp_path), status, began=0.0)
    assert (outcome.state, outcome.reason) == (state, reason)


def test_jobs_run_in_fresh_processes_with_their_gpu_and_one_that_ends_badly_is_one_row(sweeps: Sweeps) -> None:
    line = f"name=bad epochs=2 {TROUBLE} -m fold=0,1,2,3 hydra.launcher.gpus=[7,9]"
    status, said = sweeps.run(line, TROUBLE="raise:1,kill:2,memory:3")
    runs = sweeps.runs("bad")
    assert status == 1
    assert [(run / "metrics.json").is_file() for run in runs] == [True, False, False, False]
    told = [json.loads((run / "status.json").read_text()) for run in runs]
    assert [each["state"] for each in told] == ["finished", "failed", "failed", "failed"]
    assert [each["reason"] for each in told[1:]] == [
        "RuntimeError: a bad day",
        "its process was ended by SIGKILL, which the system sends where memory runs out",
        "out of memory on the GPU",
    ]
    seen = [json.loads((run / "seen.json").read_text()) for run in runs]
    assert {each["gpus"] for each in seen} == {"7", "9"}
    assert len({each["pid"] for each in seen}) == 4
    for run in runs[1:]:
        assert f"{run.name}: failed" in said
        assert str((run / "galaxyml.log").relative_to(sweeps.folder)) in said  # each with its own log
    assert "RuntimeError: a bad day" in (runs[1] / "galaxyml.log").read_text()
    assert not (runs[0].parent / "predictions").exists()  # nothing was joined

    # The same command finishes it, with a smaller batch where one was asked for.
    status, said = sweeps.run(f"{line} hydra.launcher.retry_out_of_memory=true", TROUBLE="memory:3")
    assert status == 0, said
    assert "once more with batch_size=8 trainer.accumulate_grad_batches=2" in said
    assert all((run / "metrics.json").is_file() for run in sweeps.runs("bad"))
    assert len(sweeps.runs("bad")) == 4
    assert (runs[0].parent / "predictions" / "val.parquet").is_file()


def test_a_terminal_shows_how_far_all_runs_are_and_how_to_carry_on(sweeps: Sweeps) -> None:
    mine, theirs = pty.openpty()
    sweep = sweeps.start("name=seen epochs=500 -m fold=0,1,2", theirs, TERM="xterm", COLUMNS="90", LINES="24")
    os.close(theirs)
    shown, asked = "", False
    with suppress(OSError):  # its end, on Linux
        while chunk := os.read(mine, 4096):
            shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown + chunk.decode(errors="replace"))
            if not asked and re.search(r" [1-9]\d*/500 ", shown):
                asked = True
                os.kill(sweep.pid, signal.SIGINT)
    os.close(mine)
    assert sweep.wait() == 128 + signal.SIGINT, shown
    assert re.search(r"run +where +epoch +val/rmse +time +left", shown)
    assert re.search(r"fold-[01] +CPU [12] +training +[1-9]\d*/500 +0\.\d{4} ", shown)
    assert re.search(r"fold-2 +waiting", shown)
    assert re.search(r"fold-0 +CPU [12] +stopped", shown)
    assert "The same command with name=seen carries on." in shown
    assert "Traceback" not in shown


def test_a_bad_file_ends_the_sweep(sweeps: Sweeps, files: Path) -> None:
    (files / "training_solutions_rev1.csv").write_text("GalaxyID,Class1.1\n")
    status, said = sweeps.run(f"data_dir={files.parent} name=file -m fold=0,1,2,3")
    assert status == 1
    assert "training_solutions_rev1.csv" in said
    assert not any(run.name == "fold-3" for run in sweeps.runs("file"))


def test_a_command_for_one_run_stays_in_its_process(sweeps: Sweeps) -> None:
    status, said = sweeps.run(f"name=one epochs=1 {TROUBLE}")
    assert status == 0, said
    assert "epoch 1 of 1" in said
    assert json.loads((sweeps.runs("one")[0] / "seen.json").read_text())["threads"] >= 1
