"""What a command leaves open beside `start=RUN`: the net is the run's, and so is the size of its images."""

import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from galaxyml.cli import conf
from galaxyml.runs.errors import UserError
from galaxyml.runs.packaged import packaged
from galaxyml.runs.weights_about import about

BUILT_IN = (
    "_target_",
    "defaults",
    "weights",
    "pretrained",
    "encoder",
    "outputs",
    "in_chans",
    "size",
)  # asked of no one


def settings(start: str, given: Mapping[str, Any], tasks: Collection[str] = ()) -> dict[str, Any]:
    """Keys and values that go with a start, as overrides: `model`, what differs of it, and `size`.

    Args:
        start: The run, the sweep, the bundle, the checkpoint, or the file of weights.
        given: Keys that the user has given, with values in `plain`; a model, or an experiment that chooses one, stays.
        tasks: That the command is of.

    Returns:
        Nothing where the start does not tell its net.
    """
    curves = "plasticc" in tasks
    choice = "light_curve_vae" if curves else given["model"].plain if "model" in given else None
    file = _file(choice) if choice in conf.choices("model") else {}
    net, size = _described(packaged(start, str(file.get("_target_")).rpartition(".")[2]))
    answers: dict[str, Any] = {}
    if net and not {"model", "experiment"} & given.keys():
        answers |= _as_choice(net)
    if size is not None and not curves and not {"size", "experiment"} & given.keys():
        answers["size"] = size
    return answers


def _described(path: Path) -> tuple[Mapping[str, Any], int | None]:
    """The description of a start's net, and the size of its images."""
    weights = path / "model.safetensors" if path.is_dir() else path
    if weights.suffix == ".safetensors" and weights.is_file():
        said = about(weights) or {}
        return (net | {"_target_": f".{net['class']}"} if (net := said.get("net")) else {}), said.get("size")
    if path.is_dir():
        files = sorted([*path.glob(".hydra/config.yaml"), *path.glob("*/.hydra/config.yaml")])
        if not files:
            return {}, None
        config = yaml.safe_load(files[0].read_text(encoding="utf-8"))
        return config.get("model") or {}, config.get("size")
    if path.suffix == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if "predictor.json" not in file.namelist():
                return {}, None
            member = json.loads(file.read("predictor.json"))["predictor"]["nets"][0]
        return member["net"] | {"_target_": f".{member['net']['class']}"}, member["framing"].get("size")
    if path.suffix == ".ckpt" and path.is_file():
        import torch

        hyper = torch.load(path, map_location="cpu", weights_only=True).get("hyper_parameters") or {}
        return (net if isinstance(net := hyper.get("net"), Mapping) else {}), hyper.get("size")
    return {}, None


def _as_choice(net: Mapping[str, Any]) -> dict[str, Any]:
    """The file of conf/model that is nearest to a net, and what differs from it, as overrides.

    Raises:
        UserError: If no file builds such a net.
    """
    name = str(net.get("_target_")).rpartition(".")[2]
    files = {choice: _file(choice) for choice in conf.choices("model")}
    if (of_timm := net.get("name")) is not None and of_timm not in [file.get("name") for file in files.values()]:
        files = {of_timm: _file("timm") | {"name": of_timm}}
    differing = {
        choice: {key: value for key, value in net.items() if _differs(key, value, file)}
        for choice, file in files.items()
        if str(file.get("_target_")).rpartition(".")[2] == name
    }
    if not differing:
        raise UserError(f"No model=… builds {net.get('_target_')}, the net of start=…. Give model=… yourself.")
    choice = min(differing, key=lambda choice: len(differing[choice]))
    return {"model": choice} | {f"model.{key}": value for key, value in differing[choice].items()}


def _differs(key: str, value: Any, file: Mapping[str, Any]) -> bool:
    is_open = key in BUILT_IN or key == "class" or "${" in str(value) or "${" in str(file.get(key))
    return not is_open and file.get(key) != value


def _file(choice: str) -> dict[str, Any]:
    """A file of conf/model over those that its `defaults` name."""
    own = yaml.safe_load(conf.text(conf.choices("model")[choice])) or {}
    merged: dict[str, Any] = {}
    for entry in own.get("defaults", ["_self_"]):
        merged |= own if entry == "_self_" else _file(str(entry))
    return merged
