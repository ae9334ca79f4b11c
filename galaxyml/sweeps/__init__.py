"""How the runs of a sweep are run: one after another, side by side on one machine, or on a cluster."""


def register() -> None:
    """Makes the launchers and the search known to Hydra, and the name of a run's folder."""
    import galaxyml.sweep  # noqa: F401 - registers it
    from galaxyml import plugins, search
    from galaxyml.launching.pool import PoolLauncher
    from galaxyml.launching.ray import RayLauncher
    from galaxyml.launching.serial import SerialLauncher
    from galaxyml.launching.slurm import SlurmLauncher

    plugins.register(SerialLauncher, PoolLauncher, SlurmLauncher, RayLauncher, search.OptunaSweeper)
