"""Shards on clusters of this machine alone; see `tests/sweeps/test_clusters.py` for how these are started.

Then `python -m pytest -m cluster tests/inference/test_shards_on_clusters.py`.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

pytestmark = pytest.mark.cluster
ON = {"ray": ["--on", "ray", "--workers", "2"], "slurm": ["--on", "slurm", "--workers", "2"]}


@pytest.fixture(params=["ray", "slurm"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    package = {"ray": "ray", "slurm": "submitit"}[name]
    look = {"ray": [str(Path(sys.executable).with_name("ray")), "status"], "slurm": ["sinfo"]}[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"pip install 'galaxyml[{name}]'")
    if shutil.which(look[0]) is None or subprocess.run(look, capture_output=True, check=False).returncode:
        pytest.skip(f"no {name} here")
    return name


@pytest.fixture
def predict(
    page_run: Callable[[str], Path], galaxies: list[Path], tmp_path: Path, apart: None
) -> Callable[..., subprocess.Popen[str]]:
    """Starts `galaxyml predict` of 30 pictures into a folder."""
    run = page_run("galaxyzoo")
    pictures = tmp_path / "mine"
    pictures.mkdir()
    for number in range(30):
        shutil.copy(galaxies[number % len(galaxies)], pictures / f"{number:03}.jpg")

    def start(out: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "galaxyml", "predict", str(run), str(pictures), "--out", f"{out}/"]
        return subprocess.Popen(
            [*command, "--shard-rows", "3", *more],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )

    return start


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    said, _ = process.communicate(timeout=400)
    assert process.returncode == status, said
    return said


def parts(folder: Path) -> int:
    return len(list((folder / "predictions").glob("part*")))


def wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while parts(folder) < count:
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def table(folder: Path) -> pd.DataFrame:
    return ds.dataset(folder / "predictions").to_table().to_pandas()


def test_the_same_numbers_as_here(engine: str, predict: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    ended(predict("here"))
    ended(predict("there", *ON[engine]))
    pd.testing.assert_frame_equal(table(tmp_path / "there"), table(tmp_path / "here"), check_exact=True)


def test_a_killed_command_goes_on(engine: str, predict: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    ended(predict("here"))
    killed = tmp_path / "killed"
    process = predict("killed", *ON[engine])
    wait_for(killed, 1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ended(predict("killed", *ON[engine]))
    pd.testing.assert_frame_equal(table(killed), table(tmp_path / "here"), check_exact=True)


def test_a_stopped_command_ends_behind_its_shards(
    engine: str, predict: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    process = predict("stopped", *ON[engine])
    wait_for(stopped, 1, process)
    process.send_signal(signal.SIGTERM)
    assert "The same command goes on" in ended(process, 143)
    assert parts(stopped) < 10
    ended(predict("stopped", *ON[engine]))
    assert len(table(stopped)) == 30


def test_a_lost_worker_loses_nothing(
    engine: str, predict: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    if engine == "slurm":
        pytest.skip("what a job that is killed leaves, the command names; the same one goes on")
    ended(predict("here"))
    process = predict("lost", *ON[engine])
    wait_for(tmp_path / "lost", 1, process)
    actors = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().startswith(b"ray::Actor")
    ]
    assert actors
    os.kill(actors[0], signal.SIGKILL)
    ended(process)
    pd.testing.assert_frame_equal(table(tmp_path / "lost"), table(tmp_path / "here"), check_exact=True)
