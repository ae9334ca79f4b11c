"""Objects of any set with the numbers that they are compared by: what a finished run's nets make of them."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from galaxyml.data.images.decode import file_of, open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.views import central_pixels
from galaxyml.data.images.visible import visible
from galaxyml.data.light_curves.data_module import CurveData, name_column
from galaxyml.evaluation.curve_plots import Curve, draw_curve
from galaxyml.evaluation.morphology import asymmetry, concentration, thumbnail
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.evaluation.unusual import Unusual, unusual
from galaxyml.inference.image_predictor import ImagePredictor, frames_in_batches
from galaxyml.inference.inputs import Listing, find, with_given
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.prediction_folder import PredictionFolder
from galaxyml.inference.predictor import Predictor
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten
from galaxyml.runs.files import atomic_write, digest
from galaxyml.training.light_curve_predictions import encoded_tables

VERSION = 1  # of the file that is kept; raise it when the same objects would get other numbers
HELD = 1024  # images at a time
LOOKS = "brightness, colours and noise"
FEATURES = "features"


class Gallery(ABC):
    """Shows objects to a person."""

    @abstractmethod
    def picture(self, row: int, side: int) -> Image.Image:
        """An object as an image of at most so many pixels a side; a grey one if it cannot be shown."""


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
        asymmetry: Of images, shape (N,); see `galaxyml.evaluation.morphology`.
        concentration: Of images, shape (N,).
        thumbnails: Of images, float16 of shape (N, P).
    """

    ids: list[str]
    features: np.ndarray
    table: pd.DataFrame
    by: str
    gallery: Gallery
    odds: np.ndarray | None = None
    asymmetry: np.ndarray | None = None
    concentration: np.ndarray | None = None
    thumbnails: np.ndarray | None = None

    @cached_property
    def unusual(self) -> Unusual:
        """How unusual they are among each other."""
        return unusual(self.features, self.odds, self.asymmetry, self.thumbnails)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, name: str) -> int:
        """Where an object is, by its id.

        Raises:
            UserError: If it is not there.
        """
        try:
            return self.ids.index(name)
        except ValueError:
            raise UserError(f"There is no object {name}; there are {shorten(self.ids)}.") from None


class Images(Gallery):
    """Images in files.

    Args:
        paths: Where each is.
        decoding: How they are decoded.
        crop: Central part that is shown, as a share of the shorter side.
    """

    def __init__(self, paths: Sequence[str], decoding: Decoding, crop: float = 1.0) -> None:
        self.paths, self.decoding, self.crop = list(paths), decoding, crop

    def picture(self, row: int, side: int) -> Image.Image:
        try:
            pixels = visible(open_image(Path(self.paths[row]), self.decoding))
        except DataError:
            return missing(side)
        height, width = pixels.shape[:2]
        shown = max(round(self.crop * min(height, width)), 1)
        top, left = (height - shown) // 2, (width - shown) // 2
        square = Image.fromarray(np.ascontiguousarray(pixels[top : top + shown, left : left + shown])).convert("RGB")
        return square.resize((side, side), Image.Resampling.LANCZOS)


class LightCurves(Gallery):
    """Light curves, with their passbands and errors.

    Args:
        data: Has them.
        rows: Of its catalog.
    """

    def __init__(self, data: CurveData, rows: np.ndarray) -> None:
        self.data, self.rows = data, rows

    def picture(self, row: int, side: int) -> Image.Image:
        batch = self.data.batches[np.array([self.rows[row]])]
        observed = {name: batch[name][0][batch["mask"][0]].numpy() for name in ("time", "band", "flux", "error")}
        figure = Figure(figsize=(4, 4), layout="constrained")
        axes = figure.add_subplot()
        draw_curve(axes, Curve(**observed, title=""))
        axes.tick_params(labelsize=9, length=2)
        axes.set_xlabel("time (days)", fontsize=9)
        axes.set_ylabel("flux (FLUXCAL units)", fontsize=9)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=max(side / 4, 20))
        return Image.open(file).convert("RGB").resize((side, side))


def missing(side: int) -> Image.Image:
    """What is shown in the place of an image that cannot be read."""
    blank = Image.new("RGB", (side, side), (160, 166, 176))
    ImageDraw.Draw(blank).text((side / 2, side / 2), "cannot be shown", (40, 46, 56), anchor="mm")
    return blank


def embed(
    predictor: Predictor, source: Path, inputs: Sequence[str], cache: Path | None = None, bad: list[str] | None = None
) -> Embedded:
    """Objects that files, folders, patterns and tables name, with what a run makes of them.

    What is found is kept in the cache folder, by the run and by the files' names, sizes and times.

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
    if len(inputs) == 1 and (Path(inputs[0]).expanduser() / "index.json").is_file():
        return of_predictions(predictor, source, Path(inputs[0]).expanduser())
    if isinstance(predictor, ImagePredictor):
        listing = find(inputs)
        kept = _kept_in(cache, source, list(listing.paths))
        if kept is not None and kept.is_file() and (read := _read(kept, predictor, source)) is not None:
            return read
        found = _of_images(predictor, listing, bad)
        if kept is not None:
            _keep(kept, found)
        return found
    assert isinstance(predictor, LightCurvePredictor)
    return _of_curves(predictor, inputs)


def of_predictions(predictor: Predictor, source: Path, folder: Path) -> Embedded:
    """Objects of a folder of predictions that has their features.

    Raises:
        UsageError: If it is none, has no features, or is another run's.
    """
    opened = PredictionFolder.open(folder)
    if FEATURES not in opened.columns:
        raise UsageError(
            f"{folder} has predictions without features, by which objects are compared. Make it by galaxyml predict "
            f"{source} … --out FOLDER/ --features."
        )
    if not isinstance(predictor, ImagePredictor):
        raise UsageError(f"{folder} has features of images; {source} is a run of light curves.")
    tables, features = [], []
    for part in opened.parts:
        for batch in opened.batches(part):
            column = batch.column(FEATURES)
            width = column.type.list_size
            features.append(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).astype(np.float32))
            tables.append(batch.drop_columns([FEATURES]).to_pandas())
    if not tables:
        raise UserError(f"{folder} has no object that could be read.")
    table = pd.concat(tables, ignore_index=True)
    width = len(predictor.predict_blank(features=True)[FEATURES].iloc[0])
    if features[0].shape[1] != width:
        raise UsageError(
            f"{folder} has {features[0].shape[1]} features an object, and {source} has {width}: it is of another run."
        )
    where = [str(opened.begun_in / path) for path in table["path"]]
    shown = Images(where, predictor.decodings[0], predictor.framings[0].crop)
    return Embedded(_names(table["id"]), np.concatenate(features), table, _seen_by(predictor), shown)


def has_features(predictor: ImagePredictor) -> bool:
    """Whether images are compared by what the heads of the nets see; else by their looks."""
    return all(isinstance(member.model.net, BackboneWithHead) for member in predictor.members)


def _of_images(predictor: ImagePredictor, listing: Listing, bad: list[str] | None) -> Embedded:
    where, names = list(listing.paths), list(listing.paths.values())
    rows: list[int] = []
    tables: list[pd.DataFrame] = []
    features: list[np.ndarray] = []
    shapes: list[tuple[np.ndarray, ...]] = []
    by_features = has_features(predictor)
    for numbers, pixels in frames_in_batches(Path(), where, predictor.framings, HELD, "Looking at images", bad):
        rows += numbers
        table = predictor.predict_framed([names[number] for number in numbers], pixels, by_features)
        middle = central_pixels(pixels[0], predictor.framings[0].size)
        looks = np.stack(table.pop(FEATURES)) if by_features else appearance(middle)
        features.append(looks.astype(np.float32))
        tables.append(table)
        shapes.append((asymmetry(middle), concentration(middle), thumbnail(middle).astype(np.float16)))
    if not tables:
        raise UserError(f"None of the {len(names):,} images can be read: {(bad or [''])[0]}.")
    table = with_given(pd.concat(tables, ignore_index=True), listing.beside().iloc[rows])
    shown = Images([where[row] for row in rows], predictor.decodings[0], predictor.framings[0].crop)
    whole = np.concatenate(features)
    ordered = [np.concatenate(values) for values in zip(*shapes, strict=True)]
    odds = predictor.kind.odds_of_odd(table)
    return Embedded(_names(table["id"]), whole, table, _seen_by(predictor), shown, odds, *ordered)


def _of_curves(predictor: LightCurvePredictor, inputs: Sequence[str]) -> Embedded:
    """Light curves by their latents, in units of their spread over the run's training objects."""
    data = predictor.open(*[Path(path).expanduser() for path in inputs])
    assert data.catalog is not None
    ranked = predictor.rank(data)
    parts = []
    for member in predictor.members:
        tables = encoded_tables(predictor.trainer, member.module, data, member.run, data.rows("survey"))
        latents = np.concatenate([seen(table, ["latent"]) for table in tables])
        parts.append(member.detectors.standard(latents).astype(np.float32))
    rows = data.rows("survey").numpy()
    names = data.catalog[name_column(data.catalog)].iloc[rows].to_numpy()
    table = ranked.set_index("object_id").loc[names].reset_index()
    return Embedded(
        _names(table["object_id"]), np.concatenate(parts, axis=1), table, "latents", LightCurves(data, rows)
    )


def _names(ids: Any) -> list[str]:
    """Ids as text, all different: those that several objects have get a number."""
    text = pd.Series(ids).astype(str)
    number = text.groupby(text).cumcount()
    return [name if not again else f"{name} ({again + 1})" for name, again in zip(text, number, strict=True)]


def _seen_by(predictor: ImagePredictor) -> str:
    if not has_features(predictor):
        return LOOKS
    return f"what the last layer{'s' * (len(predictor.members) > 1)} of its net{'s' * (len(predictor.members) > 1)} see"


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
        states.append((path, state))
    return cache.expanduser() / "embedded" / f"{digest(states)}.parquet"


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _keep(path: Path, found: Embedded) -> None:
    assert isinstance(found.gallery, Images)
    table = pa.Table.from_pandas(found.table, preserve_index=False)
    values = pa.array(np.ascontiguousarray(found.features).ravel())
    table = table.append_column("_features", pa.FixedSizeListArray.from_arrays(values, found.features.shape[1]))
    table = table.append_column("_where", pa.array(found.gallery.paths))
    with atomic_write(path) as draft:
        pq.write_table(table, draft)


def _read(path: Path, predictor: ImagePredictor, source: Path) -> Embedded | None:
    """The counterpart of `_keep`; None if it cannot be read, so that it is made anew."""
    try:
        table = pq.read_table(path)
        column = table["_features"].combine_chunks()
        features = column.flatten().to_numpy().reshape(len(table), -1)
        where = table["_where"].to_pylist()
        frame = table.drop_columns(["_features", "_where"]).to_pandas()
    except (pa.ArrowException, OSError, KeyError):
        return None
    shown = Images(where, predictor.decodings[0], predictor.framings[0].crop)
    return Embedded(_names(frame["id"]), features, frame, _seen_by(predictor), shown)
