"""Nets for images of any number of channels, and weights of three that are adapted to them."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from galaxyml.kinds.numbers import Numbers
from galaxyml.models import build_model
from galaxyml.models.backbones import timm_net
from galaxyml.runs.errors import UserError
from galaxyml.training.supervised import SupervisedModule

SIZES = {"winner": 99, "winner_small": 64}
NETS = ("tiny", "galaxycnn", "astrocnn", "dihedral", "winner_small", "test_vit", "test_resnet", "test_efficientnet")


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", NETS)
def test_every_net_takes_any_number_of_channels(name: str, channels: int) -> None:
    size = SIZES.get(name, 32)
    net = build_model(name, outputs=4, size=size, in_chans=channels).eval()
    with torch.inference_mode():
        assert net(torch.rand(2, channels, size, size)).shape == (2, 4)


def test_a_dinov2_takes_five_channels() -> None:
    net = timm_net("vit_small_patch14_dinov2", outputs=2, size=28, in_chans=5).eval()
    with torch.inference_mode():
        assert net(torch.rand(1, 5, 28, 28)).shape == (1, 2)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_weights_of_three_channels_are_adapted_as_timm_does(name: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model(name).state_dict(), path)
    found: Any = timm_net(name, outputs=7, weights=str(path), in_chans=channels)
    expected = timm.create_model(
        name,
        pretrained=True,
        num_classes=7,
        in_chans=channels,
        pretrained_cfg_overlay={"file": str(path), "custom_load": False},
    ).state_dict()
    plain: Any = timm.create_model(name)
    head = plain.pretrained_cfg["classifier"]
    compared = [key for key in expected if not key.startswith(head)]
    assert len(compared) > 10
    for key in compared:
        torch.testing.assert_close(found.net.state_dict()[key], expected[key], msg=key)


def test_weights_of_five_channels_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = timm.create_model("test_resnet", in_chans=5).state_dict()
    save_file(state, path)
    found: Any = timm_net("test_resnet", outputs=7, weights=str(path), in_chans=5)
    torch.testing.assert_close(found.net.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_channels_that_no_weights_have_seen_are_normalised_by_the_mean_of_those_that_they_have() -> None:
    rgb: Any = timm_net("test_resnet", outputs=2)
    five: Any = timm_net("test_resnet", outputs=2, in_chans=5)
    assert rgb.mean.flatten().tolist() == pytest.approx(rgb.net.pretrained_cfg["mean"])
    torch.testing.assert_close(five.mean.flatten(), rgb.mean.mean().expand(5))
    torch.testing.assert_close(five.std.flatten(), rgb.std.mean().expand(5))


def test_grey_is_seen_as_rgb_of_that_grey_would_be_nearly(tmp_path: Path) -> None:
    # The sum of the weights over the channels gives the same up to what the channels' constants differ.
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    nets: Any = (timm_net("test_resnet", outputs=2, weights=str(path), in_chans=channels) for channels in (3, 1))
    rgb, grey = nets
    for net in (rgb, grey):
        net.std.fill_(1.0)
        net.mean.fill_(0.5)
    image = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(
            grey.eval().features(image), rgb.eval().features(image.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4
        )


def test_a_net_of_ones_own_that_takes_other_channels_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    module = SupervisedModule(net, kind=Numbers(["redshift"]), size=16, channels=5)
    with pytest.raises(UserError, match=r"channels=5: this model takes images of 3 .* or set channels=3"):
        module.rehearse()
