"""Optimizers: parameter groups for weight decay and layer-wise learning rates, and the schedule over steps."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.optim import Optimizer

from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.models.symmetry import Symmetric
from galaxyml.runs.errors import UserError


def optimization(
    module: lightning.LightningModule,
    optimizer: Callable[..., Optimizer],
    schedule: Callable[..., Any] | None,
    rate: float = 1.0,
    decay: float = 1.0,
) -> Any:
    """Optimizer and schedule, as `configure_optimizers` returns them.

    Args:
        module: Attached to its trainer. It may have `fused`, whether the optimizer is to update all weights in one
            kernel, if it has one and was given no other.
        optimizer: Takes parameter groups.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
        rate: Learning rate of the net's backbone relative to the head's.
        decay: Factor from a layer's learning rate to that of the layer before it.

    Raises:
        UserError: If the rates differ, but the net has no separate head, or its layers have no order.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = _groups(trained) if rate == decay == 1 else by_layer(module, rate, decay)
    factors = [group.pop("factor", 1.0) for group in groups]
    built = optimizer(groups)
    free = built.defaults.get("fused", 0) is None and not built.defaults.get("foreach")  # has such a kernel, and may
    if getattr(module, "fused", False) and free:
        built = optimizer(groups, fused=True)
    for group, factor in zip(built.param_groups, factors, strict=True):
        group["lr"] *= factor
    if schedule is None:
        return built
    scheduler = schedule(built, total_steps=int(module.trainer.estimated_stepping_batches))
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_optimizer(optimizer: Callable[..., Optimizer], schedule: Callable[..., Any] | None) -> None:
    """Makes sure, on a weight of its own, that an optimizer and a schedule take the settings that they were given.

    Raises:
        UserError: If one does not.
    """
    try:
        built = optimizer([nn.Parameter(torch.zeros(1))])
        if schedule is not None:
            schedule(built, total_steps=100)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"optim or schedule: {error}. See both in galaxyml --cfg job.") from error


def restore_optimizer_state(optimizer: Optimizer) -> None:
    """Makes an optimizer whose state came from a checkpoint go on with the kernels and the memory layout of this fit.

    A fused kernel goes through memory without looking how it is laid out: on a CPU it takes moments that lie otherwise
    than their weights for those of other weights, and says nothing (torch 2.15).

    Args:
        optimizer: Its state is changed in place; its defaults say whether it has a fused kernel.
    """
    fused = bool(optimizer.defaults.get("fused"))
    for group in optimizer.param_groups:
        was = bool(group.get("fused"))
        if was != fused and "fused" in group:
            group["fused"] = True if fused else None
        for weight in group["params"]:
            state = optimizer.state.get(weight, {})
            for key, value in state.items():
                if type(value) is not Tensor:
                    continue
                if key == "step" and was != fused:
                    state[key] = value.float().to(weight.device if fused else "cpu")
                elif value.shape == weight.shape and value.stride() != weight.stride():
                    state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def by_layer(module: Any, rate: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups of what is trained whose learning rates fall from the head down.

    The rate of a layer is `rate` times `decay` to the power of its distance from the head, where the head has 1
    whatever `rate` is, and the last layer of the backbone the distance 1 (Clark et al. 2020, arXiv:2003.10555, for
    language; Bao et al. 2022, arXiv:2106.08254, for images). What belongs to no net, such as a loss's weights, goes
    with the head. The head's groups come first.

    Args:
        module: With a `net`.
        rate: Learning rate of the backbone relative to the head's, above 0.
        decay: Factor from one layer to the one before, in (0, 1]; at 1 the order of the layers does not matter.

    Returns:
        Groups as optimizers take them, and of each its `factor` on the learning rate.

    Raises:
        UserError: If the net has no separate head, or its layers have no order.
    """
    net = module.net
    if not isinstance(net, BackboneWithHead):
        raise UserError(
            f"tuning.backbone_rate={rate:g}, tuning.layer_decay={decay:g}: {type(net).__name__} has no separate "
            "head. Set both to 1."
        )
    of_head = {id(parameter) for parameter in net.head.parameters()}
    distances = _distances(net, decay, of_head)
    factors = {
        id(parameter): rate * decay ** distances.get(id(parameter), 0)
        for parameter in net.parameters()
        if id(parameter) not in of_head
    }
    by_factor: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in module.parameters():
        if parameter.requires_grad:
            by_factor.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    falling = sorted(by_factor, key=lambda factor: (factor != 1, -factor))
    return [group | {"factor": factor} for factor in falling for group in _groups(by_factor[factor]) if group["params"]]


def _distances(net: Any, decay: float, of_head: set[int]) -> dict[int, int]:
    """Layers from the head down to each parameter, by its identity; empty where all have the same rate."""
    if decay == 1:
        return {}
    net = net.net if isinstance(net, Symmetric) else net
    if not hasattr(getattr(net, "net", None), "group_matcher"):
        raise UserError(
            f"tuning.layer_decay={decay:g}: {type(net).__name__} has no order of layers, as nets of timm have. Set "
            "tuning.layer_decay=1; tuning.backbone_rate slows all but the head."
        )
    layers = group_parameters(net.net, net.net.group_matcher(coarse=False), reverse=True)
    named = dict(net.net.named_parameters())
    # The head's layer, or one more where other layers stand in its place.
    head = next((layers[name] for name in named if id(named[name]) in of_head), max(layers.values()) + 1)
    return {id(named[name]): head - layers[name] for name in named}


def _groups(trained: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups: weight decay for matrices alone, as norms and biases are not to be small."""
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
