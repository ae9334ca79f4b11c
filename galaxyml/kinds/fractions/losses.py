"""Losses of numbers: (outputs, targets) -> a scalar. NaN marks a target that is not known, which counts nowhere."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galaxyml.kinds.numbers.head import moments
from galaxyml.runs.errors import UserError

ROUNDING = 1e-3  # by which a fraction may miss [0, 1], as a sum in a net does


class MSELoss(nn.Module):
    """Mean squared error over the targets that are known. The best value is 0."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        said, true, count = _known(outputs, targets)
        return (said - true).square().sum() / count


class RMSELoss(nn.Module):
    """Root of the mean squared error over the targets of a batch that are known. The best value is 0.

    Its gradient is that of MSELoss divided by twice the error, so that it does not fade as a net gets better. The mean
    over batches is a little less than the RMSE over all objects, which the metric reports.
    """

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        said, true, count = _known(outputs, targets)
        # The slope of a square root is infinite at 0; that of torch's norm is 0 there.
        return torch.linalg.vector_norm(said - true) / count.sqrt()


class SmoothL1Loss(nn.Module):
    """Error that counts squared where it is small and as it is where it is large, so that outliers count for less.

    The mean of e^2 / (2 beta) where |e| < beta, and of |e| - beta / 2 elsewhere, over the targets that are known:
    Girshick 2015 (arXiv:1504.08083), eq. 3, at beta 1; scaled by beta as torch does. The best value is 0.

    Args:
        beta: The error, in units of the targets, from which it counts as it is; at least 0, where it always does.

    Raises:
        UserError: If beta is not possible.
    """

    def __init__(self, beta: float = 0.1) -> None:
        super().__init__()
        if not 0 <= beta < math.inf:
            raise UserError(f"loss.beta={beta:g}: beta is finite and at least 0; 0.1 suits fractions.")
        self.beta = beta

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        said, true, count = _known(outputs, targets)
        return F.smooth_l1_loss(said, true, reduction="sum", beta=self.beta) / count


class BinaryCrossEntropyLoss(nn.Module):
    """Cross-entropy of fractions, each by itself the probability of a yes.

    The mean of -(f log p + (1 - f) log(1 - p)) over the known fractions f; logarithms are natural and cut at -100, as
    torch does. At best it is the mean entropy of the fractions, 0 only where each is 0 or 1. The net's outputs are the
    fractions p (head=sigmoid or head=tree).
    """

    def __init__(self) -> None:
        super().__init__()
        self.checked = False

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Fractions in [0, 1], shape (N, K) both; of outputs, NaN gives NaN.

        Raises:
            UserError: If the first outputs that it sees lie outside [0, 1].
        """
        said, true, count = _known(outputs, targets)
        if not self.checked:  # once, as the answer would keep a GPU waiting
            _check_fractions(said)
            self.checked = True
        # Not torch's: under CUDA's autocast it is an error, and NaN outputs would stop the process instead of the run.
        return -(true * _log(said) + (1 - true) * _log(1 - said)).sum() / count


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
            raise UserError("targets=numbers takes loss=mse, rmse or smooth_l1, which compare numbers of any size.")
        self.loss = loss
        self.register_buffer("deviation", torch.ones(count))

    def learn(self, targets: Tensor) -> None:
        """Takes the standard deviations of the training set's targets, shape (N, K)."""
        self.deviation.copy_(moments(targets)[1])

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        return self.loss(outputs / self.deviation, targets / self.deviation)


def _known(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What of a batch counts, in at least single precision.

    Args:
        outputs: Shape (N, K).
        targets: Shape (N, K), NaN where not known.

    Returns:
        Outputs and targets, shape (N, K), both 0 where the target is not known; and how many are known, at least 1.

    Raises:
        UserError: If the shapes differ.
    """
    if outputs.shape != targets.shape:
        raise UserError(
            f"This loss compares numbers, but outputs have shape {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)}. For classes give loss=cross_entropy or loss=focal, for counted votes "
            "loss=dirichlet, multinomial or fractions."
        )
    kind = torch.promote_types(outputs.dtype, torch.float32)
    known = ~targets.isnan()
    said, true = (torch.where(known, values.to(kind), 0) for values in (outputs, targets))
    return said, true, known.sum().clamp_min(1).to(kind)


def _log(values: Tensor) -> Tensor:
    """Logarithm, at least -100; below the smallest normal number, where the slope would overflow, it has none."""
    tiny = torch.finfo(values.dtype).tiny
    below = values.detach().clamp_min(0).log()
    return torch.where(values < tiny, below, values.clamp_min(tiny).log()).clamp_min(-100)


def _check_fractions(values: Tensor) -> None:
    beyond = (values - 0.5).abs() - 0.5
    if beyond.numel() and beyond.max() > ROUNDING:
        worst = values.flatten()[beyond.argmax()]
        raise UserError(
            f"loss=bce takes fractions in [0, 1], but the net says {worst:.3g}; give head=sigmoid or head=tree."
        )
