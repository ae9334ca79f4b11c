"""Which weights an optimizer makes small."""

from typing import Any

from torch import nn


def decayed(module: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: weight decay for matrices alone, as norms and biases are not to be small."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
