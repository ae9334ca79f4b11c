"""How the learning rate goes over a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0) -> LambdaLR:
    """A linear rise, then half a cosine down (Loshchilov & Hutter 2017, eq. 5, without restarts).

    Args:
        optimizer: Its learning rates are what the rise ends at.
        total_steps: Steps of the whole run.
        warmup: Fraction of them that the rise takes.
        final: What is left at the end, as a fraction.
    """
    rise = max(round(warmup * total_steps), 1)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = min((step - rise) / max(total_steps - rise, 1), 1.0)
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
