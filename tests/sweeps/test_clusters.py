"""Sweeps on clusters of this machine alone.

SLURM: as root on Debian, `apt-get install slurm-wlm munge && sh tests/sweeps/one_node_slurm.sh`.
Ray:   `ray start --head --num-gpus=2 --num-cpus=4 --include-dashboard=false`.
Both:  `pip install 'galaxyml[slurm,ray]'`, then `python -m pytest -m cluster tests/sweeps`.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweeping import SMALL, Sweeps, assert_equal

pytestmark = pytest.mark.cluster
TROUBLE = "callbacks={trouble:{_target_:troubles.TransientError}}"
LINES = {
    "slurm": "hydra/launcher=slurm hydra.launcher.cpus_per_task=1",
    "ray": "hydra/launcher=ray hydra.launcher.cpus_per_job=1 hydra.launcher.environment=[GALAXYML_*,TROUBLE]",
}
SLURM = LINES["slurm"]


@pytest.fixture
def sweeps(sky: Path, tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path, sky.parent, small=SMALL)


@pytest.fixture
def slurm(sweeps: Sweeps) -> Sweeps:
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("pip install 'galaxyml[slurm]'")
    if shutil.which("sinfo") is None or subprocess.run("sinfo", capture_output=True, check=False).returncode:
        pytest.skip("no SLURM here: sh tests/sweeps/one_node_slurm.sh")
    return sweeps


@pytest.fixture
def ray(sweeps: Sweeps) -> Sweeps:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("pip install 'galaxyml[ray]'")
    if subprocess.run([Path(sys.executable).with_name("ray"), "status"], capture_output=True, check=False).returncode:
        pytest.skip("no Ray here: ray start --head --num-gpus=2 --num-cpus=4 --include-dashboard=false")
    return sweeps


def seen(sweeps: Sweeps, name: str) -> list[dict[str, object]]:
    return [json.loads((run / "seen.json").read_text()) for run in sweeps.runs(name)]


def wait_for_training(sweeps: Sweeps, name: str) -> None:
    end = time.monotonic() + 120
    while len(found := sweeps.runs(name)) < 2 or not all(
        (run / "status.json").is_file() and '"training"' in (run / "status.json").read_text() for run in found
    ):
        assert time.monotonic() < end, sweeps.said
        time.sleep(0.1)


@pytest.mark.parametrize("launcher", ["slurm", "ray"])
def test_each_job_gets_a_gpu_and_one_that_is_killed_is_one_row(launcher: str, request: pytest.FixtureRequest) -> None:
    sweeps: Sweeps = request.getfixturevalue(launcher)
    line = f"name=three epochs=2 {TROUBLE} -m fold=0,1,2 {LINES[launcher]}"
    status, said = sweeps.run(line, TROUBLE="kill:1")
    assert status == 1, said
    assert "fold-1: failed" in said
    assert [(run / "metrics.json").is_file() for run in sweeps.runs("three")] == [True, False, True]
    assert {each["gpus"] for each in seen(sweeps, "three")} == {"0", "1"}  # two at once, on GPUs of their own
    status, said = sweeps.run(line)
    assert status == 0, said
    assert (sweeps.runs("three")[0].parent / "predictions" / "val.parquet").is_file()


def test_a_preempted_job_goes_back_into_the_queue_and_on_from_its_checkpoint(slurm: Sweeps) -> None:
    long = f"epochs=40 -m fold=0,1 {SLURM}"
    assert slurm.run(f"name=whole {long}")[0] == 0
    sweep = slurm.start(f"name=broken {long} hydra.launcher.partition=spare")
    wait_for_training(slurm, "broken")
    subprocess.run(["srun", "-p", "main", "-c", "2", "--gres=gpu:4", "true"], check=True, capture_output=True)
    assert sweep.wait() == 0, slurm.said
    for run in slurm.runs("broken"):
        log = (run / "galaxyml.log").read_text()
        assert "goes back into the queue" in log
        assert "carries on from its last checkpoint" in log
    assert_equal(slurm.runs("whole"), slurm.runs("broken"))


def test_a_job_whose_time_is_up_goes_on_in_another(slurm: Sweeps) -> None:
    long = f"epochs=150 -m fold=0 {SLURM} hydra.launcher.timeout_min=1 hydra.launcher.signal_delay_s=15"
    status, said = slurm.run(f"name=long {long} {TROUBLE}", TROUBLE="slow:0")
    assert status == 0, said
    assert "SIGUSR2: the job goes back into the queue" in (slurm.runs("long")[0] / "galaxyml.log").read_text()


def test_jobs_outlive_a_killed_launcher_and_the_same_command_waits_for_them(slurm: Sweeps) -> None:
    line = f"name=alone epochs=60 -m fold=0,1 {SLURM}"
    sweep = slurm.start(line)
    wait_for_training(slurm, "alone")
    sweep.kill()
    sweep.wait()
    pids = slurm.jobs_by_fold("alone")
    status, said = slurm.run(line)
    assert status == 0, said
    assert slurm.jobs_by_fold("alone") == pids  # not a second time


@pytest.mark.parametrize("launcher", ["slurm", "ray"])
def test_a_stopped_sweep_keeps_checkpoints(launcher: str, request: pytest.FixtureRequest) -> None:
    sweeps: Sweeps = request.getfixturevalue(launcher)
    long = f"epochs=40 -m fold=0,1 {LINES[launcher]}"
    assert sweeps.run(f"name=whole {long}")[0] == 0
    sweep = sweeps.start(f"name=broken {long}")
    wait_for_training(sweeps, "broken")
    os.kill(sweep.pid, signal.SIGINT)
    assert sweep.wait() == 130, sweeps.said
    assert all('"stopped"' in (run / "status.json").read_text() for run in sweeps.runs("broken"))
    assert sweeps.run(f"name=broken {long}")[0] == 0
    assert_equal(sweeps.runs("whole"), sweeps.runs("broken"))
