"""Whether a model is better than the baseline, of runs that were made up."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from galaxyml.evaluation.joined import spread
from galaxyml.evaluation.words import Words
from galaxyml.kinds import Stage
from galaxyml.kinds.fractions import Fractions
from galaxyml.reports import verdict
from galaxyml.runs.run_dir import RunDir

COUNT = 400


class TwoFractions(Fractions):
    """Two fractions that no tree relates."""

    def __init__(self) -> None:
        self.outputs = ["a", "b"]

    def stages(self) -> list[Stage]:
        return []


def made(path: Path, skill: float, curve: Sequence[float] = (0.5, 0.3, 0.2, 0.1), **keys: Any) -> RunDir:
    """A run whose predictions are the truth for a skill of 1, and something else for one of 0."""
    rng = np.random.default_rng(0)
    values = rng.random((COUNT, 2))
    fold = np.arange(COUNT) % 4
    catalog = pd.DataFrame({"id": np.arange(COUNT), "split": np.where(fold, "train", "val"), "fold": fold})
    catalog[["a", "b"]] = values
    run = RunDir(path)
    config = {
        "task": "galaxyzoo",
        "monitor": "val/rmse",
        "mode": "min",
        "kind": {"_target_": f"{__name__}.TwoFractions"},
    }
    run.start(OmegaConf.create({**config, **keys}), [])
    run.write_catalog(catalog)
    counts = {"train": 300, "val": 100, "test": 0}
    run.write_provenance(0, "CPU", {"source": "made up", "folder": "", "sha256": {}, "objects": counts, "notes": []})
    run.write_history([{"epoch": k, "val/rmse": value} for k, value in enumerate(curve)])
    held_out = fold == 0
    others = rng.random((COUNT, 2))
    table = pd.DataFrame({"id": catalog["id"][held_out]})
    table[["a", "b"]] = (skill * values + (1 - skill) * others)[held_out]
    for by in ("", "net"):
        run.write_predictions("val", table, by)
    return run


def errors(run: RunDir) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of the model and of the training galaxies' means, a row a validation galaxy."""
    catalog, table = run.catalog(), run.predictions("val")
    assert table is not None
    known = catalog.loc[catalog["split"] == "val", ["a", "b"]].to_numpy()
    means = catalog.loc[catalog["split"] == "train", ["a", "b"]].mean().to_numpy()
    return (table[["a", "b"]].to_numpy() - known) ** 2, (means - known) ** 2


def numbers(run: RunDir) -> dict[str, Any]:
    model, mean = (float(np.sqrt(squared.mean())) for squared in errors(run))
    return {"val/rmse": model, "val/mean_rmse": mean}


def judged(run: RunDir) -> dict[str, Any]:
    found = verdict.judge(run, numbers(run))
    said: dict[str, Any] = found[verdict.KEY]
    assert verdict.sentence(found) == said["sentence"]
    return said


def test_a_better_model_is_said_to_be_so_with_the_paired_interval(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 0.6)
    said, (model, mean) = judged(run), errors(run)
    assert said["better"] is True
    expected = numbers(run)
    assert said["gain"] == pytest.approx(100 * (1 - expected["val/rmse"] / expected["val/mean_rmse"]))
    rng = np.random.default_rng(5)
    rows = rng.integers(0, len(model), (2000, len(model)))
    gains = 100 * (1 - np.sqrt(model[rows].mean(axis=(1, 2)) / mean[rows].mean(axis=(1, 2))))
    np.testing.assert_allclose([said["gain_low"], said["gain_high"]], np.percentile(gains, [2.5, 97.5]), atol=1)
    assert said["sentence"] == (
        f"Better than the baseline (column mean) by {said['gain']:.0f} % "
        f"[{said['gain_low']:.0f}, {said['gain_high']:.0f}] on validation galaxies: "
        f"RMSE {expected['val/rmse']:.4f} against {expected['val/mean_rmse']:.4f}."
    )


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ((0.5, 0.4, 0.3, 0.2), "too few epochs, as val/rmse was still improving after 4 epochs"),
        ((0.5,), "too few epochs, as val/rmse was still improving after a single epoch"),
        ((0.5, 0.2, 0.21, 0.22, 0.25), "too few galaxies, as it learnt from 300 of them, and val/rmse had stopped"),
    ],
)
def test_a_worse_model_is_said_to_be_so_with_the_likeliest_reason(
    tmp_path: Path, curve: Sequence[float], reason: str
) -> None:
    said = judged(made(tmp_path / "run", 0.0, curve))
    assert said["better"] is False
    assert said["gain_high"] < 0
    assert said["sentence"].startswith("Worse than the baseline (column mean) on validation galaxies (RMSE 0.")
    assert reason in said["sentence"]
    assert said["sentence"].count(".") == said["sentence"].count("0.") + 1  # one sentence


def test_a_gain_that_chance_explains_is_none(tmp_path: Path) -> None:
    skills = np.linspace(0.2, 0.4, 41)
    gaps = [
        numbers(made(tmp_path / f"{skill:.3f}", skill))["val/rmse"]
        - numbers(RunDir(tmp_path / f"{skill:.3f}"))["val/mean_rmse"]
        for skill in skills
    ]
    nearest = RunDir(tmp_path / f"{skills[int(np.abs(gaps).argmin())]:.3f}")
    said = judged(nearest)
    assert said["gain_low"] < 0 < said["gain_high"]
    assert said["better"] is False
    how = "Not shown to be better" if said["gain"] > 0 else "Not better"
    assert said["sentence"].startswith(f"{how} than the baseline (column mean) on validation galaxies")


def test_a_gain_that_so_few_cannot_show_is_said_with_its_interval(tmp_path: Path) -> None:
    for skill in np.linspace(0.2, 0.5, 31):
        said = judged(made(tmp_path / f"{skill:.2f}", skill))
        if said["gain"] > 0 > said["gain_low"]:
            break
    assert said["better"] is False
    assert said["sentence"].startswith(
        "Not shown to be better than the baseline (column mean) on validation galaxies: RMSE "
    )
    assert f"a gain of {said['gain']:.1f} % [{said['gain_low']:.1f}, " in said["sentence"]
    assert re.search(r"whose 95 % interval holds 0: only \d+ galaxies judge it\.$", said["sentence"])


def test_a_smoke_test_gives_no_verdict(tmp_path: Path) -> None:
    for skill in (0.0, 0.9):
        said = judged(made(tmp_path / str(skill), skill, smoke=True))
        assert said["sentence"] == "A smoke test: too small to judge."
        assert said["better"] is None


def test_where_everything_was_done_labels_and_rates_are_to_be_looked_at() -> None:
    curves = [np.array([0.1, 0.5, 0.5, 0.5, 0.5])] * 3
    found = verdict.likeliest_reason(curves, "val/macro_f1", False, 48_000, "galaxies")
    assert found == (
        "although it learnt from 48,000 galaxies, and val/macro_f1 had stopped improving by the end of 5 epochs: check "
        "the labels and the learning rate"
    )
    assert "too few epochs" in verdict.likeliest_reason([*curves[:1], *[np.arange(5.0)] * 2], "m", False, 9, "galaxies")
    assert verdict.likeliest_reason([], "m", False, 9, "galaxies") == (
        "most likely for too few galaxies, as it learnt from 9 of them"
    )


def test_the_best_baseline_counts_and_the_first_split_that_has_it() -> None:
    words = Words(
        "classes",
        "macro_f1",
        variants={"majority_": "majority class", "random_": "random"},
        baselines=("majority_", "random_"),
    )
    val = {"val/macro_f1": 0.4, "val/majority_macro_f1": 0.1, "val/random_macro_f1": 0.2, "val/loss": 3.0}
    assert verdict.against_baseline(val, "val/loss", words) == ("val/macro_f1", "random_")
    test = val | {"test/nll": 0.4, "test/majority_nll": 0.7, "test/random_nll": 0.9}
    assert verdict.against_baseline(test, "val/nll", words) == ("test/nll", "majority_")
    assert verdict.against_baseline({"val/macro_f1": 0.4}, "val/macro_f1", words) is None


def test_a_gain_is_a_difference_where_high_is_best() -> None:
    assert str(verdict.Gain(0.24, 0.19, 0.28, relative=False)) == "0.240 [0.190, 0.280]"
    assert str(verdict.Gain(38.9, 35.2, 42.6, relative=True)) == "39 % [35, 43]"
    assert str(verdict.Gain(3.14, np.nan, np.nan, relative=True)) == "3.1 %"
    assert verdict.Gain(3.14, np.nan, np.nan, relative=True).better
    assert not verdict.Gain(3.14, -1.0, 5.0, relative=True).better
    assert not verdict.Gain(-3.14, -5.0, 1.0, relative=True).worse


def test_a_verdict_is_no_number_that_has_a_spread(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"fold-{k}", 0.5) for k in range(2)]
    for run in runs:
        run.write_metrics(verdict.judge(run, numbers(run)))
    assert set(spread(runs)) == {"val/rmse", "val/mean_rmse"}
