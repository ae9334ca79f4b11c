"""Low-rank matrices beside a transformer's layers, against the formula written out."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from galaxyml.models.backbones import timm_net
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.models.lora import lora
from galaxyml.runs.errors import UserError

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def adapted(name: str = "test_vit", size: int = 64, **options: Any) -> Any:
    pytest.importorskip("peft", reason="galaxyml[lora] is not installed")
    torch.manual_seed(0)
    net: Any = timm_net(name, outputs=5, size=size)
    lora(net, **options)
    return net


def step(net: Any, images: Tensor) -> None:
    """One step of training, towards nothing in particular."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(images).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "vit_small_patch14_reg4_dinov2"])
def test_all_linear_layers_but_the_heads_get_matrices_that_learn(name: str) -> None:
    size = 56 if "14" in name else 64
    net = adapted(name, size=size, rank=3)
    pool = [f"net.attn_pool.{layer}" for layer in ("q", "kv", "proj", "mlp.fc1", "mlp.fc2")]
    beside = {key.split(".base_layer")[0] for key in net.state_dict() if key.endswith(".base_layer.weight")}
    blocks = {f"net.blocks.{number}.{layer}" for number in range(len(net.net.blocks)) for layer in LAYERS}
    assert beside == blocks | set(pool if name == "test_vit3" else [])
    tuned = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
    matrices = {f"{layer}.lora_{which}.default.weight" for layer in beside for which in "AB"}
    assert tuned == matrices | {"net.head.weight", "net.head.bias"}
    net(torch.rand(2, 3, size, size)).square().sum().backward()
    silent = [
        key for key, p in net.named_parameters() if "lora_B" in key and (p.grad is None or not p.grad.abs().sum())
    ]
    assert not silent, "a layer that does not call its matrices would leave them without a gradient"


def test_so_many_numbers_are_tuned() -> None:
    net = adapted(rank=4)
    width, depth = net.net.embed_dim, len(net.net.blocks)
    hidden = net.net.blocks[0].mlp.fc1.out_features
    sides = [(width, 3 * width), (width, width), (width, hidden), (hidden, width)]
    expected = depth * sum(4 * (before + after) for before, after in sides) + width * 5 + 5
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == expected


def test_matrices_begin_as_nothing_and_then_follow_the_formula() -> None:
    torch.manual_seed(0)
    plain: Any = timm_net("test_vit", outputs=5, size=64).eval()
    net = adapted(rank=4, alpha=6.0).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(images), plain(images))
    step(net, images)
    step(net, images)  # the first changes B alone, as B = 0 hides A
    assert not torch.allclose(net(images), plain(images), atol=1e-4)
    for number, block in enumerate(net.net.blocks):
        for layer in LAYERS:
            found = block.get_submodule(layer)
            other = plain.net.blocks[number].get_submodule(layer)
            torch.testing.assert_close(found.base_layer.weight, other.weight)
            with torch.no_grad():
                a, b = found.lora_A["default"].weight, found.lora_B["default"].weight
                other.weight += 6.0 / 4 * b @ a
    plain.net.head.load_state_dict(net.net.head.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(net(images), plain(images), atol=1e-5, rtol=1e-4)


def test_a_net_that_has_matrices_keeps_them_and_they_can_be_tuned_again() -> None:
    net = adapted(rank=4)
    step(net, torch.rand(2, 3, 64, 64))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    tuned = [key for key, p in net.named_parameters() if p.requires_grad]
    net.requires_grad_(False)
    lora(net, rank=4)
    after = net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert [key for key, p in net.named_parameters() if p.requires_grad] == tuned


def test_weights_load_strictly_into_a_net_made_alike() -> None:
    net, other = adapted(rank=2), adapted(rank=2)
    images = torch.rand(2, 3, 64, 64)
    step(net, images)
    other.load_state_dict(net.state_dict(), strict=True)
    torch.testing.assert_close(other(images), net(images), rtol=0, atol=0)


def test_a_hidden_layer_before_the_outputs_is_of_the_head() -> None:
    pytest.importorskip("peft", reason="galaxyml[lora] is not installed")
    net: Any = timm_net("test_vit", outputs=5, size=64, hidden=9)
    lora(net, rank=2)
    tuned = {key for key, p in net.named_parameters() if p.requires_grad and "lora" not in key}
    assert tuned == {f"new_head.{place}.{what}" for place in (0, 3) for what in ("weight", "bias")}


def test_dropout_is_of_the_matrices_alone() -> None:
    net = adapted(rank=2, dropout=0.5).train()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net(images), net(images))  # B is still 0
    step(net, images)
    assert not torch.allclose(net(images), net(images))


@pytest.mark.parametrize(("net", "name"), [(GalaxyCNN(5), "GalaxyCNN"), (timm_net("test_resnet", outputs=5), "ResNet")])
def test_nets_without_linear_layers_are_refused(net: Any, name: str) -> None:
    with pytest.raises(UserError, match=rf"tune=lora: {name} has no linear layers but those of its head"):
        lora(net)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    net: Any = timm_net("test_vit", outputs=5, size=64)
    with pytest.raises(UserError, match=r"needs the package peft\. Install it: pip install 'galaxyml\[lora\]'"):
        lora(net)
