"""What loggers show beside curves: the figures of the module."""

from typing import Any

import lightning.pytorch as lightning
import matplotlib.pyplot as plt
from lightning.pytorch.callbacks import Callback

from galaxyml.training.loggers import SHOWING


class Figures(Callback):
    """Draws about 5 times a run, and at its end, so that looking costs little.

    Args:
        times: How often figures are drawn.
    """

    def __init__(self, times: int = 5) -> None:
        self.times = times

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        every = max((trainer.max_epochs or 1) // self.times, 1)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        showing = [logger for logger in trainer.loggers if isinstance(logger, SHOWING)]
        if not showing or not trainer.is_global_zero or (trainer.current_epoch % every and not last):
            return
        for name, figure in pl_module.figures(trainer).items():  # before the module resets what it collected
            for logger in showing:
                logger.add_figure(f"val/{name}", figure, trainer.global_step)
            plt.close(figure)
