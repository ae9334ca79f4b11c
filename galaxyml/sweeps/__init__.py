"""How the runs of a sweep are run: one after another, side by side on one machine, or on a cluster."""

import importlib
import sys
from types import ModuleType

PLUGINS = "hydra_plugins"  # Hydra 1.3 takes plugins from modules below this name alone


def register() -> None:
    """Makes the launchers and the search known to Hydra, and the name of a run's folder.

    Configurations call them `hydra_plugins.galaxyml.<name>`, a module that is made here, beside those of plugins that
    are installed.
    """
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf

    from galaxyml.sweeps.finish import run_folder
    from galaxyml.sweeps.grid import GridSweeper
    from galaxyml.sweeps.pool import PoolLauncher
    from galaxyml.sweeps.ray import RayLauncher
    from galaxyml.sweeps.search import OptunaSweeper
    from galaxyml.sweeps.serial import SerialLauncher
    from galaxyml.sweeps.slurm import SlurmLauncher

    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
    plugins = Plugins.instance()
    try:
        package = importlib.import_module(PLUGINS)
    except ModuleNotFoundError:
        package = sys.modules[PLUGINS] = ModuleType(PLUGINS)
        package.__path__ = []
    name = f"{PLUGINS}.galaxyml"
    # Hydra finds a plugin as an attribute of this package, which no file says that it has.
    module = package.galaxyml = sys.modules.setdefault(name, ModuleType(name))  # type: ignore[attr-defined]
    for plugin in (SerialLauncher, PoolLauncher, SlurmLauncher, RayLauncher, GridSweeper, OptunaSweeper):
        renamed = type(plugin.__name__, (plugin,), {"__module__": name, "__doc__": plugin.__doc__})
        setattr(module, plugin.__name__, renamed)
        plugins.register(renamed)
