"""Launchers and sweepers of our own, made known to Hydra from inside the package."""

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

PLACE = "hydra_plugins.galaxyml"  # Hydra 1.3 takes plugins from modules of this name alone; none of it need exist


def register(*classes: type[Plugin]) -> None:
    """Makes classes known, as `hydra_plugins.galaxyml.<name>` in a configuration's `_target_`."""
    for known in classes:
        Plugins.instance().register(type(known.__name__, (known,), {"__module__": PLACE, "__doc__": known.__doc__}))
