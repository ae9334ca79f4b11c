"""A finished run as one file, by which it predicts elsewhere: `python -m galaxyml bundle RUN model.zip`."""

import argparse
import json
import re
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from galaxyml.inference import bundle_reading
from galaxyml.inference.bundle_reading import FETCHES, FILES, FORMAT, MANIFEST, PLACES, TIMM, VERSION, as_json
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import WEIGHTS, RunDir

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXAMPLES = """\
examples:
  python -m galaxyml bundle multirun/galaxyzoo/mine model.zip
  python -m galaxyml predict model.zip pictures/ --out predictions.csv

A bundle has what predictions need and no more: no pictures, no tables of galaxies, no paths of this machine. The same
run gives the same bytes."""

MODULE = ("net", "final", "predict_views", "symmetry", "tune", "tuning")  # of what was fitted, what predicts
# What is known once it is run.
NUMBERS = ("builtins.len", "galaxyml.trees.columns", "galaxyml.trees.count", "galaxyml.trees.vocabulary.count")
FIGURES_ONLY = ("embedding",)  # of what was learnt; large, and not needed to predict


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the bundle."""
    parser = argparse.ArgumentParser(
        prog="galaxyml bundle",
        description="Writes one file by which a finished run, sweep or ensemble predicts on any machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run, of a sweep whose folds were joined, or of an ensemble")
    parser.add_argument("out", type=Path, help="a .zip that will be written")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    given = parser.parse_args(arguments)
    write(given.run, given.out, force=given.force)


def write(run: Path, out: Path, force: bool = False) -> None:
    """Writes a bundle, opens it once, and prints what is in it.

    Args:
        run: Folder of a finished run on pictures, of a sweep whose folds were joined, or of an ensemble.
        out: A `.zip`.
        force: Whether a file that is there is replaced.

    Raises:
        UserError: If the run is not finished, is one of light curves, or needs a class that is not galaxyml's own; if
            `out` is no `.zip`, or there already.
    """
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out}: it must end in .zip.")
    if out.exists() and not (force and out.is_file()):
        raise UserError(f"{out} is there already. Choose another name, or replace it with --force.")
    here = RunDir(run)
    config = here.config
    if "framing" not in config.data:
        raise UserError(f"{run} is a run of light curves; only runs on pictures can be bundled.")
    metrics = here.metrics()

    from galaxyml.experiment import quiet

    quiet()
    with atomic_write(out) as draft:
        _zip(here, config, draft)
        opened(draft)
    told = [name for name in (config.monitor, config.monitor.replace("val/", "test/")) if name in metrics]
    numbers = "".join(f", {name} {metrics[name]:.4g}" for name in dict.fromkeys(told))
    nets = len(here.nets())
    print(f"{out}: {config.task}, {nets} net{'s' * (nets > 1)}, {out.stat().st_size / 1e6:.1f} MB{numbers}")
    print(f"python -m galaxyml predict {out} PICTURES… --out predictions.csv")


def opened(path: Path) -> RunDir:
    """A run's folder as it is, or a bundle laid out as one for as long as what is given back is in use.

    Raises:
        UserError: If it is a file and no bundle, or one that cannot be used or trusted.
    """
    if path.is_dir() or (not path.is_file() and path.suffix.lower() != ".zip"):
        return RunDir(path)
    if not path.is_file():
        raise UserError(f"{path} is not there. Give a bundle, or the folder of a run.")
    folder = Path(tempfile.mkdtemp(prefix="galaxyml-bundle-"))
    try:
        run = bundle_reading.read(path, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def _zip(run: RunDir, config: "DictConfig", draft: Path) -> None:
    told = {}
    with zipfile.ZipFile(draft, "w") as file:
        for name, content in _files(run, config):
            told[name] = {"sha256": sha256(content).hexdigest(), "size": len(content)}
            _add(file, name, content)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "task": config.task,
            "nets": len(run.nets()),
            "versions": run.provenance()["versions"],
            "files": told,
        }
        _add(file, MANIFEST, as_json(manifest).encode())


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Adds a file without anything that differs from day to day or from machine to machine."""
    info = zipfile.ZipInfo(name)  # of 1980
    info.create_system, info.external_attr, info.file_size = 3, 0o644 << 16, len(content)
    with file.open(info, "w") as entry:
        entry.write(content)


def _files(run: RunDir, config: "DictConfig") -> Iterator[tuple[str, bytes]]:
    """The files of a bundle but its manifest, by name; each net's weights when they are asked for."""
    trees: dict[str, dict[str, Any]] = {}
    members = run.members()
    configs = {"": _of_run(config) | ({} if members else _of_net(config))}
    configs |= {f"nets/{number}/": _of_net(member.config) for number, member in enumerate(members)}
    for folder, content in configs.items():
        settled = _settled(content, trees)
        own = run if not folder else members[int(folder.split("/")[1])]
        bundle_reading.check_config(settled, str(own.path), trees)
        yield f"{folder}config.json", as_json(settled).encode()
        yield from ((f"{folder}fitted/{name}", learnt) for name, learnt in _learnt(own))
        if own is not run or not members:
            yield f"{folder}{WEIGHTS}", _weights(own, own.config.predict_with)
    yield "metrics.json", as_json(run.metrics()).encode()
    yield "provenance.json", as_json(_provenance(run)).encode()
    for name, tree in trees.items():
        bundle_reading.check_tree(tree, name)
        yield name, as_json(tree).encode()


def _of_run(config: "DictConfig") -> dict[str, Any]:
    """What the nets together need of a configuration: the stages that speak of new pictures."""
    stages = [_plain(stage) for stage in config.stages]
    return {
        "task": config.task,
        "data": {"framing": _plain(config.data.framing)},
        "trainer": {"accelerator": config.trainer.accelerator},
        "kind": _plain(config.kind),
        "stages": [stage for stage in stages if _combines(stage["_target_"])],
    }


def _of_net(config: "DictConfig") -> dict[str, Any]:
    """What one net needs of its configuration."""
    return {
        "task": config.task,
        "fold": config.fold,
        "predict_with": config.predict_with,
        "data": {"framing": _plain(config.data.framing)},
        "trainer": {"accelerator": config.trainer.accelerator, "precision": config.trainer.precision},
        "module": {name: _plain(config.module.get(name)) for name in MODULE},
    }


def _combines(target: str) -> bool:
    from hydra.utils import get_object

    try:
        return target in PLACES["stages"] or hasattr(get_object(target), "combine")
    except Exception as error:  # Hydra's finder of classes raises what the import of theirs does
        raise UserError(f"The run's stage {target} cannot be imported. Bundle it where it can.") from error


def _plain(node: Any) -> Any:
    """A part of a configuration without interpolations."""
    from omegaconf import OmegaConf

    import galaxyml.sweeps.finish  # noqa: F401 - registers the resolver that a run's configuration uses

    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _settled(value: Any, trees: dict[str, dict[str, Any]], place: str = "") -> Any:
    """A configuration with plain numbers for what is counted, names of the bundle for trees, and no other files.

    Args:
        value: Without interpolations.
        trees: Gets the content of each tree that is named, by its name in the bundle.
        place: The nearest of `PLACES` above it.
    """
    if isinstance(value, list):
        return [_settled(part, trees, place) for part in value]
    if not isinstance(value, dict):
        return value
    target = value.get("_target_")
    if target in NUMBERS:
        from hydra.utils import instantiate

        return instantiate(value)
    if target == TIMM:
        value = {key: part for key, part in value.items() if key not in FETCHES}
    if target in PLACES["vocabulary"]:
        used = [*value["train"], *value["test"]]
        value = value | {"surveys": {name: part for name, part in value["surveys"].items() if name in used}}
    if place == "catalogue":
        return value | {key: "" for key in FILES if key in value}
    return {
        key: _tree(part, trees)
        if key == "tree" and isinstance(part, str)
        else _settled(part, trees, key if key in PLACES else place)
        for key, part in value.items()
    }


def _tree(name: str, trees: dict[str, dict[str, Any]]) -> str:
    """Keeps the content of a decision tree, and gives its name in the bundle."""
    from galaxyml.trees.tree import FOLDER, DecisionTree

    DecisionTree.load(name)  # tells what is wrong with it
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    stem = re.sub(r"[^a-z0-9_-]", "-", path.stem.lower())
    while trees.setdefault(f"trees/{stem}.json", content) != content:
        stem += "-other"
    return f"trees/{stem}.json"


def _learnt(run: RunDir) -> Iterator[tuple[str, bytes]]:
    """What a run's stages have learnt, arrays as safetensors."""
    from safetensors.numpy import save

    for path in sorted((run.path / "fitted").glob("*")):
        if path.suffix == ".json":
            yield path.name, as_json(json.loads(path.read_text(encoding="utf-8"))).encode()
        elif path.suffix == ".npz" and path.stem not in FIGURES_ONLY:
            arrays = run.arrays(path.stem)
            assert arrays is not None
            yield f"{path.stem}.safetensors", save({name: arrays[name].copy(order="C") for name in sorted(arrays)})


def _weights(run: RunDir, which: str) -> bytes:
    """The weights of a net that predict, each in memory of its own, as safetensors."""
    import torch
    from safetensors.torch import save

    from galaxyml.experiment import PREDICTS

    state = {name: value for name, value in run.weights(which).items() if name.startswith(PREDICTS)}
    return save({name: state[name].detach().clone(memory_format=torch.contiguous_format) for name in sorted(state)})


def _provenance(run: RunDir) -> dict[str, Any]:
    """Where the run came from, without names of this machine's folders."""
    made = run.provenance()
    data = {key: made["data"][key] for key in ("source", "things") if key in made["data"]}
    data["sha256"] = {Path(name).name: digest for name, digest in made["data"]["sha256"].items()}
    return {key: made[key] for key in ("seed", "versions", "commit", "dirty", "device")} | {"data": data}
