"""From a net's scores to numbers in the units of their table, and a loss that counts all of them alike."""

import torch
from torch import Tensor, nn

from galaxyml.kinds.losses import MSELoss, RMSELoss, SmoothL1Loss
from galaxyml.runs.errors import UserError


class TargetScaler(nn.Module):
    """Scores times the standard deviation of each number in the training set, plus its mean.

    So a net begins near the mean, and learns numbers of all sizes alike.

    Args:
        count: How many numbers, K.

    Attributes:
        mean: Of each number over the training set, shape (K,).
        deviation: Standard deviations, shape (K,); positive.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))

    def fit_targets(self, targets: Tensor) -> None:
        """Takes mean and standard deviation from the training set's targets, shape (N, K); NaN is not known."""
        mean, deviation = moments(targets)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, scores: Tensor) -> Tensor:
        """(N, K) -> (N, K)."""
        return scores * self.deviation + self.mean


class ScaledLoss(nn.Module):
    """A loss of numbers, each measured in standard deviations of its own over the training set.

    So that what is large in the units of its table does not count for more.

    Args:
        loss: One of the differences of outputs and targets alone, MSELoss, RMSELoss or SmoothL1Loss, whose beta then is
            in standard deviations; or any other module, such as torch's, that compares numbers of any size.
        count: How many numbers, K.

    Attributes:
        deviation: Standard deviations, shape (K,); positive.

    Raises:
        UserError: If the loss is one of classes, fractions or votes.
    """

    deviation: Tensor

    def __init__(self, loss: nn.Module, count: int) -> None:
        super().__init__()
        self.skips_unknown = isinstance(loss, MSELoss | RMSELoss | SmoothL1Loss)
        if not self.skips_unknown and type(loss).__module__.startswith("galaxyml."):
            raise UserError(
                "kind=numbers takes loss=mse, rmse or smooth_l1, which compare numbers of any size; in Python "
                "galaxyml.kinds.losses has them, and torch's, such as torch.nn.HuberLoss(), will do."
            )
        self.loss = loss
        self.register_buffer("deviation", torch.ones(count))

    def fit_targets(self, targets: Tensor) -> None:
        """Takes the standard deviations of the training set's targets, shape (N, K)."""
        self.deviation.copy_(moments(targets)[1])

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        outputs, targets = outputs / self.deviation, targets / self.deviation
        known = ~targets.isnan()
        if self.skips_unknown or known.all():
            return self.loss(outputs, targets)
        return self.loss(outputs[known], targets[known])


def moments(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of (N, K), NaN left out; (K,) each, 1 where a deviation is 0."""
    values = targets.double()
    mean = values.nanmean(dim=0)
    deviation = (values - mean).square().nanmean(dim=0).sqrt()
    mean, deviation = mean.nan_to_num(0.0), deviation.nan_to_num(1.0)
    return mean.float(), torch.where(deviation > 0, deviation, 1.0).float()
