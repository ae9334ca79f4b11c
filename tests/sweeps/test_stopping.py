"""Sweeps that are stopped or killed at some moment, and end as if they had not been."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from sweeping import Sweeps, assert_equal

EPOCHS = "epochs=12 -m fold=0,1"
PATIENCE = 60  # seconds in which all processes of a sweep have to be gone


@pytest.fixture(scope="module")
def unbroken(sky: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweeps, float]:
    """A sweep that nobody stopped, and how many seconds it took."""
    sweeps = Sweeps(tmp_path_factory.mktemp("unbroken"), sky.parent)
    began = time.monotonic()
    status, said = sweeps.run(f"name=again {EPOCHS}")
    assert status == 0, said
    return sweeps, time.monotonic() - began


def training(sweeps: Sweeps, name: str) -> bool:
    """Whether all runs of a sweep are being fitted."""
    told = [run / "status.json" for run in sweeps.runs(name)]
    return len(told) == 2 and all(path.is_file() and '"training"' in path.read_text() for path in told)


def assert_carries_on(sweeps: Sweeps, unbroken: Sweeps) -> None:
    """The same command finishes a broken sweep, which then is as one that nobody stopped."""
    status, said = sweeps.run(f"name=broken {EPOCHS}")
    assert status == 0, said
    assert_equal(sweeps.runs("broken"), unbroken.runs("again"))


def wait_for(what: str, holds: object, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_to_a_sweep_lets_its_runs_keep_a_checkpoint_within_the_epoch(
    unbroken: tuple[Sweeps, float], sky: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    sweeps = Sweeps(tmp_path, sky.parent)
    sweep = sweeps.start(f"name=broken {EPOCHS}")
    wait_for("training", lambda: training(sweeps, "broken"))
    time.sleep(random.Random(int(number)).uniform(0, 1))
    os.kill(sweep.pid, number)
    assert sweep.wait() == status, sweeps.said
    wait_for("the end of all processes", lambda: not sweeps.alive(), PATIENCE)
    assert "stopping: each run keeps what it has reached" in sweeps.said
    for run in sweeps.runs("broken"):
        assert '"stopped"' in (run / "status.json").read_text()
        assert "carries on" in (run / "galaxyml.log").read_text()
    assert_carries_on(sweeps, unbroken[0])


@pytest.mark.slow
def test_a_job_alone_can_be_stopped_and_the_others_go_on(
    unbroken: tuple[Sweeps, float], sky: Path, tmp_path: Path
) -> None:
    sweeps = Sweeps(tmp_path, sky.parent)
    sweep = sweeps.start(f"name=broken {EPOCHS}")
    wait_for("training", lambda: training(sweeps, "broken"))
    os.kill(sweeps.jobs_by_fold("broken")[0], signal.SIGTERM)
    assert sweep.wait() == 1
    assert "fold-0: stopped" in sweeps.said
    assert not (sweeps.runs("broken")[0] / "metrics.json").exists()
    assert (sweeps.runs("broken")[1] / "metrics.json").exists()
    assert_carries_on(sweeps, unbroken[0])


def kill(sweeps: Sweeps, sweep: int, target: str, number: int) -> None:
    """Sends a signal to the launcher, to a job, or to everything at once as a power cut does."""
    if target == "box":
        sweeps.kill_all()
        return
    jobs = [pid for pid in sweeps.jobs() if pid != sweep]
    with suppress(ProcessLookupError):
        os.kill(jobs[0] if target == "job" and jobs else sweep, number)


def broken_off(sweeps: Sweeps, seed: int, seconds: float) -> str:
    """Breaks a sweep off at a random moment, in a random way, and carries on with it; tells how."""
    chance = random.Random(seed)
    target = chance.choice(["launcher", "job", "box"])
    number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    moment = chance.uniform(1, seconds)
    how = f"{seed}: {number.name} to the {target} after {moment:.1f} s of {seconds:.1f}"
    sweep = sweeps.start(f"name=broken {EPOCHS}")
    with suppress(Exception):
        sweep.wait(moment)
    kill(sweeps, sweep.pid, target, number)
    sweep.wait()
    wait_for(f"the end of all processes ({how})", lambda: not sweeps.alive(), PATIENCE)
    status, said = sweeps.run(f"name=broken {EPOCHS}")
    assert status == 0, f"{how}\n{said}"
    wait_for(f"the end of all processes ({how})", lambda: not sweeps.alive(), PATIENCE)
    return how


def test_a_killed_launcher_takes_its_jobs_along_and_the_same_command_carries_on(
    unbroken: tuple[Sweeps, float], sky: Path, tmp_path: Path
) -> None:
    sweeps = Sweeps(tmp_path, sky.parent)
    sweep = sweeps.start(f"name=broken {EPOCHS}")
    wait_for("training", lambda: training(sweeps, "broken"))
    sweep.kill()
    sweep.wait()
    wait_for("the end of all processes", lambda: not sweeps.alive(), PATIENCE)
    assert_carries_on(sweeps, unbroken[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_sweep_killed_at_a_random_moment_ends_as_an_unbroken_one(
    unbroken: tuple[Sweeps, float], sky: Path, tmp_path: Path, seed: int
) -> None:
    whole, seconds = unbroken
    sweeps = Sweeps(tmp_path, sky.parent)
    print(broken_off(sweeps, seed, seconds))
    assert_equal(sweeps.runs("broken"), whole.runs("again"))
    ours, theirs = (run.parent / "predictions" for run in (sweeps.runs("broken")[0], whole.runs("again")[0]))
    assert (ours / "val.parquet").read_bytes() == (theirs / "val.parquet").read_bytes()
