"""A loss of numbers in units of their own."""

import torch
from torch import Tensor, nn

from galaxyml.kinds.losses import MSELoss, RMSELoss, SmoothL1Loss
from galaxyml.kinds.numbers.head import moments
from galaxyml.runs.errors import UserError


class ScaledLoss(nn.Module):
    """A loss of numbers, each measured in standard deviations of its own over the training set.

    So that what is large in the units of its table does not count for more.

    Args:
        loss: One of the differences of outputs and targets alone: MSELoss, RMSELoss or SmoothL1Loss, whose beta then is
            in standard deviations.
        count: How many numbers, K.

    Attributes:
        deviation: Standard deviations, shape (K,); positive.

    Raises:
        UserError: If the loss is another.
    """

    deviation: Tensor

    def __init__(self, loss: nn.Module, count: int) -> None:
        super().__init__()
        if not isinstance(loss, MSELoss | RMSELoss | SmoothL1Loss):
            raise UserError("kind=numbers takes loss=mse, rmse or smooth_l1, which compare numbers of any size.")
        self.loss = loss
        self.register_buffer("deviation", torch.ones(count))

    def fit_targets(self, targets: Tensor) -> None:
        """Takes the standard deviations of the training set's targets, shape (N, K)."""
        self.deviation.copy_(moments(targets)[1])

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        return self.loss(outputs / self.deviation, targets / self.deviation)
