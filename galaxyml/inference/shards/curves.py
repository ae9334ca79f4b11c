"""Shards of light curves: objects in the order of their tables, each judged by itself, without a rank among all."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from galaxyml.data.light_curves.data_module import CurveData, name_column
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.shards.folder import Result
from galaxyml.inference.shards.manifest import ID
from galaxyml.inference.shards.worker import Order, ShardWorker, described
from galaxyml.runs.files import atomic_write

NAME = "object_id"
COLUMNS = {  # of predictions, and their types; of the user's names of objects that of the tables
    "score": pa.float64(),
    "anomaly": pa.bool_(),
    "nearest_known_class": pa.string(),
    "reason": pa.string(),
    "passband": pa.string(),
    "mjd": pa.float64(),
    "true_class": pa.string(),
}


def open_curves(predictor: LightCurvePredictor, inputs: Sequence[str]) -> CurveData:
    """The objects of tables, which are read once and kept."""
    return predictor.open(*(Path(given).expanduser() for given in inputs))


def write_objects(data: CurveData, file: Path, rows_per_shard: int) -> int:
    """Writes the manifest of objects, `id` alone; gives their number."""
    assert data.catalog is not None
    names = data.catalog[name_column(data.catalog)].astype(str)
    with atomic_write(file) as draft:
        table = pa.table({ID: pa.array(list(names), pa.string())})
        pq.write_table(table, draft, row_group_size=rows_per_shard, compression="zstd")
    return len(names)


def curve_schema(predictor: LightCurvePredictor, data: CurveData) -> pa.Schema:
    """Names, types and meanings of the columns of a shard's file."""
    catalog = data.catalog
    assert catalog is not None
    absent = set() if (catalog["name"] != "").any() else {"true_class"}
    absent |= {"anomaly"} if predictor.threshold is None else set()
    numbered = pd.api.types.is_integer_dtype(catalog[name_column(catalog)])
    columns = {NAME: pa.int64() if numbered else pa.string()} | COLUMNS
    fields = [pa.field(name, kind) for name, kind in columns.items() if name not in absent]
    return described(pa.schema(fields), predictor.kind)


class CurveWorker(ShardWorker):
    """Makes shards of light curves.

    Args:
        order: See there.
        predictor: The run's.
    """

    def __init__(self, order: Order, predictor: LightCurvePredictor) -> None:
        super().__init__(order)
        self.predictor = predictor
        if order.options["curves"]:
            predictor.say_names(order.options["curves"])
        self.data = open_curves(predictor, order.inputs)
        self.schema = curve_schema(predictor, self.data)
        assert self.data.catalog is not None
        self.shards = np.cumsum([0, *(self.manifest.rows_of(shard) for shard in range(self.manifest.shards))])

    def predict(self, shard: int) -> Result:
        began = time.monotonic()
        rows = torch.arange(int(self.shards[shard]), int(self.shards[shard + 1]))
        table = self.predictor.judge(self.data, rows).reindex(columns=self.schema.names)
        with self.folder.shard_writer(shard, self.schema) as writer:
            writer.write_table(pa.Table.from_pandas(table, self.schema, preserve_index=False))
        return Result(shard, len(rows), 0, time.monotonic() - began)
