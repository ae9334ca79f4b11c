"""Losses of numbers: (outputs, targets) -> a scalar. NaN marks a target that is not known, which counts nowhere."""

import torch
from torch import Tensor, nn

from galaxyml.kinds.losses import known_targets
from galaxyml.runs.errors import UserError

ROUNDING = 1e-3  # by which a fraction may miss [0, 1], as a sum in a net does


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
        predicted, target, count = known_targets(outputs, targets)
        if not self.checked:  # once, as the answer would keep a GPU waiting
            _check_fractions(predicted)
            self.checked = True
        # Not torch's: under CUDA's autocast it is an error, and NaN outputs would stop the process instead of the run.
        return -(target * _log(predicted) + (1 - target) * _log(1 - predicted)).sum() / count


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
