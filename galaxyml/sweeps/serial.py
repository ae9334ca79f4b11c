"""Runs one after another, in this process; what all launchers of ours share."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from galaxyml.runs.errors import UserError


class SerialLauncher(Launcher):
    """Runs one after another, in this process, each with all of the machine."""

    @property
    def slots(self) -> int:
        """How many runs go on at once, at most."""
        return 1

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs all; what the user has to put right of the launcher's settings ends the command with status 1."""
        setup_globals()
        configs = [self.composed(each, initial_job_idx + at) for at, each in enumerate(job_overrides)]
        self.plan(configs)
        try:
            return self.launch_all(configs)
        except UserError as error:
            sys.exit(f"error: {error}")

    def launch_all(self, configs: Sequence[DictConfig]) -> list[JobReturn]:
        """Runs all; gives what each returned, None for those that failed.

        Raises:
            UserError: If the launcher's settings do not fit together, or this machine.
        """
        return [self.run_here(config) for config in configs]

    def composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The configuration of one run, as Hydra's own launchers make it."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
            config.hydra.runtime.output_dir = str(folder_of(config).absolute())
        return config

    def plan(self, configs: Sequence[DictConfig]) -> None:
        """Keeps in the sweep's folder which runs it consists of."""
        from galaxyml.runs.run_dir import RunDir

        jobs = {folder_of(config).name: list(config.hydra.overrides.task) for config in configs}
        RunDir(Path(self.config.hydra.sweep.dir)).plan(jobs)

    def run_here(self, config: DictConfig) -> JobReturn:
        """Runs one in this process."""
        found = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return found

    def returned(self, config: DictConfig, value: float | None) -> JobReturn:
        """What Hydra is to know of a run that ended in another process; told to its callbacks as well."""
        found = JobReturn(
            overrides=list(config.hydra.overrides.task), hydra_cfg=config, task_name=config.hydra.job.name
        )
        found.return_value, found.status = value, JobStatus.COMPLETED
        self.hydra_context.callbacks.on_job_end(config=config, job_return=found)
        return found


def folder_of(config: DictConfig) -> Path:
    """The folder of the run that a composed configuration is of."""
    return Path(OmegaConf.select(config, "hydra.sweep.dir")) / str(OmegaConf.select(config, "hydra.sweep.subdir"))
