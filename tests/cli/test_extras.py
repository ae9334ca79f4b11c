"""What needs an extra that is not installed says which."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path

import pytest

from galaxyml.cli.commands import COMMANDS

Command = Callable[..., tuple[int, str]]

# Of each extra: a package of it, and a command that needs it.
TRAINING = {
    "lora": ("peft", "task=spirals model=test_vit tune=lora"),
    "mlflow": ("mlflow", "logger=mlflow"),
    "optuna": ("optuna", "-m hydra/sweeper=optuna optim.lr=interval(1e-4,1e-2)"),
    "ray": ("ray", "-m fold=0,1 hydra/launcher=ray"),
    "slurm": ("submitit", "-m fold=0,1 hydra/launcher=slurm"),
    "wandb": ("wandb", "logger=wandb"),
}
TOOLS = {"demo": ("gradio", "page ."), "kaggle": ("kagglehub", "fetch galaxyzoo --to here")}
ELSEWHERE = {"index"}  # needs a million objects; tests/inference/test_alike.py


@pytest.mark.parametrize("extra", TRAINING)
def test_training_without_an_extra_names_it(
    extra: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = tmp_path / "squeue"  # of a cluster without jobs
    queue.write_text("#!/bin/sh\n")
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    package, words = TRAINING[extra]
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    status, said = command(*words.split())
    assert status != 0
    assert f"pip install 'galaxyml[{extra}]'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("extra", TOOLS)
def test_a_tool_without_an_extra_names_it(
    extra: str, in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, words = TOOLS[extra]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    name, *arguments = words.split()
    status, said = in_process(import_module(COMMANDS[name][0]).main, *arguments)
    assert status != 0
    assert f"pip install 'galaxyml[{extra}]'" in said
    assert not list(tmp_path.iterdir())


def test_each_extra_is_here() -> None:
    assert {*TRAINING, *TOOLS, *ELSEWHERE} == set(metadata("galaxyml").get_all("Provides-Extra") or ()) - {"all"}
