"""Features of a folder of predictions, of any number of objects, read some rows at a time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxyml.evaluation.nearest import rows_of_block
from galaxyml.inference.prediction_folder import MANIFEST, PART, PredictionFolder, readable
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.files import digest

FEATURES = "features"
LOCATION = "_location"  # of the manifest, where it is not the path itself


@dataclass(frozen=True)
class PredictionFeatures:
    """Objects of a folder of predictions, in its order, with their features.

    Attributes:
        folder: The folder.
    """

    folder: PredictionFolder

    @classmethod
    def open(cls, path: Path, run: Path | str = "RUN") -> Self:
        """Opens a folder, finished or not.

        Args:
            path: The folder.
            run: How messages name the run that makes one.

        Raises:
            UserError: If it is none, has no features, or no object.
        """
        folder = PredictionFolder.open(path)
        if not folder.parts:
            raise UserError(f"{path} has no object that could be read; {path / 'failed.parquet'} says why.")
        schema = folder.schema(folder.parts[0])
        if FEATURES not in schema.names or not pa.types.is_fixed_size_list(schema.field(FEATURES).type):
            raise UsageError(
                f"{path} has predictions without features, by which objects are compared. Make a folder that has them: "
                f"galaxyml predict {run} IMAGES --out FOLDER/ --features"
            )
        opened = cls(folder)
        if not len(opened):
            raise UserError(f"{path} has no object that could be read; {path / 'failed.parquet'} says why.")
        return opened

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def width(self) -> int:
        """Number of features, F."""
        return int(self.folder.schema(self.folder.parts[0]).field(FEATURES).type.list_size)

    @property
    def run(self) -> dict[str, Any]:
        """The run that predicted: its `path` in that command, and its `digest`."""
        return dict(self.folder.index.get("run") or {})

    def blocks(self) -> Iterator[np.ndarray]:
        """Features of all objects, float32 of shape (n, F), some rows at a time."""
        for part in self.folder.parts:
            for batch in self.folder.batches(part, [FEATURES], rows_of_block(self.width)):
                yield _numbers(batch.column(FEATURES))

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Features of some objects, float32 of shape (n, F)."""
        found = np.empty((len(rows), self.width), np.float32)
        for part, of_part, places in self._by_part(rows):
            with readable(part):
                column = pq.read_table(part, columns=[FEATURES])[FEATURES].take(pa.array(of_part))
            found[places] = _numbers(column.combine_chunks())
        return found

    def table(self, rows: np.ndarray | None = None) -> pd.DataFrame:
        """All columns of some objects but their features, in their order; None for all objects."""
        if rows is None:
            return pd.concat([self._read(part) for part in self.folder.parts], ignore_index=True)
        tables = [
            self._read(part).iloc[of_part].set_axis(places) for part, of_part, places in self._by_part(np.asarray(rows))
        ]
        return pd.concat(tables).sort_index()

    def locations(self, rows: np.ndarray | None = None) -> list[str]:
        """Where the images of some objects are, in their order; None for all objects."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        found = np.empty(len(rows), object)
        for part, of_part, places in self._by_part(rows):
            found[places] = self._locations(part)[of_part]
        return [str(self.folder.begun_in / name) for name in found]

    def row(self, name: str) -> int:
        """Where an object is, by its id; of several that have it the first.

        Raises:
            UsageError: If it is not there.
        """
        column = self.folder.name_column
        for part, start in zip(self.folder.parts, self._starts[:-1], strict=True):
            with readable(part):
                names = pq.read_table(part, columns=[column])[column].cast(pa.string())
            if (place := pc.index(names, name).as_py()) >= 0:
                return int(start) + int(place)
        first = self.table(np.arange(min(len(self), 5)))[column].astype(str)
        others = f" and {len(self) - len(first):,} more" if len(self) > len(first) else ""
        raise UsageError(f"{self.folder.path} has no object {name}; it has {', '.join(first)}{others}.")

    def state(self) -> str:
        """A name for what the folder holds now, by the sizes and times of its parts."""
        states = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in self.folder.parts]
        return digest([json.dumps(self.run, sort_keys=True), *states])

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each part, and the number of all rows behind them."""
        counts = []
        for part in self.folder.parts:
            with readable(part):
                counts.append(pq.read_metadata(part).num_rows)
        return np.cumsum([0, *counts])

    def _by_part(self, rows: np.ndarray) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
        """Parts that hold some rows: each with the rows in it, and their places among all that are asked for."""
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(parts):
            (places,) = np.nonzero(parts == number)
            yield self.folder.parts[number], rows[places] - self._starts[number], places

    def _read(self, part: Path) -> pd.DataFrame:
        with readable(part):
            return pq.read_table(part, columns=[name for name in self.folder.columns if name != FEATURES]).to_pandas()

    def _locations(self, part: Path) -> np.ndarray:
        """Where the images of a part are; relative ones begin where the predictions were begun."""
        with readable(part):
            table = pq.read_table(part, columns=["id", "path"]).to_pandas()
        called = table["path"].to_numpy(object)
        number = PART.fullmatch(part.name)
        manifest = self.folder.path / MANIFEST
        if number is None or not manifest.is_file():
            return called
        with readable(manifest), pq.ParquetFile(manifest) as file:
            listed = file.read_row_group(int(number[1]), columns=["id", "path", LOCATION]).to_pandas()
        apart = listed[listed[LOCATION].notna()]
        where = dict(zip(zip(apart["id"], apart["path"], strict=True), apart[LOCATION], strict=True))
        return np.array([where.get(key, key[1]) for key in zip(table["id"], called, strict=True)], object)


def _numbers(column: Any) -> np.ndarray:
    """Lists of one length as float32 of shape (n, F)."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, column.type.list_size).astype(np.float32)
