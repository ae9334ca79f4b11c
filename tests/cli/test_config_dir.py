"""Groups of the user's own, by Hydra's flag `--config-dir`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from galaxyml.cli import conf, overrides
from galaxyml.cli.help import help_text
from galaxyml.cli.train import train
from galaxyml.runs.errors import UsageError, UserError

Command = Callable[..., tuple[int, str]]

TASK = """\
# @package _global_
# A task of one's own.
defaults: [{defaults}_self_]
task: mine
depth: 3                          # of whatever
seen: {{net: "${{model}}", side: "${{size}}"}}
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    conf.read_also(None)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder" / "conf"
    for name in ("task/mine", "model/deep", "telescope/hale"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text("# Of one's own.\n")
    (folder / "task" / "mine.yaml").write_text(TASK.format(defaults=""))
    return folder


def prepared(words: list[str]) -> list[str]:
    """A command's words as Hydra takes them, after what the command reads first."""
    conf.read_also(overrides.config_dir(words))
    return overrides.prepare(words)


@pytest.mark.parametrize("flag", ["--config-dir", "-cd", "--config-dir="])
def test_its_choices_and_keys_are_known(own: Path, flag: str) -> None:
    words = [f"{flag}{own}"] if flag.endswith("=") else [flag, str(own)]
    found = prepared([*words, "task=mine", "depth=4", "model=deep", "telescope=hale"])
    assert f"+config_dir='{own}'" in found
    assert "'config_dir'" in found[-1]  # it gives no folder its name
    assert conf.tasks_with("depth") == ("mine",)
    assert conf.description(conf.choices("task")["mine"]) == "A task of one's own."
    assert "mine" in help_text()
    assert "galaxyzoo" in conf.choices("task")


def test_a_command_without_it_knows_nothing_of_it(own: Path) -> None:
    prepared(["--config-dir", str(own), "task=mine"])
    assert not any("config_dir" in word for word in prepared(["task=galaxyzoo"]))
    with pytest.raises(UserError, match="There is no task 'mine'"):
        prepared(["task=mine"])


def test_a_file_that_has_changed_is_read_again(own: Path) -> None:
    prepared(["--config-dir", str(own), "task=mine", "depth=4"])
    (own / "task" / "mine.yaml").write_text(TASK.format(defaults="").replace("depth", "width"))
    prepared(["--config-dir", str(own), "task=mine", "width=4"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("task=mien", "There is no task 'mien'. Did you mean mine"),
        ("task=galaxyzoo depth=3", "task=galaxyzoo has no 'depth'; these tasks have it: mine"),
        ("task=mine wdith=3", "There is no key 'wdith'"),
        ("telescope=hail", "There is no telescope 'hail'. Did you mean hale"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(own: Path, words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(["--config-dir", str(own), *words.split()])


def test_a_folder_that_cannot_be_meant_is_told(own: Path, command: Command) -> None:
    for folder, message in (
        (own / "nothing", "nothing: there is no such folder. Give the one that holds task/"),
        (own.parent, "it holds no file of a group, such as task/mine.yaml. Give the folder above task/"),
        ("", "--config-dir: give a folder of your own"),
    ):
        status, printed = command("--config-dir", str(folder), "task=mine")
        assert status
        assert message in printed
    (own / "task" / "spirals.yaml").write_text("task: spirals\n")
    with pytest.raises(UserError, match=r"task/spirals.yaml has the name of one of galaxyml's own.*Call it something"):
        prepared(["--config-dir", str(own), "task=mine"])


def test_code_that_is_nowhere_is_told_before_a_folder_is_made(
    own: Path, command: Command, in_process: Command, tmp_path: Path
) -> None:
    (own / "task" / "mine.yaml").write_text(
        TASK.format(defaults="/data: images, /module: supervised, /split: folds, /kind: fractions, ")
        + "crop: 0.5\nmargin: 1.0\nsimulate: {_target_: galaxyml.sky.write_images, _partial_: true}\n"
        + "data: {_target_: no_such_module.Data}\n"
    )
    status, printed = in_process(train, "--config-dir", own, "task=mine", "hydra/launcher=serial")
    assert status
    assert "there is no module 'no_such_module', which data._target_=no_such_module.Data names" in printed
    assert f"It is looked for in {own.parent}" in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("multirun/mine/*/*/.hydra"))


def test_a_class_that_its_module_lacks_is_told_before_a_folder_is_made(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (own.parent / "one_of_mine.py").write_text("class Data: pass\n")
    (own / "task" / "mine.yaml").write_text(
        TASK.format(defaults="/data: images, /module: supervised, /split: folds, /kind: fractions, ")
        + "crop: 0.5\nmargin: 1.0\nsimulate: {_target_: galaxyml.sky.write_images, _partial_: true}\n"
        + "data: {_target_: one_of_mine.Dta}\n"
    )
    line = ("--config-dir", own, "task=mine", "model=tiny", "size=32", "hydra/launcher=serial")
    with pytest.raises(UserError, match=r"^Error locating target 'one_of_mine\.Dta'\. full_key: data ") as refused:
        train([str(word) for word in line])
    assert isinstance(refused.value, UsageError)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "multirun").exists()


def test_a_group_that_is_not_there_is_told(own: Path, command: Command, in_process: Command) -> None:
    (own / "task" / "mine.yaml").write_text(TASK.format(defaults="/data: imagse, "))
    status, printed = in_process(train, "--config-dir", own, "task=mine")
    assert status
    assert "Could not find 'data/imagse'" in printed
    assert "Traceback" not in printed
