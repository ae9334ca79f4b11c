"""How the runs of a sweep are run: one after another, side by side on one machine, or on a cluster."""


def register() -> None:
    """Makes the launchers and the search known to Hydra, and the name of a run's folder."""
    from hydra.core.plugins import Plugins

    import galaxyml.sweeps.finish  # noqa: F401 - registers it
    from galaxyml.sweeps.pool import PoolLauncher
    from galaxyml.sweeps.ray import RayLauncher
    from galaxyml.sweeps.search import OptunaSweeper
    from galaxyml.sweeps.serial import SerialLauncher
    from galaxyml.sweeps.slurm import SlurmLauncher

    for plugin in (SerialLauncher, PoolLauncher, SlurmLauncher, RayLauncher, OptunaSweeper):
        # Hydra 1.3 instantiates classes of `hydra_plugins` alone; it looks them up by this name.
        Plugins.instance().register(type(plugin.__name__, (plugin,), {"__module__": "hydra_plugins.galaxyml"}))
