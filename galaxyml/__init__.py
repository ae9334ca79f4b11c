"""Experiments that teach machines to see galaxies, and the parts they are made of.

Names are imported when they are first used, so that `import galaxyml` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galaxyml.cli.library import Run, run
    from galaxyml.inference import load
    from galaxyml.kinds.classes.losses import FocalLoss
    from galaxyml.tasks.anomalies import UnlabelledImages
    from galaxyml.tasks.galaxy10 import Galaxy10
    from galaxyml.tasks.galaxyzoo import GalaxyZoo
    from galaxyml.tasks.images import Images
    from galaxyml.tasks.plasticc import Plasticc
    from galaxyml.tasks.spirals import Spirals
    from galaxyml.tasks.surveys import Surveys
    from galaxyml.training.encoding import EncodingModule
    from galaxyml.training.supervised import SupervisedModule
    from galaxyml.training.vae import VAEModule
    from galaxyml.trees import DecisionTree, constrain, project, violation

__version__ = "0.1.0"
__all__ = ["DecisionTree", "EncodingModule", "FocalLoss", "Galaxy10", "GalaxyZoo", "Images", "Plasticc", "Run"]
__all__ += ["Spirals", "SupervisedModule", "Surveys", "UnlabelledImages", "VAEModule", "constrain", "load", "project"]
__all__ += ["run", "violation"]

_MODULES = {
    "galaxyml.cli.library": ("Run", "run"),
    "galaxyml.inference": ("load",),
    "galaxyml.kinds.classes.losses": ("FocalLoss",),
    "galaxyml.tasks.anomalies": ("UnlabelledImages",),
    "galaxyml.tasks.galaxy10": ("Galaxy10",),
    "galaxyml.tasks.galaxyzoo": ("GalaxyZoo",),
    "galaxyml.tasks.images": ("Images",),
    "galaxyml.tasks.plasticc": ("Plasticc",),
    "galaxyml.tasks.spirals": ("Spirals",),
    "galaxyml.tasks.surveys": ("Surveys",),
    "galaxyml.training.encoding": ("EncodingModule",),
    "galaxyml.training.supervised": ("SupervisedModule",),
    "galaxyml.training.vae": ("VAEModule",),
    "galaxyml.trees": ("DecisionTree", "constrain", "project", "violation"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'galaxyml' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
