"""Phases of a fit: all of a net, its head alone, or small matrices beside its layers, one after another."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import UserError

PHASES = ("all", "head", "lora")


@dataclass(frozen=True)
class Tuning:
    """Settings of the phases of a fit, where there are several or the backbone is treated apart.

    Attributes:
        head_epochs: Epochs of a phase that tunes the head and is followed by another.
        head_lr: Its learning rate; None for that of the optimizer.
        backbone_rate: Learning rate of everything but the head, relative to the head's.
        layer_decay: Factor from a layer's learning rate to that of the layer before it, in (0, 1] (Bao et al. 2022,
            arXiv:2106.08254, appendix; Clark et al. 2020, arXiv:2003.10555).
        lora_rank: Rank of the matrices of `lora` (Hu et al. 2022, arXiv:2106.09685).
        lora_alpha: Their scale is this over the rank.
        lora_dropout: Probability of leaving out an input of theirs.
        progression: Whether validation and test objects are predicted before the fit and after each phase, too.
    """

    head_epochs: int = 10
    head_lr: float | None = None
    backbone_rate: float = 1.0
    layer_decay: float = 1.0
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    progression: bool = False

    def __post_init__(self) -> None:
        for name, ok, allowed in (
            ("head_epochs", self.head_epochs >= 1, "a whole number, 1 or more"),
            ("head_lr", self.head_lr is None or self.head_lr > 0, "a positive number, or null"),
            ("backbone_rate", self.backbone_rate > 0, "a positive number"),
            ("layer_decay", 0 < self.layer_decay <= 1, "in (0, 1]"),
            ("lora_rank", self.lora_rank >= 1, "a whole number, 1 or more"),
            ("lora_alpha", self.lora_alpha > 0, "a positive number"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "in [0, 1)"),
        ):
            if not ok:
                raise UserError(f"tuning.{name}={getattr(self, name)}: it must be {allowed}.")


def phases(tune: str | Sequence[str], net: nn.Module) -> tuple[str, ...]:
    """The phases that a configuration names.

    Args:
        tune: `all`, `head` or `lora`, or several of them, one after the other.
        net: What is tuned.

    Raises:
        UserError: If there is no such phase, one occurs twice, a phase follows that others have no room for, or the
            net has no separate head.
    """
    named = (tune,) if isinstance(tune, str) else tuple(tune)
    shown = named[0] if len(named) == 1 else f"[{','.join(map(str, named))}]"
    if any(name not in PHASES for name in named):
        raise UserError(f"tune={shown}: it must be all, head or lora, or [head,all] or [head,lora].")
    if not named or len(set(named)) < len(named) or {"all", "lora"} <= set(named):
        raise UserError(f"tune={shown}: name head, all or lora, or [head,all] or [head,lora].")
    if "head" in named[1:]:
        raise UserError(f"tune={shown}: the head alone comes first, as in [head,{named[0]}].")
    if set(named) - {"all"} and not isinstance(net, BackboneWithHead):
        raise UserError(f"tune={shown}: {type(net).__name__} has no separate head. Use tune=all.")
    return named


def start_phase(phase: str, net: nn.Module, tuning: Tuning) -> None:
    """Makes trainable what a phase tunes, and nothing else."""
    if phase == "all":
        net.requires_grad_(True)
        return
    assert isinstance(net, BackboneWithHead)
    net.requires_grad_(False)
    if phase == "lora":
        from galaxyml.models.lora import lora

        lora(net, tuning.lora_rank, tuning.lora_alpha, tuning.lora_dropout)
    net.head.requires_grad_(True)
