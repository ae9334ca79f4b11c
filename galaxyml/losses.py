"""Losses: (outputs, targets) -> a scalar."""

import torch
from torch import Tensor, nn


class MSELoss(nn.Module):
    """Mean squared error over the targets that are known; NaN marks one that is not. The best value is 0."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        known = ~targets.isnan()
        errors = torch.where(known, outputs - targets, 0)
        return errors.square().sum() / known.sum().clamp_min(1)
