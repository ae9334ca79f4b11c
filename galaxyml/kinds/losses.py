"""Losses of known numbers: (outputs, targets) -> a scalar. NaN marks a target that is not known and is left out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galaxyml.runs.errors import UserError


class MSELoss(nn.Module):
    """Mean squared error over the targets that are known. The best value is 0."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        predicted, target, count = known_targets(outputs, targets)
        return (predicted - target).square().sum() / count


class RMSELoss(nn.Module):
    """Root of the mean squared error over the targets of a batch that are known. The best value is 0.

    Its gradient is that of MSELoss divided by twice the error, so that it does not fade as a net gets better. The mean
    over batches is a little less than the RMSE over all objects, which the metric reports.
    """

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of shape (N, K)."""
        predicted, target, count = known_targets(outputs, targets)
        # The slope of a square root is infinite at 0; that of torch's norm is 0 there.
        return torch.linalg.vector_norm(predicted - target) / count.sqrt()


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
        predicted, target, count = known_targets(outputs, targets)
        return F.smooth_l1_loss(predicted, target, reduction="sum", beta=self.beta) / count


def known_targets(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The part of a batch that counts, in at least single precision.

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
    predicted, target = (torch.where(known, values.to(kind), 0) for values in (outputs, targets))
    return predicted, target, known.sum().clamp_min(1).to(kind)
