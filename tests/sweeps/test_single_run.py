"""A command of one run: its folder has what the run has, without drawing it twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from galaxyml.runs.run_dir import RunDir
from galaxyml.sweeps import finish

Command = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("task", ["galaxyzoo", "spirals"])
def test_figures_of_one_run_are_taken_and_are_those_that_would_be_drawn(
    command: Command, spirals_sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    drawn: list[tuple[str, str]] = []
    write = RunDir.write_figure

    def counted(run: RunDir, name: str, *args: Any) -> None:
        drawn.append((run.name, name))
        write(run, name, *args)

    monkeypatch.setattr(RunDir, "write_figure", counted)
    status, said = command(f"task={task}", "name=one", "figures=true")
    assert status == 0, said
    assert [name for folder, name in drawn if folder == "one"] == ["learning_curves"]
    sweep = RunDir(tmp_path / "multirun" / task / "one")
    (run,) = sweep.children()
    own = {path.name: path.read_bytes() for path in run.figures()}
    taken = {path.name: path.read_bytes() for path in sweep.figures()}
    assert own
    assert {name: taken.get(name) for name in own} == own
    metrics = sweep.metrics()

    monkeypatch.chdir(tmp_path)
    finish.finish(sweep, {"folds": metrics["folds"]})
    assert {name: (sweep.path / "figures" / name).read_bytes() for name in own} == own
    assert sweep.metrics() == metrics
