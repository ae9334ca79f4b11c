from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from galaxyml.reports.references import FILE, citations, question
from galaxyml.runs.conf_dir import CONF

KNOWN = yaml.safe_load(FILE.read_text(encoding="utf-8"))
TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))


def composed(*given: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(given))


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_a_question_and_data_to_cite(task: str) -> None:
    config = composed(f"task={task}")
    assert question(config).endswith("?")
    assert len(citations(config, simulated=False)) > len(citations(config, simulated=True)) - 1
    assert KNOWN["tasks"][task]["data"][0] in citations(config, simulated=False)
    assert KNOWN["tasks"][task]["data"][0] not in citations(config, simulated=True)


@pytest.mark.parametrize("pattern", [name for name in KNOWN["methods"] if "." in name])
def test_each_class_that_is_cited_exists(pattern: str) -> None:
    module, _, name = pattern.rpartition(".")
    names: Any = dir(import_module(module))
    assert any(fnmatchcase(found, name) for found in names)


@pytest.mark.parametrize(
    ("overrides", "cited"),
    [
        (["task=galaxy10", "loss=focal"], "arXiv:1708.02002"),
        (["task=galaxy10", "model=resnet50"], "arXiv:1512.03385"),
        (["task=galaxyzoo", "model=winner"], "MNRAS 450, 1441"),
        (["task=surveys", "model=dinov2_small", "tune=[head,lora]"], "arXiv:2106.09685"),
        (["task=plasticc", "detector=pyod"], "JMLR 20, 96"),
        (["task=plasticc", "encoder=recurrent"], "arXiv:1406.1078"),
    ],
)
def test_what_a_run_uses_is_cited_and_what_it_does_not_use_is_not(overrides: list[str], cited: str) -> None:
    assert any(cited in text for text in citations(composed(*overrides), simulated=True))
    assert not any(cited in text for text in citations(composed("task=spirals", "model=tiny"), simulated=True))


@pytest.mark.parametrize("name", ["resnet_vs_tiny", "vit_test", "lora", "my_dinov2"])
def test_names_that_a_user_gives_are_no_methods(name: str) -> None:
    given = composed("task=spirals", "model=tiny", f"name={name}", f"data_dir={name}")
    assert citations(given, simulated=True) == citations(composed("task=spirals", "model=tiny"), simulated=True)
