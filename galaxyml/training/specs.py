"""Parts of a module as plain values: `{_target_: …}` with arguments, which a checkpoint can hold."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

# AdamW (Loshchilov & Hutter 2019); its rate rises over the first steps, then falls as half a cosine.
ADAMW = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3, "weight_decay": 0.01}
COSINE = {"_target_": "galaxyml.training.schedules.warmup_cosine", "_partial_": True, "warmup": 0.05, "final": 0.0}


def build(spec: Any) -> Any:
    """The object that a mapping describes; anything else as it is."""
    return instantiate(spec) if isinstance(spec, Mapping) or OmegaConf.is_dict(spec) else spec


def plain(value: Any) -> Any:
    """A value as a checkpoint can hold it: plain containers, the `spec` of an object, or None."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "spec", None)


def arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor as a checkpoint can hold them, from `locals()` at its beginning."""
    named = {name: plain(value) for name, value in values.items() if name not in ("self", "__class__", "options")}
    return named | {name: plain(value) for name, value in values.get("options", {}).items()}


def own_weights(net: Any) -> Any:
    """The description of a net without the weights that it begins with, which a checkpoint replaces."""
    spec = plain(net) if not isinstance(net, nn.Module) else None
    if not isinstance(spec, dict):
        return spec
    without: dict[str, Any] = {"weights": None, "pretrained": False}
    return {key: without.get(key, value) for key, value in spec.items()}
