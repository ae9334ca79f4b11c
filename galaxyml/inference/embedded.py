"""Objects of any set with the numbers that they are compared by: what a finished run's nets make of them."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from galaxyml.data.images.decode import file_of
from galaxyml.data.images.views import central_pixels, scaled
from galaxyml.data.inputs import Listing, find, with_given
from galaxyml.data.light_curves.data_module import CurveData, name_column
from galaxyml.data.source import CACHE
from galaxyml.evaluation.morphology import asymmetry, thumbnails
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.evaluation.unusual import Unusual, unusual
from galaxyml.inference.galleries import Gallery, Images, LightCurves
from galaxyml.inference.image_predictor import ImagePredictor, frames_in_batches
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.prediction_features import FEATURES, PredictionFeatures
from galaxyml.inference.prediction_folder import INDEX
from galaxyml.inference.predictor import Predictor
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import UsageError, UserError, shorten
from galaxyml.runs.files import atomic_write, digest

log = logging.getLogger(__name__)

VERSION = 3  # of the file that is kept; raise it when the same objects would get other numbers
MOST = 1_000_000  # images that are looked at and held
LOOKS = "brightness, colours and noise"
LATENTS = "latents"
BAD = b"galaxyml.bad"  # key of the kept file's metadata: why images cannot be read


@dataclass(frozen=True)
class Shapes:
    """What N images look like without a net; see `galaxyml.evaluation.morphology`.

    Attributes:
        asymmetry: Shape (N,).
        thumbnails: Float16 of shape (N, P).
    """

    asymmetry: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, pixels: Tensor) -> Self:
        """Of what a net sees of images, uint8 of shape (N, H, W, C)."""
        images = scaled(pixels)
        return cls(asymmetry(images).double().numpy(), thumbnails(images).half().numpy())

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of all images of several parts."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Embedded:
    """N objects and what they are compared by.

    Attributes:
        ids: What each is called, all different.
        features: Float32 of shape (N, F); finite.
        table: What a run predicts for each, and what a table said of it, one row an object; `id` is one of its columns
            (`object_id` of light curves).
        by: What the features are, in words.
        gallery: Shows them.
        odds: What the run itself says of how odd each is, in nats, shape (N,); None where it says nothing of it.
        shapes: What images look like without a net; None of what is no image, or of predictions alone.
    """

    ids: list[str]
    features: np.ndarray
    table: pd.DataFrame
    by: str
    gallery: Gallery
    odds: np.ndarray | None = None
    shapes: "Shapes | None" = None

    @cached_property
    def unusual(self) -> Unusual:
        """How unusual they are among each other."""
        if self.shapes is None:
            return unusual(self.features, self.odds)
        return unusual(self.features, self.odds, self.shapes.asymmetry, self.shapes.thumbnails)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, name: str) -> int:
        """Where an object is, by its id.

        Raises:
            UsageError: If it is not there.
        """
        try:
            return self.ids.index(name)
        except ValueError:
            raise UsageError(f"There is no object {name}; there are {shorten(self.ids)}.") from None


def embed(
    predictor: Predictor, source: Path, inputs: Sequence[str], cache: Path | None = None, bad: list[str] | None = None
) -> Embedded:
    """Objects that files, folders, patterns and tables name, with what a run makes of them.

    What is made of images is kept in the cache folder, by the run and by the files' names, sizes and times.

    Args:
        predictor: The run's.
        source: Its folder, or the bundle.
        inputs: As `galaxyml predict` takes them; or one folder of predictions with features.
        cache: The folder; None to keep nothing.
        bad: Gets a sentence for each image that cannot be read, which is then left out; None to raise.

    Raises:
        UserError: If there is nothing there, or nothing can be read.
        DataError: If an image cannot be read and `bad` is None.
    """
    if is_prediction_folder(inputs):
        return of_predictions(predictor, source, Path(inputs[0]).expanduser())
    if isinstance(predictor, ImagePredictor):
        return of_images(predictor, source, find(inputs), cache, bad)
    assert isinstance(predictor, LightCurvePredictor)
    data = predictor.open_files(inputs)
    for note in data.notes:
        print(f"note: {note}")
    return of_curves(predictor, data, data.rows("survey"))


def is_prediction_folder(inputs: Sequence[str]) -> bool:
    """Whether inputs are one folder of predictions."""
    return len(inputs) == 1 and (Path(inputs[0]).expanduser() / INDEX).is_file()


def cache_of(predictor: Predictor) -> Path:
    """The folder in which a run, or whoever has a bundle, keeps what is made once."""
    if predictor.run.path.is_dir():
        return Path(str(predictor.run.config.cache_dir)).expanduser()
    return Path(os.environ.get("GALAXYML_CACHE", CACHE)).expanduser()


def open_features(predictor: Predictor, source: Path, folder: Path) -> PredictionFeatures:
    """A folder of a run's predictions that has their features.

    Raises:
        UserError: If it is none, has no features, or is another run's.
    """
    from galaxyml.inference.shards.command import run_digest

    if not isinstance(predictor, ImagePredictor):
        raise UsageError(f"{source} is a run of light curves, whose predictions have no features: give their tables.")
    opened = PredictionFeatures.open(folder, source)
    if opened.run.get("digest") != run_digest(predictor):
        raise UsageError(
            f"{folder} has features of another run, {opened.run.get('path')}, or of the same before it was fitted "
            f"anew. Give that run; or predict into another folder: galaxyml predict {source} IMAGES --out FOLDER/ "
            "--features"
        )
    if not opened.folder.finished:
        parts, shards = len(opened.folder.parts), opened.folder.shards
        log.info("note: %s is not finished: %s of its %s parts are there.", folder, f"{parts:,}", f"{shards:,}")
    return opened


def of_predictions(predictor: Predictor, source: Path, folder: Path) -> Embedded:
    """All objects of a folder of predictions that has their features, in memory; errors as of `open_features`."""
    opened = open_features(predictor, source, folder)
    assert isinstance(predictor, ImagePredictor)
    table = opened.table()
    shown = images_of(predictor, opened.locations())
    odds = predictor.kind.odds_of_odd(table) if set(predictor.columns) <= set(table) else None  # of features alone
    features = np.concatenate(list(opened.blocks()))
    return Embedded(_names(table["id"]), features, table, seen_by(predictor), shown, odds)


def has_features(predictor: ImagePredictor) -> bool:
    """Whether images are compared by what the heads of the nets see; else by their looks."""
    return all(isinstance(member.model.net, BackboneWithHead) for member in predictor.members)


def see(predictor: ImagePredictor, names: Sequence[str], pixels: Sequence[Tensor]) -> tuple[pd.DataFrame, np.ndarray]:
    """What a run predicts for images that are framed already, and what they are compared by.

    Args:
        predictor: The run's.
        names: What each of N images is called.
        pixels: As of `ImagePredictor.predict_framed`.

    Returns:
        The predictions, and float32 of shape (N, F).
    """
    if has_features(predictor):
        table = predictor.predict_framed(names, pixels, features=True)
        return table.drop(columns=FEATURES), np.stack(list(table[FEATURES])).astype(np.float32)
    looks = appearance(central_pixels(pixels[0], predictor.framings[0].size))
    return predictor.predict_framed(names, pixels), looks.astype(np.float32)


def of_images(
    predictor: ImagePredictor, source: Path, listing: Listing, cache: Path | None = None, bad: list[str] | None = None
) -> Embedded:
    """Images that are listed, with what a run makes of them; otherwise as `embed`."""
    where, names = list(listing.paths), list(listing.paths.values())
    if len(where) > MOST:
        raise UsageError(
            f"{len(where):,} images are too many at once. Predict them into a folder, which carries on where it was "
            f"stopped, and give that folder: galaxyml predict {source} IMAGES --out FOLDER/ --features"
        )
    kept = _kept_in(cache, source, where)
    seen = _read(kept) if kept is not None else None
    if seen is None or (seen.bad and bad is None):
        seen = _see_all(predictor, where, names, bad)
        if kept is not None:
            seen.write(kept)
    elif bad is not None:
        bad += seen.bad
    predicted = seen.predicted.copy()
    predicted["path"] = [names[row] for row in seen.rows]
    table = with_given(predicted, listing.beside().iloc[seen.rows])
    shown = images_of(predictor, [where[row] for row in seen.rows])
    odds = predictor.kind.odds_of_odd(table)
    return Embedded(_names(table["id"]), seen.features, table, seen_by(predictor), shown, odds, seen.shapes)


def of_curves(predictor: LightCurvePredictor, data: CurveData, rows: Tensor) -> Embedded:
    """Light curves by their latents, in units of their spread over the run's training objects.

    Args:
        predictor: The run's.
        data: Has them.
        rows: Of its catalog, of one split.
    """
    assert data.catalog is not None
    latents: list[np.ndarray] = []
    ranked = predictor.rank(data, rows, latents)
    names = data.catalog[name_column(data.catalog)].iloc[rows.numpy()].to_numpy()
    table = ranked.set_index("object_id").loc[names].reset_index()
    features = np.concatenate(latents, axis=1).astype(np.float32)
    score = table["score"].to_numpy(np.float64)
    return Embedded(_names(names), features, table, LATENTS, LightCurves(data, rows.numpy()), score)


def images_of(predictor: ImagePredictor, where: Sequence[str]) -> Images:
    """Images in files, shown as far as the first net sees them."""
    return Images(where, predictor.decodings[0], predictor.framings[0].crop)


def seen_by(predictor: ImagePredictor) -> str:
    """What images are compared by, in words."""
    if not has_features(predictor):
        return LOOKS
    count = len(predictor.members)
    return "what the last layer of its net sees" if count == 1 else f"what the last layers of its {count} nets see"


@dataclass(frozen=True)
class _Seen:
    """What a run makes of images.

    Attributes:
        rows: Which of the images can be read.
        predicted: Predictions for these.
        features: Float32 of shape (N, F).
        shapes: What they look like.
        bad: Why the others cannot be read.
    """

    rows: list[int]
    predicted: pd.DataFrame
    features: np.ndarray
    shapes: Shapes
    bad: list[str]

    def write(self, path: Path) -> None:
        """Writes it to a file, whole or not at all."""
        table = pa.Table.from_pandas(self.predicted, preserve_index=False)
        for name, values in {"features": self.features, **vars(self.shapes)}.items():
            column = pa.array(np.ascontiguousarray(values).ravel())
            wide = pa.FixedSizeListArray.from_arrays(column, values.shape[1]) if values.ndim > 1 else column
            table = table.append_column(f"_{name}", wide)
        table = table.append_column("_row", pa.array(self.rows, pa.int64()))
        table = table.replace_schema_metadata({**table.schema.metadata, BAD: json.dumps(self.bad).encode()})
        with atomic_write(path) as draft:
            pq.write_table(table, draft)


def _read(path: Path) -> _Seen | None:
    """The counterpart of `_Seen.write`; None if it is not there or cannot be read, so that it is made anew."""
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        names = ["features", *(field.name for field in fields(Shapes))]
        features, *shapes = (_numbers(table[f"_{name}"]) for name in names)
        predicted = table.drop_columns(["_row", *(f"_{name}" for name in names)]).to_pandas()
        bad = json.loads(table.schema.metadata[BAD])
        return _Seen(table["_row"].to_pylist(), predicted, features, Shapes(*shapes), bad)
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array of shape (N,), or (N, F) where it has lists."""
    values = column.combine_chunks()
    if not pa.types.is_fixed_size_list(values.type):
        return values.to_numpy()
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)


def _see_all(predictor: ImagePredictor, where: list[str], names: list[str], bad: list[str] | None) -> _Seen:
    rows: list[int] = []
    tables: list[pd.DataFrame] = []
    features: list[np.ndarray] = []
    shapes: list[Shapes] = []
    own: list[str] | None = [] if bad is not None else None
    title = "Looking at images"
    for numbers, pixels in frames_in_batches(Path(), where, predictor.framings, predictor.held, title, own):
        table, compared = see(predictor, [names[number] for number in numbers], pixels)
        rows += numbers
        tables.append(table)
        features.append(compared)
        shapes.append(Shapes.of(central_pixels(pixels[0], predictor.framings[0].size)))
    if bad is not None and own is not None:
        bad += own
    if not tables:
        said = f"None of the {len(names):,} images can be read" if len(names) > 1 else "The image cannot be read"
        raise UserError(f"{said}: {(own or [''])[0]}.")
    predicted = pd.concat(tables, ignore_index=True)
    return _Seen(rows, predicted, np.concatenate(features), Shapes.joined(shapes), own or [])


def _names(ids: Any) -> list[str]:
    """Ids as text, all different: those that several objects have get a number."""
    text = pd.Series(ids).astype(str)
    number = text.groupby(text).cumcount()
    return [name if not again else f"{name} ({again + 1})" for name, again in zip(text, number, strict=True)]


def _kept_in(cache: Path | None, source: Path, where: Sequence[str]) -> Path | None:
    """The file that keeps what a run makes of images, which may not be there."""
    if cache is None:
        return None
    of_run = source / "metrics.json" if source.is_dir() else source
    states: list[object] = [VERSION, source.resolve(), _state(of_run)]
    before, state = "", None
    for path in where:
        if (file := file_of(path)) != before:
            before, state = file, _state(Path(file))
        states.append((os.path.abspath(path), state))
    return cache.expanduser() / "embedded" / f"{digest(states)}.parquet"


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
