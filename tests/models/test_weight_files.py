"""Weights in files of many origins: within other modules and checkpoints, and under the names of DINOv2's authors."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from galaxyml.models import build_model
from galaxyml.models.backbones import timm_net
from galaxyml.runs.errors import UserError

PLAIN, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"
State = dict[str, Tensor]


def small() -> State:
    torch.manual_seed(0)
    return timm.create_model("test_convnext", num_classes=0).state_dict()


def within(prefix: str, **beside: Tensor) -> State:
    return {f"{prefix}{key}": value for key, value in small().items()} | beside


def loaded(content: Any, tmp_path: Path, name: str = "test_convnext", size: int | None = None) -> State:
    torch.save(content, tmp_path / "weights.ckpt")
    return timm_net(name, outputs=5, size=size, weights=str(tmp_path / "weights.ckpt")).net.state_dict()


def assert_same(found: State, expected: State) -> None:
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=key)


@pytest.mark.parametrize(
    "content",
    [
        lambda: within("encoder.", **{"head.1.weight": torch.zeros(3), "head.1.bias": torch.zeros(3)}),
        lambda: within("module."),
        lambda: within("net."),
        lambda: within("net.net.", **{"net.new_head.0.weight": torch.zeros(3), "loss.weight": torch.zeros(1)}),
        lambda: within("backbone."),
        lambda: within("model."),
        lambda: within("_orig_mod."),
        lambda: within("module.model.encoder."),
        lambda: {"model": small(), "epoch": 3, "optimizer": {"state": {}}},
        lambda: {"state_dict": within("encoder."), "epoch": 3, "hyper_parameters": {"name": "x"}},
        lambda: {
            "student": {key: value + 1 for key, value in within("module.backbone.").items()},
            "teacher": within("backbone.", **{"dino_head.mlp.weight": torch.zeros(3)}),
        },
        lambda: within("teacher.backbone.") | {f"student.backbone.{key}": value + 1 for key, value in small().items()},
    ],
)
def test_weights_are_found_within_other_modules_and_checkpoints(content: Callable[[], Any], tmp_path: Path) -> None:
    assert_same(loaded(content(), tmp_path), small())


def test_a_checkpoint_of_lightning_loads(tmp_path: Path) -> None:
    class Zoobot(lightning.LightningModule):
        def __init__(self, rate: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.encoder = timm.create_model("test_convnext", num_classes=0)
            self.head = nn.Linear(64, 3)

    torch.manual_seed(0)
    module = Zoobot()
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "zoobot.ckpt")
    found = timm_net("test_convnext", outputs=5, weights=str(tmp_path / "zoobot.ckpt")).net.state_dict()
    assert_same(found, module.encoder.state_dict())


def test_blocks_of_a_net_of_two_levels_keep_their_names(tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet").state_dict()  # blocks.0.0.conv.weight
    state = {key: value for key, value in state.items() if not key.startswith("classifier")}
    assert_same(loaded(state, tmp_path, "test_efficientnet"), state)


def test_a_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": small(), "args": argparse.Namespace(lr=1)}, tmp_path / "code.ckpt")
    with pytest.raises(UserError, match=r"it holds a argparse\.Namespace, which is code\. Save its weights alone$"):
        timm_net("test_convnext", outputs=5, weights=str(tmp_path / "code.ckpt"))


# --- DINOv2


def dinov2(name: str) -> State:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, img_size=56)
    torch.nn.init.normal_(net.pos_embed)  # type: ignore[arg-type, unused-ignore]
    return net.state_dict()


def as_facebook(state: State) -> State:
    """As Facebook has it: the class token's position is stored with the patches'."""
    state = dict(state) | {"mask_token": torch.zeros(1, 384)}
    if "reg_token" in state:
        position = torch.randn(1, 1, 384)
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
        state["cls_token"] = state["cls_token"] - position
    return state


def as_transformers(state: State) -> State:
    """As `Dinov2Model` of transformers has it."""
    names = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inner = {
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
    }
    renamed = {}
    for key, value in as_facebook(state).items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if match is None:
            renamed[names[key]] = value
        elif match[2].startswith("attn.qkv"):
            kind = match[2].rpartition(".")[2]
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"encoder.layer.{match[1]}.attention.attention.{part}.{kind}"] = rows
        else:
            rest = match[2]
            for ours, theirs in inner.items():
                rest = rest.replace(ours, theirs)
            renamed[f"encoder.layer.{match[1]}.{rest}"] = value
    return renamed


def in_training(state: State) -> Any:
    """As Facebook's training saves a teacher: blocks in chunks, its own head beside it."""
    chunked = {re.sub(r"^blocks\.(\d+)\.", r"blocks.0.\1.", key): value for key, value in as_facebook(state).items()}
    backbone = {f"backbone.{key}": value for key, value in chunked.items()}
    return {"teacher": backbone | {"dino_head.last_layer.weight": torch.zeros(2)}}


def classifier(state: State) -> State:
    """As `Dinov2ForImageClassification` has it."""
    inside = {f"dinov2.{key}": value for key, value in as_transformers(state).items()}
    return inside | {"classifier.weight": torch.zeros(2, 768), "classifier.bias": torch.zeros(2)}


@pytest.mark.parametrize("written", [as_facebook, as_transformers, in_training, classifier])
@pytest.mark.parametrize("name", [PLAIN, REGISTERS])
def test_dinov2_loads_under_every_naming(name: str, written: Callable[[State], Any], tmp_path: Path) -> None:
    state = dinov2(name)
    assert_same(loaded(written(state), tmp_path, name, size=56), state)


def test_an_encoder_in_the_format_of_transformers_loads_by_name(tmp_path: Path) -> None:
    save_file(
        {key: value.contiguous() for key, value in as_transformers(dinov2(REGISTERS)).items()},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text('{"model_type": "dinov2_with_registers", "hidden_size": 384}')
    net: Any = build_model(f"local-dir:{tmp_path}", outputs=5, size=56)
    assert_same(net.net.state_dict(), dinov2(REGISTERS))


@pytest.mark.parametrize("written", [dict, as_facebook, as_transformers, in_training])
def test_registers_point_to_the_net_that_has_them(written: Callable[[State], Any], tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        loaded(written(dinov2(REGISTERS)), tmp_path, PLAIN, size=56)
    assert str(raised.value).endswith(f"has 4 register tokens, and {PLAIN} has none. Give model.name={REGISTERS}.")
    with pytest.raises(UserError) as raised:
        loaded(written(dinov2(PLAIN)), tmp_path, REGISTERS, size=56)
    assert str(raised.value).endswith(f"has no register tokens, and {REGISTERS} has 4. Give model.name={PLAIN}.")
