"""Weights that a net begins with, from a run, a bundle, a checkpoint or a file of weights: `start=RUN`."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from galaxyml.models.weight_files import read_content, state_of
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import file_digest
from galaxyml.runs.packaged import packaged
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.weights_about import about
from galaxyml.training.description import decode
from galaxyml.training.specs import build

PUBLISHED_WEIGHTS = "model.safetensors"  # of a folder that was published
PREFIX = "net."  # of a module's net in a checkpoint
TAKES = (
    "It is the folder of a run or a sweep, or a published one, a bundle (.zip), a checkpoint (.ckpt), weights "
    "(.safetensors, .pth), or sky."
)


@dataclass(frozen=True)
class Start:
    """Weights of a fitted net, and what its outputs mean.

    Attributes:
        path: Where they are.
        weights: Of the net, by name.
        outputs: Names of its outputs, in their order; None where the file does not tell them.
        net: What the net is, for messages; '' where the file does not tell it.
        head: The class of what makes outputs of scores; '' where the file does not tell it.
        sha256: Of the weights' file.
        objects: Ids of the objects that it learnt from, where they are known.
        data: The `sha256` of the tables that these were in, by file.
        kind: The kind of target that its outputs are; None where the file does not tell it.
    """

    path: Path
    weights: Mapping[str, Tensor]
    outputs: tuple[str, ...] | None
    net: str
    sha256: str
    head: str = ""
    objects: frozenset[str] = frozenset()
    data: Mapping[str, str] = field(default_factory=dict)
    kind: Any = None


def read_start(path: Path | str, net: str = "") -> Start:
    """Reads the weights that a net is to begin with.

    Args:
        path: Folder of a fitted run, or of a sweep, of which `member` is taken; a bundle; a checkpoint of Lightning's;
            a file of weights, or a folder that `galaxyml publish` has written; or `sky`.
        net: The class of the net that is to begin, as the package has weights of several for `sky`.

    Raises:
        UserError: If there is no such file, or it holds no weights.
    """
    path = packaged(path, net)
    if path.is_dir() and (path := member(path)).is_dir():
        return _of_run(RunDir(path))
    if not path.is_file():
        raise UserError(f"start={path}: there is no such file or folder. {TAKES}")
    if path.suffix.lower() == ".zip":
        return _of_bundle(path)
    content = read_content(path, f"start={path}")
    state = state_of(content, f"start={path}")
    if path.suffix == ".safetensors":
        return _of_published(path, state)
    if path.suffix != ".ckpt":
        return Start(path, state, None, "", file_digest(path))
    hyper = content.get("hyper_parameters") or {}
    kind = build(hyper["kind"]) if _is_known(hyper.get("kind")) else None
    names = hyper.get("class_names") if kind is None else kind.score_names
    head, net = _head(hyper.get("final"), kind), _class_name(hyper.get("net"))
    weights = merged(_of_net(state), hyper.get("tuning"))
    return Start(path, weights, tuple(names) if names else None, net, file_digest(path), head, kind=kind)


KNOWN = {  # what a checkpoint may name: it comes from anywhere, and any other name could be any code
    "builtins.len",
    "galaxyml.kinds.anomalies.Anomalies",
    "galaxyml.kinds.classes.Classes",
    "galaxyml.kinds.fractions.Fractions",
    "galaxyml.kinds.numbers.Numbers",
    "galaxyml.kinds.votes.Votes",
    "galaxyml.trees.columns",
    "galaxyml.trees.count",
    "galaxyml.trees.vocabulary.Vocabulary",
    "galaxyml.trees.vocabulary.count",
}


def _is_known(kind: Any) -> bool:
    """Whether a kind of target is described by parts of this package alone."""

    def targets(spec: Any) -> Iterator[Any]:
        if isinstance(spec, Mapping):
            yield from ([spec["_target_"]] if "_target_" in spec else [])
            spec = list(spec.values())
        for part in spec if isinstance(spec, list | tuple) else []:
            yield from targets(part)

    return isinstance(kind, Mapping) and "_target_" in kind and {*map(str, targets(kind))} <= KNOWN


def member(path: Path | str, fold: int | None = None) -> Path:
    """The run of a sweep that a net is to begin with: the one of the same fold, so that it knows no object held out.

    Args:
        path: Of the sweep; of a folder that was published the weights are taken; a file or a name stays as it is.
        fold: That is held out; of a sweep without it the first run is taken.

    Raises:
        UserError: If no run of the sweep has been fitted to its end.
    """
    folder = RunDir(Path(path).expanduser())
    if not folder.path.is_dir() or packaged(path) != folder.path:
        return folder.path
    if (weights := folder.path / PUBLISHED_WEIGHTS).is_file():
        return weights
    joined = (folder.path / "provenance.json").is_file()
    runs = folder.nets() if joined else folder.children() or [folder]
    fitted = [run for run in runs if run.fitted.is_file()]
    if not fitted:
        raise UserError(f"start={path}: there is no run in it that was fitted to its end. {TAKES}")
    return next((run for run in fitted if run.config.get("fold") == fold), fitted[0]).path


def _of_run(run: RunDir) -> Start:
    config = run.config
    which = config.predict_with
    weights = merged(_of_net(run.weights(which)), config.module.get("tuning"))
    kind: Any = build(config.kind)
    catalog = run.catalog()
    learnt = catalog["id"][catalog["split"] == "train"]
    return Start(
        run.path,
        weights,
        tuple(kind.score_names) if kind.score_names else None,
        _class_name(config.module.net),
        file_digest(run.checkpoints / f"{which}.ckpt"),
        _head(config.module.get("final"), kind),
        frozenset(map(str, learnt)),
        dict(run.provenance()["data"]["sha256"]),
        kind,
    )


def _of_bundle(path: Path) -> Start:
    try:
        with zipfile.ZipFile(path) as file:
            content = json.loads(file.read("predictor.json"))
            weights = load_safetensors(file.read("nets/0/weights.safetensors"))
    except (zipfile.BadZipFile, KeyError, ValueError, SafetensorError) as error:
        raise UserError(f"start={path} is no bundle of galaxyml, or a damaged one ({error}). {TAKES}") from error
    if not {"scores", "head", "predictor"} <= {*content}:
        raise UserError(f"start={path} is a bundle of another version of galaxyml. Make it anew from its run.")
    described, names = content["predictor"]["nets"][0], content["scores"]
    whole, net = merged(_of_net(weights), described["lora"]), _class_name(described["net"])
    with TemporaryDirectory(prefix="galaxyml-start-") as trees:
        description = decode(content["predictor"], Path(trees))
        of_own_trees = any(Path(trees).iterdir())  # whose files are gone then
    kind = None if of_own_trees else instantiate(description["kind"], _convert_="all")
    return Start(path, whole, tuple(names) if names else None, net, file_digest(path), content["head"], kind=kind)


def _of_published(path: Path, weights: Mapping[str, Tensor]) -> Start:
    """Weights, with what they say of themselves where galaxyml has written them."""
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    if (said := about(path)) is None:
        return Start(path, weights, None, "", file_digest(path))
    names, net = said.get("scores"), _class_name(said.get("net"))
    return Start(path, weights, tuple(names) if names else None, net, file_digest(path), str(said.get("head", "")))


def _of_net(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The net's weights of a module's, by the names that the net gives them."""
    own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    return own or dict(state)


def merged(state: Mapping[str, Tensor], tuning: Any) -> dict[str, Tensor]:
    """Weights whose low-rank matrices are added to the layers that they stand beside."""
    whole = {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
    for name, first in state.items():
        if ".lora_A." not in name:
            continue
        layer = name.partition(".lora_A.")[0]
        second = state[name.replace(".lora_A.", ".lora_B.")]
        alpha, rank = (float(tuning.get(f"lora_{key}", tuning.get(key))) for key in ("alpha", "rank"))
        scale = alpha / rank
        whole[f"{layer}.weight"] = whole[f"{layer}.weight"] + scale * second @ first
    return whole


def _head(spec: Any, kind: Any) -> str:
    """The class of what makes outputs of scores."""
    if spec is not None:
        return _class_name(spec)
    return class_of(kind.head()) if hasattr(kind, "head") else ""


def class_of(head: nn.Module | None) -> str:
    """Name of the class of what makes outputs of scores; of none that of what leaves them as they are."""
    return type(head if head is not None else nn.Identity()).__name__


def _class_name(spec: Any) -> str:
    """Name of the class, or of timm's net, that a description builds; '' if there is none."""
    if spec is None or isinstance(spec, str):
        return spec or ""
    return str(spec.get("name") or str(spec.get("_target_", spec.get("class", ""))).rpartition(".")[2])
