"""Vision transformers of timm: sizes, weights from files and from the hub, features."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from galaxyml.models.backbones import timm_net
from galaxyml.runs.errors import UserError

SMALL, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"


def at_518(name: str) -> dict[str, Tensor]:
    """Weights as timm has them for the size that DINOv2 learnt at: a grid of 37 x 37 patches."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0)
    torch.nn.init.normal_(net.pos_embed)  # type: ignore[arg-type, unused-ignore]
    return net.state_dict()


def as_facebook(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names, and with the extra tensors, of Facebook's files."""
    state = dict(state) | {"mask_token": torch.zeros(1, state["cls_token"].shape[-1])}
    if "reg_token" not in state:
        return state
    # Registers have no position; the class token's is stored with the patches'.
    position = torch.randn(1, 1, state["cls_token"].shape[-1])
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - position
    return state


@pytest.mark.parametrize(
    ("name", "step", "width", "millions"),
    [
        (SMALL, 14, 384, 21.6),
        (REGISTERS, 14, 384, 21.6),
        ("test_vit", 16, 64, 0.307),
        ("test_vit2", 16, 64, 0.401),
        ("test_vit3", 16, 96, 0.849),
    ],
)
def test_vision_transformers_take_multiples_of_their_patches(name: str, step: int, width: int, millions: float) -> None:
    for count in (4, 7, 16):
        net: Any = timm_net(name, outputs=7, size=step * count).eval()
        images = torch.rand(2, 3, step * count, step * count)
        with torch.no_grad():
            features = net.features(images)
            assert features.shape == (2, width)
            torch.testing.assert_close(net.head(features), net.net(net.normalised(images)))
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)


def test_features_of_dinov2_are_its_class_token() -> None:
    net: Any = timm_net(SMALL, outputs=7, size=56).eval()
    images = torch.rand(2, 3, 56, 56)
    with torch.no_grad():
        tokens = net.net.forward_features(net.normalised(images))
        torch.testing.assert_close(net.features(images), tokens[:, 0])


@pytest.mark.parametrize(
    ("size", "said"),
    [(100, "Set size=98 or size=112"), (128, "Set size=126 or size=140"), (9, r"Set size=14\.")],
)
def test_other_sizes_are_refused_with_the_nearest(size: int, said: str) -> None:
    with pytest.raises(UserError, match=rf"size={size}: {SMALL} sees patches of 14 px, .* multiple of 14\. {said}"):
        timm_net(SMALL, outputs=3, size=size, pretrained=True)  # before anything is fetched


def test_nets_without_patches_take_any_size() -> None:
    assert timm_net("test_resnet", outputs=3, size=67)(torch.rand(2, 3, 67, 67)).shape == (2, 3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("facebook", [False, True])
@pytest.mark.parametrize("name", [SMALL, REGISTERS])
def test_dinov2_loads_at_another_size(tmp_path: Path, name: str, facebook: bool, suffix: str) -> None:
    state = at_518(name)
    path = tmp_path / f"weights{suffix}"
    written = as_facebook(state) if facebook else state
    if suffix == ".pth":
        torch.save(written, path)
    else:
        save_file(written, path)
    net: Any = timm_net(name, outputs=5, size=98, weights=str(path))
    found = net.net.state_dict()
    tokens = 0 if "reg_token" in state else 1
    expected = resample_abs_pos_embed(state["pos_embed"], [7, 7], [37, 37], num_prefix_tokens=tokens)
    torch.testing.assert_close(found.pop("pos_embed"), expected)
    assert {key for key in found if key not in state} == {"head.weight", "head.bias"}
    for key in set(state) - {"pos_embed"}:
        torch.testing.assert_close(found[key], state[key], msg=key)


def test_a_grid_of_another_size_is_resampled_smoothly(tmp_path: Path) -> None:
    # A plane over the grid stays a plane, whatever the grid: rows of 37 points, then of 7, over the same square.
    state = at_518(SMALL)
    row, column = torch.meshgrid(torch.linspace(-1, 1, 37), torch.linspace(-1, 1, 37), indexing="ij")
    state["pos_embed"][:, 1:] = (2 * row + 3 * column).reshape(1, -1, 1)
    torch.save(state, tmp_path / "weights.pth")
    net: Any = timm_net(SMALL, outputs=5, size=98, weights=str(tmp_path / "weights.pth"))
    found = net.net.pos_embed[0, 1:, 0].view(7, 7).detach()
    centres = (torch.arange(7) + 0.5) / 7 * 2 - 1
    row, column = torch.meshgrid(centres, centres, indexing="ij")
    inner = slice(1, -1)  # at the edges the resampling has no neighbours
    assert (found - (2 * row + 3 * column) * 37 / 36)[inner, inner].abs().max() < 0.05


def test_weights_of_another_transformer_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"other.pth does not fit {SMALL}: \d+ tensors are missing \(blocks"):
        timm_net(SMALL, outputs=5, size=56, weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("content", [{"model": {"a": 1}}, {"a": 1}, [1, 2], torch.zeros(3)])
def test_checkpoints_that_hold_more_than_weights_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "more.pth")
    with pytest.raises(UserError, match="is no state dict of weights: names and tensors, by themselves"):
        timm_net("test_vit", outputs=5, size=96, weights=str(tmp_path / "more.pth"))


@pytest.mark.parametrize(
    "name", ["dinov2_vits14_pretrain.pth", "dinov2_vits14_reg4_pretrain.pth", "vit_small_patch14_dinov2.safetensors"]
)
def test_real_dinov2_weights_load(real: Path, name: str) -> None:
    path = real / "weights" / name
    if not path.is_file():
        pytest.skip(f"no {name}")
    net = timm_net(REGISTERS if "reg4" in name else SMALL, outputs=5, size=98, weights=str(path)).eval()
    assert net(torch.rand(1, 3, 98, 98)).isfinite().all()


def test_offline_one_message_says_what_to_download_and_where_to_put_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as raised:
        timm_net(SMALL, outputs=5, size=98, pretrained=True)
    said = str(raised.value)
    for part in (
        "https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
        "model.weights=FILE",
        "HF_HUB_OFFLINE is set",
        "models--timm--vit_small_patch14_dinov2.lvd142m",
        "Nothing else has been read or written yet",
    ):
        assert part in said
    assert "\n" not in said
    assert capfd.readouterr() == ("", "")


def test_nets_without_published_weights_say_so() -> None:
    name = next(
        name
        for name in timm.list_models("efficientnet_b0*")
        if (known := timm.get_pretrained_cfg(name)) is None or not (known.hf_hub_id or known.url)
    )
    with pytest.raises(UserError, match=rf"timm has no weights of {name}\. Give a file with model\.weights=FILE"):
        timm_net(name, outputs=5, pretrained=True)


def test_the_hub_is_asked_once_and_its_weights_are_kept(tmp_path: Path) -> None:
    script = Path(__file__).with_name("hub.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    other, again, missing, unreachable, seconds, asked = json.loads(done.stdout)
    # At 96 px the grid is 6 x 6 where the weights have 10 x 10; the last layer has 5 outputs for 1000.
    assert other == ["head.bias", "head.weight", "pos_embed"]
    assert again, "without the hub, the net has the weights of the cache"
    assert re.search(r"RemoteEntryNotFoundError: 404|EntryNotFoundError: 404", missing), missing
    assert re.search(r"http://127.0.0.1:\d+/timm/test_vit2.r160_in1k/resolve/main/model.safetensors", missing)
    assert "test_vit3.r160_in1k" in unreachable
    assert seconds < 5
    assert len([line for line in asked if line.startswith("GET") and "test_vit." in line]) == 1
    assert "Retrying" not in done.stderr
