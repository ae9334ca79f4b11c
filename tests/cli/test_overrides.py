import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from galaxyml.cli import commands, conf, overrides
from galaxyml.cli.commands import COMMANDS
from galaxyml.cli.help import help_text
from galaxyml.runs.errors import UserError

EXCLUDE = "hydra.job.config.override_dirname.exclude_keys="


def prepared(line: str) -> list[str]:
    return overrides.prepare(line.split())


def test_flags_come_before_overrides() -> None:
    found = prepared("task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4")
    assert found[:4] == ["-m", "task=galaxyzoo", "model=resnet50", "fold=0,1,2,3,4"]


def test_flags_keep_their_values() -> None:
    assert prepared("task=galaxyzoo --cfg job --package hydra -m")[:5] == [
        "--cfg",
        "job",
        "--package",
        "hydra",
        "task=galaxyzoo",
    ]


@pytest.mark.parametrize(
    ("line", "fixed"),
    [
        ("fold=0,1 optim.lr=1e-3,1e-4 seed=1", "'fold','seed'"),
        ("fold=2 model=tiny", "'fold','model'"),
        ("seed=range(0,3) model=choice(tiny,galaxycnn) name=a", "'name'"),
        ("model.channels=[8,16,32,64]", "'model.channels'"),
    ],
)
def test_only_what_is_swept_names_the_folder(line: str, fixed: str) -> None:
    assert prepared(line)[-1] == f"{EXCLUDE}[{fixed}]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("task=galaxyzo", "There is no task 'galaxyzo'. Did you mean galaxyzoo"),
        ("task=galaxyzoo,spiral", "There is no task 'spiral'. Did you mean spirals"),
        ("model=resnet5", "There is no model 'resnet5'. Did you mean .*resnet50"),
        ("model=nothing_like_it", "There is no model 'nothing_like_it'. There are: astrocnn, .*Any net of timm"),
        ("modle=resnet50", "There is no key 'modle' .*Did you mean .*model"),
        ("lr=1e-3", r"There is no key 'lr' .*Did you mean optim\.lr\? A new one"),
        ("augment=false", r"There is no key 'augment' .*Did you mean data\.augment\? A new one"),
        ("augment.rotate=false", r"There is no key 'augment' .*Did you mean data\.augment\.rotate\?"),
        ("rotate=false", r"Did you mean data\.augment\.rotate\?"),
        ("task=plasticc renoise=2", r"Did you mean data\.augment\.renoise\?"),
        ("workers=4", r"Did you mean data\.workers\?"),
        ("gpus_per_job=2", r"Did you mean hydra\.launcher\.gpus_per_job\?"),
        (
            "task=galaxyzoo balance=1",
            r"task=galaxyzoo has no .balance.; these tasks have it: galaxy10, images, pl.*spirals",
        ),
        ("task=galaxy10 labels_from=votes", "task=galaxy10 has no 'labels_from'; these tasks have it: spirals"),
        ("labels_from.cut=0.5", "task=galaxyzoo has no 'labels_from'; these tasks have it: spirals"),
        ("model=light_curve_vae", "model=light_curve_vae is for task=plasticc, not task=galaxyzoo"),
        ("source=fake", "There is no source 'fake'. There are: auto, real, simulated"),
        ("task=galaxyzoo,galaxy10 -m", "task=galaxyzoo,galaxy10: a sweep has one task, .* Give a command for each"),
        ("hydra/launcher=pol -m fold=0,1", "There is no hydra/launcher 'pol'. Did you mean pool"),
        (
            "hydra/launcher=joblib -m fold=0,1",
            "There is no .* 'joblib'. There are: basic, pool, ray, serial, slurm",
        ),
        ("name=choice(a,b) -m fold=0", r"name=choice\(a,b\): a sweep has one name, as it is that of their folder"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(line)


def test_any_timm_net_is_a_model() -> None:
    from hydra.utils import instantiate

    prepared("model=convnext_tiny")
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        found = compose("config", ["model=convnext_tiny"])
    assert found.model.name == "convnext_tiny"
    assert instantiate(found.model.outputs) == 37


def test_help_names_every_choice_and_key() -> None:
    text = help_text()
    for group in conf.groups():
        assert re.search(rf"^  {group} ", text, re.MULTILINE)
        assert all(f" {name}" in text for name in conf.choices(group))
    for word in COMMANDS:
        assert re.search(rf"^  {word} ", text, re.MULTILINE)
    for key in ("name", "fold", "folds", "seed", "data_dir"):
        assert f"\n  {key} " in text


def test_help_and_configuration_answer_without_torch(tmp_path: Path) -> None:
    for args in (["--help"], ["task=galaxyzoo", "--cfg", "job"], ["task=galaxyzo"]):
        found = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "galaxyml", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        imported = {line.split("|")[-1].strip() for line in found.stderr.splitlines() if "import time:" in line}
        assert not imported & {"torch", "lightning", "pandas", "timm", "matplotlib"}
        assert "galaxyzoo" in found.stdout + found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "swept"),
    [
        ("[6,53,95]", False),
        ("[6,53],[95]", True),
        ("[[6,53],[95]]", False),
        ("{a:[1,2],b:3}", False),
        ("{a:1},{a:2}", True),
        ("'a,b'", False),
        ("6,53", True),
        ("choice(6,53)", True),
    ],
)
def test_lists_are_one_value_and_several_lists_are_several(value: str, swept: bool) -> None:
    found = overrides.prepare(["task=plasticc", f"leave_out={value}"])
    assert ("'leave_out'" not in found[-1]) == swept


def test_what_stands_beside_can_be_changed() -> None:
    assert prepared("task=plasticc beside.forest.of=[feature]")[1] == "beside.forest.of=[feature]"
    with pytest.raises(UserError, match="task=galaxyzoo has no 'beside'; these tasks have it: anomalies, plasticc"):
        prepared("beside.forest.of=[feature]")


@pytest.mark.parametrize(
    ("line", "search"),
    [
        ("hparams=supervised", True),
        ("hparams=null seed=0,1", False),
        ("optim.lr=interval(1e-4,1e-2)", True),
        ("optim.lr=tag(log,interval(1e-4,1e-2))", True),
        ("batch_size=int(interval(8,64))", True),
        ("seed=0,1 hydra/sweeper/sampler=random", True),
        ("optim.lr=1e-4,1e-2", False),
        ("hparams=supervised hydra/sweeper=basic", False),
    ],
)
def test_what_has_to_be_chosen_is_searched(line: str, search: bool) -> None:
    assert ("hydra/sweeper=optuna" in prepared(line)) == search


def test_one_configuration_has_no_intervals() -> None:
    with pytest.raises(UserError, match="give batch_size a single value"):
        prepared("batch_size=int(interval(8,64)) --cfg job")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data_dir=Ünï", "Ünï"),
        ("data_dir=/data/run (2)/a=b", "/data/run (2)/a=b"),
        ("data_dir=/data/[old] sky", "/data/[old] sky"),
        ("data_dir=[old]/it's", "[old]/it's"),
        ("name=größte", "größte"),
        ("name=a,b", "a,b"),
        ("name=007", "007"),
        ("name=1e3", "1e3"),
        ("name=true", "true"),
        ("name=run # 2", "run # 2"),
        ("data_dir={curly}, ~x", "{curly}, ~x"),
        ("data_dir=back\\slash\\", "back\\slash\\"),
        ('data_dir="double', '"double'),
        ("model.weights=Ünï [1] (2)=.pth", "Ünï [1] (2)=.pth"),
        ("data_dir='/already, quoted'", "/already, quoted"),
        ("data_dir=plain/path-1.5", "plain/path-1.5"),
        ("train=[sdss,Ünï (2)]", ["sdss", "Ünï (2)"]),
        ("optim.lr=1e-3", 1e-3),
        ("data_dir=null", None),
    ],
)
def test_what_the_grammar_takes_for_no_text_is_quoted(typed: str, value: object) -> None:
    task = ["task=surveys"] if typed.startswith("train") else []
    key, _, _ = typed.partition("=")
    found = [word for word in overrides.prepare([*task, typed]) if not word.startswith("hydra.")]
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        assert OmegaConf.select(compose("config", found), key) == value


def test_values_of_a_sweep_are_quoted_one_by_one() -> None:
    found = prepared("task=spirals table=a.csv,Ü.csv")
    assert found[1] == "table=a.csv,'Ü.csv'"
    assert "'table'" not in found[-1]


def test_a_table_has_any_name() -> None:
    assert overrides.Override.read("labels=lab (1), [x]=2 # 'q'.csv").plain == "lab (1), [x]=2 # 'q'.csv"


def test_a_file_with_a_comma_is_one_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepared("model.weights=a.pth,b.pth")[0] == "model.weights=a.pth,b.pth"
    Path("a.pth,b.pth").touch()
    assert prepared("model.weights=a.pth,b.pth")[0] == "model.weights='a.pth,b.pth'"


def test_an_unfinished_list_is_left_to_hydra() -> None:
    assert prepared("optim.lr=interval(1e-4,")[0] == "optim.lr=interval(1e-4,"


@pytest.mark.parametrize("word", COMMANDS)
def test_every_subcommand_has_help(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        commands.subcommand([word, "--help"])
    assert ending.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: galaxyml {word} ")


def test_an_experiment_says_which_keys_there_are() -> None:
    with pytest.raises(UserError, match="task=spirals has no 'tree'; these tasks have it: galaxyzoo, images"):
        prepared("experiment=spirals_votes tree=kaggle")
