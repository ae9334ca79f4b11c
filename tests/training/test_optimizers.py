"""Parameter groups: each parameter once, rates that fall from the head down, no decay on norms and biases."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.backbones import timm_net
from galaxyml.models.symmetry import Symmetric, Symmetries
from galaxyml.runs.errors import UserError
from galaxyml.training.optimizers import optimization

LR = 0.01


class Tuned(lightning.LightningModule):
    """A net with the rates of its backbone, and a weight that is no net's."""

    def __init__(self, net: nn.Module, rate: float = 1.0, decay: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.temperature = nn.Parameter(torch.ones(1))
        self.rates = rate, decay


class Plain(lightning.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def adamw(groups: Any) -> AdamW:
    return AdamW(groups, lr=LR, weight_decay=0.05)


def optimized(module: Tuned) -> Any:
    return optimization(module, adamw, None, *module.rates)


def rates(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter; each is in one group, once."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    rate_of = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in rate_of
            rate_of[names[id(parameter)]] = group["lr"], group["weight_decay"]
    return rate_of


@pytest.mark.parametrize("hidden", [None, 8])
@pytest.mark.parametrize(("name", "size"), [("test_vit", 64), ("vit_small_patch14_reg4_dinov2", 56)])
def test_rates_fall_by_layer_as_the_formula_says(name: str, size: int, hidden: int | None) -> None:
    net: Any = timm_net(name, outputs=5, size=size, hidden=hidden)
    depth, rate, decay = len(net.net.blocks), 0.3, 0.7
    module = Tuned(net, rate, decay)
    rate_of = rates(module, optimized(module))
    assert rate_of.keys() == {key for key, _ in module.named_parameters()}
    for key, (lr, weight_decay) in rate_of.items():
        inside = key.removeprefix("net.net.")
        if inside == key or inside.startswith("head."):  # of the head, or of no net
            expected = LR
        elif inside.startswith("blocks."):
            expected = LR * rate * decay ** (depth - int(inside.split(".")[1]))
        elif inside.startswith("norm."):  # after the last block, and with it
            expected = LR * rate * decay
        else:  # of the patches, and tokens
            expected = LR * rate * decay ** (depth + 1)
        assert lr == pytest.approx(expected), key
        assert weight_decay == (0.05 if module.get_parameter(key).ndim > 1 else 0), key


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
def test_rates_are_those_of_timm(name: str) -> None:
    net: Any = timm_net(name, outputs=5)
    module = Tuned(net, 1.0, 0.75)
    rate_of = rates(module, optimized(module))
    names = {id(parameter): key for key, parameter in module.named_parameters()}
    for group in param_groups_layer_decay(net.net, layer_decay=0.75):
        for parameter in group["params"]:
            assert rate_of[names[id(parameter)]][0] == pytest.approx(LR * group["lr_scale"]), names[id(parameter)]


@pytest.mark.parametrize("net", [AstroCNN(3), timm_net("test_resnet", outputs=3)])
def test_a_slower_backbone_needs_no_layers(net: Any) -> None:
    module = Tuned(net, 0.1)
    rate_of = rates(module, optimized(module))
    head = {id(parameter) for parameter in net.head.parameters()}
    for key, parameter in module.named_parameters():
        expected = LR if id(parameter) in head or key == "temperature" else 0.1 * LR
        assert rate_of[key] == (pytest.approx(expected), 0.05 if parameter.ndim > 1 else 0), key


def test_rates_of_1_change_nothing() -> None:
    net = timm_net("test_vit", outputs=3, size=64)
    groups = optimization(Plain(net), adamw, None).param_groups
    assert [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups] == [
        (sum(p.ndim > 1 for p in net.parameters()), LR, 0.05),
        (sum(p.ndim <= 1 for p in net.parameters()), LR, 0),
    ]
    same = optimized(Tuned(net)).param_groups
    assert [len(group["params"]) for group in same] == [len(groups[0]["params"]), len(groups[1]["params"]) + 1]


def test_what_is_frozen_is_in_no_group() -> None:
    net: Any = timm_net("test_vit", outputs=3, size=64)
    net.requires_grad_(False)
    net.net.blocks[-1].requires_grad_(True)
    module = Tuned(net, 1.0, 0.5)
    rate_of = rates(module, optimized(module))
    assert rate_of.keys() == {key for key, p in module.named_parameters() if p.requires_grad}
    assert {lr for key, (lr, _) in rate_of.items() if "blocks" in key} == {0.5 * LR}


def test_schedules_keep_the_ratios_and_the_first_group_is_the_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(optimizer: torch.optim.Optimizer, total_steps: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda step: 0.5**step)

    module: Any = Tuned(timm_net("test_vit", outputs=3, size=64), 0.1, 0.5)
    module.trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    schedule: Callable[..., Any] = halved
    monkeypatch.setattr(lightning.Trainer, "estimated_stepping_batches", 7)
    configured = optimization(module, adamw, schedule, *module.rates)
    optimizer = configured["optimizer"]
    before = [group["lr"] for group in optimizer.param_groups]
    assert before[0] == max(before) == LR
    optimizer.step()
    configured["lr_scheduler"]["scheduler"].step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([lr / 2 for lr in before])


def test_a_step_of_each_parameter_is_its_rate_times_its_slope() -> None:
    net: Any = timm_net("test_vit", outputs=3, size=64)
    module = Tuned(net, 0.2, 0.5)
    optimizer = optimization(module, lambda groups: SGD(groups, lr=LR), None, *module.rates)
    lr = rates(module, optimizer)
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    (net(torch.rand(2, 3, 64, 64)).square().sum() * module.temperature).sum().backward()
    optimizer.step()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.detach(), before[key] - lr[key][0] * parameter.grad)


def test_nets_without_layers_or_head_are_refused() -> None:
    with pytest.raises(UserError, match=r"layer_decay=0\.5: AstroCNN has no order of layers"):
        optimized(Tuned(AstroCNN(3), 1.0, 0.5))
    with pytest.raises(UserError, match=r"backbone_rate=0\.1, .*: Linear has no separate head"):
        optimized(Tuned(nn.Linear(2, 2), 0.1))


def test_a_symmetric_nets_rates_are_those_of_the_net_in_it() -> None:
    net = timm_net("test_vit", outputs=5, size=64)
    rates_of = []
    for module in (Tuned(net, 0.3, 0.7), Tuned(Symmetric(net, Symmetries(8)), 0.3, 0.7)):
        optimizer = optimized(module)
        rates_of.append({name.replace("net.", "", 1): rate for name, rate in rates(module, optimizer).items()})
    inner = {name.replace("net.", "", 1) if name != "temperature" else name: rate for name, rate in rates_of[1].items()}
    assert inner == rates_of[0]
