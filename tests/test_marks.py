"""What the project promises to reach; minutes each."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str]]


def reached(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    assert found["val/violation"] < 1e-6
    assert found["val/rmse"] < found["val/net_rmse"]  # the constraints help
    return found


@pytest.mark.slow
def test_real_galaxies_are_learnt_from_scratch(command: Command, real: Path, tmp_path: Path) -> None:
    line = ("experiment=galaxyzoo_small", "trainer=auto", f"data_dir={real}", "name=real", "-m", "fold=0,1,2,3,4")
    status, said = command(*line, "model=tiny", "size=128", "epochs=80", "batch_size=32")
    assert status == 0, said
    found = reached(tmp_path / "multirun" / "galaxyzoo" / "real")
    assert found["val/rmse"] < 0.80 * found["val/mean_rmse"]


@pytest.mark.slow
def test_the_demo_learns_the_simulated_sky(command: Command, tmp_path: Path) -> None:
    line = ("source=simulated", "scale=demo", "name=demo", "trainer=auto", "-m", "fold=0,1,2,3,4")
    status, said = command(*line, "size=128", "epochs=25", "batch_size=32")
    assert status == 0, said
    found = reached(tmp_path / "multirun" / "galaxyzoo" / "demo")
    assert found["val/rmse"] < 0.75 * found["val/mean_rmse"]
    assert found["test/rmse"] < found["folds"]["test/rmse"]["mean"]  # type: ignore[index]
