from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from galaxyml.models.backbones import timm_net
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.runs.errors import UserError

SMALL = "test_resnet"  # 0.5 million parameters, made by timm for tests


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (50, 97)])
def test_galaxycnn_takes_any_size(size: tuple[int, int]) -> None:
    assert GalaxyCNN(37)(torch.rand(2, 3, *size)).shape == (2, 37)


def test_galaxycnn_is_the_published_baseline() -> None:
    convolutions = sum(9 * before * after + after for before, after in ((3, 32), (32, 64), (64, 128), (128, 256)))
    expected = convolutions + (256 * 512 + 512) + (512 * 37 + 37)
    net = GalaxyCNN(37)
    assert sum(p.numel() for p in net.parameters()) == expected
    kinds = [type(layer).__name__ for layer in net.features]
    assert kinds.count("Conv2d") == 4
    assert kinds.count("MaxPool2d") == 3
    assert kinds.count("AdaptiveAvgPool2d") == 1


def test_any_timm_net_gets_a_new_last_layer() -> None:
    assert timm_net(SMALL, outputs=7)(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_images_are_normalised_as_the_weights_expect() -> None:
    torch.manual_seed(0)
    net: Any = timm_net(SMALL, outputs=3).eval()
    mean, std = (torch.tensor(net.net.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net(images), net.net((images - mean) / std))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file_fill_all_but_the_last_layer(tmp_path: Path, suffix: str) -> None:
    state = timm.create_model(SMALL).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    found = timm_net(SMALL, outputs=5, weights=str(path)).net.state_dict()
    same = [key for key in state if state[key].shape == found[key].shape and torch.equal(state[key], found[key])]
    assert set(state) - set(same) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("name", "file"), [("resnet50", "resnet50.pth"), ("tf_efficientnet_lite0", "tf_efficientnet_lite0.pth")]
)
def test_real_imagenet_weights_load(real: Path, name: str, file: str) -> None:
    net = timm_net(name, outputs=37, weights=str(real / "weights" / file)).eval()
    assert torch.isfinite(net(torch.rand(1, 3, 96, 96))).all()


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(UserError, match=rf"other.pth does not fit {SMALL}: \d+ tensors are missing \(conv1"):
        timm_net(SMALL, outputs=5, weights=str(path))


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        timm_net(SMALL, outputs=5, weights=str(tmp_path / "nothing.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="is no state dict of weights"):
        timm_net(SMALL, outputs=5, weights=str(tmp_path / "text.pth"))


def test_weights_that_cannot_be_fetched_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"cannot be fetched from the hub.*model.weights=FILE"):
        timm_net("resnet18.a1_in1k", outputs=5, pretrained=True)


def test_unknown_nets_are_refused_with_near_names() -> None:
    with pytest.raises(UserError, match=r"timm has no such net\. Did you mean .*resnet50"):
        timm_net("resnet500", outputs=5)
