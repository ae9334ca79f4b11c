"""Every combination of the values that a command gives: Hydra's sweeper that looks at all runs before the first."""

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from galaxyml.sweeps.checks import check_jobs


class GridSweeper(Sweeper):
    """Runs what Hydra's own sweeper would; a command of which one run cannot begin is refused whole.

    Args:
        params: Key -> values, in Hydra's words; those of a command win.
    """

    hydra_context: HydraContext  # from `setup` on
    config: DictConfig
    launcher: Launcher

    def __init__(self, params: Mapping[str, str]) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs all.

        Raises:
            UserError: If one of them cannot begin; then none has.
        """
        # How values become jobs, ranges and globs among them, only this private module of Hydra says; pyproject.toml
        # keeps to 1.3, whose sweeper it is. Imported here, as Hydra loads its plugins once more when it looks for all.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*(f"{key}={values}" for key, values in self.params.items()), *arguments])
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        check_jobs(self.launcher, jobs)
        results = self.launcher.launch(jobs, initial_job_idx=0)
        for result in results:
            _ = result.return_value  # raises what a run has raised, of another package's launcher
        return results
