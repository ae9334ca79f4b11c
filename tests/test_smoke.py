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

TASKS = {  # what is swept, and what of `data/` is predicted
    "galaxyzoo": ("fold=0,1", "galaxyzoo/images_test_rev1"),
    "spirals": ("seed=0,1", "spirals/images"),
    "galaxy10": ("seed=0,1", "galaxy10/Galaxy10_DECals.h5"),
    "surveys": ("fold=0,1", "spirals/images"),
    "plasticc": ("seed=0,1", "plasticc"),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_smoke_run_says_what_it_is_and_all_that_follows_works_without_a_warning(
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

    swept, predicted = TASKS[task]
    run, fixed = Path("multirun") / task / "tried", [f"task={task}", "source=simulated", "scale=smoke", "trainer=cpu"]
    printed = ask(*fixed, "hydra/launcher=serial", "name=tried", "-m", swept)
    assert "a smoke test: too small to judge" in printed
    first, second = sorted(path.parent for path in run.glob("*/metrics.json"))
    for folder in (run, first, second):
        judged = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        assert judged["smoke"] is True
        assert "too small to judge" in (folder / "report.md").read_text(encoding="utf-8")
    before = (run / "metrics.json").read_bytes()
    ask("report", run)
    assert (run / "metrics.json").read_bytes() == before
    if task == "galaxyzoo":  # folds of one sweep hold out different galaxies
        ask(*fixed, "name=other", "optim.lr=1e-4", "fold=0")
        second = run.with_name("other")
    elif task == "surveys":
        second = run
    ask("compare", first, second, "--report", "compared.html")
    assert Path("compared.html").is_file()
    ask("predict", run, sky.parent / predicted, "--out", "predictions.csv")
    assert len(pd.read_csv("predictions.csv"))
