"""Figures that a module draws of validation, for loggers that take them."""

from typing import Any

import lightning.pytorch as lightning
import matplotlib.pyplot as plt
from lightning.pytorch.callbacks import Callback

from galaxyml.runs import ranks
from galaxyml.training.loggers import SHOWING


class Figures(Callback):
    """Logs figures of validation about 5 times a run, and at its end, of modules that have `figures(trainer)`.

    Args:
        times: How often figures are drawn.
    """

    def __init__(self, times: int = 5) -> None:
        self.times = times

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        every = max((trainer.max_epochs or 1) // self.times, 1)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        showing = [logger for logger in trainer.loggers if isinstance(logger, SHOWING)]
        if not hasattr(pl_module, "figures") or (trainer.current_epoch % every and not last):
            return
        if not ranks.broadcast(bool(showing)):
            return
        figures = pl_module.figures(trainer)  # before the module resets what it collected; of all processes
        for name, figure in figures.items():
            for logger in showing:
                logger.add_figure(f"val/{name}", figure, trainer.global_step)
            plt.close(figure)
