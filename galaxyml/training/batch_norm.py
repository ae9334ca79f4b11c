"""Batch norm over a batch that is dealt out to several processes, as if it were in one."""

from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm


class GroupBatchNorm(LayerSync):
    """Lets layers of batch norm take their statistics from the rows of all processes while they train.

    Layers stay the objects that they are, so that their kind, what timm's do besides (an activation) and the names of
    weights stay as well; `torch.nn.SyncBatchNorm.convert_sync_batchnorm` makes others of them.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Shares the statistics of all layers of a model."""
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.__dict__["forward"] = MethodType(_forward, layer)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Makes all layers what they were."""
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.__dict__.pop("forward", None)
        return model


def _forward(layer: Any, rows: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, rows)
    momentum = 0.0 if layer.momentum is None else layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if layer.momentum is None:  # a mean over all batches
            momentum = 1 / float(layer.num_batches_tracked)
    if rows.is_cuda:
        group, size = dist.group.WORLD, dist.get_world_size()
        given = (layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.eps, momentum, group, size)
        found = SyncBatchNorm.apply(rows, *given)
    else:  # torch has it for GPUs alone
        found = normalised(rows, layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.eps, momentum)
    for name in ("drop", "act"):  # timm's BatchNormAct2d
        found = getattr(layer, name)(found) if hasattr(layer, name) else found
    return found


def normalised(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    momentum: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` in training, over the rows of all processes (Ioffe & Szegedy 2015, algorithm 1).

    Args:
        rows: Shape (B, C, ...); B may differ between processes.
        weight: Shape (C,), or None.
        bias: Shape (C,), or None.
        running_mean: Shape (C,), moved in place, or None.
        running_var: Shape (C,), moved in place, or None.
        eps: Added to the variance.
        momentum: How far the running statistics go to those of the batch.
    """
    axes = [axis for axis in range(rows.ndim) if axis != 1]
    shape = [1, -1] + [1] * (rows.ndim - 2)
    count = rows.new_full((1,), rows.numel() // rows.shape[1])
    sums = _Sum.apply(torch.cat([rows.sum(axes), count]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = rows - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / total
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * total / (total - 1), momentum)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    found = centred * scale.view(shape)
    return found if bias is None else found + bias.view(shape)


class _Sum(torch.autograd.Function):
    """The sum over all processes; of their gradients, too."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
