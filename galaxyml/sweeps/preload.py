"""Imported once by the process that the jobs of a pool are forked from: what every job needs, and what takes seconds.

Nothing here may touch a GPU, or make threads: neither would survive in a forked process.
"""

import signal
import warnings

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with its launcher; jobs set handlers of their own

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning.pytorch
    import timm
    import torch

    import galaxyml.evaluation.joined
    import galaxyml.experiment
    import galaxyml.tasks.galaxy10
    import galaxyml.tasks.galaxyzoo
    import galaxyml.tasks.plasticc
    import galaxyml.tasks.spirals
    import galaxyml.tasks.surveys

__all__ = ["galaxyml", "lightning", "timm", "torch"]
