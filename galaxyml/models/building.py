"""Nets from conf/model, or from mappings like its files, without Hydra's global state."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import timm
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from galaxyml.models.hub import net_arguments
from galaxyml.models.sources import Source
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError, did_you_mean


def built(
    spec: str | Mapping[str, Any],
    outputs: int | None,
    size: int | None,
    in_chans: int | None,
    options: dict[str, Any],
) -> nn.Module:
    """A net by name or by class; as for `build_model`."""
    given = {"outputs": outputs, "size": size, "channels": in_chans}
    arguments = _resolved(named(spec) if isinstance(spec, str) else spec, given) | options
    if isinstance(encoder := arguments.get("encoder"), str):
        arguments["encoder"] = read("encoder", encoder)
    target = _target(arguments.pop("_target_", None), spec)
    parameters = inspect.signature(target).parameters
    # A class given as a mapping need not say again how many outputs there are.
    given = {"outputs": outputs, "size": size, "in_chans": in_chans}  # as constructors call them
    arguments = {key: value for key, value in given.items() if value is not None and key in parameters} | {
        key: instantiate(value, _convert_="all") if isinstance(value, Mapping) else value
        for key, value in arguments.items()
    }
    unknown = [key for key in arguments if key not in parameters]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise UserError(
            f"{unknown[0]}: {target.__name__} has no such argument. {did_you_mean(unknown[0], parameters)} Where an "
            f"experiment sets it for another net, ~model.{unknown[0]} takes it out."
        )
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{target.__name__}: {error}. It takes {', '.join(parameters)}.") from None
    return target(**arguments)


def named(name: str) -> dict[str, Any]:
    """The configuration of a net: a file of conf/model, timm's net of that name, or an encoder (`hf-hub:OWNER/NAME`).

    Raises:
        UserError: If there is none.
    """
    if (source := Source.read(name)) is not None:
        return read("model", "timm") | net_arguments(source)
    if (CONF / "model" / f"{name}.yaml").is_file():
        return read("model", name)
    if timm.is_model(name):
        return read("model", "timm") | {"name": name}
    nets = {*(path.stem for path in (CONF / "model").glob("*.yaml")), *timm.list_models()}
    raise UserError(f"There is no net '{name}'. {did_you_mean(name, nets)[:300]}")


def read(group: str, name: str) -> dict[str, Any]:
    """A file of a group of the configuration over those that its `defaults` name, `${…}` as they stand.

    Raises:
        UserError: If the group has no such file.
    """
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        choices = [path.stem for path in path.parent.glob("*.yaml")]
        raise UserError(f"There is no {group} '{name}'. {did_you_mean(name, choices)}")
    own: Any = OmegaConf.to_container(OmegaConf.load(path))
    merged: dict[str, Any] = {}
    for entry in own.pop("defaults", ["_self_"]):
        merged |= own if entry == "_self_" else read(group, entry)
    return merged


def _resolved(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a net with its `${outputs}` and the like filled in; without those that are None."""
    root = OmegaConf.create({"encoder": None, **given, "config": dict(config)})
    try:
        plain: Any = OmegaConf.to_container(root, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"net={dict(config)}: {str(error).splitlines()[0]}.") from None
    return {
        key: value
        for key, value in plain["config"].items()
        if value != "???" and not (value is None and OmegaConf.is_interpolation(root.config, key))
    }


def _target(path: Any, spec: Any) -> Any:
    module, _, name = str(path or "").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        example = "galaxyml.models.galaxycnn.GalaxyCNN"
        raise UserError(
            f"net={spec}: _target_ must be the full name of a class, such as {example} ({error})."
        ) from None
