"""Low-rank adaptation: a net is tuned by small matrices beside its own, which stay as they are."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import UserError


def check_peft() -> None:
    """Makes sure that the package which makes the matrices is there; it is not imported, which takes seconds.

    Raises:
        UserError: If it is not.
    """
    if find_spec("peft") is None:
        raise UserError("tune=lora needs the package peft. Install it: pip install 'galaxyml[lora]'")


def lora(net: BackboneWithHead, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> None:
    """Puts trainable matrices of low rank beside all linear layers of a net but its head's.

    A layer W x becomes W x + (alpha / rank) B A x, where A has `rank` rows and B, which begins with zeros, as many
    columns (Hu et al. 2022, arXiv:2106.09685, section 4.1). In a vision transformer these layers are the attention's
    `qkv` and `proj`, and `fc1` and `fc2` of the hidden layer. Afterwards the head and these matrices are trainable, and
    nothing else is. A net that has them already keeps them.

    Args:
        net: Its outputs stay the same until it is trained.
        rank: Of the matrices, at least 1.
        alpha: Their scale, times the rank.
        dropout: Probability of leaving out an input of theirs.

    Raises:
        UserError: If the package peft is missing, or the net has no linear layer outside its head.
    """
    if not any(".lora_A." in name for name, _ in net.named_parameters()):
        _inject(net, rank, alpha, dropout)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(".lora_A." in name or ".lora_B." in name)
    net.head.requires_grad_(True)


def _inject(net: BackboneWithHead, rank: int, alpha: float, dropout: float) -> None:
    of_head = set(net.head.modules())
    layers = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear) and layer not in of_head]
    if not layers:
        kind = type(getattr(net, "net", net)).__name__
        raise UserError(
            f"tune=lora: {kind} has no linear layers but those of its head. Choose a vision transformer, such as "
            "model=dinov2_small, or tune=all."
        )
    check_peft()
    from peft import LoraConfig, inject_adapter_in_model

    options: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": layers}
    inject_adapter_in_model(LoraConfig(**options), net)
