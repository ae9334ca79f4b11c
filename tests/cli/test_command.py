"""The command as users type it."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from galaxyml.kinds.fractions.metrics import rmse
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, violation

Command = Callable[..., tuple[int, str]]
COLUMNS = DecisionTree.load("kaggle").columns


def typed(line: str, folder: Path, sky: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "galaxyml", *line.split()],
        cwd=folder,
        env={**os.environ, "GALAXYML_CACHE": str(sky.parent / "cache"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_the_command_of_the_readme_sweeps_five_folds(sky: Path, tmp_path: Path) -> None:
    line = "task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4"
    smaller = f"scale=smoke size=32 epochs=1 data_dir={sky.parent} name=literal"
    done = typed(f"{line} {smaller}", tmp_path, sky)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    sweep = tmp_path / "multirun" / "galaxyzoo" / "literal"
    assert sorted(path.name for path in sweep.glob("fold-*")) == [f"fold-{k}" for k in range(5)]
    assert str(Path("multirun/galaxyzoo/literal/report.html")) in done.stdout

    solutions = pd.read_csv(sky / "training_solutions_rev1.csv").set_index("GalaxyID")[COLUMNS]
    out_of_fold = pd.read_parquet(sweep / "predictions" / "val.parquet").set_index("id")[COLUMNS]
    assert sorted(out_of_fold.index) == sorted(solutions.index)
    found = metrics(sweep)
    assert found["val/rmse"] == pytest.approx(rmse(out_of_fold.to_numpy(), solutions.loc[out_of_fold.index].to_numpy()))
    assert np.isfinite([value for name, value in found.items() if name not in ("folds", "verdict")]).all()
    assert violation(torch.tensor(out_of_fold.to_numpy()), DecisionTree.load("kaggle")) < 1e-6

    folds = [pd.read_parquet(sweep / f"fold-{k}" / "predictions" / "net" / "test.parquet") for k in range(5)]
    mean = np.mean([fold[COLUMNS].to_numpy(float) for fold in folds], axis=0)
    joined = pd.read_parquet(sweep / "predictions" / "net" / "test.parquet")
    np.testing.assert_allclose(joined[COLUMNS], mean, atol=1e-6)
    over = [metrics(sweep / f"fold-{k}")["val/rmse"] for k in range(5)]
    assert found["folds"]["val/rmse"]["mean"] == pytest.approx(np.mean(over))  # type: ignore[index]
    assert found["folds"]["val/rmse"]["std"] == pytest.approx(np.std(over, ddof=1))  # type: ignore[index]

    submission, benchmark = (pd.read_csv(path) for path in (sweep / "submission.csv", sky / "all_zeros_benchmark.csv"))
    assert list(submission.columns) == list(benchmark.columns)
    assert submission["GalaxyID"].tolist() == benchmark["GalaxyID"].tolist()


INTERRUPTIBLE = "callbacks={stop:{_target_:interrupting.InterruptAt,epoch:2}} epochs=5"


@pytest.mark.parametrize(("name", "status"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_was_stopped_ends_as_an_unbroken_one(
    command: Command, sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "training"))
    status_of, told = command(INTERRUPTIBLE.split()[0], "epochs=5", "name=unbroken")
    assert status_of == 0, told
    if name == "SIGKILL":  # which this process would not survive
        small = f"task=galaxyzoo model=tiny size=32 batch_size=16 trainer=cpu data_dir={sky.parent}"
        path = f"{Path(__file__).parents[1] / 'training'}"
        typed_line = f"{small} name=broken figures=false {INTERRUPTIBLE}"
        stopped = typed(typed_line, tmp_path, sky, INTERRUPT_WITH=name, PYTHONPATH=path)
        assert stopped.returncode == status, stopped.stderr
    else:
        monkeypatch.setenv("INTERRUPT_WITH", name)
        ended, printed = command(*INTERRUPTIBLE.split(), "name=broken")
        monkeypatch.delenv("INTERRUPT_WITH")
        assert ended == status, printed
        assert "name=broken carries on" in printed
        assert "Traceback" not in printed
    broken, unbroken = (tmp_path / "multirun" / "galaxyzoo" / run / "fold-0" for run in ("broken", "unbroken"))
    assert not (broken / "metrics.json").exists()
    assert len(pd.read_csv(broken / "history.csv")) == 2
    left = {path.name for path in broken.glob("*.lock")}
    assert left == ({"run.lock", "launch.lock"} if name == "SIGKILL" else set())

    again, said = command(INTERRUPTIBLE.split()[0], "epochs=5", "name=broken")
    assert again == 0, said
    assert "carries on from its last checkpoint" in said
    assert not list(broken.glob("*.lock"))
    assert metrics(broken) == metrics(unbroken)  # to the last bit
    pd.testing.assert_frame_equal(pd.read_csv(broken / "history.csv"), pd.read_csv(unbroken / "history.csv"))
    weights = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (broken, unbroken)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_same_command_keeps_what_is_finished(command: Command, tmp_path: Path) -> None:
    assert command("name=twice", "-m", "fold=0,1")[0] == 0
    run = tmp_path / "multirun" / "galaxyzoo" / "twice"
    times = {path: path.stat().st_mtime_ns for path in run.glob("fold-*/checkpoints/*")}
    status, said = command("name=twice", "-m", "fold=0,1,2")
    assert status == 0
    assert "fold-0: finished before, kept." in said
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(pd.read_parquet(run / "predictions" / "val.parquet")) > 24
    shutil.rmtree(run / "fold-0" / "checkpoints")
    status, said = command("name=twice", "fold=0")
    assert status == 0
    assert "fold-0: finished before, kept." in said
    assert f"note: {run / 'fold-0' / 'checkpoints' / 'last.ckpt'} is not there: the run's weights were deleted" in said


def test_figures_can_be_left_out_and_change_no_number(command: Command, tmp_path: Path) -> None:
    for name, drawn in (("plain", False), ("drawn", True)):
        status, said = command(f"name={name}", f"figures={drawn}")
        assert status == 0, said
        assert ("\nfigures     " in said) == drawn
    runs = [tmp_path / "multirun" / "galaxyzoo" / name / "fold-0" for name in ("plain", "drawn")]
    assert [(run / "figures" / "3_loss_curves.png").exists() for run in runs] == [False, True]
    assert [(run / "figures" / "6_intervals.png").exists() for run in runs] == [False, True]
    assert metrics(runs[0]) == metrics(runs[1])
    assert "| rmse |" in (runs[0] / "report.md").read_text()
    status, said = command("name=plain", "figures=true")
    assert status == 0, said
    assert "finished before, kept" in said


def test_a_changed_configuration_is_refused_with_its_keys(command: Command, tmp_path: Path) -> None:
    assert command("name=same")[0] == 0
    files = tmp_path / "multirun" / "galaxyzoo" / "same"
    before = {
        path: path.read_bytes()
        for path in files.rglob("*")
        if path.suffix in (".json", ".parquet", ".ckpt", ".yaml", ".csv")
    }
    status, said = command("name=same", "optim.lr=0.1", "seed=1")
    assert status == 2
    assert "holds a run of another configuration: optim.lr (0.001 then, 0.1 now), seed (0 then, 1 now)" in said
    assert "Choose another name=" in said
    assert {path: path.read_bytes() for path in before} == before
    status, said = command("name=same", "fold=1", "epochs=3")  # would be joined with fold 0
    assert status == 2
    assert "epochs (2 then, 3 now)" in said
    status, said = command("name=same", "data.workers=0")  # where it runs may change
    assert status == 0


def test_a_trainer_that_computes_otherwise_is_another_configuration(command: Command) -> None:
    assert command("name=clip", "epochs=1")[0] == 0
    status, said = command("name=clip", "epochs=1", "trainer.gradient_clip_val=0.1")
    assert status == 2
    assert "trainer.gradient_clip_val (None then, 0.1 now)" in said


def test_a_misspelt_fold_does_not_spoil_the_name(command: Command) -> None:
    assert command("name=typo", "fold=9", "epochs=1")[0] == 2
    assert command("name=typo", "fold=0", "epochs=1")[0] == 0


def test_the_name_that_an_unnamed_run_got_carries_on(command: Command, tmp_path: Path) -> None:
    assert command("epochs=1")[0] == 0
    (run,) = (tmp_path / "multirun" / "galaxyzoo").iterdir()
    status, said = command("epochs=1", f"name={run.name}")
    assert status == 0
    assert "finished before, kept" in said


def test_a_join_that_fails_is_told_and_fails_the_command(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from galaxyml.evaluation import joined
    from galaxyml.runs.errors import UserError

    def refuse(*_: object) -> None:
        raise UserError("these do not belong together")

    monkeypatch.setattr(joined, "join", refuse)
    status, said = command("name=apart", "epochs=1")
    assert status == 1
    assert "error: these do not belong together" in said


def test_a_fit_that_ended_early_is_not_taken_up_again(command: Command, tmp_path: Path) -> None:
    stop = "{_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/rmse,patience:0,min_delta:1}"
    line = ("name=early", "epochs=6", f"callbacks={{stop:{stop}}}")
    assert command(*line)[0] == 0
    run = tmp_path / "multirun" / "galaxyzoo" / "early" / "fold-0"
    before = metrics(run)
    assert len(pd.read_csv(run / "history.csv")) < 6
    (run / "metrics.json").unlink()  # as if it had been killed while predicting
    assert command(*line)[0] == 0
    assert metrics(run) == before


def test_changed_tables_under_the_same_name_are_refused(command: Command, files: Path) -> None:
    assert command("name=tables", f"data_dir={files.parent}", "epochs=1")[0] == 0
    table = files / "training_solutions_rev1.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    status, said = command("name=tables", f"data_dir={files.parent}", "epochs=1")
    assert status == 1
    assert "made from other data: training_solutions_rev1.csv changed since" in said


def test_other_swept_keys_join_by_themselves(
    command: Command, tmp_path: Path, judged_as_scored: Callable[[Path, str], set[str]]
) -> None:
    status, said = command("name=grid", "epochs=1", "-m", "fold=0,1", "optim.lr=1e-3,1e-4")
    assert status == 0, said
    grid = tmp_path / "multirun" / "galaxyzoo" / "grid"
    runs = sorted(path.name for path in grid.glob("fold-*"))
    assert runs == [f"fold-{k}_optim.lr-{lr}" for k in (0, 1) for lr in ("0.0001", "0.001")]
    assert sorted(path.name for path in (grid / "joined").iterdir()) == ["optim.lr-0.0001", "optim.lr-0.001"]
    assert (grid / "joined" / "optim.lr-0.001" / "submission.csv").is_file()
    shared = judged_as_scored(grid / "joined" / "optim.lr-0.001", "val")
    assert shared == {name + end for name in ("rmse", "pearson") for end in ("", *(f"/{column}" for column in COLUMNS))}
    assert sorted(pd.read_csv(grid / "sweep.csv")["folder"]) == runs
    assert "## Ranking" in (grid / "report.md").read_text()
    assert "above the first" in said
    assert (grid / "figures" / "learning_curves.png").is_file()


def test_one_broken_fold_leaves_the_others_and_joins_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from galaxyml import experiment
    from galaxyml.runs.errors import UserError

    made = experiment.run

    def run(config: DictConfig, folder: Path) -> float:
        if config.fold == 2:
            raise UserError("a bad day")
        return made(config, folder)

    monkeypatch.setattr(experiment, "run", run)
    status, said = command("name=broken", "epochs=1", "-m", "fold=0,2,1")
    assert status == 1
    assert "error: a bad day" in said
    assert "nothing was joined" in said
    assert "The same command finishes it and keeps the others" in said
    broken = tmp_path / "multirun" / "galaxyzoo" / "broken"
    assert (broken / "fold-0" / "metrics.json").is_file()
    assert (broken / "fold-1" / "metrics.json").is_file()
    assert not (broken / "metrics.json").exists()
    assert "Traceback" not in said


def test_what_only_the_run_can_tell_is_answered_in_one_sentence(command: Command) -> None:
    status, said = command("folds=100")
    assert status == 1
    assert "Traceback" not in said
    assert "100 parts of the split cannot be dealt from 60 different objects" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["optim.lrr=3"], "There is no key 'optim.lrr'. Did you mean lr? A new one takes a +: +optim.lrr=…"),
        (["-m", "optim.lrr=3,4"], "There is no key 'optim.lrr'. Did you mean lr? A new one takes a +: +optim.lrr=…"),
        (["optim.lr.x=3"], "There is no key 'optim.lr.x'. 'optim.lr' is a value without keys."),
        (["~optim.nothing"], "Could not delete from config. 'optim.nothing' does not exist."),
        (
            ["-m", "hydra/launcher=pool", "hydra.launcher.gpu=3"],
            "There is no key 'hydra.launcher.gpu'. Did you mean gpus",
        ),
        (["-m", "hydra/sweeper=basic", "optim.lr=interval(1,2)"], "does not support sweep type : INTERVAL_SWEEP"),
    ],
)
def test_what_hydra_cannot_read_is_answered_in_one_line(command: Command, args: list[str], message: str) -> None:
    status, said = command(*args)
    assert status == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert "HYDRA_FULL_ERROR" not in said


def test_seed_decides_the_result(command: Command, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert command(f"name={name}", f"seed={seed}")[0] == 0
    a, b, c = (metrics(tmp_path / "multirun" / "galaxyzoo" / name / "fold-0")["val/rmse"] for name in "abc")
    assert a == b != c


def test_tensorboard_has_curves_figures_and_hyperparameters(command: Command, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert command("name=board", "epochs=3", "figures=true")[0] == 0
    board = EventAccumulator(str(tmp_path / "multirun" / "galaxyzoo" / "board" / "fold-0" / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"train/loss", "val/loss", "val/rmse", "val/pearson", "learning_rate"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"val/rmse by column", "val/objects"}
    assert len(board.Scalars("throughput")) == 3
    assert all(event.value > 0 for event in board.Scalars("throughput"))
    history = pd.read_csv(tmp_path / "multirun" / "galaxyzoo" / "board" / "fold-0" / "history.csv")
    np.testing.assert_allclose([event.value for event in board.Scalars("val/rmse")], history["val/rmse"], rtol=1e-5)
    content = str(board.summary_metadata["_hparams_/session_start_info"])
    for name in ("optim.lr", "fold", "model", "tiny"):
        assert name in content
    assert "cache_dir" not in content


def test_tensorboard_shows_what_is_trivial_and_what_the_net_sees(command: Command, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    assert command("name=board", "epochs=2")[0] == 0
    run = tmp_path / "multirun" / "galaxyzoo" / "board" / "fold-0"
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    catalog = pd.read_parquet(run / "catalog.parquet")
    columns = DecisionTree.load("kaggle").columns
    train, val = (catalog.loc[catalog["split"] == split, columns].to_numpy() for split in ("train", "val"))
    trivial = np.sqrt(((train.mean(axis=0) - val) ** 2).mean())
    beside = EventAccumulator(str(run / "tensorboard" / "baseline"))  # to TensorBoard a run, so one chart has both
    beside.Reload()
    assert [event.value for event in beside.Scalars("val/rmse")] == pytest.approx([trivial] * 2, rel=1e-5)
    assert not [tag for tag in board.Tags()["scalars"] if tag.startswith("baseline")]
    (event,) = board.Tensors("custom_scalars__config__")
    categories = Layout.FromString(event.tensor_proto.string_val[0]).category
    charts = {chart.title: list(chart.multiline.tag) for category in categories for chart in category.chart}
    assert charts["loss"] == ["^train/loss$", "^val/loss$"]
    assert charts["rmse"] == ["^val/rmse$"]
    assert next(iter(charts)) == "rmse"
    assert all(category.title.startswith("galaxyzoo: ") for category in categories)
    (folder,) = (run / "tensorboard").glob("*/features")
    rows = (folder / "metadata.tsv").read_text().splitlines()
    assert rows[0].split("\t")[:2] == ["id", "Class1.1"]
    assert {row.split("\t")[0] for row in rows[1:]} == set(catalog.loc[catalog["split"] == "val", "id"].astype(str))
    assert len((folder / "tensors.tsv").read_text().splitlines()) == len(val)
    with Image.open(folder / "sprite.png") as sprite:
        assert sprite.size == (4 * 48, 4 * 48)  # 12 images in a square


def test_a_sweep_without_a_name_has_one_folder_however_long_it_takes_to_begin(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = (datetime(2026, 1, 1) + timedelta(seconds=second) for second in itertools.count())
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: next(clock)))  # of ${now:…}
    status, said = command("epochs=1", "-m", "fold=0,1")
    assert status == 0, said
    (sweep,) = (tmp_path / "multirun" / "galaxyzoo").iterdir()
    assert sorted(path.name for path in sweep.glob("fold-*")) == ["fold-0", "fold-1"]
    assert len({RunDir(sweep / fold).config.name for fold in ("fold-0", "fold-1")}) == 1


def test_pretrained_weights_from_a_file(command: Command, real: Path) -> None:
    weights = real / "weights" / "tf_efficientnet_lite0.pth"
    status, said = command("model=tf_efficientnet_lite0", f"model.weights={weights}", "size=32", "epochs=1")
    assert status == 0, said
