"""Descriptions of predictors as plain values: of a run's configuration, and as the JSON of a bundle.

A description has `task`, `kind`, further `stages`, `accelerator` and `nets`, each with `fold`, `share`, `net`, `head`
(None for the kind's), `views`, `symmetry`, `lora` (its arguments, or None), `framing`, `decoding` and `precision`.
Parts that are built are mappings with the class as `_target_`; in JSON they have `class`, a name of `CLASSES`, so that
a bundle names no code, and `trees` has the content of each decision tree, so that it names no file.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import write_json
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.tree import FOLDER, DecisionTree

CLASSES = {
    target.rpartition(".")[2]: target
    for target in (
        "galaxyml.training.description.Campaign",
        "galaxyml.kinds.classes.Classes",
        "galaxyml.kinds.fractions.Fractions",
        "galaxyml.kinds.numbers.Numbers",
        "galaxyml.kinds.numbers.scaling.TargetScaler",
        "galaxyml.kinds.votes.Votes",
        "galaxyml.kinds.votes.heads.Answers",
        "galaxyml.kinds.votes.heads.Concentrations",
        "galaxyml.models.astrocnn.AstroCNN",
        "galaxyml.models.backbones.timm_net",
        "galaxyml.models.dihedral.DihedralCNN",
        "galaxyml.models.galaxycnn.GalaxyCNN",
        "galaxyml.models.winner.DielemanNet",
        "galaxyml.trees.TreeHead",
        "galaxyml.trees.vocabulary.Vocabulary",
        "torch.nn.Identity",
        "torch.nn.Sigmoid",
    )
}
NAMES = {target: name for name, target in CLASSES.items()}
# What is known once it is run.
NUMBERS = ("builtins.len", "galaxyml.trees.columns", "galaxyml.trees.count", "galaxyml.trees.vocabulary.count")
NOT_TO_PREDICT = ("benchmark", "pretrained", "weights", "scaling")  # arguments that are of the first weights alone
TEXT_OPTIONS = ("name", "global_pool")  # of timm's nets; the other options that are text name files, addresses or code
MOST_NUMBER, MOST_ITEMS, MOST_CHARACTERS = 65_536, 10_000, 1_000
SAFE = "A bundle builds nothing but galaxyml's own nets and kinds, and opens no files but its own."


@dataclass(frozen=True)
class Campaign:
    """All of a survey that predictions need.

    Attributes:
        campaign: Name of the decision tree of the package that its volunteers were asked.
    """

    campaign: str

    def __post_init__(self) -> None:
        if not self.campaign.isidentifier():
            raise UserError(f"it names the campaign {self.campaign!r}, which is none of the package")


def describe(run: RunDir) -> dict[str, Any]:
    """The description of a finished run, a sweep whose folds were joined, or an ensemble."""
    config = run.config
    stages = [stage for stage in _plain(config.get("stages") or []) if hasattr(_class(stage), "combine")]
    nets = zip(run.nets(), run.shares(), strict=True)
    return {
        "task": config.task,
        "kind": _plain(config.kind),
        "stages": stages,
        "accelerator": "cpu" if config.trainer.accelerator == "cpu" else "auto",
        "nets": [_net(net.config, *net.provenance().get("models", ())) | {"share": share} for net, share in nets],
    }


def _net(config: DictConfig, origin: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A net without where its first weights came from, but with the scaling of images that they brought (`origin`)."""
    module, data = config.module, config.data
    tune = module.get("tune", "all")
    last = tune if isinstance(tune, str) else tune[-1]
    tuning = _plain(module.get("tuning") or {})
    scaled = {key: origin[key] for key in ("mean", "std")} if origin else {}
    net = _plain(module.net) | scaled
    return {
        "fold": config.fold,
        "net": {key: value for key, value in net.items() if key not in NOT_TO_PREDICT},
        "head": _plain(module.get("final")),
        "views": _plain(module.get("predict_views", 1)),
        "symmetry": _plain(module.get("symmetry")),
        "lora": {key: tuning[f"lora_{key}"] for key in ("rank", "alpha", "dropout")} if last == "lora" else None,
        "framing": {key: data[key] for key in ("size", "crop", "margin") if key in data},
        "decoding": {key: _plain(data[key]) for key in ("channels", "stretch", "hdu", "bands") if key in data},
        "precision": config.trainer.precision,
    }


def _plain(node: Any) -> Any:
    """A part of a configuration without interpolations, and with plain numbers for what is counted."""
    value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return _counted(value)


def _counted(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("_target_") in NUMBERS:
            counted = instantiate(value, _convert_="all")
            return counted if isinstance(counted, int) else list(counted)
        return {key: _counted(item) for key, item in value.items()}
    return [_counted(item) for item in value] if isinstance(value, list) else value


def _class(stage: Mapping[str, Any]) -> Any:
    try:
        return get_object(stage["_target_"])
    except Exception as error:  # Hydra's finder of classes raises what the import of theirs does
        raise UserError(f"The run's stage {stage['_target_']} cannot be imported. Predict where it can.") from error


def encode(description: dict[str, Any], where: str) -> dict[str, Any]:
    """A description as JSON has it.

    Args:
        description: As `describe` has it.
        where: The run, for messages.

    Raises:
        UserError: If it has a class that is not galaxyml's own.
    """
    trees: dict[str, Any] = {}
    return _encoded(description, where, "", trees) | {"trees": trees}


def _encoded(value: Any, where: str, key: str, trees: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_encoded(item, where, f"{key}.{number}", trees) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    encoded: dict[str, Any] = {}
    if (target := value.get("_target_")) is not None:
        if target not in NAMES:
            raise UserError(f"{where}: {key} is '{target}', which is not galaxyml's own. {SAFE}")
        encoded["class"] = NAMES[target]
    if encoded.get("class") == "Vocabulary":
        used = {name: instantiate(value["surveys"][name]).campaign for name in (*value["train"], *value["test"])}
        encoded["surveys"] = {name: {"class": "Campaign", "campaign": campaign} for name, campaign in used.items()}
    for name, item in value.items():
        if name == "tree" and isinstance(item, str):
            encoded[name] = _add_tree(item, trees)
        elif name not in encoded and not name.startswith("_") and name not in NOT_TO_PREDICT:
            encoded[name] = _encoded(item, where, f"{key}.{name}" if key else name, trees)
    return encoded


def _add_tree(name: str, trees: dict[str, Any]) -> str:
    """Adds the content of a decision tree, and returns its name there."""
    DecisionTree.load(name)  # says what is wrong with it
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    stem = re.sub(r"[^a-z0-9_-]", "-", path.stem.lower())
    while trees.setdefault(stem, content) != content:
        stem += "-other"
    return stem


def decode(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The counterpart of `encode`.

    Args:
        content: A description as JSON has it, from anyone.
        folder: An empty folder, which has to stay until the predictor is built. It gets the trees that are not the
            package's own.

    Raises:
        UserError: If it has anything that `encode` does not write.
    """
    content = dict(content)
    trees = _decoded(content.pop("trees", {}), "trees", {})
    if not isinstance(trees, dict):
        raise UserError("its trees are no mapping")
    paths = {}
    for name, tree in trees.items():
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise UserError(f"it has a tree that is named {name!r}")
        if re.search(r"\{(?!(name|number|answer)\})", str(tree.get("column"))):
            raise UserError(f"the columns of its tree {name} are made of other things than names and numbers")
        own = FOLDER / f"{name}.yaml"
        if own.is_file() and yaml.safe_load(own.read_text(encoding="utf-8")) == tree:
            paths[name] = name
            continue
        paths[name] = str(folder / f"{name}.yaml")
        write_json(Path(paths[name]), tree)  # JSON is YAML
    return _decoded(content, "", paths)


def _decoded(value: Any, key: str, trees: Mapping[str, str]) -> Any:
    """A plain value, with `_target_` for `class` and the files of trees for their names; of bounded size."""
    if isinstance(value, dict):
        return _decoded_mapping(value, key, trees)
    if isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise UserError(f"{key} has {len(value):,} items; at most {MOST_ITEMS:,} are allowed")
        return [_decoded(item, f"{key}.{number}", trees) for number, item in enumerate(value)]
    if isinstance(value, str):
        plain = value.replace("\n", "").replace("\t", "").isprintable()
        if "${" in value or value == "???" or len(value) > MOST_CHARACTERS or not plain:
            raise UserError(f"{key} is {value[:40]!r}, which is no plain text. {SAFE}")
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= MOST_NUMBER):
        raise UserError(f"{key} is {str(value)[:40]}; at most {MOST_NUMBER:,} is allowed")
    return value


def _decoded_mapping(value: dict[str, Any], key: str, trees: Mapping[str, str]) -> dict[str, Any]:
    decoded = {}
    for name, item in value.items():
        _decoded(name, key, {})
        if name.startswith("_") or name in NOT_TO_PREDICT:
            raise UserError(f"{key}.{name} is a key that bundles do not have. {SAFE}")
        decoded[name] = _decoded(item, f"{key}.{name}" if key else name, trees)
    if isinstance(tree := value.get("tree"), str):
        if tree not in trees:
            raise UserError(f"it names the decision tree {tree!r}, which is not in it. {SAFE}")
        decoded["tree"] = trees[tree]
    if (name := decoded.pop("class", None)) is not None:
        if name not in CLASSES:
            raise UserError(f"it names {str(name)[:80]!r}, which is none of galaxyml's nets and kinds. {SAFE}")
        text = [option for option, item in decoded.items() if option not in TEXT_OPTIONS and _has_text(item)]
        if name == "timm_net" and text:
            raise UserError(f"{text[0]} is no argument that a bundle may give timm's nets. {SAFE}")
        decoded["_target_"] = CLASSES[name]
    return decoded


def _has_text(value: Any) -> bool:
    return isinstance(value, str | dict) or (isinstance(value, list) and any(map(_has_text, value)))
