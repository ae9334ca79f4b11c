"""A run's configuration: how it is read, and which of its keys decide what is computed."""

import pickle
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from galaxyml.runs.errors import UserError, shorten

# What may differ when a run is carried on: where it runs, where its files lie, what it draws and says; not what it
# computes.
PLACES = (
    *("figures", "smoke", "name", "group", "search", "logger", "data.workers"),
    *("data_dir", "cache_dir", "config_dir"),
)
TARGET = "._target_"  # ends the key of a class's name
# Of the trainer. The last four are how the same is computed, which differs in the last bits.
HARDWARE = ("_target_", "accelerator", "devices", "num_nodes", "strategy", "tf32", "channels_last", "fused", "compile")


def read_config(path: Path) -> DictConfig:
    """The configuration in a file: one of the caller's own, as Hydra's `instantiate` resolves what it is given.

    The code of a task of the user's own is found from then on, see `find_code`.
    """
    changed = path.stat()
    loaded = pickle.loads(_pickled(path.resolve(), changed.st_mtime_ns, changed.st_size))
    assert isinstance(loaded, DictConfig)
    find_code(loaded, path.parents[1])
    return loaded


@lru_cache(maxsize=64)
def _pickled(path: Path, changed: int, size: int) -> bytes:
    """A configuration, which takes 60 times as long to read as to unpickle; read again when its file has changed."""
    return pickle.dumps(OmegaConf.load(path))


def find_code(config: DictConfig, run: Path) -> None:
    """Lets Python find the modules of a task of the user's own: those beside its `--config-dir`, after all others.

    Args:
        config: A run's, with `config_dir` where it was made with that flag.
        run: Its folder, for the message.

    Raises:
        UserError: If a module that it names is nowhere.
    """
    if config.get("config_dir") is None:
        return
    folder = Path(config.config_dir).parent
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))
    for key, target in flat(config).items():
        module = str(target).partition(".")[0]
        if key.endswith("_target_") and "$" not in module and find_spec(module) is None:
            raise UserError(
                f"{run}: there is no module '{module}', which {key}={target} names. It is looked for in {folder}, "
                "beside the folder of --config-dir, and where Python looks: put it there, or on PYTHONPATH."
            )


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
        key for key in sorted(before | now) if before.get(key) != now.get(key) and not f"{key}.".startswith(free)
    ]
    if changed:
        differences = [f"{key} ({then} then, {today} now)" for key, then, today in _in_short(changed, before, now)]
        raise UserError(
            f"{folder} holds a run of another configuration: {shorten(differences)}. "
            "Choose another name=…, give the same keys to carry it on, or delete the folder."
        )


def _in_short(keys: Sequence[str], before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys with both values; what is made by another class is told by that alone, without the keys below it."""
    remade = [key.removesuffix(TARGET) for key in keys if key.endswith(TARGET)]
    for key in keys:
        name = key.removesuffix(TARGET)
        if not any(name.startswith(f"{other}.") for other in remade):
            then, today = (each.get(key, "not there") for each in (before, now))
            if name != key:
                then, today = (str(target).rpartition(".")[2] for target in (then, today))
            yield name, then, today


def flat(config: DictConfig) -> dict[str, Any]:
    """Every value of a configuration under its dotted key, interpolations left as they are."""
    return dict(_items("", OmegaConf.to_container(config, resolve=False)))


def _items(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _items(f"{key}.{name}" if key else str(name), below)
    else:
        yield key, value
