"""Imported once by the process that the jobs of a pool are forked from: what every job needs, and what takes seconds.

Without it a job spends five seconds on imports, with it one on all that is not its own work (2 cores). Nothing here may
touch a GPU, or make threads: neither would survive in a forked process.
"""

import gc
import signal
import warnings
from importlib import import_module
from pkgutil import iter_modules

for number in (signal.SIGINT, signal.SIGTERM):  # it ends with its launcher; jobs set handlers of their own
    signal.signal(number, signal.SIG_IGN)

gc.set_threshold(10_000)  # as the command has it
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import galaxyml.evaluation.joined
    import galaxyml.experiment
    import galaxyml.tasks

    for module in iter_modules(galaxyml.tasks.__path__, "galaxyml.tasks."):
        import_module(module.name)
