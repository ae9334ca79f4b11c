"""The question of a run, and the references that belong to its numbers."""

from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from galaxyml.kinds import stages_of

FILE = Path(__file__).with_suffix(".yaml")


def question(config: DictConfig) -> str:
    """The question of a run, in one sentence; '' for a task that is not known."""
    return str(_of_task(config).get("question", ""))


def invitation(config: DictConfig) -> str:
    """The question that a person is asked who shows a run something of their own."""
    return str(_of_task(config).get("invitation", "What does the net say of it?"))


def of_data(config: DictConfig, simulated: bool) -> list[str]:
    """References of the data that a run of this task learns from; arguments as for `citations`."""
    return [str(_content()["simulated"])] if simulated else list(_of_task(config).get("data", []))


def citations(config: DictConfig, simulated: bool) -> list[str]:
    """References: the data, the methods that a configuration names, and galaxyml.

    Args:
        config: The run's.
        simulated: Whether it learnt from the simulated sky.
    """
    content: Any = OmegaConf.to_container(config, resolve=False)
    tuned = content.get("tune", [])
    named = {*_classes(content), str((content.get("model") or {}).get("name"))}
    if config.get("kind") is not None:  # whose stages a configuration does not spell out
        named |= {f"{type(stage).__module__}.{type(stage).__qualname__}" for stage in stages_of(config)}
    named |= set(tuned if isinstance(tuned, list) else [str(tuned)])
    patterns = _content()["methods"].items()
    methods = [text for pattern, text in patterns if any(fnmatchcase(name, pattern) for name in named)]
    software = f"Software: galaxyml {version('galaxyml')} (CITATION.cff)"
    return list(dict.fromkeys([*of_data(config, simulated), *methods, software]))


def _classes(value: Any) -> set[str]:
    """All classes and functions that a part of a configuration names."""
    if isinstance(value, dict):
        own = {str(value["_target_"])} if "_target_" in value else set()
        return own.union(*(_classes(part) for part in value.values()))
    return set().union(*(_classes(part) for part in value)) if isinstance(value, list) else set()


def surveys(task: str) -> list[str]:
    """Surveys of `galaxyml.sky.survey` whose images a task's examples look like."""
    return list(_content()["tasks"].get(task, {}).get("surveys", ["SDSS"]))


@cache
def _content() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def _of_task(config: DictConfig) -> dict[str, Any]:
    return dict(_content()["tasks"].get(str(config.get("task")), {}))
