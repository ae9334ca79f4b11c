"""What a command cannot do is answered before anything is written, in a sentence and with status 2."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import galaxyml
from galaxyml.cli.help import GREETING
from galaxyml.sweeps import forkserver

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Callable[..., tuple[int, str]]
) -> Callable[[list[str]], tuple[int, str]]:
    """Runs `galaxyml` with just these words in an empty folder, which is still empty afterwards."""
    from galaxyml.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALAXYML_CACHE", str(tmp_path / "cache"))

    def run(words: list[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["galaxyml", *words])
        answer = in_process(lambda _: main())
        assert list(tmp_path.iterdir()) == []
        return answer

    return run


@pytest.fixture
def refused(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], str]:
    """Runs `galaxyml` on a small sky; gives the one sentence with which it refuses, and writes nothing."""

    def run(words: list[str]) -> str:
        monkeypatch.setenv("GALAXYML_CACHE", str(tmp_path / "cache"))
        before = sorted(tmp_path.rglob("*"))
        status, said = command(*words)
        assert status == 2, said
        assert said.startswith("error: ")
        assert said.count("\n") == 1, said
        assert "carries on" not in said
        assert sorted(tmp_path.rglob("*")) == before
        return said.removeprefix("error: ").removesuffix("\n")

    return run


@pytest.mark.parametrize("words", [[], ["-m"], ["-q"], ["--quiet", "--multirun"]])
def test_a_command_that_names_nothing_says_how_to_begin(
    typed: Callable[[list[str]], tuple[int, str]], words: list[str]
) -> None:
    assert typed(words) == (0, f"{GREETING}\n")
    assert GREETING.count("\n  galaxyml ") == 3


def test_the_version_is_galaxymls_own(typed: Callable[[list[str]], tuple[int, str]]) -> None:
    assert typed(["--version"]) == (0, f"galaxyml {galaxyml.__version__}\n")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["galaxyzoo"], "galaxyml task=galaxyzoo"),
        (["galaxyzoo", "resnet50", "-m", "fold=0,1"], "galaxyml task=galaxyzoo model=resnet50 -m fold=0,1"),
        (["task=galaxyzoo", "convnext_tiny"], "galaxyml task=galaxyzoo model=convnext_tiny"),
        (["train"], "galaxyml task=galaxyzoo"),
        (["train", "task=galaxy10", "epochs=3"], "galaxyml task=galaxy10 epochs=3"),
        (["--task", "galaxyzoo"], "galaxyml task=galaxyzoo"),
        (["--task=galaxyzoo", "--epochs", "3"], "galaxyml task=galaxyzoo epochs=3"),
        (["task=galaxyzoo", "--batch-size", "32", "-m"], "galaxyml task=galaxyzoo batch_size=32 -m"),
        (["--seed", "-1"], "galaxyml seed=-1"),
        (["--lr", "3e-4"], "galaxyml optim.lr=3e-4"),
        (["--figures"], "galaxyml figures=…"),
        (["task", "galaxyzoo"], "galaxyml task=galaxyzoo"),
        (["task", "=", "galaxyzoo", "-q"], "galaxyml task=galaxyzoo -q"),
        (["task=", "galaxyzoo", "epochs", "=3"], "galaxyml task=galaxyzoo epochs=3"),
        (["task=galaxyzoo", "name=my", "run"], "galaxyml task=galaxyzoo 'name=my run'"),
        (["fold=0,", "1,", "2", "-m"], "galaxyml fold=0,1,2 -m"),
    ],
)
def test_a_slip_is_answered_with_the_command_that_was_meant(
    typed: Callable[[list[str]], tuple[int, str]], words: list[str], meant: str
) -> None:
    status, said = typed(words)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("error: ")
    assert said.endswith(f". Did you mean: {meant}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["galaxyzo"], "There is no command 'galaxyzo'. Did you mean task=galaxyzoo or task=galaxy10?"),
        (["predcit", "RUN"], "There is no command 'predcit'. Did you mean predict?"),
        (["nothing"], "There is no command 'nothing'. There are: alike, bundle"),
        (["task=galaxyzoo", "predict"], "'predict' is a command, and comes first: galaxyml predict RUN"),
        (["task=galaxyzoo", "--multi"], "There is no flag '--multi'. Did you mean --multirun?"),
        (["--epoch", "3"], "There is no flag '--epoch'. Did you mean epochs, which is written key=value?"),
        (["--gpu"], "There is no flag '--gpu'. There are: --cfg, "),
        (["-x", "task=galaxyzoo"], "There is no flag '-x'. There are: --cfg, "),
        (["task=galaxyzoo", "--cfg"], "--cfg needs a value: job, hydra, all."),
        (["--cfg", "jobs"], "--cfg jobs: it must be one of job, hydra, all."),
        (["--cfg", "job", "--info"], "--cfg and --info: give one of them."),
        (["--cfg", "job", "fold=0,1"], "--cfg shows the configuration of one run; give fold a single value"),
        (["task=galaxyzoo", "--resolve"], "--resolve is for --cfg: galaxyml --cfg job --resolve"),
        (["--config-dir"], "--config-dir: give a folder of your own"),
        (["lr=3e-4"], "There is no key 'lr' (lr=3e-4). Did you mean optim.lr? A new one takes a +: +lr=3e-4"),
        (["a b=c"], "'a b=c' is neither a flag nor key=value."),
    ],
)
def test_a_word_that_stands_for_nothing_is_answered_with_what_there_is(
    typed: Callable[[list[str]], tuple[int, str]], words: list[str], message: str
) -> None:
    status, said = typed(words)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: {message}")


SENTENCES = {
    "epochs=ten": "epochs=ten: it must be a whole number, 1 or more.",
    "epochs=-1": "epochs=-1: it must be a whole number, 1 or more.",
    "epochs=null": "epochs=null: it must be a whole number, 1 or more.",
    "epochs=true": "epochs=True: it must be a whole number, 1 or more.",
    "batch_size=-3": "batch_size=-3: it must be a whole number, 1 or more.",
    "batch_size=0": "batch_size=0: it must be a whole number, 1 or more.",
    "size=0": "size=0: it must be a whole number, 1 or more.",
    "size=2": "size=2: this model cannot take it (",
    "seed=x": "seed=x: it must be a whole number, 0 or more.",
    "limit=-1": "limit=-1: it must be a whole number, 1 or more.",
    "fold=7": "fold=7: with folds=5 it must be a whole number from 0 to 4. folds=… changes how many there are.",
    "folds=1": "folds=1: it must be a whole number, 2 or more.",
    "folds=few": "folds=few: it must be a whole number, 1 or more.",
    "data.workers=-1": "data.workers=-1: it must be a whole number, 0 or more.",
    "optim.lr=abc": "optim.lr=abc: it must be a number above 0.",
    "optim.lr=-1": "optim.lr=-1: it must be a number above 0.",
    "optim.lr=nan": "optim.lr=nan: it must be a number above 0.",
    "optim.weight_decay=-1": "optim.weight_decay=-1: it must be a number, 0 or more.",
    "schedule.warmup=2": "schedule.warmup=2: the rise is a fraction of the steps",
    "crop=2": "crop=2: it must be a fraction in (0, 1].",
    "crop=half": "crop=half: it must be a number, such as 0.5.",
    "figures=no": "figures=no: it must be true or false.",
    "patience=0": "patience=0: it must be a whole number of epochs, 1 or more",
    "views=9": "views=9: it must be a whole number from 1",
    "mode=mini": "mode=mini: it must be min or max.",
    "predict_with=first": "predict_with=first: it must be best or last.",
    "tune=neck": "tune=neck: it must be all, head or lora",
    "name=": "name=: it must be the name of one folder, such as name=baseline",
    "name=a b/../c": "name=a b/../c: it must be the name of one folder",
    "name=../x": "name=../x: it must be the name of one folder",
    "name=.hidden": "name=.hidden: it must be the name of one folder",
    "name=a/b": "name=a/b: it must be the name of one folder",
    "trainer.precision=half": "trainer.precision=half: it must be one of auto, 32-true, ",
    "trainer.accelerator=abacus": "trainer.accelerator=abacus: it must be one of auto, cpu, gpu, cuda.",
    "trainer.tf32=maybe": "trainer.tf32=maybe: it must be auto, true or false.",
    "trainer.devices=0": "trainer.devices=0: it must be a whole number, 1 or more, auto, or a list of GPUs.",
    "+trainer.max_epoch=3": "Error in call to target",
    "callbacks={stop:{_target_:nowhere.Stop}}": "Error locating target 'nowhere.Stop'",
    "data_dir=/nowhere": "There is no folder /nowhere/galaxyzoo. ",
    "fold=0,9": "fold=9: with folds=5 it must be a whole number from 0 to 4.",
    "monitor=val/nothing": "monitor=val/nothing: no epoch logs that. There are: train/loss, val/loss, val/",
    "monitor=val/rmsee": "monitor=val/rmsee: no epoch logs that. Did you mean val/rmse",
    "monitor=null": "monitor=null: no epoch logs that.",
    "loss=focal": "This loss takes class indices, one an object, but the targets have shape (2, 37)",
    "loss=fractions": "This loss takes fractions and the votes of their questions, shape (N, K, 2)",
    "optim.lr=1e-3,0": "optim.lr=0: it must be a number above 0.",
}


@pytest.mark.parametrize(("word", "sentence"), SENTENCES.items())
def test_an_impossible_value_is_refused_before_anything_is_written(
    refused: Callable[[list[str]], str], word: str, sentence: str
) -> None:
    assert refused([word, *(["-m"] if "," in word else [])]).startswith(sentence)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(refused: Callable[[list[str]], str]) -> None:
    assert refused(["trainer=gpu"]).startswith("trainer.accelerator=gpu: this machine has no GPU that PyTorch can use.")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=resnet18", "model.weights=nowhere.pth"], "model.weights=nowhere.pth: there is no such file."),
        (["model=timm", "model.name=resnet500"], "model.name=resnet500: timm has no such net."),
        (["task=galaxy10", "data_dir=/nowhere"], "There is no folder /nowhere/galaxy10. "),
        (["task=spirals", "data_dir=/nowhere"], "There is no folder /nowhere/spirals. "),
        (["task=surveys", "tune=all", "data_dir=/nowhere"], "There is no folder /nowhere/surveys. "),
        (["task=plasticc", "data_dir=/nowhere"], "There is no folder /nowhere/plasticc. "),
        (["folds=300", "scale=smoke"], "folds=300: limit=200 leaves fewer objects than the split has parts. Choose"),
        (["task=galaxyzoo", "experiment=galaxy10_small"], "experiment=galaxy10_small is for task=galaxy10, not task="),
        (["task=galaxy10", "loss=mse", "source=simulated"], "This loss compares numbers, but outputs"),
        (["task=plasticc", "monitor=val/rmse", "source=simulated"], "monitor=val/rmse: no epoch logs that."),
        (["task=images", "data_dir=/nowhere"], "There is no folder /nowhere. "),
        (["hydra/sweeper=basic", "optim.lr=interval(1,2)"], "BasicSweeper does not support sweep type"),
        (["optim.lr=interval(-1,1)"], "optim.lr=-1"),
        (["hydra/launcher=pool", "hydra.launcher.processes=0"], "hydra.launcher.processes=0: it must be auto, or "),
    ],
)
def test_parts_that_are_not_there_are_named(
    refused: Callable[[list[str]], str], words: list[str], sentence: str
) -> None:
    assert refused(words).startswith(sentence)


def test_a_sweep_in_processes_of_its_own_is_looked_at_in_one_of_them(
    refused: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Callable[[], Any]] = []

    def ask(function: Callable[[], Any]) -> Any:
        asked.append(function)
        return function()

    monkeypatch.setattr(forkserver, "ask", ask)
    said = refused(["hydra/launcher=pool", "-m", "folds=5,100", "size=32,2"])
    assert said.startswith("size=2: this model cannot take it (")
    assert len(asked) == 2  # which GPUs there are, and whether the runs can begin


def test_a_file_of_ones_own_that_is_no_yaml_is_named(command: Command, tmp_path: Path) -> None:
    own = tmp_path / "conf" / "loss" / "ugly.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: [torch\n")
    status, said = command("--config-dir", str(tmp_path / "conf"), "loss=ugly")
    assert (status, said.count("\n")) == (2, 1), said
    assert "ugly.yaml" in said
    assert "line 1" in said


@pytest.mark.skipif(shutil.which("squeue") is not None, reason="there is a cluster")
def test_a_cluster_that_is_not_there_is_named(refused: Callable[[list[str]], str]) -> None:
    pytest.importorskip("submitit", reason="SLURM needs submitit: pip install 'galaxyml[slurm]'")
    assert refused(["hydra/launcher=slurm", "-m", "fold=0,1"]).startswith("hydra/launcher=slurm")


def test_the_folder_of_the_task_itself_is_answered_with_the_one_above(
    refused: Callable[[list[str]], str], sky: Path, tmp_path: Path
) -> None:
    said = refused([f"data_dir={sky}"])
    assert said == f"data_dir={sky} is the folder of this task itself: give the one above it, data_dir={sky.parent}."
    (tmp_path / "data" / "galaxyzoo").mkdir(parents=True)
    assert refused(["data_dir=data/galaxyzoo"]).endswith("give the one above it, data_dir=data.")
    assert refused(["data_dir=data"]).startswith("The folder data/galaxyzoo is empty. ")


def test_a_disk_without_room_for_the_checkpoints_is_refused(
    refused: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("galaxyml.runs.files.free_space", lambda path: 1000)
    said = refused(["name=full"])
    assert said.startswith(f"{tmp_path / 'multirun' / 'galaxyzoo' / 'full'} needs 0.0 GB, and 0.0 GB are free. ")


def test_another_configuration_under_a_name_is_refused_and_changes_no_file(
    command: Command, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    assert command("name=same", "epochs=1")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = refused(["name=same", "epochs=1", "-m", "fold=1,0", "seed=1"])
    assert "holds a run of another configuration: seed (0 then, 1 now)" in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_finished_run_needs_its_data_no_more(command: Command, files: Path) -> None:
    line = ("name=kept", "epochs=1", f"data_dir={files.parent}")
    assert command(*line)[0] == 0
    files.rename(files.with_name("away"))
    status, said = command(*line)
    assert status == 0, said
    assert "finished before, kept" in said


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["report", "nowhere"], 2, "nowhere is not there. "),
        (
            ["predict", "nowhere", "a.jpg", "--out", "a.csv"],
            2,
            "nowhere is not there. Give the folder of a finished run",
        ),
        (["predict", "nowhere", "a.jpg", "--out", "a.txt"], 2, "--out a.txt: it must end in .csv, .parquet, "),
        (["compare", "nowhere"], 2, "nowhere alone cannot be compared"),
        (["ensemble", "nowhere", "here", "--out", "mean"], 2, "nowhere is not there. Give the folder of a run"),
        (["bundle", "nowhere", "a.tar"], 2, "a.tar: it must end in .zip "),
        (["predict", "a", "b", "--otu", "c.csv"], 2, "galaxyml predict has no option --otu. Did you mean --out?"),
        (["fetch", "--too", "here"], 2, "galaxyml fetch has no option --too. Did you mean --to?"),
        (["page", "--prot=80"], 2, "galaxyml page has no option --prot. Did you mean --port?"),
        (["fetch", "galaxyzo"], 2, "There is no data named 'galaxyzo'. Did you mean galaxyzoo"),
        (["job", "nowhere"], 2, "nowhere is not there. Give the folder of a run or of a sweep"),
        (["sky", "sheet.txt"], 2, "A contact sheet is a .jpg or a .png, not 'sheet.txt'."),
    ],
)
def test_a_subcommand_with_wrong_arguments_has_status_2(
    typed: Callable[[list[str]], tuple[int, str]], words: list[str], status: int, message: str
) -> None:
    found, said = typed(words)
    assert found == status, said
    assert message in said
    assert "Traceback" not in said


def test_a_reader_that_has_enough_ends_it_in_peace() -> None:
    line = [sys.executable, "-m", "galaxyml", "fetch", "--list"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, b"")


def test_the_status_reaches_the_shell(tmp_path: Path) -> None:
    for words, status in ((["galaxyzoo"], 2), (["epochs=ten"], 2), (["--version"], 0)):
        ended = subprocess.run(
            [sys.executable, "-m", "galaxyml", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == status, ended.stderr
        assert not ended.stdout if status else not ended.stderr
    assert list(tmp_path.iterdir()) == []
