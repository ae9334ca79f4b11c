"""How the runs of a sweep are run: one after another, side by side on one machine, or on a cluster."""


def register() -> None:
    """Makes the launchers and the search known to Hydra, and the name of a run's folder."""
    import galaxyml.sweeps.finish  # noqa: F401 - registers it
    from galaxyml.sweeps import plugins, search
    from galaxyml.sweeps.pool import PoolLauncher
    from galaxyml.sweeps.ray import RayLauncher
    from galaxyml.sweeps.serial import SerialLauncher
    from galaxyml.sweeps.slurm import SlurmLauncher

    plugins.register(SerialLauncher, PoolLauncher, SlurmLauncher, RayLauncher, search.OptunaSweeper)
