"""Shards on clusters of this machine alone: Ray's is started here, SLURM's by `tests/sweeps/one_node_slurm.sh`.

`pip install 'galaxyml[ray,slurm]'`, then `python -m pytest -m cluster tests/inference/test_shards_on_clusters.py`.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pytest

from galaxyml import load
from galaxyml.inference.shards.on_ray import OnRay
from galaxyml.inference.shards.worker import Order
from galaxyml.runs.errors import UserError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("apart")]
IMAGES, SHARDS = 60, 30
Predict = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def pictures(galaxies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(IMAGES):
        shutil.copy(galaxies[number % len(galaxies)], folder / f"{number:03}.jpg")
    return folder


@pytest.fixture(scope="module")
def expected(page_run: Callable[[str], Path], pictures: Path) -> pd.DataFrame:
    """The predictions in one table, made in this process."""
    return load(page_run("galaxyzoo")).predict(str(pictures), interval=95)


@pytest.fixture
def predict(page_run: Callable[[str], Path], pictures: Path, tmp_path: Path) -> Iterator[Predict]:
    """Starts `galaxyml predict` into the folder `mine` beside the test's files."""
    command = [sys.executable, "-m", "galaxyml", "predict", str(page_run("galaxyzoo")), str(pictures)]
    command += ["--out", "mine/", "--shard-rows", str(IMAGES // SHARDS)]
    started: list[subprocess.Popen[str]] = []

    def start(*on: str) -> subprocess.Popen[str]:
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen([*command, *on], text=True, cwd=tmp_path, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A Ray cluster whose head has one core."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="pip install 'galaxyml[ray]'")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def ray(nodes: Any) -> Iterator[list[str]]:
    """Options for a Ray cluster of two nodes, a worker on each."""
    second = nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield ["--on", "ray", "--engine", f"address={nodes.address}"]
    if second in nodes.worker_nodes:
        nodes.remove_node(second)


@pytest.fixture
def slurm() -> list[str]:
    """Options for two jobs of SLURM."""
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("pip install 'galaxyml[slurm]'")
    if shutil.which("sinfo") is None or subprocess.run("sinfo", capture_output=True, check=False).returncode:
        pytest.skip("no SLURM here: sh tests/sweeps/one_node_slurm.sh")
    return ["--on", "slurm", "--workers", "2"]


@pytest.fixture(params=["ray", "slurm"])
def on(request: pytest.FixtureRequest) -> list[str]:
    options: list[str] = request.getfixturevalue(request.param)
    return options


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    said, _ = process.communicate(timeout=400)
    assert process.returncode == status, said
    return said


def parts(folder: Path) -> int:
    return len(list((folder / "mine" / "predictions").glob("part*")))


def wait_for_first(folder: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while not parts(folder):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def assert_whole(folder: Path, expected: pd.DataFrame) -> None:
    table = ds.dataset(folder / "mine" / "predictions").to_table().to_pandas()
    pd.testing.assert_frame_equal(table, expected, check_exact=True, check_dtype=False)
    assert json.loads((folder / "mine" / "index.json").read_text())["finished"]
    assert parts(folder) == SHARDS


def test_a_killed_command_goes_on(on: list[str], predict: Predict, tmp_path: Path, expected: pd.DataFrame) -> None:
    process = predict(*on)
    wait_for_first(tmp_path, process)
    process.kill()
    process.communicate()
    ended(predict(*on))
    assert_whole(tmp_path, expected)


def test_a_stopped_command_ends_behind_its_shards(
    on: list[str], predict: Predict, tmp_path: Path, expected: pd.DataFrame
) -> None:
    process = predict(*on)
    wait_for_first(tmp_path, process)
    process.terminate()
    assert "The same command goes on" in ended(process, 143)
    assert parts(tmp_path) < SHARDS
    ended(predict(*on))
    assert_whole(tmp_path, expected)


@pytest.mark.parametrize("lost", ["worker", "node"])
def test_a_lost_machine_of_ray_loses_nothing(
    lost: str, ray: list[str], nodes: Any, predict: Predict, tmp_path: Path, expected: pd.DataFrame
) -> None:
    process = predict(*ray)
    wait_for_first(tmp_path, process)
    raylets = [node.all_processes["raylet"][0].process.pid for node in (*nodes.worker_nodes, nodes.head_node)]
    if lost == "node":
        os.kill(raylets[0], signal.SIGKILL)
    else:
        own = ["pgrep", "-P", ",".join(map(str, raylets)), "-f", "ray::Actor"]
        found = subprocess.run(own, capture_output=True, text=True, check=True).stdout
        os.kill(int(found.split()[0]), signal.SIGKILL)
    ended(process)
    assert_whole(tmp_path, expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpus": 1}, "--engine gpus=1: the cluster has 0"),
        ({"address": "127.0.0.1:9"}, "--engine address=127.0.0.1:9: no Ray cluster answers"),
    ],
)
def test_a_cluster_that_cannot_make_shards_is_told(nodes: Any, wrong: dict[str, Any], said: str) -> None:
    engine = OnRay(**{"address": nodes.address, **wrong})
    with pytest.raises(UserError, match=said):
        next(engine.make(Order(Path("mine"), "run", {}, "."), [0]))
    engine.launcher.ray.shutdown()


def test_ray_on_this_machine_alone(predict: Predict, tmp_path: Path, expected: pd.DataFrame) -> None:
    pytest.importorskip("ray", reason="pip install 'galaxyml[ray]'")
    ended(predict("--on", "ray", "--engine", "address=local", "--workers", "2"))
    assert_whole(tmp_path, expected)


def test_a_cancelled_job_of_slurm_loses_nothing(
    slurm: list[str], predict: Predict, tmp_path: Path, expected: pd.DataFrame
) -> None:
    process = predict(*slurm)
    wait_for_first(tmp_path, process)
    for job in json.loads((tmp_path / "mine" / "slurm" / "jobs.json").read_text()):
        subprocess.run(["scancel", "--full", "--signal=KILL", job], check=True)  # submitit ignores SIGTERM
    assert "The same command goes on" in ended(process, 1)
    ended(predict(*slurm))
    assert_whole(tmp_path, expected)
