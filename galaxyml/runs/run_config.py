"""A run's configuration: how it is read, and which of its keys decide what is computed."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from galaxyml.runs.errors import UserError, shorten

# What may differ when a run is carried on: where it runs, where its files lie, what it draws and says; not what it
# computes.
PLACES = ("figures", "smoke", "name", "group", "search", "data_dir", "cache_dir", "logger", "data.workers")
# Of the trainer. The last four are how the same is computed, which differs in the last bits.
HARDWARE = ("_target_", "accelerator", "devices", "num_nodes", "strategy", "tf32", "channels_last", "fused", "compile")


@lru_cache(maxsize=64)
def read_config(path: Path, changed: int, size: int) -> DictConfig:
    """A configuration, which takes tens of milliseconds to read; read again when its file has changed."""
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    return loaded


def check_same(folder: Path, begun: DictConfig, config: DictConfig, besides: tuple[str, ...] = ()) -> None:
    """Makes sure that a run was made with the same configuration.

    Args:
        folder: Of a run that has progress.
        begun: The configuration that it began with.
        config: The configuration to compare with.
        besides: More keys that may differ, such as `fold`.

    Raises:
        UserError: If any other key differs.
    """
    before, now = flat(begun), flat(config)
    for values in (before, now):  # what a step of the optimizer takes together, in however many batches
        values["batch_size"] = values.get("batch_size", 1) * values.pop("trainer.accumulate_grad_batches", 1)
    free = tuple(f"{key}." for key in (*PLACES, *(f"trainer.{key}" for key in HARDWARE), *besides))
    changed = [
        f"{key} ({before.get(key, 'not there')} then, {now.get(key, 'not there')} now)"
        for key in sorted(before | now)
        if before.get(key) != now.get(key) and not f"{key}.".startswith(free)
    ]
    if changed:
        raise UserError(
            f"{folder} holds a run of another configuration: {shorten(changed)}. "
            "Choose another name=…, give the same keys to carry it on, or delete the folder."
        )


def flat(config: DictConfig) -> dict[str, Any]:
    """Every value of a configuration under its dotted key, interpolations left as they are."""
    return dict(_items("", OmegaConf.to_container(config, resolve=False)))


def _items(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _items(f"{key}.{name}" if key else str(name), below)
    else:
        yield key, value
