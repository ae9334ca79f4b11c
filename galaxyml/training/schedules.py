"""Schedules of the learning rate over a run, and of the momentum with it."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from galaxyml.runs.errors import UserError


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0) -> LambdaLR:
    """A linear rise, then half a cosine down (Loshchilov & Hutter 2017, eq. 5, without restarts).

    Args:
        optimizer: Its learning rates are what the rise ends at.
        total_steps: Steps of the whole run.
        warmup: Fraction of them that the rise takes, in [0, 1].
        final: What is left at the end, as a fraction, in [0, 1].

    Raises:
        UserError: If a fraction is not possible.
    """
    if not 0 <= warmup <= 1:
        raise UserError(f"schedule.warmup={warmup}: the rise is a fraction of the steps, 0 to 1; 0.05 is common.")
    if not 0 <= final <= 1:
        raise UserError(f"schedule.final={final}: the last learning rate is a fraction of optim.lr, 0 to 1.")
    rise = max(round(warmup * total_steps), 1)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = min((step - rise) / max(total_steps - rise, 1), 1.0)
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    rise: float = 0.3,
    start: float = 0.04,
    final: float = 4e-6,
    momentum: Sequence[float] = (0.85, 0.95),
) -> OneCycleLR:
    """Half a cosine up, then half a cosine down to almost nothing (Smith & Topin 2019, arXiv:1708.07120).

    Momentum goes the other way round: SGD's, unless it is 0, or the first beta of Adam and its kin. Two phases and all
    defaults are torch's. The last step of three or more, and any beyond it, has the final rate.

    Args:
        optimizer: Its learning rates are the peaks, each group's its own, so that their ratios stay.
        total_steps: Steps of the whole run.
        rise: Fraction of them that the rise takes, above 0 and below 1; it lasts at least one step.
        start: Learning rate of the first step, as a fraction of the peak, in (0, 1].
        final: Learning rate of the last step, as a fraction of the peak, in [0, 1].
        momentum: At the peak, and at both ends; each at least 0 and below 1.

    Raises:
        UserError: If one of these is not possible.
    """
    if not 0 < rise < 1:
        raise UserError(f"schedule.rise={rise}: the rise is a fraction of the steps, above 0 and below 1; give 0.3.")
    if not 0 < start <= 1:
        raise UserError(
            f"schedule.start={start}: the first learning rate is a fraction of optim.lr, above 0 and at most 1; "
            "0.04 is common."
        )
    if not 0 <= final <= 1:
        raise UserError(f"schedule.final={final}: the last learning rate is a fraction of optim.lr, 0 to 1.")
    if not isinstance(momentum, Sequence) or len(momentum) != 2 or not all(0 <= value < 1 for value in momentum):
        raise UserError(
            f"schedule.momentum={momentum}: give two numbers at least 0 and below 1, of the peak and of both "
            "ends; [0.85, 0.95] is common."
        )
    steps = max(total_steps, 2)
    lowest, highest = momentum
    return _OneCycle(
        optimizer,
        max_lr=[float(group["lr"]) for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=max(float(rise), 2 / steps),  # torch divides by 0 where the peak is the first step
        cycle_momentum=_has_momentum(optimizer),
        base_momentum=lowest,
        max_momentum=highest,
        div_factor=1 / start,
        final_div_factor=start / final if final else math.inf,
    )


class _OneCycle(OneCycleLR):
    """torch's, but steps beyond the last stay at the end: Lightning makes one, at which torch's turns up again."""

    def get_lr(self) -> list[float | Tensor]:
        if self.last_epoch < self.total_steps:
            return super().get_lr()
        return [group["min_lr"] for group in self.optimizer.param_groups]


def _has_momentum(optimizer: Optimizer) -> bool:
    """Whether its steps carry on with those before: of Adam and its kin by the first beta, of SGD by its momentum."""
    betas = optimizer.defaults.get("betas")
    return bool(betas[0] if betas else optimizer.defaults.get("momentum"))
