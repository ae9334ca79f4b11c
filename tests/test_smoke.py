"""Every task at the smallest scale, as a user would go through it: a sweep, its report, a comparison, predictions.

`in_process` fails on the word "warning" in anything that is printed.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from galaxyml.__main__ import main
from galaxyml.runs.run_dir import RunDir

SENTENCE = "A smoke test: too small to judge."
TASKS = {  # what is swept, more keys, and what of the small skies' folder is predicted
    "galaxyzoo": ("fold=0,1", ["model=tiny"], "galaxyzoo/images_test_rev1"),
    "spirals": ("seed=0,1", ["model=tiny"], "spirals/images"),
    "galaxy10": ("seed=0,1", [], "galaxy10/Galaxy10_DECals.h5"),
    "surveys": ("seed=0,1", ["model=tiny", "tune=all"], "spirals/images"),
    "plasticc": ("seed=0,1", [], "plasticc"),
    "images": ("optim.lr=1e-3,1e-4", ["model=tiny"], "galaxyzoo/images_test_rev1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_smoke_test_says_that_it_is_one_and_all_that_follows_works_without_a_warning(
    task: str,
    in_process: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sky: Path,
    spirals_sky: Path,
    galaxy10_sky: Path,
    plasticc_sky: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))
    monkeypatch.setenv("GALAXYML_CONSOLE", "INFO")

    def ask(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["galaxyml", *map(str, words)])
        status, printed = in_process(lambda _: main())
        assert status == 0, printed
        return printed

    swept, more, predicted = TASKS[task]
    sweep = tmp_path / "multirun" / task / "tried"
    line = [f"task={task}", "source=simulated", "scale=smoke", "trainer=cpu", "hydra/launcher=serial", *more]
    assert SENTENCE in ask(*line, "name=tried", "-m", swept)
    runs = [run.path for run in RunDir(sweep).children()]
    joined = sorted(path.parent for path in sweep.glob("joined/*/metrics.json")) or [sweep]
    assert len(runs) == 2
    for folder in (*runs, *joined):
        assert json.loads((folder / "metrics.json").read_text())["verdict"]["sentence"] == SENTENCE
        assert f"**{SENTENCE}**" in (folder / "report.md").read_text()
    assert SENTENCE in (sweep / "report.md").read_text()

    before = {path: path.read_bytes() for folder in joined for path in folder.rglob("*.json")}
    ask("report", sweep)
    assert {path: path.read_bytes() for path in before} == before

    first, second = joined[0], joined[-1]
    if first == second:  # folds of one sweep hold out different objects, so that there has to be another run of one
        ask(*line, "name=other", "optim.lr=1e-4", "fold=0")
        first, second = sweep / "fold-0", sweep.with_name("other")
    ask("compare", first, second, "--report", "compared.html")
    assert Path("compared.html").is_file()

    ask("predict", joined[0], sky.parent / predicted, "--out", "predictions.csv")
    assert len(pd.read_csv("predictions.csv"))
