"""Refuses a configuration's impossible values before any work is done."""

from omegaconf import DictConfig

from galaxyml.models.lora import check_peft
from galaxyml.models.symmetry import view_set
from galaxyml.runs.errors import UserError
from galaxyml.training.averaging import ending_callbacks
from galaxyml.training.kernels import wished_kernels
from galaxyml.training.loggers import check_logger

LEAST = {"seed": 0, "epochs": 1, "batch_size": 1, "size": 1, "limit": 1, "top_k": 1}
CHOICES = {"predict_with": ("best", "last"), "mode": ("min", "max")}


def check_config(config: DictConfig) -> None:
    """Makes sure that each value is one that a run can have.

    Raises:
        UserError: If one is not; the message names the key, its value and what is allowed.
    """
    for key, lowest in LEAST.items():
        value = config[key]
        if key == "limit" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise UserError(f"{key}={value}: it must be a whole number, {lowest} or more.")
    if config.views not in range(1, 9):
        raise UserError(f"views={config.views}: it must be a whole number from 1 (plain) to 8 (all symmetries).")
    ending_callbacks(config)
    check_logger(config)
    if "lora" in str(config.tune):
        check_peft()
    wished_kernels(config.trainer)
    view_set(config.predict_views)
    if config.symmetry is not None:
        view_set(config.symmetry, "symmetry")
    for key, choices in CHOICES.items():
        if config[key] not in choices:
            raise UserError(f"{key}={config[key]}: it must be {' or '.join(choices)}.")
    name = str(config.name or "")
    if not name.strip("./ ") or ".." in name.split("/") or name.startswith("/"):
        raise UserError(f"name={name}: it must be a name for a folder, such as name=baseline.")
    if config.callbacks is not None and not isinstance(config.callbacks, DictConfig):
        raise UserError("callbacks must be a mapping, such as callbacks={stop: {_target_: …}}.")
