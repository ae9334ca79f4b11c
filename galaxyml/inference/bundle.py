"""A finished run as one file, by which it predicts on any machine: `galaxyml bundle RUN model.zip`.

It holds `predictor.json` (see `galaxyml.training.description`) and safetensors: weights and fitted arrays. So reading
one, which may come from anyone, runs no code; that nobody has changed it is not checked.
"""

import json
import re
import shlex
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galaxyml import __version__
from galaxyml.models.sources import Source
from galaxyml.runs.errors import UsageError, UserError, shorten
from galaxyml.runs.files import atomic_write
from galaxyml.runs.options import Parser
from galaxyml.runs.run_dir import RunDir

if TYPE_CHECKING:
    from torch import Tensor

    from galaxyml.inference.image_predictor import ImagePredictor

EXAMPLES = """\
examples:
  galaxyml bundle multirun/galaxyzoo/mine model.zip
  galaxyml predict model.zip images/ --out predictions.csv
  galaxyml bundle multirun/plasticc/mine weights.safetensors

A bundle has what predictions need and no more: no images, no tables of galaxies, no paths of this machine. The same
run gives the same bytes."""

FORMAT, VERSION = "galaxyml predictor", 3
DESCRIPTION, WEIGHTS = "predictor.json", ".safetensors"
CHECKPOINTS = (".ckpt", ".pth", ".pt")
FILE = r"(nets/(0|[1-9]\d{0,2})/)?(fitted|weights)\.safetensors"
FIGURES_ONLY = ("embedding",)  # of what was fitted; large, and not needed to predict
MOST_TEXT = 2**24  # bytes of the JSON
MADE_BY = "Bundles are made by `galaxyml bundle RUN model.zip`."


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the bundle."""
    parser = Parser(
        prog="galaxyml bundle",
        description="Writes one file by which a finished run, sweep or ensemble predicts on any machine; or its "
        "weights.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", type=Path, help="folder of a run, of a sweep whose folds were joined, or of an ensemble")
    parser.add_argument(
        "out", type=Path, help="a .zip that will be written, or a .safetensors for weights alone, as start=… takes them"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument(
        "--half", action="store_true", help="of a .safetensors: numbers of 16 bits, half as large and as good a start"
    )
    given = parser.parse_args(arguments)
    if given.half and given.out.suffix.lower() != WEIGHTS:
        raise UsageError(f"--half is of weights alone: give a name that ends in {WEIGHTS}, or leave it out.")
    write(given.run, given.out, given.force, given.half)


def write(path: Path, out: Path, force: bool = False, half: bool = False) -> None:
    """Writes a bundle, opens it once, and prints what is in it; or weights alone.

    Args:
        path: Folder of a finished run on images, of a sweep whose folds were joined, or of an ensemble.
        out: A `.zip`; or a `.safetensors`, which runs of light curves have, too.
        force: Whether a file that is there is replaced.
        half: Of weights alone: whether they have 16 bits.

    Raises:
        UserError: If the run is not finished, is one of light curves, or needs a class that is not galaxyml's own; if
            `out` ends otherwise, or is there already.
    """
    if out.suffix.lower() not in (".zip", WEIGHTS):
        raise UsageError(f"{out}: it must end in .zip (all that predicts) or in .safetensors (weights alone).")
    if out.exists() and not (force and out.is_file()):
        raise UsageError(f"{out} is there already. Choose another name, or replace it with --force.")
    if out.suffix.lower() == WEIGHTS:
        from galaxyml.inference.weights import write_weights

        write_weights(path, out, half)
        print(f"{out}: weights, {out.stat().st_size / 1e6:.1f} MB\ngalaxyml … start={shlex.quote(str(out))}")
        return

    from galaxyml.inference import load
    from galaxyml.inference.image_predictor import ImagePredictor

    predictor = load(path)
    if not isinstance(predictor, ImagePredictor):
        raise UsageError(f"{path} is a run of light curves, of which there are no bundles: give a name.safetensors.")
    pack(predictor, out)
    config, metrics, nets = predictor.run.config, predictor.run.metrics(), len(predictor.members)
    shown = [name for name in (config.monitor, config.monitor.replace("val/", "test/")) if name in metrics]
    numbers = "".join(f", {name} {metrics[name]:.4g}" for name in dict.fromkeys(shown))
    print(f"{out}: {predictor.task}, {nets} net{'s' * (nets > 1)}, {out.stat().st_size / 1e6:.1f} MB{numbers}")
    print(f"galaxyml predict {shlex.quote(str(out))} IMAGES… --out predictions.csv")


def pack(predictor: "ImagePredictor", out: Path) -> None:
    """Writes the bundle of a predictor, a `.zip`, and opens it once.

    Raises:
        UserError: If the run needs a class that is not galaxyml's own.
    """
    with atomic_write(out) as draft:
        with zipfile.ZipFile(draft, "w") as file:
            for name, content in _files(predictor):
                # Nothing that differs from day to day (it says 1980) or from machine to machine.
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, 0o644 << 16
                file.writestr(info, content)
        read(draft)


def _files(predictor: "ImagePredictor") -> Iterator[tuple[str, bytes]]:
    """The files of a bundle, by name."""
    from safetensors.numpy import save
    from safetensors.torch import save as save_weights

    from galaxyml.inference.image_predictor import weights_of
    from galaxyml.training.description import encode

    run = predictor.run
    nets = run.nets()
    for number, net in enumerate(nets):
        yield f"nets/{number}/weights.safetensors", save_weights(contiguous(weights_of(net)))
    fitted = []
    for prefix, part in [("", run), *((f"nets/{number}/", net) for number, net in enumerate(nets))]:
        values, arrays = _fitted(part)
        fitted.append(values)
        if arrays:
            yield f"{prefix}fitted.safetensors", save(arrays)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "galaxyml": __version__,
        "predictor": encode(dict(predictor.description), str(run.path)),
        "scores": predictor.kind.score_names,
        "head": type(predictor.members[0].model.final).__name__,
        "fitted": fitted,
        "metrics": run.metrics(),
        "provenance": _provenance(run),
    }
    yield DESCRIPTION, (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def contiguous(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Weights in memory of their own each, in the order of their names."""
    import torch

    return {name: weights[name].detach().clone(memory_format=torch.contiguous_format) for name in sorted(weights)}


def _fitted(run: RunDir) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Results that a run's stages have fitted: values by file, and arrays by file and name."""
    values: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for path in sorted((run.path / "fitted").glob("*")):
        if path.suffix == ".json":
            values[path.stem] = run.fitted_values(path.stem)
        elif path.suffix == ".npz" and path.stem not in FIGURES_ONLY:
            in_file = run.arrays(path.stem) or {}
            arrays |= {f"{path.stem}/{name}": in_file[name].copy(order="C") for name in sorted(in_file)}
    return values, arrays


def _provenance(run: RunDir) -> dict[str, Any]:
    """The run's provenance, without names of this machine's folders."""
    content = run.provenance()
    data = {key: content["data"][key] for key in ("source", "things") if key in content["data"]}
    data["sha256"] = {Path(name).name: digest for name, digest in content["data"]["sha256"].items()}
    models = [model | {"weights": without_folder(model["weights"])} for model in content.get("models", [])]
    kept = {key: content[key] for key in ("seed", "versions", "commit", "dirty", "device")}
    return kept | {"data": data, "models": models}


def without_folder(weights: str | None) -> str | None:
    """Where weights come from, without names of this machine's folders."""
    source = Source.read(weights)
    return weights if weights is None or (source and not source.is_folder) else Path(weights).name


class Bundle(RunDir):
    """A run without a folder: its fitted values and arrays, read from a bundle.

    Args:
        path: The bundle.
        content: Its description, with `metrics` and `provenance`.
        values: What was fitted, by name.
        arrays: Arrays that were fitted, by `file/name`.
    """

    def __init__(
        self, path: Path, content: dict[str, Any], values: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> None:
        super().__init__(path)
        self.content, self.values, self.all_arrays = content, values, arrays
        self.joined: list[RunDir] = []

    def members(self) -> list[RunDir]:
        return self.joined

    def nets(self) -> list[RunDir]:
        return self.joined or [self]

    def metrics(self) -> dict[str, Any]:
        return dict(self.content["metrics"])

    def provenance(self) -> dict[str, Any]:
        return dict(self.content["provenance"])

    def fitted_values(self, name: str) -> dict[str, Any]:
        if name not in self.values:
            raise UserError(f"{self.path} has no fitted {name}.")
        return dict(self.values[name])

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        in_file = {key.partition("/")[2]: array for key, array in self.all_arrays.items() if key.startswith(f"{name}/")}
        return in_file or None


def read(path: Path) -> "ImagePredictor":
    """The predictor of a bundle.

    Raises:
        UserError: If it is no bundle, or one of another version of galaxyml, is damaged, names a class or a file that
            it may not, or its weights do not fit its nets.
    """
    from galaxyml.inference.image_predictor import ImagePredictor
    from galaxyml.training.description import decode

    if path.suffix.lower() in CHECKPOINTS:
        raise UsageError(_of_checkpoint(path))
    if path.suffix.lower() == WEIGHTS:
        raise UsageError(
            f"{path} has weights alone, which start=… takes. To predict, give the run, or its bundle (.zip)."
        )
    try:
        with zipfile.ZipFile(path) as file:
            content = _content(file, _entries(file, path), path)
            folders = [f"nets/{number}/" for number in range(len(content["predictor"]["nets"]))]
            weights = [_tensors(file, f"{folder}weights.safetensors") for folder in folders]
            runs = [
                Bundle(path, content, values, _arrays(file, f"{folder}fitted.safetensors"))
                for values, folder in zip(content["fitted"], ["", *folders], strict=True)
            ]
        runs[0].joined = list(runs[1:]) if len(runs) > 2 else []
        with tempfile.TemporaryDirectory(prefix="galaxyml-bundle-") as trees:
            predictor = ImagePredictor(runs[0], decode(content["predictor"], Path(trees)), weights, runs[1:])
        predictor.predict_blank()  # what does not fit shows at once
    except zipfile.BadZipFile as error:
        if not zipfile.is_zipfile(path):
            raise UsageError(f"{path} is no bundle of galaxyml: it is no zip file. {MADE_BY}") from None
        raise _damaged(path, f"the zip file is broken ({_reason(error)})") from error
    except UserError as error:
        raise (error if str(error).startswith(str(path)) else _damaged(path, str(error).rstrip("."))) from None
    except Exception as error:  # of a file that says anything
        raise UserError(
            f"{path} does not fit galaxyml {__version__} ({_reason(error)}). Make it anew from its run."
        ) from error
    return predictor


def _of_checkpoint(path: Path) -> str:
    """What to give in the place of a checkpoint."""
    run = next((folder for folder in path.absolute().parents if (folder / ".hydra" / "config.yaml").is_file()), None)
    give = f"Give the folder of its run: {run}." if run else "Give the folder of a run that the command has made."
    return (
        f"{path} is a checkpoint: start=… begins with it, but how outputs become predictions is not in it. {give} A "
        "fit by a Trainer of your own predicts by trainer.predict."
    )


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: {reason}. It was damaged or changed: copy it again, or make it anew from its run.")


def _reason(error: BaseException) -> str:
    """The line of an error, or of what led to it, that says most."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Torch begins with a line that says nothing: "Error(s) in loading state_dict for …:".
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [""])[0]
    line = "".join(letter if letter.isprintable() else "?" for letter in line[:200]).rstrip(".")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _entries(file: zipfile.ZipFile, path: Path) -> set[str]:
    """Names of the files in a zip: plain ones, not packed, which together are no longer than the zip itself."""
    entries: set[str] = set()
    for info in file.infolist():
        name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
        if name in entries:
            raise _damaged(path, f"it holds {name!r} twice")
        if kind not in (0, stat.S_IFREG) or info.is_dir():
            raise _damaged(path, f"{name!r} in it is a link or a folder, no file")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _damaged(path, f"{name!r} in it is packed, which bundles are not")
        entries.add(name)
    if sum(info.file_size for info in file.infolist()) > path.stat().st_size:
        raise _damaged(path, "its files are larger than itself")
    if DESCRIPTION not in entries:
        raise UsageError(f"{path} is no bundle of galaxyml: it has no {DESCRIPTION}. {MADE_BY}")
    if others := sorted(n for n in entries if n != DESCRIPTION and not re.fullmatch(FILE, n, flags=re.ASCII)):
        raise _damaged(path, f"it holds {shorten([repr(name) for name in others])}, which bundles do not")
    return entries


def _content(file: zipfile.ZipFile, entries: set[str], path: Path) -> dict[str, Any]:
    """The JSON of a bundle of this version, all of whose files are there."""
    if file.getinfo(DESCRIPTION).file_size > MOST_TEXT:
        raise _damaged(path, f"its {DESCRIPTION} is longer than {MOST_TEXT:,} bytes")
    try:
        content = json.loads(file.read(DESCRIPTION).decode("utf-8"))
        named, version = content["format"], content["version"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _damaged(path, f"its {DESCRIPTION} cannot be read ({_reason(error)})") from error
    if named != FORMAT:
        raise UsageError(f"{path} is no bundle of galaxyml: its {DESCRIPTION} is another program's. {MADE_BY}")
    if version != VERSION:
        raise UserError(
            f"{path} was made by galaxyml {str(content.get('galaxyml'))[:40]!r} in the format {str(version)[:40]!r}; "
            f"this one, {__version__}, reads {VERSION}. Make it anew from its run, or install that version."
        )
    needed = {f"nets/{number}/weights.safetensors" for number in range(len(content["predictor"]["nets"]))}
    if missing := sorted(needed - entries):
        raise _damaged(path, f"{shorten(missing)} is missing from it")
    return content


def _tensors(file: zipfile.ZipFile, name: str) -> "dict[str, Tensor]":
    from safetensors.torch import load

    tensors = load(file.read(name))
    if bad := [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]:
        raise UserError(f"{name} has numbers that are not finite, in {bad[0][:80]!r}")
    return tensors


def _arrays(file: zipfile.ZipFile, name: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return load(file.read(name)) if name in file.namelist() else {}
