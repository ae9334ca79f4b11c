"""Batch norms in convolutions: the same outputs to rounding for every net, and none changed that may not be."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.backbone_with_head import CACHED, rows_at_once
from galaxyml.models.backbones import timm_net
from galaxyml.models.folding import folded
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.models.symmetry import Symmetric, Symmetries
from galaxyml.training.prediction_module import PredictionModule

SIZE = 64


def lived(net: nn.Module) -> Any:
    """A net whose batch norms have seen something."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


NETS: dict[str, Callable[[], nn.Module]] = {
    "GalaxyCNN": lambda: GalaxyCNN(37, channels=(16, 32, 64, 128), hidden=128, batch_norm=True, stride=4),
    "AstroCNN": lambda: AstroCNN(10),
    "symmetric": lambda: Symmetric(timm_net("resnet18", outputs=5, size=SIZE), Symmetries(4)),
    "normalised": lambda: timm_net("resnet18", outputs=5, size=SIZE),
    "resnet50": lambda: timm.create_model("resnet50", num_classes=5),
    "lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=5),
    "mobilenet": lambda: timm.create_model("mobilenetv3_small_050", num_classes=5),
    "densenet": lambda: timm.create_model("densenet121", num_classes=5),
    "resnetv2": lambda: timm.create_model("resnetv2_50d_frn", num_classes=5),
}


@pytest.mark.parametrize("name", NETS)
def test_outputs_stay_the_same_to_rounding(name: str) -> None:
    net = lived(NETS[name]())
    before = {key: value.clone() for key, value in net.state_dict().items()}
    images = torch.rand(5, 3, SIZE, SIZE)
    changed = folded(net, SIZE)
    with torch.inference_mode():
        expected, found = net(images), changed(images)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert not changed.training
    assert norms(changed) < norms(net) or not norms(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["GalaxyCNN", "AstroCNN", "resnet50", "lite0"])
def test_no_batch_norm_is_left_where_each_follows_a_convolution(name: str) -> None:
    assert norms(folded(lived(NETS[name]()), SIZE)) == 0


class Shared(nn.Module):
    """Convolutions and batch norms that may not be one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        made = self.first(images)
        if self.kind == "activated":
            return self.norm(functional.relu(made))
        if self.kind == "also used":
            return self.norm(made) + made
        if self.kind == "of two":
            return self.norm(made) + self.norm(self.second(images))
        return self.norm(made + self.second(images))


@pytest.mark.parametrize("kind", ["activated", "also used", "of two", "of a sum"])
def test_nets_whose_batch_norms_are_needed_are_left_alone(kind: str) -> None:
    net = lived(Shared(kind))
    assert folded(net, SIZE) is net


def test_other_channels_and_nets_without_batch_norms() -> None:
    net = lived(GalaxyCNN(3, channels=(8, 8), hidden=8, batch_norm=True, in_chans=5))
    images = torch.rand(2, 5, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(folded(net, SIZE, 5)(images), net(images), atol=1e-5)
    plain = GalaxyCNN(3, channels=(8, 8), hidden=8)
    assert folded(plain, SIZE) is plain


def test_predictions_are_those_of_the_weights_as_they_are_now() -> None:
    module = PredictionModule(lived(NETS["normalised"]())).eval()
    images = torch.rand(3, 3, SIZE, SIZE)

    def close() -> bool:
        with torch.inference_mode():
            return torch.allclose(module.outputs_of(images), module(images), rtol=1e-3, atol=1e-4)

    assert close()
    assert norms(module.at_rest(images)[0]) == 0
    assert norms(module.net) > 0
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.1)
    assert close()
    module.load_state_dict(lived(PredictionModule(NETS["normalised"]())).state_dict())
    assert close()
    module.net = lived(timm_net("resnet18", outputs=5, size=SIZE))
    assert close()
    assert not any("at_rest" in name for name in module.state_dict())


def test_in_half_precision_the_net_stays_as_it_is() -> None:
    module = PredictionModule(lived(NETS["normalised"]())).eval()
    images = torch.rand(3, 3, SIZE, SIZE)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert module.at_rest(images)[0] is module.net


def test_few_large_images_are_computed_at_once_and_many_small_ones() -> None:
    net = lived(GalaxyCNN(37))
    rows = [rows_at_once(net, torch.rand(1, 3, size, size)) for size in (32, 64, 128, 256)]
    assert rows == sorted(rows, reverse=True)
    assert (rows[0], rows[-1]) == (32, 8)
    assert all(count & (count - 1) == 0 for count in rows)
    layer = 4 * 32 * 64 * 64  # bytes of the first one's output, the largest
    assert rows_at_once(net, torch.rand(1, 3, 64, 64)) * layer <= CACHED < 2 * 32 * 2 * layer
