"""`galaxyml predict RUN INPUTS… --out FOLDER/`: begins a folder of predictions, or goes on with it, to its end."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from galaxyml.inference.columns import fields_of
from galaxyml.inference.encoder_predictor import EncoderPredictor
from galaxyml.inference.hats import NO_POSITIONS, write_hats
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.inference.interval import with_interval
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.prediction_folder import FAILED, MANIFEST, PARTS
from galaxyml.inference.predictor import Predictor
from galaxyml.inference.shards.curves import curve_schema, open_curves, write_objects
from galaxyml.inference.shards.engine import Engine
from galaxyml.inference.shards.folder import REASON, Result, ShardFolder, fingerprints
from galaxyml.inference.shards.manifest import Manifest, write_manifest
from galaxyml.inference.shards.worker import Order, schema_of
from galaxyml.runs import signals
from galaxyml.runs.errors import UsageError, UserError, shorten
from galaxyml.runs.files import check_space, digest, file_digest
from galaxyml.runs.progress import advancing, duration, pace, say
from galaxyml.runs.run_lock import folder_lock

LOCK = "predict.lock"
PACKAGES = ("galaxyml", "torch", "timm", "numpy", "pillow", "pandas", "pyarrow")


def predict_in_shards(
    run: Path,
    predictor: Predictor,
    inputs: Sequence[str],
    out: Path,
    engine: Engine,
    options: Mapping[str, Any],
    rows_per_shard: int,
    partition: str | None = None,
) -> None:
    """Writes predictions of any number of images into a folder; goes on with what was begun there.

    Args:
        run: Its name in the command.
        predictor: The run's.
        inputs: What names the images; see `galaxyml.data.inputs.find`.
        out: The folder.
        engine: Makes the shards.
        options: `interval` as of `predict`; `features`: `none`, `too` or `only`; `encoder`: its settings, or None.
        rows_per_shard: Images of one file of predictions.
        partition: `hats` for a catalogue of that kind beside the predictions; None for none.

    Raises:
        UserError: If the folder belongs to other predictions, there are no images, or a shard cannot be made.
        Stop: If a signal came; the shards that were being made are done.
    """
    if isinstance(predictor, ImagePredictor) and options["features"] != "only":
        with_interval(predictor.predict_blank(), options["interval"])  # says which there are
    folder = ShardFolder(out)
    if out.is_dir() and any(out.iterdir()) and not folder.begun and not _was_listing(out):
        raise UsageError(f"{out} is a folder with other things in it. Choose another --out.")
    with folder_lock(out, LOCK):
        content = _content(run, predictor, inputs, options)
        if folder.begun:
            folder.check_same(content)
            _say_software(folder, content)
        else:
            schema = _list(predictor, inputs, out / MANIFEST, rows_per_shard, options)
            size = folder.manifest.rows * _bytes(schema)
            check_space(out / PARTS, size, "Free some space, or choose another --out.")
            fields = fields_of(predictor.kind, schema.names)
            sky = [name for ucd in ("pos.eq.ra", "pos.eq.dec") for name in schema.names if _is(fields, name, ucd)]
            if partition is not None and len(sky) != 2:
                raise UsageError(NO_POSITIONS)
            folder.begin(content | {"positions": sky if len(sky) == 2 else None})
        if isinstance(predictor, ImagePredictor):
            predictor.say_choice(Path(_first_image(folder.manifest)))
        name = str(run.absolute()) if run.exists() else str(run)
        # Relative paths are those of the folder in which the predictions were begun.
        _make(folder, Order(out.absolute(), name, options, folder.index()["folder"], list(inputs)), engine)
        failed = folder.finish()
    manifest = folder.manifest
    if failed == manifest.rows:
        first = pd.read_parquet(out / FAILED)[REASON].iloc[0]
        raise UserError(f"None of the {failed:,} images can be read: {first}; see {out / FAILED}.")
    if partition is not None:
        _partition(out)
    rest = f", {failed:,} could not be read: {out / FAILED}" if failed else ""
    things = "images" if isinstance(predictor, ImagePredictor) else "light curves"
    say(f"{manifest.rows - failed:,} {things} predicted: {out / 'predictions'}{rest}")


def _list(
    predictor: Predictor, inputs: Sequence[str], manifest: Path, rows_per_shard: int, options: Mapping[str, Any]
) -> pa.Schema:
    """Writes the manifest; gives the columns of predictions."""
    if isinstance(predictor, ImagePredictor):
        write_manifest(inputs, manifest, rows_per_shard)
        return schema_of(predictor, Manifest(manifest).blank(), options)
    assert isinstance(predictor, LightCurvePredictor)
    data = open_curves(predictor, inputs)
    write_objects(data, manifest, rows_per_shard)
    return curve_schema(predictor, data)


def _partition(out: Path) -> None:
    """Writes a HATS catalogue, unless it is there."""
    if (out / "hats").is_dir():
        return
    catalogue = write_hats(out)
    apart = f"; {catalogue.without_position:,} have no position" if catalogue.without_position else ""
    say(f"{catalogue.rows:,} rows in {catalogue.partitions:,} partitions: {catalogue.path}{apart}")


def _make(folder: ShardFolder, order: Order, engine: Engine) -> None:
    """Has all shards made that are not there."""
    manifest, missing = folder.manifest, folder.missing()
    done, failed = folder.rows_done()
    shards = manifest.shards
    if len(missing) < shards:
        say(f"{folder.path}: {shards - len(missing):,} of {shards:,} shards are done; this goes on with the others.")
    if not missing:
        return
    stopping = False
    began = time.monotonic()
    new = 0
    # A signal is held back: raised within the engine it would end the shards in hand. A second one does so.
    with signals.watched(), signals.held(), _progress(manifest, done + failed) as show:
        for result in engine.make(order, missing):
            if result is not None:
                done, failed, new = done + result.rows, failed + result.failed, new + result.rows + result.failed
                show(result, done + failed, failed, new, time.monotonic() - began)
            if not stopping and signals.pending_signal() is not None:
                stopping = True
                say("stopping: the shards in hand come to their end; a second signal does not wait for them")
                engine.stop()
        if stopping:
            there = shards - len(folder.missing())
            say(f"{folder.path}: {there:,} of {shards:,} shards are done. The same command goes on with the others.")


Show = Callable[[Result, int, int, int, float], None]


@contextmanager
def _progress(manifest: Manifest, before: int) -> Iterator[Show]:
    """A bar over all rows, and a line a shard where there is no terminal."""
    with advancing("Predicting", manifest.rows, before) as update:

        def show(result: Result, rows: int, failed: int, new: int, seconds: float) -> None:
            update(rows)
            share = f", {failed / rows:.1%} failed" if failed else ""
            say(
                f"shard {result.shard:,}: {result.rows + result.failed:,} rows in {duration(result.seconds)}; "
                f"{rows:,} of {manifest.rows:,}{share}{pace(new, manifest.rows - rows, seconds, ' rows')}"
            )

        yield show


def _content(run: Path, predictor: Predictor, inputs: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    kind = predictor.kind
    only_features = options["features"] == "only"
    questions = None if only_features else kind.questions()
    return {
        "task": predictor.task,
        "kind": kind.name,
        "run": {"path": str(run), "digest": run_digest(predictor)},
        "inputs": fingerprints(inputs),
        "options": dict(options),
        "folder": os.getcwd(),
        "outputs": {} if only_features else dict(kind.output_names()),
        "questions": None if questions is None else asdict(questions),
        "software": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def run_digest(predictor: Predictor) -> str:
    """A name for all that a predictor's numbers follow from: its description, its weights and what was fitted."""
    path = predictor.run.path
    if path.is_file():
        return file_digest(path)[:16]
    weights = (
        hashlib.sha256(tensor.detach().cpu().contiguous().flatten().numpy().data).hexdigest()
        for net in predictor.networks
        for _, tensor in sorted(net.state_dict().items())
    )
    runs = [predictor.run, *([] if isinstance(predictor, EncoderPredictor) else predictor.run.nets())]
    files = (file for run in runs for file in sorted((run.path / "fitted").glob("*")) if file.is_file())
    fitted = [file_digest(file) for file in files]
    return digest([json.dumps(predictor.description, sort_keys=True, default=str), *fitted, *weights])


def _say_software(folder: ShardFolder, content: Mapping[str, Any]) -> None:
    known = folder.index()["software"]
    changed = [
        f"{name} {known.get(name)} then, {own} now"
        for name, own in content["software"].items()
        if known.get(name) != own
    ]
    if changed:
        say(f"note: {folder.path} was begun with other versions: {shorten(changed)}. Last digits may differ.")


def _bytes(schema: pa.Schema) -> int:
    """About how many bytes a row takes, before it is packed, in numbers alone."""
    sizes = [column.type.list_size * 2 if pa.types.is_fixed_size_list(column.type) else 4 for column in schema]
    return sum(sizes)


def _was_listing(out: Path) -> bool:
    """Whether a folder holds no more than what a command leaves that was killed while it listed images."""
    return all(path.name in (MANIFEST, LOCK) or path.name.startswith(".") for path in out.iterdir())


def _is(fields: Mapping[str, Any], name: str, ucd: str) -> bool:
    return name in fields and fields[name].ucd.startswith(ucd) and fields[name].ucd.endswith("meta.main")


def _first_image(manifest: Manifest) -> str:
    first = manifest.read(0).iloc[0]
    return str(first["_location"] if isinstance(first["_location"], str) else first["path"])
