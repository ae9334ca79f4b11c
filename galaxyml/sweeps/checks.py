"""Whether the runs of a command can begin: asked of all of them before anything is written."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from galaxyml.runs.errors import UserError, config_error
from galaxyml.runs.files import check_space
from galaxyml.sweeps.serial import SerialLauncher, check_begun, folder_of, own_config
from galaxyml.training.checks import check_config, check_types

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

Job = tuple[DictConfig, Path]  # a run's own configuration, and its folder


def check_jobs(launcher: Any, job_overrides: Sequence[Sequence[str]]) -> None:
    """Makes sure that all runs of a command can begin; a launcher of another package looks at its runs itself.

    What a configuration says comes first, which takes no imports of seconds; then what their parts say when they are
    made, where the launcher has them made.

    Raises:
        UserError: If one cannot.
    """
    if not isinstance(launcher, SerialLauncher):
        return
    loader = launcher.hydra_context.config_loader

    @cache
    def usual(*chosen: str) -> DictConfig:
        return loader.load_sweep_config(launcher.config, list(chosen))

    configs = [launcher.composed(words, number) for number, words in enumerate(job_overrides)]
    for config in configs:
        words = list(config.hydra.overrides.task)
        chosen = [word for word in words if _is_choice(loader, word)]
        check_types(config, usual(*chosen), [_key(word) for word in words if word not in chosen])
        check_config(config)
    jobs: list[Job] = [(own_config(config), folder_of(config)) for config in configs]
    for own, folder in jobs:
        check_begun(own, folder)
    if (reason := launcher.refusal(jobs)) is not None:
        raise UserError(reason)


def refusal(jobs: Sequence[Job], on_this_machine: bool = True) -> str | None:
    """Why one of some runs cannot begin, in a sentence; None if all can.

    Args:
        jobs: The runs.
        on_this_machine: Whether they will run here; see `galaxyml.experiment.check`.
    """
    from galaxyml import experiment
    from galaxyml.runs.run_config import find_code
    from galaxyml.runs.run_dir import RunDir
    from galaxyml.sweeps.run_job import user_error

    try:
        for config, folder in jobs:
            find_code(config, folder)
        needed = sum(experiment.check(config, RunDir(folder), on_this_machine) for config, folder in jobs)
        advice = "Its checkpoints take that at least. Free some space, or run the command on another disk."
        check_space(jobs[0][1].parent, needed, advice)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return str(user_error(error) or config_error(error))
    return None


def _is_choice(loader: "ConfigLoader", word: str) -> bool:
    """Whether an override chooses a file of a group."""
    return bool(loader.get_group_options(_key(word).partition("@")[0]))


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
