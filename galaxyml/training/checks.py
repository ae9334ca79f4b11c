"""Refuses a configuration's impossible values before any work is done. Imports nothing heavy, to answer at once."""

import math
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from galaxyml.data.images.decoding import as_decoding
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.ranges import check_fold, check_whole, shown

# Whole numbers and the least that each may be; those after a ? may be null.
LEAST = {
    "seed": 0,
    "folds": 1,
    "epochs": 1,
    "batch_size": 1,
    "size": 1,
    "top_k": 1,
    "?limit": 1,
    "?trainer.accumulate_grad_batches": 1,
    "?data.workers": 0,
}
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {  # of other numbers
    "optim.lr": ("a number above 0", lambda value: 0 < value < math.inf),
    "optim.weight_decay": ("a number, 0 or more", lambda value: 0 <= value < math.inf),
}
CHOICES = {"predict_with": ("best", "last"), "mode": ("min", "max")}
LONGEST = 100  # characters of a name; a file system takes 255 bytes


def check_config(config: DictConfig) -> None:
    """Makes sure that each value is one that a run can have.

    Raises:
        UserError: If one is not; the message names the key, its value and what is allowed.
    """
    for name, lowest in LEAST.items():
        key = name.removeprefix("?")
        value = OmegaConf.select(config, key)
        if value is not None or key == name:
            check_whole(key, value, lowest)
    check_fold(config.fold, config.folds)
    for key, (allowed, ok) in RANGES.items():
        value = OmegaConf.select(config, key)
        if value is not None and not (_is_number(value) and ok(value)):
            raise UserError(f"{key}={shown(value)}: it must be {allowed}.")
    if config.views not in range(1, 9):
        raise UserError(f"views={config.views}: it must be a whole number from 1 (plain) to 8 (all symmetries).")
    for key, choices in CHOICES.items():
        if config[key] not in choices:
            raise UserError(f"{key}={config[key]}: it must be {' or '.join(choices)}.")
    if "channels" in config:  # a task of one's own may have no images
        as_decoding(config.channels, config.stretch, config.hdu, config.bands)
    _check_name(config.name)
    if config.callbacks is not None and not isinstance(config.callbacks, DictConfig):
        raise UserError("callbacks must be a mapping, such as callbacks={stop: {_target_: …}}.")


def check_monitor(config: DictConfig, logged: Collection[str]) -> None:
    """Makes sure that the monitored metric is one that each epoch logs.

    Args:
        config: The composed configuration.
        logged: Names of what a module logs; none where that is not known.

    Raises:
        UserError: If it is none of them, and no callback of the user's own may log it.
    """
    if not logged or config.monitor in logged or config.callbacks:
        return
    near = did_you_mean(str(config.monitor), logged)
    if not near.startswith("Did"):  # those of columns and classes are many
        near = did_you_mean(str(config.monitor), [name for name in logged if name.count("/") == 1])
    raise UserError(f"monitor={shown(config.monitor)}: no epoch logs that. {near}")


def check_types(config: DictConfig, usual: DictConfig, keys: Iterable[str]) -> None:
    """Makes sure that no word was given for a number, or for true or false.

    Args:
        config: A composed configuration.
        usual: The same without the values that were given: its numbers and truths say what each key takes.
        keys: That values were given for.

    Raises:
        UserError: If one is a word; `auto` is left to those who know it.
    """
    for key in keys:
        value, default = (OmegaConf.select(each, key, throw_on_missing=False) for each in (config, usual))
        if not isinstance(value, str) or value == "auto":
            continue
        if isinstance(default, bool):
            raise UserError(f"{key}={value}: it must be true or false.")
        if _is_number(default) and key not in (*LEAST, *RANGES, "fold"):
            raise UserError(f"{key}={value}: it must be a number, such as {default}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_name(given: Any) -> None:
    """Raises UserError if a run's name is none for one folder."""
    name = "" if given is None else str(given)
    if not re.fullmatch(rf"[^./\\\s][^/\\\x00-\x1f]{{0,{LONGEST - 1}}}", name) or name != name.strip():
        raise UserError(
            f"name={name}: it must be the name of one folder, such as name=baseline: 1 to {LONGEST} letters, digits, "
            "spaces and signs, no / or \\ among them and no dot first."
        )
