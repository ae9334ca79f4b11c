"""How well small images are decoded, batch by batch."""

import torch
from torch import Tensor
from torchmetrics import Metric

TINY = 1e-12  # variance, below which all images are alike


class PixelMetrics(Metric):
    """`residual`, the root mean square error of decoded pixels, and `explained`, the share of their variance.

    Variance is that about the mean image of the epoch, so that 1 is perfect, and 0 what the mean image reaches (R2,
    weighted by variance).

    Args:
        pixels: Of a small image, P.
    """

    full_state_update = False
    squared_error: Tensor
    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        zeros = torch.zeros(pixels, dtype=torch.float64)
        for name in ("squared_error", "total", "squares"):
            self.add_state(name, zeros.clone(), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch; both of shape (N, P)."""
        predicted, target = outputs.detach().double(), targets.double()
        self.squared_error = self.squared_error + (predicted - target).square().sum(dim=0)
        self.total = self.total + target.sum(dim=0)
        self.squares = self.squares + target.square().sum(dim=0)
        self.count = self.count + len(target)

    def compute(self) -> dict[str, Tensor]:
        """Both numbers; infinite once a net has diverged."""
        variance = (self.squares - self.total.square() / self.count).sum().clamp(min=TINY)
        error = self.squared_error.sum().nan_to_num(nan=torch.inf)
        return {
            "residual": (error / (self.count * len(self.total))).sqrt().float(),
            "explained": (1 - error / variance).float(),
        }
