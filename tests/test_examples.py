"""The examples as users run them: a task of one's own by the command, and the notebooks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import galaxyml
from galaxyml.inference import load
from galaxyml.reports import compare
from galaxyml.runs.run_dir import RunDir
from galaxyml.sky import write_images

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
Command = Callable[..., tuple[int, str]]


def shell(folder: Path, *words: object) -> str:
    """Runs `galaxyml` in a folder as a process of its own; gives what it printed."""
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "GALAXYML_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "galaxyml", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def redshifts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two folds of `examples/redshift`, side by side, begun in a folder outside the repository."""
    folder = tmp_path_factory.mktemp("redshifts")
    write_images(folder / "mine", count=400, seed=0, size=64)
    small = ("model=tiny", "size=48", "epochs=12", "batch_size=32", "optim.lr=3e-3", "trainer=cpu", "figures=false")
    words = ("--config-dir", EXAMPLES / "redshift" / "conf", "task=redshift", "data_dir=mine", "name=z", *small)
    printed = shell(folder, *words, "predict_views=2", "hydra.launcher.processes=2", "-m", "fold=0,1")
    assert "Warning" not in printed
    return folder / "multirun" / "redshift" / "z"


def test_a_task_of_ones_own_beats_the_baseline_on_known_truth(redshifts: Path) -> None:
    run = galaxyml.Run(redshifts)
    tested = run.predictions("test").set_index("id")["redshift"]
    labels = pd.read_csv(redshifts.parents[2] / "mine" / "labels.csv").set_index("id")
    true = labels.loc[tested.index, "redshift"]
    error = (tested - true) / (1 + true)
    nmad = 1.4826 * (error - error.median()).abs().median()
    assert run.metrics["test/nmad"] == pytest.approx(nmad)
    catalog = RunDir(redshifts).catalog()
    mean = catalog.loc[catalog["fold"] >= 0, "redshift"].mean()
    constant = (mean - true) / (1 + true)
    assert run.metrics["test/mean_nmad"] == pytest.approx(
        1.4826 * (constant - constant.median()).abs().median(), rel=0.02
    )
    assert nmad < 0.9 * run.metrics["test/mean_nmad"]
    assert run.metrics["test/r2"] > 0.2
    assert "nmad" in run.report.read_text()


def test_its_run_is_continued_reported_and_asked_without_the_flag(redshifts: Path, tmp_path: Path) -> None:
    assert "finished before, kept" in shell(tmp_path, "job", redshifts / "fold-1")
    before = (redshifts / "report.md").read_text()
    shell(tmp_path, "report", redshifts)
    assert (redshifts / "report.md").read_text() == before
    shell(tmp_path, "predict", redshifts, redshifts.parents[2] / "mine" / "images", "--out", tmp_path / "z.parquet")
    table = pd.read_parquet(tmp_path / "z.parquet").set_index("path")
    catalog = RunDir(redshifts).catalog().set_index("id")["image"]
    expected = galaxyml.Run(redshifts).predictions("test").set_index("id")["redshift"]
    again = table.loc[[str(redshifts.parents[2] / "mine" / catalog[name]) for name in expected.index], "redshift"]
    assert (again.to_numpy() == expected.to_numpy()).all()


def test_its_folds_are_compared(redshifts: Path, in_process: Command) -> None:
    status, printed = in_process(compare.main, redshifts / "fold-0", redshifts / "fold-1", "--split", "test")
    assert status == 0, printed
    assert "R2" in printed
    assert load(redshifts).task == "redshift"


def test_its_metric_is_that_of_arrays() -> None:
    sys.path.append(str(EXAMPLES / "redshift"))
    import redshift
    import torch

    rng = np.random.default_rng(0)
    true = rng.uniform(0, 0.3, 200)
    predicted = true + rng.normal(0, 0.03, 200)
    metric = redshift.RedshiftMetrics()
    for rows in np.array_split(np.arange(200), 3):
        metric.update(torch.tensor(predicted[rows, None]), torch.tensor(true[rows, None]))
    error = (predicted - true) / (1 + true)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(
        {
            "nmad": 1.4826 * np.median(np.abs(error - np.median(error))),
            "outliers": np.mean(np.abs(error) > 0.05),
        }
    )


def test_it_is_short() -> None:
    files = [path for path in (EXAMPLES / "redshift").rglob("*") if path.suffix in (".py", ".yaml")]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 150


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_to_their_figures_without_warnings(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipykernel", reason="notebooks are run by ipykernel: pip install ipykernel nbclient")
    nbclient: Any = pytest.importorskip("nbclient", reason="notebooks are run by nbclient: pip install nbclient")
    nbformat: Any = pytest.importorskip("nbformat", reason="notebooks are read by nbformat, which nbclient brings")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("GALAXYML_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = [output["text"] for output in outputs if output["output_type"] == "stream"]
    assert not [text for text in texts if "Warning" in text or "error" in text.lower()]
    assert "image/png" in notebook.cells[-1]["outputs"][-1]["data"]
