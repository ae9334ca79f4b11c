"""What makes one shard, in whichever process an engine has: a predictor that is loaded once."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from galaxyml.data.inputs import with_given
from galaxyml.inference import load
from galaxyml.inference.columns import fields_of
from galaxyml.inference.encoder_predictor import open_encoder
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.inference.interval import with_interval
from galaxyml.inference.shards.folder import REASON, Result, ShardFolder
from galaxyml.inference.shards.manifest import LOCATION, PATH
from galaxyml.sweeps.worker import Slot

FEATURES = "features"


@dataclass(frozen=True)
class Order:
    """What a process has to know to make shards.

    Attributes:
        folder: Of the predictions, an absolute path.
        run: The run, as the command names it.
        options: `interval`, `features` (none, too or only), `encoder`, the settings of an encoder, None of a run, and
            `curves`, what the user says of the columns of light curves.
        root: Where relative paths begin.
        inputs: What was given to be predicted; of images the manifest has it.
        slot: The GPU or the threads of the process.
        environment: Variables that the process is to have, too.
        path: Where modules are found, as a user's own nets.
    """

    folder: Path
    run: str
    options: Mapping[str, Any]
    root: str
    inputs: Sequence[str] = ()
    slot: Slot = field(default_factory=Slot)
    environment: Mapping[str, str] = field(default_factory=dict)
    path: Sequence[str] = field(default_factory=lambda: list(sys.path))

    def set_up_process(self) -> None:
        """Gives this process its GPU, its threads and its folder."""
        os.environ.update(self.environment)
        if self.slot.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.slot.gpus)
        os.chdir(self.root)
        sys.path[:] = self.path
        if self.slot.threads is not None:
            import torch
            from threadpoolctl import threadpool_limits

            torch.set_num_threads(self.slot.threads)
            threadpool_limits(self.slot.threads)


class ShardWorker(ABC):
    """Makes shards.

    Args:
        order: See there.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.folder = ShardFolder(order.folder)
        self.manifest = self.folder.manifest

    @abstractmethod
    def predict(self, shard: int) -> Result:
        """Writes a shard's predictions, and the rows that could not be read."""


def worker_of(order: Order) -> ShardWorker:
    """A worker with the predictor of an order's run."""
    settings = order.options["encoder"]
    predictor = open_encoder(order.run, settings) if settings is not None else load(order.run)
    if isinstance(predictor, ImagePredictor):
        return ImageWorker(order, predictor)
    from galaxyml.inference.light_curve_predictor import LightCurvePredictor
    from galaxyml.inference.shards.curves import CurveWorker

    assert isinstance(predictor, LightCurvePredictor)
    return CurveWorker(order, predictor)


class ImageWorker(ShardWorker):
    """Makes shards of images.

    Args:
        order: See there.
        predictor: The run's.
    """

    def __init__(self, order: Order, predictor: ImagePredictor) -> None:
        super().__init__(order)
        self.predictor = predictor
        self.schema = schema_of(predictor, self.manifest.blank(), order.options)

    def predict(self, shard: int) -> Result:
        began = time.monotonic()
        rows = self.manifest.read(shard)
        images = rows[LOCATION].where(rows[LOCATION].notna(), rows[PATH])
        beside = rows.drop(columns=[PATH, LOCATION])
        readable: list[int] = []
        bad: list[str] = []
        with self.folder.shard_writer(shard, self.schema) as writer:
            parts = self.predictor.predict_files(
                list(images),
                list(rows[PATH]),
                bad,
                self.order.options["features"] != "none",
                title=None,
                threads=self.order.slot.threads,
            )
            for numbers, table in parts:
                readable += numbers
                whole = shard_table(table, beside.iloc[numbers], self.order.options)
                writer.write_table(pa.Table.from_pandas(whole, self.schema, preserve_index=False))
            self.folder.write_failed(shard, rows.drop(index=readable).assign(**{REASON: bad}))
        return Result(shard, len(readable), len(bad), time.monotonic() - began)


def shard_table(predicted: pd.DataFrame, beside: pd.DataFrame, options: Mapping[str, Any]) -> pd.DataFrame:
    """Predictions with the columns of the manifest, and of their own those that are asked for."""
    table = with_given(predicted, beside)
    if options["features"] == "only":
        return table[[*table.columns[: len(beside.columns) + 1], FEATURES]]
    return with_interval(table, options["interval"])


def schema_of(predictor: ImagePredictor, beside: pd.DataFrame, options: Mapping[str, Any]) -> pa.Schema:
    """Names, types and meanings of the columns of a shard's file.

    Args:
        predictor: The run's.
        beside: Rows of the manifest, or none.
        options: See `Order`.
    """
    blank = predictor.predict_blank(features=options["features"] != "none")
    own = beside.drop(columns=[PATH, LOCATION])
    table = shard_table(blank, own.reindex(range(1)).astype(own.dtypes), options)
    has_features = options["features"] != "none"  # else a column of that name is the user's
    schema = pa.Schema.from_pandas(table.drop(columns=[FEATURES] if has_features else []), preserve_index=False)
    if has_features:
        length = len(table[FEATURES].iloc[0])
        schema = schema.append(pa.field(FEATURES, pa.list_(pa.float16(), length)))
    return described(pa.schema([_text(column) for column in schema]), predictor.kind)


def described(schema: pa.Schema, kind: Any) -> pa.Schema:
    """A schema with what its columns mean, as far as it is known of a kind of target."""
    fields = fields_of(kind, schema.names)
    meanings = {name: {key: value for key, value in vars(field).items() if value} for name, field in fields.items()}
    return pa.schema([column.with_metadata(meanings.get(column.name)) for column in schema])


def _text(column: pa.Field) -> pa.Field:
    """Columns of text as such, also where the one row is empty."""
    is_text = pa.types.is_null(column.type) or pa.types.is_large_string(column.type)
    return column.with_type(pa.string()) if is_text else column
