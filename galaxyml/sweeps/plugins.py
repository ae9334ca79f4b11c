"""Launchers and sweepers of our own, made known to Hydra from inside the package."""

import importlib
import sys
from types import ModuleType

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

TOP = "hydra_plugins"  # Hydra 1.3 takes plugins from modules below this name alone
PLACE = f"{TOP}.galaxyml"


def register(*classes: type[Plugin]) -> None:
    """Makes classes known, as `hydra_plugins.galaxyml.<name>` in a configuration's `_target_`.

    There is no such folder: the module is made here, beside those of plugins that are installed.
    """
    plugins = Plugins.instance()
    module = sys.modules.setdefault(PLACE, ModuleType(PLACE))
    try:
        top = importlib.import_module(TOP)
    except ModuleNotFoundError:
        top = sys.modules[TOP] = ModuleType(TOP)
        top.__path__ = []
    setattr(top, PLACE.rpartition(".")[2], module)
    for known in classes:
        named = type(known.__name__, (known,), {"__module__": PLACE, "__doc__": known.__doc__})
        setattr(module, known.__name__, named)
        plugins.register(named)
