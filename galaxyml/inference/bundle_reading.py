"""Opens bundles, which may come from anyone: nothing in them runs, and nothing in them names a file of this machine.

What a bundle says of itself (sizes, digests) tells damage, not who made it: who changes a bundle can write new ones. So
it has no pickles and no YAML, its weights and arrays are safetensors, and what its configurations may name is listed
here.
"""

import inspect
import json
import math
import stat
import string
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from re import ASCII, fullmatch
from typing import Any

from galaxyml.runs.errors import UserError, shorten
from galaxyml.runs.files import check_space, write_json, write_text
from galaxyml.runs.run_dir import WEIGHTS, RunDir

FORMAT, VERSION = "galaxyml bundle", 1
MANIFEST = "bundle.json"
REQUIRED = {"config.json", "metrics.json", "provenance.json"}
NAME = r"(nets/(0|[1-9]\d{0,2})/)?(config\.json|weights\.safetensors|fitted/[a-z0-9_]+\.(json|safetensors))"
TREE = r"trees/[a-z0-9_-]+\.json"
MOST_TEXT = 2**24  # bytes of a JSON file
CHUNK = 2**20  # bytes

# The classes that a configuration may name, by the key that they stand under.
PLACES: Mapping[str, tuple[str, ...]] = {
    "net": (
        "galaxyml.models.astrocnn.AstroCNN",
        "galaxyml.models.backbones.timm_net",
        "galaxyml.models.dihedral.DihedralCNN",
        "galaxyml.models.galaxycnn.GalaxyCNN",
        "galaxyml.models.winner.DielemanNet",
    ),
    "final": (
        "galaxyml.kinds.votes.heads.Answers",
        "galaxyml.kinds.votes.heads.Concentrations",
        "galaxyml.kinds.numbers.head.TargetScaler",
        "galaxyml.trees.TreeHead",
        "torch.nn.Identity",
        "torch.nn.Sigmoid",
    ),
    "framing": ("galaxyml.data.images.store.Framing",),
    "tuning": ("galaxyml.training.phases.Tuning",),
    "kind": (
        "galaxyml.kinds.classes.Classes",
        "galaxyml.kinds.fractions.Fractions",
        "galaxyml.kinds.numbers.Numbers",
        "galaxyml.kinds.votes.Votes",
    ),
    "stages": (
        "galaxyml.kinds.votes.answers.Answers",
        "galaxyml.kinds.classes.calibrate.Calibrate",
        "galaxyml.kinds.fractions.constrain.Constrain",
        "galaxyml.evaluation.predict_intervals.PredictIntervals",
    ),
    "vocabulary": ("galaxyml.trees.vocabulary.Vocabulary",),
    "surveys": ("galaxyml.tasks.surveys.Survey",),
    "catalogue": (
        "galaxyml.data.tables.survey_catalogues.GalaxyZoo2",
        "galaxyml.data.tables.survey_catalogues.GalaxyZooDecals",
        "galaxyml.data.tables.survey_catalogues.GalaxyZooUkidss",
        "galaxyml.data.tables.survey_catalogues.Posteriors",
    ),
}
TIMM = "galaxyml.models.backbones.timm_net"
FETCHES = ("pretrained", "weights")  # arguments by which it loads files
# What timm's nets take besides; others of its arguments name files, addresses or classes.
OPTIONS = (
    "attn_drop_rate",
    "class_token",
    "depth",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_pad",
    "dynamic_img_size",
    "embed_dim",
    "global_pool",
    "img_size",
    "init_values",
    "mlp_ratio",
    "no_embed_class",
    "num_heads",
    "output_stride",
    "patch_drop_rate",
    "patch_size",
    "pos_drop_rate",
    "proj_drop_rate",
    "reg_tokens",
    "window_size",
)
FILES = ("images", "mapping", "positions", "table")  # of a catalogue, which are not needed to predict
PRECISIONS = ("auto", "16", "16-mixed", "16-true", "32", "32-true", "64", "64-true", "bf16", "bf16-mixed", "bf16-true")
MOST_NUMBER, MOST_SIZE, MOST_ITEMS, MOST_CHARACTERS = 65_536, 4_096, 10_000, 1_000


def read(path: Path, into: Path) -> RunDir:
    """Checks a bundle and lays it out as a run's folder.

    Args:
        path: The bundle.
        into: An empty folder.

    Returns:
        The run in that folder.

    Raises:
        UserError: If it is no bundle, or one of a newer galaxyml, is damaged or was changed, names a class or a file
            that it may not, or its weights do not fit its nets.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            raise UserError(f"{path} is no bundle of galaxyml: it is no zip file. {_MADE_BY}")
    try:
        with zipfile.ZipFile(path) as file:
            entries = _entries(file, path)
            told = _manifest(file, entries, path)
            _same_names(entries, told, path)
            _extract(file, entries, told, path, into)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # all that zipfile raises
        raise _damaged(path, f"the zip file is cut off or broken ({_reason(error)})") from error
    run = RunDir(into)
    _try(run, path)
    return run


_MADE_BY = "Bundles are made by `python -m galaxyml bundle RUN model.zip`."


def _damaged(path: Path, found: str) -> UserError:
    return UserError(f"{path}: {found}. It was damaged or changed: copy it again, or make it anew from its run.")


def _reason(error: BaseException) -> str:
    """Of an error, and of what led to it, the line that says most."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Torch begins with a line that says nothing: "Error(s) in loading state_dict for …:".
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [""])[0]
    line = "".join(letter if letter.isprintable() else "?" for letter in line[:200]).rstrip(".")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _entries(file: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip by name: plain ones, not packed, which together are no longer than the zip itself."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.filename in entries:
            raise _damaged(path, f"it holds {info.filename!r} twice")
        if kind not in (0, stat.S_IFREG) or info.is_dir():
            raise _damaged(path, f"{info.filename!r} in it is a link or a folder, no file")
        entries[info.filename] = info
    if MANIFEST not in entries:
        raise UserError(f"{path} is no bundle of galaxyml: it has no {MANIFEST}. {_MADE_BY}")
    for name, info in entries.items():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _damaged(path, f"{name!r} in it is packed, which bundles are not")
    if sum(info.file_size for info in entries.values()) > path.stat().st_size:
        raise _damaged(path, "its files are larger than itself")
    return entries


def _manifest(file: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], path: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every other file, as the bundle tells them."""
    try:
        content = _parsed(file.read(entries[MANIFEST]) if entries[MANIFEST].file_size < MOST_TEXT else b"")
    except ValueError as error:
        raise _damaged(path, f"its {MANIFEST} cannot be read ({_reason(error)})") from error
    if content.get("format") != FORMAT:
        raise UserError(f"{path} is no bundle of galaxyml: its {MANIFEST} is another program's. {_MADE_BY}")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, f"its format version is {version!r}")
    if version > VERSION:
        made = content.get("versions")
        made = made.get("galaxyml") if isinstance(made, dict) else None
        raise UserError(
            f"{path} was made by a newer galaxyml ({str(made)[:40]!r}): its format is version {version}, and this one "
            f"reads up to {VERSION}. Upgrade: pip install --upgrade galaxyml"
        )
    files = content.get("files")
    if not isinstance(files, dict) or not all(isinstance(told, dict) for told in files.values()):
        raise _damaged(path, f"its {MANIFEST} does not list its files")
    return files


def _same_names(entries: dict[str, zipfile.ZipInfo], told: dict[str, dict[str, Any]], path: Path) -> None:
    """Makes sure that all files are there that make a run, and no others."""
    names = entries.keys() - {MANIFEST}
    for name in sorted(names):
        if name not in REQUIRED and not fullmatch(NAME, name, flags=ASCII) and not fullmatch(TREE, name):
            raise _damaged(path, f"it holds {name!r}, which bundles do not")
    if extra := sorted(names - told.keys()):
        raise _damaged(path, f"it holds {shorten(extra)}, of which its {MANIFEST} does not tell")
    count = len(_nets(names))
    wanted = REQUIRED | {f"{net}{name}" for net in _folders(count) for name in ("config.json", WEIGHTS)}
    if missing := sorted((told.keys() | wanted) - names):
        raise _damaged(path, f"{shorten([repr(name)[:80] for name in missing])} is missing from it")


def _nets(names: Any) -> set[str]:
    return {name.split("/")[1] for name in names if name.startswith("nets/")}


def _folders(nets: int) -> list[str]:
    """What the names of the files of each net begin with, where there are so many joined ones; 0 for a single run."""
    return [f"nets/{number}/" for number in range(nets)] or [""]


def _extract(
    file: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], told: dict[str, dict[str, Any]], path: Path, into: Path
) -> None:
    """Writes a bundle's files as a run's; all but weights are written anew from what was read of them."""
    check_space(into / MANIFEST, sum(info.file_size for info in entries.values()), "Set TMPDIR to another folder.")
    nets = len(_nets(told))
    (into / "trees").mkdir()
    for name in sorted(told, key=lambda name: not name.startswith("trees/")):
        target, info = into / name, entries[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        found, size = sha256(), 0
        whole = bytearray()
        if info.file_size > MOST_TEXT and name.endswith(".json"):
            raise _damaged(path, f"{name} has {info.file_size:,} bytes")
        with file.open(info) as source, target.open("xb") as copy:
            while part := source.read(CHUNK):
                found.update(part)
                size += len(part)
                copy.write(part)
                if name.endswith(".json"):
                    whole += part
        if size != told[name].get("size") or found.hexdigest() != told[name].get("sha256"):
            raise _damaged(path, f"{name} is not what its {MANIFEST} tells of it")
        try:
            if name.endswith(".json"):
                _write(target, _parsed(bytes(whole)), path, into, nets)
            elif not name.endswith(WEIGHTS):
                _write_arrays(target)
        except (ValueError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise _damaged(path, f"{name} cannot be read ({_reason(error)})") from error
    for net in _folders(nets):
        fitted = RunDir(into / net).fitted
        fitted.parent.mkdir()
        fitted.touch()


def _parsed(content: bytes) -> dict[str, Any]:
    found = json.loads(content.decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it is no mapping")
    return found


def _write(target: Path, content: dict[str, Any], path: Path, into: Path, nets: int) -> None:
    """Writes a JSON file of a bundle where and as a run has it."""
    name = target.relative_to(into).as_posix()
    where = f"{path}, {name}"
    if target.name == "config.json":
        trees = {f"trees/{tree.stem}.json": str(tree) for tree in (into / "trees").glob("*.yaml")}
        check_config(content, where, trees)
        target.unlink()
        # JSON is YAML, and what is loaded is what was checked.
        write_text(target.parent / ".hydra" / "config.yaml", as_json(_with_trees(content, trees)))
    elif target.parent == into / "trees":
        check_tree(content, where)
        target.unlink()
        write_text(target.with_suffix(".yaml"), as_json(content))
    elif name == "provenance.json":
        # Which runs were joined is not taken from a bundle: these are paths.
        write_json(target, content | {"joined": [f"nets/{number}" for number in range(nets)]})
    else:
        write_json(target, content)


def as_json(content: Any) -> str:
    """JSON that YAML reads alike, strings as strings."""
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=True) + "\n"


def _write_arrays(target: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(target)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    target.unlink()
    RunDir(target.parents[1]).write_arrays(target.stem, arrays)


def _with_trees(value: Any, trees: Mapping[str, str]) -> Any:
    """A checked configuration with paths in the place of the names of its trees."""
    if isinstance(value, dict):
        return {
            key: trees[part] if key == "tree" and part in trees else _with_trees(part, trees)
            for key, part in value.items()
        }
    return [_with_trees(part, trees) for part in value] if isinstance(value, list) else value


def check_config(config: dict[str, Any], where: str, trees: Collection[str]) -> None:
    """Makes sure that building what a configuration names can do no harm.

    Args:
        config: Plain values.
        where: The file, for messages.
        trees: The decision trees that may be named.

    Raises:
        UserError: If it names a class that is not listed above or is not in its place, an argument that opens files, an
            interpolation, or a number out of bounds.
    """
    if isinstance(trainer := config.get("trainer"), dict) and str(trainer.get("precision", "auto")) not in PRECISIONS:
        told = str(trainer["precision"])[:80]
        raise UserError(f"{where}: trainer.precision is {told!r}; it must be {shorten(PRECISIONS, shown=11)}.")
    _check(config, "", "", where, trees)


def _check(value: Any, place: str, key: str, where: str, trees: Collection[str]) -> None:
    """Checks one value, which stands under a dotted key, and in one of `PLACES` or an argument of it."""
    if isinstance(value, dict):
        if place_of_class := (value.keys() & {"_target_"}):
            _check_class(value, place, key, where)
        for name, part in value.items():
            inside = f"{key}.{name}" if key else str(name)
            _check_text(str(name), inside, where)
            if str(name).startswith("_"):
                if not (place_of_class and (name == "_target_" or (name, part) == ("_convert_", "all"))):
                    raise UserError(f"{where}: {inside} is a key that bundles do not have. {_SAFE}")
            elif name == "tree" and part is not None:
                _check_tree_name(part, place, inside, where, trees)
            elif place == "catalogue" and name in FILES and part not in ("", None):
                raise UserError(f"{where}: {inside} names a file. {_SAFE}")
            else:
                _check(part, name if name in PLACES else place, inside, where, trees)
    elif isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise UserError(f"{where}: {key} has {len(value):,} items; at most {MOST_ITEMS:,} are allowed.")
        for number, part in enumerate(value):
            _check(part, place, f"{key}.{number}", where, trees)
    elif isinstance(value, str):
        _check_text(value, key, where)
    elif isinstance(value, int | float):
        most = MOST_SIZE if key.endswith("size") else MOST_NUMBER
        if not abs(value) <= most:  # nor NaN
            raise UserError(f"{where}: {key} is {str(value)[:40]}; at most {most:,} is allowed.")
    elif value is not None:
        raise UserError(f"{where}: {key} is a {type(value).__name__}, no plain value.")


_SAFE = "A bundle runs nothing but galaxyml's own nets and stages, and opens no files but its own."


def _check_class(value: dict[str, Any], place: str, key: str, where: str) -> None:
    """Makes sure that a class is one of those that may stand there, with arguments that it is known to take."""
    from hydra.utils import get_object

    target, choices = value["_target_"], PLACES.get(place, ())
    if target not in choices:
        allowed = f"there it may be {' or '.join(choices)}" if choices else "there it may be none"
        raise UserError(f"{where}: {key} is {str(target)[:200]!r}; {allowed}. {_SAFE}")
    parameters = inspect.signature(get_object(target)).parameters.values()
    known = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    if target == TIMM:
        known = (known - {*FETCHES}) | {*OPTIONS}
    unknown = sorted(str(name) for name in value if name not in known and not str(name).startswith("_"))
    if unknown:
        raise UserError(f"{where}: {key}.{unknown[0]} is no argument that a bundle may give {target}. {_SAFE}")


def _check_tree_name(value: Any, place: str, key: str, where: str, trees: Collection[str]) -> None:
    """Makes sure that a tree is one of the bundle's own, or for a catalogue, one of the package's."""
    own = place == "catalogue" and isinstance(value, str) and fullmatch(r"\w+", value, flags=ASCII)
    if not own and (not isinstance(value, str) or value not in trees):
        raise UserError(f"{where}: {key} is {str(value)[:200]!r}, a decision tree that is not in the bundle. {_SAFE}")


def _check_text(value: str, key: str, where: str) -> None:
    if "${" in value or value == "???":
        raise UserError(f"{where}: {key} is {value[:40]!r}, an interpolation; bundles have plain values. {_SAFE}")
    if len(value) > MOST_CHARACTERS or not value.replace("\n", "").replace("\t", "").isprintable():
        raise UserError(f"{where}: {key[:80]!r} has characters that cannot be printed, or too many of them.")


def check_tree(content: dict[str, Any], where: str) -> None:
    """Makes sure that a decision tree is plain text, and that its columns are made of names and numbers alone.

    Raises:
        UserError: If it is not.
    """
    from galaxyml.trees import DecisionTree

    _check(content, "", "", where, ())
    pattern = str(content.get("column"))
    try:
        fields = [part[1:] for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"{where}: column is {pattern[:80]!r}, no pattern of a column ({error}).") from error
    if any(name not in ("name", "number", "answer") or how or conversion for name, how, conversion in fields):
        raise UserError(
            f"{where}: column is {pattern[:80]!r}; it may have {{name}}, {{number}} and {{answer}}, as they are."
        )
    try:
        DecisionTree.parse("tree", content, where)
    except (AttributeError, TypeError) as error:
        raise UserError(f"{where} is no decision tree ({_reason(error)}).") from error


def _try(run: RunDir, path: Path) -> None:
    """Builds all that predicts, and lets the stages speak of one object, so that what does not fit shows at once."""
    import pandas as pd
    import torch
    from hydra.utils import instantiate

    from galaxyml.evaluation.joined import Said
    from galaxyml.evaluation.out_of_distribution import OutOfDistribution
    from galaxyml.experiment import load_predictor
    from galaxyml.kinds import CombiningStage, stages_of

    what = "its nets"
    try:
        columns = run.nets()[0].fitted_values("outputs")["columns"]
        outputs, spreads, folds = [], [], []
        for net in run.nets():
            what = f"the weights of {net.path.relative_to(run.path)}" if net.path != run.path else "its weights"
            with _no_larger(_numbers(net.path / WEIGHTS)):
                predictor = load_predictor(net)
            scores = torch.full((1, len(columns)), 0.5)
            outputs.append(pd.DataFrame(predictor.final(scores).detach().numpy(), columns=columns))
            spreads += [outputs[-1] * 0] if len(predictor.predict_views) > 1 else []
            folds.append(net.config.fold)
            what = "its framing"
            instantiate(net.config.data.framing)
            if (familiar := net.arrays("familiar")) is not None:
                OutOfDistribution.of_arrays(familiar)
        what = "its stages"
        said = Said(outputs, run.shares(), folds, spreads)
        table = said.mean
        for stage in stages_of(run.config):
            if isinstance(stage, CombiningStage):
                table = stage.combine(run, said, table)
    except Exception as error:  # of a file that says anything
        raise UserError(
            f"{path}: {what} do not fit what else it has, or this version of galaxyml ({_reason(error)}). Make it anew "
            "from its run, or install the versions that its bundle.json names."
        ) from error


def _numbers(weights: Path) -> int:
    """How many numbers a file of weights has."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping


@contextmanager
def _no_larger(numbers: int) -> Iterator[None]:
    """Stops the building of a net that is much larger than its weights are, before it fills the memory."""
    from torch.nn.modules.module import (
        register_module_buffer_registration_hook,
        register_module_parameter_registration_hook,
    )

    left = 3 * numbers + 2**24  # layers may be made and then replaced

    def count(module: Any, name: str, parameter: Any) -> None:
        nonlocal left
        left -= parameter.numel() if parameter is not None else 0
        if left < 0:
            raise UserError(f"its net is larger than its {numbers:,} weights")

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
