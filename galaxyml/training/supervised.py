"""Fits a net to known targets; knows no task."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric


class SupervisedModule(lightning.LightningModule):
    """A net, its loss, its metrics and its optimizer, all handed in.

    Args:
        net: (N, 3, H, W) -> (N, K).
        loss: (outputs, targets) -> scalar.
        metrics: Collects outputs and targets of the validation split; computes a dict of numbers.
        optimizer: Takes parameter groups.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
        channels_last: Whether convolutions see channels last, which is faster on CPUs and on tensor cores.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        metrics: Metric,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.loss = loss
        self.metrics = metrics
        self.optimizer = optimizer
        self.schedule = schedule

    def forward(self, images: Tensor) -> Tensor:
        """Outputs in single precision, shape (N, K)."""
        return self.net(images).float()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(self(batch["image"]), batch["target"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["index"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        outputs = self(batch["image"])
        self.metrics.update(outputs, batch["target"])
        self.log("val/loss", self.loss(outputs, batch["target"]), batch_size=len(batch["index"]))

    def on_validation_epoch_end(self) -> None:
        found = {f"val/{name}": value for name, value in self.metrics.compute().items()}
        self.log_dict({name: value for name, value in found.items() if name.count("/") == 1})
        self.log_dict(
            {name: value for name, value in found.items() if name.count("/") > 1}, logger=False
        )  # for figures
        self.metrics.reset()

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"index": batch["index"], "output": self(batch["image"])}

    def configure_optimizers(self) -> Any:
        # Norms and biases are not weights to be made small.
        groups = [
            {"params": [p for p in self.parameters() if p.requires_grad and p.ndim > 1]},
            {"params": [p for p in self.parameters() if p.requires_grad and p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = self.optimizer(groups)
        if self.schedule is None:
            return optimizer
        schedule = self.schedule(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
