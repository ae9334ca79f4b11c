"""The end of a sweep, of runs that were made up: their tables are those of real ones, and nothing is fitted."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

import galaxyml.sweeps.finish as sweeping
from galaxyml.cli import report
from galaxyml.evaluation import joined
from galaxyml.evaluation.plots import bars
from galaxyml.kinds import Stage
from galaxyml.kinds.fractions import Fractions
from galaxyml.reports import sweep_report, sweep_table
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import PlannedJob, RunDir
from galaxyml.runs.run_lock import RUN, Holder

Command = Callable[..., tuple[int, str]]
COUNT = 120


class TwoFractions(Fractions):
    """Two fractions that no tree relates, which are only compared."""

    def __init__(self) -> None:
        self.outputs = ["a", "b"]

    def in_words(self, column: str) -> tuple[str, str]:
        return "", column

    def stages(self) -> list[Stage]:
        return []


def made(
    sweep: Path,
    name: str,
    noise: float = 0.1,
    state: str = "finished",
    epochs: int = 4,
    plan: bool = True,
    **told: Any,
) -> RunDir:
    """A run of a fold whose model is right but for noise, as far as its state says that it is."""
    found = re.fullmatch(r"fold-(\d+)(?:_(.*?))?(?:_?seed-(\d+))?", name)
    assert found is not None
    fold, seed = int(found[1]), int(found[3] or 0)
    swept = [part.replace("-", "=", 1) for part in (found[2] or "").split("_") if part]
    overrides = ["task=galaxyzoo", f"fold={fold}", f"seed={seed}", *swept, *told.pop("overrides", [])]
    run = RunDir(sweep / name)
    if plan:
        trial = re.search(r"trial-(\d+)", name)
        group = name.partition("_")[2]
        RunDir(sweep).plan({name: PlannedJob(overrides, fold, group, int(trial[1]) if trial else None)})
    if state == "not begun":
        return run
    config = {"task": "galaxyzoo", "monitor": "val/rmse", "mode": "min", "epochs": 4, "predict_with": "last"}
    rate = next((float(each.partition("=")[2]) for each in overrides if each.startswith("optim.lr=")), 0.001)
    config |= {"fold": fold, "seed": seed, "optim": {"lr": rate}, "kind": {"_target_": f"{__name__}.TwoFractions"}}
    config |= {"group": name.partition("_")[2], "split": {"_target_": "galaxyml.data.splits.Folds"}}
    run.start(OmegaConf.create(config), overrides)
    rng = np.random.default_rng([fold, seed, round(1e6 * noise)])
    levels = noise + np.exp(-np.arange(epochs)) * 0.1
    run.write_history([{"epoch": at, "val/rmse": level} for at, level in enumerate(levels)])
    run.update_status(state=state, monitor="val/rmse", began=100.0, ended=175.5, **told)
    (run.path / "galaxyml.log").write_text("what happened")
    if state != "finished":
        return run
    ids = np.arange(COUNT)
    true = np.random.default_rng(seed).random((COUNT, 2))
    catalog = pd.DataFrame({"id": ids, "split": "train", "fold": ids % 2, "a": true[:, 0], "b": true[:, 1]})
    catalog.loc[catalog["fold"] == fold, "split"] = "val"
    run.write_catalog(catalog)
    data = {"source": "a made-up sky", "folder": "sky", "sha256": {}, "notes": []}
    run.write_provenance(seed, "CPU", {**data, "objects": {"train": 60, "val": 60, "test": 0}})
    held_out = catalog["split"] == "val"
    said = pd.DataFrame({"id": ids[held_out]})
    values = true[held_out] + noise * rng.standard_normal((held_out.sum(), 2))
    said[["a", "b"]] = values
    for by in ("", "net"):
        run.write_predictions("val", said, by)
    run.write_metrics({"val/rmse": float(np.sqrt(np.mean((values - true[held_out]) ** 2))), "val/rmse/a": 0.5})
    return run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "multirun" / "galaxyzoo" / "sweep"


def table(sweep: Path) -> pd.DataFrame:
    return pd.read_csv(sweep / "sweep.csv").set_index("folder")


def test_every_job_is_a_row_with_what_was_swept(sweep: Path) -> None:
    for lr, noise in (("0.001", 0.1), ("0.0003", 0.2)):
        for fold in (0, 1):
            made(sweep, f"fold-{fold}_optim.lr-{lr}", noise, overrides=["data.workers=2"] if fold else [])
    assert sweeping.end(sweep, [run.name for run in RunDir(sweep).children()]) == 0
    rows = table(sweep)
    first = ["combination", "optim.lr", "fold", "seed", "state", "val/rmse"]
    assert list(rows.columns) == [*first, "epochs", "best_epoch", "seconds", "device", "reason"]
    assert rows.loc["fold-1_optim.lr-0.0003", "optim.lr"] == 0.0003
    assert rows["fold"].tolist() == [0, 0, 1, 1]
    assert (rows["seconds"] == 75.5).all()
    assert (rows["best_epoch"] == 4).all()
    for name, value in rows["val/rmse"].items():
        assert value == RunDir(sweep / str(name)).metrics()["val/rmse"]  # to the last bit


def test_a_key_that_only_some_commands_gave_has_the_configurations_value(sweep: Path) -> None:
    made(sweep, "fold-0_optim.lr-0.1")
    made(sweep, "fold-0_model-tiny", overrides=[])
    found = sweep_table.swept(sweep_table.read_jobs(RunDir(sweep)))
    assert found == {"model": ["tiny", ""], "optim.lr": ["0.001", "0.1"]}


def test_a_sweep_without_a_plan_is_known_by_its_runs(sweep: Path) -> None:
    for lr in ("0.1", "0.01"):
        made(sweep, f"fold-0_optim.lr-{lr}", plan=False)
    jobs = sweep_table.read_jobs(RunDir(sweep))
    assert sweep_table.swept(jobs) == {"optim.lr": ["0.01", "0.1"]}
    assert [job.combination for job in jobs] == ["optim.lr-0.01", "optim.lr-0.1"]


def test_combinations_are_ranked_out_of_fold_and_over_seeds(sweep: Path) -> None:
    for lr, noise in (("0.1", 0.3), ("0.01", 0.1)):
        for seed in (0, 1):
            for fold in (0, 1):
                made(sweep, f"fold-{fold}_optim.lr-{lr}_seed-{seed}", noise)
    assert sweeping.end(sweep, [run.name for run in RunDir(sweep).children()]) == 0
    text = (sweep / "report.md").read_text()
    values = []
    for seed in (0, 1):
        run = RunDir(sweep / "joined" / f"optim.lr-0.01_seed-{seed}")
        said = run.predictions("val")
        assert said is not None
        true = run.catalog().set_index("id").loc[said["id"]]
        assert len(said) == COUNT
        values.append(np.sqrt(np.mean((said[["a", "b"]].to_numpy() - true[["a", "b"]].to_numpy()) ** 2)))
    assert re.search(rf"\| 1 \| optim\.lr-0\.01 \| {np.mean(values):.4f} \[.*\] \|  \|  \| 100% \|", text)
    assert re.search(
        r"\| 2 \| optim\.lr-0\.1 \| 0\.\d+ \[.*\] \| \+0\.\d+ \[\+0\.\d+, \+0\.\d+\] \| 0\.002 \| 0% \|", text
    )
    assert f"On the {COUNT} galaxies that all predicted." in text
    rows = table(sweep)
    own = rows[rows["combination"] == "optim.lr-0.01"]
    over_folds = np.sqrt(own.groupby("seed")["val/rmse"].var().mean())
    over_seeds = own.groupby("seed")["val/rmse"].mean()
    assert (
        f"| optim.lr-0.01 | 4 of 4 | {own['val/rmse'].mean():.4f} ± {over_folds:.4f} (2) "
        f"| {over_seeds.mean():.4f} ± {over_seeds.std():.4f} (2) |"
    ) in text
    assert "| 0:01:16 |" in text


def test_a_failed_job_is_told_with_its_log_and_nothing_is_joined(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(sweep, "fold-0")
    made(sweep, "fold-1", state="failed", epochs=2, reason="CUDA out of memory\nin conv2d")
    made(sweep, "fold-2", state="not begun")
    assert sweeping.end(sweep, ["fold-0", "fold-1"]) == 1
    said = capsys.readouterr().err
    assert "failed: fold-1; nothing was joined" in said
    assert f"fold-1: CUDA out of memory in conv2d; log: {sweep / 'fold-1' / 'galaxyml.log'}" in said
    assert "The same command finishes it and keeps the others" in said
    assert f"partial report: {sweep / 'report.html'}" in said
    assert not (sweep / "metrics.json").exists()
    text = (sweep / "report.md").read_text()
    assert "3 jobs: 1 failed, 1 finished, 1 not begun. Nothing is joined" in text
    assert "- `fold-1`: failed: CUDA out of memory in conv2d (log: [fold-1/galaxyml.log](fold-1/galaxyml.log))" in text
    assert "- `fold-2`: not begun\n" in text
    rows = table(sweep)
    assert rows["state"].tolist() == ["finished", "failed", "not begun"]
    assert rows.loc["fold-1", "reason"] == "CUDA out of memory in conv2d"
    assert rows.loc["fold-1", "epochs"] == 2
    assert rows["val/rmse"].isna().tolist() == [False, False, True]
    assert (sweep / "figures" / "learning_curves.png").is_file()


def test_a_finished_run_that_was_refused_fails_the_command(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(sweep, "fold-0")
    assert sweeping.end(sweep, ["fold-0"]) == 0
    before = contents(sweep)
    assert sweeping.end(sweep, ["fold-0"], ["fold-0"]) == 1
    said = capsys.readouterr().err
    assert "fold-0: refused, and kept as it was" in said
    assert "carries on" not in said
    assert contents(sweep) == before


def test_what_is_running_is_told_with_its_epoch_unless_its_process_is_gone(sweep: Path) -> None:
    gone = replace(Holder(), pid=2**22 + 1)  # more than Linux has
    far = replace(gone, host="elsewhere", namespace="elsewhere")
    for fold, holder in enumerate((Holder(), gone, far, None, replace(Holder(), began="another time"))):
        run = made(sweep, f"fold-{fold}", state="training", epochs=3 - fold % 3)
        if holder is not None:
            (run.path / RUN).write_text(json.dumps(asdict(holder)))
    sweeping.report(RunDir(sweep))
    text = (sweep / "report.md").read_text()
    assert "- `fold-0`: training: epoch 3 of 4" in text
    assert "- `fold-1`: stopped: epoch 2 of 4" in text
    assert "- `fold-2`: training: epoch 1 of 4" in text
    assert "- `fold-3`: stopped: epoch 3 of 4" in text
    assert "- `fold-4`: stopped: epoch 2 of 4" in text  # whose number another process has now


def test_a_curve_goes_through_all_phases_of_a_fit(sweep: Path) -> None:
    run = made(sweep, "fold-0", state="training", phases=["head", "lora", "all"])
    for phase, values in (("head", [0.9, 0.8]), ("lora", [0.7])):
        run.phase(phase).write_history([{"epoch": at, "val/rmse": value} for at, value in enumerate(values)])
    run.write_history([{"epoch": 0, "val/rmse": 0.6}, {"epoch": 1, "val/other": 1.0}, {"epoch": 2, "val/rmse": 0.5}])
    (job,) = sweep_table.read_jobs(RunDir(sweep))
    epochs, reached, ends = job.curve("val/rmse")
    assert (epochs.tolist(), reached.tolist(), ends) == ([1, 2, 3, 4, 6], [0.9, 0.8, 0.7, 0.6, 0.5], [2, 3])
    assert [part.tolist() for part in job.curve("val/loss")[:2]] == [[], []]
    assert job.reached("val/rmse", "min") == 0.5


def test_pruned_trials_are_rows_below_the_ranked_and_not_joined(sweep: Path) -> None:
    for trial, noise, state in ((0, 0.2, "finished"), (1, 0.1, "finished"), (2, 0.4, "pruned"), (3, 0.3, "pruned")):
        rate, decay = 10.0 ** -(1 + trial), 0.01 * trial
        made(
            sweep,
            f"fold-0_trial-{trial:03}",
            noise,
            state,
            epochs=4 if state == "finished" else 2,
            overrides=[f"optim.lr={rate}", f"optim.weight_decay={decay}"],
        )
    assert sweeping.end(sweep, list(RunDir(sweep).jobs())) == 0
    assert not (sweep / "joined").exists()  # the best is to be run on all folds
    rows = [line for line in (sweep / "report.md").read_text().split("## Ranking")[1].splitlines() if "| trial" in line]
    assert [re.findall(r"trial-\d+", row)[0] for row in rows[:4]] == [
        "trial-001",
        "trial-000",
        "trial-003",
        "trial-002",
    ]
    assert "| 0.3368 at epoch 2 | pruned |" in rows[2]
    assert table(sweep)["optim.lr"].tolist() == [0.1, 0.01, 0.001, 0.0001]
    assert {path.stem for path in RunDir(sweep).figures()} == {"learning_curves", "parallel_coordinates"}
    assert "Not finished" not in (sweep / "report.md").read_text()


def test_folds_alone_keep_their_joined_report(sweep: Path) -> None:
    for fold in (0, 1):
        made(sweep, f"fold-{fold}")
    assert sweeping.end(sweep, ["fold-0", "fold-1"]) == 0
    assert RunDir(sweep).finished
    text = (sweep / "report.md").read_text()
    assert "2 folds joined" in text
    assert "## Provenance" in text
    assert "| [fold-1](fold-1/report.md) | finished |" in text
    assert "![learning curves](figures/learning_curves.png)" in text
    assert "## Ranking" not in text


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "joined.json"
    }


@pytest.mark.parametrize("grid", [False, True])
def test_a_report_made_again_is_the_same(sweep: Path, grid: bool) -> None:
    for lr in ("0.1", "0.01") if grid else ("0.1",):
        for fold in (0, 1):
            made(sweep, f"fold-{fold}" + (f"_optim.lr-{lr}" if grid else ""), float(lr))
    assert sweeping.end(sweep, list(RunDir(sweep).jobs())) == 0
    before = contents(sweep)
    for name in ("report.md", "sweep.csv"):
        (sweep / name).unlink()
    report.main([str(sweep)])
    after = contents(sweep)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {name for name in before if name.endswith("provenance.json")}  # by which command it was joined


def test_what_has_not_changed_is_not_joined_again(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from galaxyml.runs import provenance

    committed: dict[str, Any] = {"versions": {"galaxyml": "1"}, "commit": "abc", "dirty": False}
    monkeypatch.setattr(provenance, "origin", lambda *_: dict(committed))
    times: list[str] = []
    join = joined.join

    def counted(groups: Sequence[Sequence[RunDir]], into: RunDir) -> None:
        times.append(into.name)
        join(groups, into)

    monkeypatch.setattr(joined, "join", counted)
    for fold in (0, 1):
        made(sweep, f"fold-{fold}")
    run = RunDir(sweep)

    def again() -> int:
        times.clear()
        sweeping.join(run)
        return len(times)

    assert again() == 1
    assert again() == 0
    (sweep / "predictions" / "val.parquet").unlink()
    assert again() == 1
    assert again() == 0
    first = RunDir(sweep / "fold-0")
    first.write_metrics({**first.metrics(), "val/rmse": 0.2})  # as if it had been made anew
    assert again() == 1
    committed["commit"] = "def"
    assert again() == 1
    made(sweep, "fold-0_optim.lr-0.1")
    assert again() == 2  # two combinations, in folders of their own
    assert not run.finished  # the sweep itself is not one run any more
    committed["dirty"] = True
    assert again() == again() == 2


def test_what_was_joined_is_still_shown_when_more_folds_have_begun(sweep: Path) -> None:
    for fold in (0, 1):
        made(sweep, f"fold-{fold}")
    assert sweeping.end(sweep, ["fold-0", "fold-1"]) == 0
    made(sweep, "fold-2", state="waiting")
    sweeping.report(RunDir(sweep))
    text = (sweep / "report.md").read_text()
    assert "2 folds joined" in text
    assert "What is joined is without these:\n\n- `fold-2`: waiting" in text


def test_an_unfinished_grid_ranks_what_is_whole(sweep: Path) -> None:
    for lr, noise in (("0.1", 0.3), ("0.01", 0.1), ("0.001", 0.2)):
        for fold in (0, 1):
            state = "training" if (lr, fold) == ("0.001", 1) else "finished"
            made(sweep, f"fold-{fold}_optim.lr-{lr}", noise, state, host="elsewhere")
    sweeping.report(RunDir(sweep))
    assert not (sweep / "joined").exists()
    ranked = (sweep / "report.md").read_text().split("## Ranking")[1].split("##")[0]
    assert re.findall(r"\| (\d) \| optim\.lr-(\S+) ", ranked) == [("1", "0.01"), ("2", "0.1")]
    assert f"On the {COUNT} galaxies" in ranked


def test_what_cannot_be_ranked_is_told(sweep: Path) -> None:
    for lr in ("0.1", "0.01"):
        run = made(sweep, f"fold-0_optim.lr-{lr}", float(lr))
    catalog = run.catalog()
    run.write_catalog(catalog.assign(a=0.5))
    sweeping.report(RunDir(sweep))
    assert "Not ranked by val: " in (text := (sweep / "report.md").read_text())
    assert "different targets for 60 of 60 galaxies" in text
    for job in RunDir(sweep).children():  # a monitored loss is no measure of galaxies
        job.write_catalog(catalog)
        config = job.config
        config.monitor = "val/loss"
        OmegaConf.save(config, job.path / ".hydra" / "config.yaml")
        job.write_history([{"epoch": 0, "val/loss": 1.5}])
    shutil.rmtree(sweep / "joined")
    sweeping.report(RunDir(sweep))
    text = (sweep / "report.md").read_text()
    assert "val/loss is no measure of single objects, so that val/rmse ranks." in text
    assert "| 1 | optim.lr-0.01 |" in text
    assert table(sweep)["val/loss"].tolist() == [1.5, 1.5]


def test_a_sweep_over_epochs_has_one_column_of_those_that_were_made(sweep: Path) -> None:
    for epochs in (2, 4):
        made(sweep, f"fold-0_epochs-{epochs}", epochs=epochs)
    RunDir(sweep).plan({"fold-0": PlannedJob(["fold=0"], 0)})
    sweeping.report(RunDir(sweep))
    header = (sweep / "sweep.csv").read_text().splitlines()[0].split(",")
    assert header.count("epochs") == 1
    assert table(sweep)["epochs"].to_dict() == {"fold-0": 0, "fold-0_epochs-2": 2, "fold-0_epochs-4": 4}


def test_a_sweep_in_which_nothing_has_begun_has_its_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDir(sweep).plan({"fold-0": PlannedJob(["fold=0", "seed=3"], 0)})
    assert sweeping.end(sweep, ["fold-0", "fold-9"]) == 1
    assert "failed: fold-0, fold-9" in capsys.readouterr().err
    assert table(sweep)["state"].tolist() == ["not begun", "not begun"]
    assert "2 jobs: 2 not begun" in (sweep / "report.md").read_text()


def test_the_command_reports_runs_and_sweeps(sweep: Path) -> None:
    run = made(sweep, "fold-0")
    run.write_figure("one", bars(["a"], np.ones(1)), "A bar.")
    run.write_figure("log M/größe", bars(["a"], np.ones(1)), "Of a*b in val/macro_f1.")
    report.main([str(run.path), str(sweep)])
    assert "fold-0" in (run.path / "report.md").read_text()
    page = (run.path / "report.html").read_text()
    assert "<figcaption>A bar.</figcaption>" in page
    assert "<figcaption>Of a*b in val/macro_f1.</figcaption>" in page
    assert page.count("<figure>") == page.count("data:image/") == 2
    assert "*A bar.*" in (run.path / "report.md").read_text()
    with Image.open(sweep / "figures" / "learning_curves.png") as image:
        assert image.size[0] > 400
    with pytest.raises(UserError, match=r"it holds runs\. Give one of them: .*/sweep"):
        report.main([str(sweep.parent)])


def test_a_verdict_needs_two_combinations(sweep: Path) -> None:
    made(sweep, "fold-0")
    made(sweep, "fold-1")
    assert sweep_report.judge(sweep_table.read_jobs(RunDir(sweep)), []) == sweep_report.Verdict()
