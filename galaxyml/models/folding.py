"""Batch norms made a part of the convolutions before them, which nets that are not trained any more can do without."""

import copy
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CLOSE = 1e-3  # by which outputs may differ, as a share of the largest; rounding makes 1e-5 of a deep net's
TRIED = 2  # images that it is tried on


def folded(net: nn.Module, size: int, channels: int = 3) -> nn.Module:
    """A net for prediction whose outputs are the same to rounding, with fewer passes over its activations.

    A batch norm in evaluation scales and shifts each channel by constants, which can be those of the convolution before
    it (Jacob et al. 2018, arXiv:1712.05877, eq. 14). What comes before a batch norm is found by trying the net on
    random images; where the outputs then differ by more than rounding, the net is left alone.

    Args:
        net: Takes images in [0, 1], shape (N, C, size, size).
        size: Side of the images in pixels.
        channels: C.

    Returns:
        A copy in evaluation, or the net itself, where there is nothing to fold or it cannot be.
    """
    if not any(type(module) in (nn.BatchNorm2d, BatchNormAct2d) for module in net.modules()):
        return net
    changed = copy.deepcopy(net).eval()
    example = torch.rand(TRIED, channels, size, size, generator=torch.Generator().manual_seed(0))
    example = example.to(next(net.parameters()).device, memory_format=torch.channels_last)
    with torch.inference_mode():
        before, followed = _pairs(changed, example)
    with torch.no_grad():
        for conv, norm in followed:
            weight, conv.bias = fuse_conv_bn_weights(
                *(conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            )
            conv.weight.copy_(weight)  # which stays in its order in memory, by which kernels are chosen
            rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
            _replace(changed, norm, rest)
    if not followed:
        return net
    with torch.inference_mode():
        gap = (changed(example) - before).abs().max()
    return changed if bool(gap <= CLOSE * before.abs().max()) else net


def _pairs(net: nn.Module, example: Tensor) -> tuple[Tensor, list[tuple[nn.Conv2d, Any]]]:
    """The net's outputs, and its convolutions whose outputs go to a batch norm each, always the same one, with it."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # outputs, kept so that none takes another's place
    calls: dict[nn.Conv2d, int] = {}
    fed: dict[nn.Module, list[nn.Conv2d | None]] = {}

    def leave(conv: Any, _: Any, output: Tensor) -> None:
        made[id(output)] = (conv, output)
        calls[conv] = calls.get(conv, 0) + 1

    def take(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        conv, _ = made.get(id(inputs[0]), (None, None))
        fed.setdefault(norm, []).append(conv)

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(leave))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(take))
    try:
        output = net(example)
    finally:
        for hook in hooks:
            hook.remove()
    owners: dict[nn.Conv2d, list[nn.Module]] = {}
    for norm, convs in fed.items():
        for known in {conv for conv in convs if conv is not None}:
            owners.setdefault(known, []).append(norm)
    pairs = []
    for norm, convs in fed.items():
        first = convs[0]
        if first is not None and set(convs) == {first} and owners[first] == [norm] and calls[first] == len(convs):
            pairs.append((first, norm))
    return output, pairs


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a module in another's place, wherever the net has it."""
    for parent in net.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
