"""Engines by the names that commands have for them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from galaxyml.inference.shards.engine import Engine, Here
from galaxyml.inference.shards.on_ray import OnRay
from galaxyml.inference.shards.on_slurm import OnSlurm
from galaxyml.runs.errors import UsageError, did_you_mean
from galaxyml.sweeps.slurm import SlurmLauncher


def engine_of(name: str, workers: int | None, options: Mapping[str, str | None]) -> Engine:
    """An engine.

    Args:
        name: `here`, `ray` or `slurm`.
        workers: Processes that predict; None for as many as it finds best.
        options: Of `OnRay` or of `SlurmLauncher`, as text.

    Raises:
        UsageError: If it has no such option.
    """
    values = {key: _value(key, text) for key, text in options.items()}
    known: Callable[..., Any] = {"here": Here, "ray": OnRay, "slurm": SlurmLauncher}[name]
    names = [key for key in inspect.signature(known).parameters if key != "workers"]
    if wrong := [key for key in values if key not in names]:
        has = f"It has {', '.join(names)}. {did_you_mean(wrong[0], names)}" if names else "It has none."
        raise UsageError(f"--engine {wrong[0]}=…: --on {name} has no such option. {has}")
    if name == "ray":
        if isinstance(variables := values.get("environment"), str):
            values["environment"] = [variables]
        return OnRay(workers, **values)
    return OnSlurm(workers, values) if name == "slurm" else Here(workers)


def _value(key: str, text: str | None) -> Any:
    """What a text means in YAML."""
    try:
        return yaml.safe_load(text) if text is not None else None
    except yaml.YAMLError:
        raise UsageError(f"--engine {key}={text}: it cannot be read. Put it into quotes: '{key}=\"{text}\"'.") from None
