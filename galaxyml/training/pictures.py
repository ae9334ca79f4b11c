"""What TensorBoard shows beside curves: the metric's figures, and galaxies with what the net says of them."""

from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from galaxyml.plots import picture_grid

SHOWN = 8


class Pictures(Callback):
    """Draws about 5 times a run, and at its end, so that looking costs little.

    Args:
        times: How often figures are drawn.
    """

    def __init__(self, times: int = 5) -> None:
        self.times = times

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        every = max((trainer.max_epochs or 1) // self.times, 1)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.is_global_zero or (trainer.current_epoch % every and not last):
            return
        logger: Any = trainer.logger
        board = logger.experiment
        step = trainer.global_step
        for name, figure in pl_module.metrics.figures().items():  # before the module resets what it collected
            board.add_figure(f"val/{name}", figure, step)
        board.add_figure("val/galaxies", self._galaxies(trainer, pl_module), step)

    @torch.no_grad()
    def _galaxies(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> Figure:
        attached: Any = trainer  # Lightning sets its datamodule without declaring it
        data = attached.datamodule
        rows = data.rows("val")[:SHOWN]
        batch = trainer.strategy.batch_to_device(data.pictures[rows], pl_module.device)
        with trainer.precision_plugin.forward_context():
            outputs = pl_module(batch["image"]).float().cpu().numpy()
        targets = batch["target"].cpu().numpy()
        pictures = batch["image"].permute(0, 2, 3, 1).clamp(0, 1).mul(255).byte().cpu().numpy()
        captions = [data.caption(said, true) for said, true in zip(outputs, targets, strict=True)]
        return picture_grid(list(pictures), captions)
