"""Nets by name are those that Hydra composes from the same files."""

import inspect
from typing import Any

import hydra.utils
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from galaxyml.models import build_model
from galaxyml.models.building import read
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.models.light_curves.encoders import RecurrentEncoder
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError

SIZES = {"winner": 99, "dinov2_base": 56, "dinov2_large": 56, "dinov2_small": 56}
LARGE = {"dinov2_base", "dinov2_large", "zoobot_base", "timm"}  # small ones have the same file; timm alone has no name
NAMES = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem not in LARGE)


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_net_by_its_name_is_the_one_that_hydra_composes(name: str) -> None:
    size = SIZES.get(name, 64)
    task = ["task=plasticc"] if name == "light_curve_vae" else []
    fetched = bool(read("model", name).get("pretrained"))  # nothing is fetched in tests
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*task, f"model={name}", "outputs=7", f"size={size}"])
    if fetched:
        config.model.pretrained = False
    net = build_model(name, outputs=7, size=size, **({"pretrained": False} if fetched else {}))
    expected = instantiate(config.model)
    assert str(net) == str(expected)
    assert shapes(net) == shapes(expected)


@pytest.mark.parametrize("name", ["astrocnn", "dihedral", "galaxycnn", "light_curve_vae", "timm", "winner"])
def test_values_in_a_file_are_the_defaults_of_the_constructor(name: str) -> None:
    # They stand in the file so that a command can override them, and must not drift apart.
    values = {key: value for key, value in read("model", name).items() if "${" not in str(value) and value != "???"}
    parameters = inspect.signature(hydra.utils.get_object(values.pop("_target_"))).parameters
    defaults = {key: parameters[key].default for key in values}
    assert values == {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}


def test_options_win_over_the_file() -> None:
    net: Any = build_model("tiny", outputs=3, hidden=9)
    assert net.head[0].out_features == 9
    assert isinstance(build_model("light_curve_vae", 3, encoder="recurrent").encoder, RecurrentEncoder)
    given = RecurrentEncoder(width=8)
    assert build_model("light_curve_vae", 3, encoder=given).encoder is given


def test_a_class_is_told_outputs_and_size_without_saying_so() -> None:
    net: Any = build_model({"_target_": "galaxyml.models.winner.DielemanNet", "hidden": [8]}, outputs=4, size=80)
    assert (net.head[-1].out_features, net.features[0].size) == (4, 80)


def test_a_net_is_returned_as_it_is() -> None:
    net = GalaxyCNN(3)
    assert build_model(net, outputs=5) is net


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("resnet500", {}, r"There is no net 'resnet500'\. Did you mean resnet50"),
        ("tyny", {}, r"There is no net 'tyny'\. Did you mean tiny"),
        ("timm", {}, r"timm_net: missing a required argument: 'name'\. It takes name, outputs"),
        (
            "tiny",
            {"dropuot": 0.1},
            r"^dropuot: GalaxyCNN has no such argument\. Did you mean dropout\? .* ~model\.dropuot takes it out\.$",
        ),
        ("light_curve_vae", {"encoder": "grit"}, r"There is no encoder 'grit'\. Did you mean grid"),
        ({"hidden": 3}, {}, r"_target_ must be the full name of a class"),
        ({"_target_": "galaxyml.models.nope.Nope"}, {}, r"_target_ must .*No module named 'galaxyml.models.nope'"),
        ({"_target_": "galaxyml.models.galaxycnn.GalaxyCNN", "hidden": "${wdth}"}, {}, r"key 'wdth' not found"),
    ],
)
def test_what_cannot_be_built_is_refused(spec: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(spec, outputs=3, **options)
