"""How a module is optimized: which weights are made small, and how the learning rate goes."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
from torch import nn
from torch.optim import Optimizer


def optimization(
    module: lightning.LightningModule, optimizer: Callable[..., Optimizer], schedule: Callable[..., Any] | None
) -> Any:
    """What Lightning asks of `configure_optimizers`.

    Args:
        module: Attached to its trainer.
        optimizer: Takes parameter groups.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
    """
    made = optimizer(decayed(module))
    if schedule is None:
        return made
    rates = schedule(made, total_steps=int(module.trainer.estimated_stepping_batches))
    return {"optimizer": made, "lr_scheduler": {"scheduler": rates, "interval": "step"}}


def decayed(module: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: weight decay for matrices alone, as norms and biases are not to be small."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
