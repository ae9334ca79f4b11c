"""Parts of a module as plain values: `{_target_: …}` with arguments, which a checkpoint can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from galaxyml.models.building import named
from galaxyml.runs.errors import UserError, did_you_mean

# AdamW (Loshchilov & Hutter 2019); its rate rises over the first steps, then falls as half a cosine.
ADAMW = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3, "weight_decay": 0.01}
COSINE = {"_target_": "galaxyml.training.schedules.warmup_cosine", "_partial_": True, "warmup": 0.05, "final": 0.0}


def adamw(lr: float) -> dict[str, Any]:
    """AdamW as a mapping, with a learning rate of one's own."""
    return {**ADAMW, "lr": float(lr)}


def check_parts(module: str, options: Mapping[str, Any], known: Sequence[str], **parts: Any) -> None:
    """Makes sure that a module is given parts, not their names, and no arguments that it does not have.

    Args:
        module: Name of its class.
        options: Further arguments that were given.
        known: Those that there are.
        **parts: Parts by the names of their arguments.

    Raises:
        UserError: If not.
    """
    for name, part in parts.items():
        if isinstance(part, str | int | float):
            raise UserError(f"{module}: {name}={part!r} is no {_EXAMPLES[name]}.")
        if isinstance(part, type) and name == "loss":
            raise UserError(f"{module}: {name}={part.__name__} is a class: give one of it, {part.__name__}().")
    if wrong := [name for name in options if name not in known]:
        hint = "The learning rate is lr= of for_data. " if wrong[0] in ("optim", "learning_rate", "lr") else ""
        raise UserError(f"{module} has no argument {wrong[0]}. {hint}{did_you_mean(wrong[0], known)}".rstrip())


_EXAMPLES = {
    "loss": "module: give one, such as galaxyml.FocalLoss(), or leave it out for that of the targets' kind",
    "optimizer": "function of parameters: give functools.partial(torch.optim.SGD, lr=0.05), or lr= of for_data",
    "schedule": "function of an optimizer and total_steps: give one, such as "
    "functools.partial(galaxyml.training.schedules.warmup_cosine, warmup=0.1), or None",
}


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


def own_weights(net: Any, built: nn.Module) -> Any:
    """The description of a net without the weights that it begins with, which a checkpoint replaces.

    Args:
        net: A name, a mapping, or the net.
        built: The net, whose images are from then on scaled as its first weights expect.
    """
    spec = plain(net) if not isinstance(net, nn.Module) else None
    if isinstance(spec, str) and (begun := named(spec)).get("pretrained"):
        spec = begun
    if not isinstance(spec, dict):
        return spec
    without: dict[str, Any] = {"weights": None, "pretrained": False, "scaling": None}
    spec = {key: without.get(key, value) for key, value in spec.items()}
    origin = getattr(built, "origin", None)
    return spec if origin is None else spec | {"mean": list(origin.mean), "std": list(origin.std)}
