"""The folder that `galaxyml predict … --out FOLDER/` leaves: an index, predictions in parts, and what failed."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml.runs.errors import DataError, UsageError, shorten
from galaxyml.runs.run_dir import RunDir

INDEX, PARTS, FAILED, MANIFEST = "index.json", "predictions", "failed.parquet", "manifest.parquet"
VERSION = 1
PART = re.compile(r"part-(\d+)\.parquet")
ROWS_AT_ONCE = 65_536
MADE = "A folder of predictions is made by galaxyml predict RUN IMAGES --out FOLDER/."
MADE_BY = "galaxyml predict RUN IMAGES --out FOLDER/ makes one"
CARRY_ON = "The same predict command carries on."


@dataclass(frozen=True)
class PredictionFolder:
    """Predictions in parts, finished or not.

    Attributes:
        path: The folder.
        index: What its `index.json` says.
        parts: Tables of predictions that are there, in the order of their objects.
    """

    path: Path
    index: dict[str, Any]
    parts: tuple[Path, ...]

    @classmethod
    def open(cls, path: Path) -> "PredictionFolder":
        """Reads the index, and looks which parts are there.

        Raises:
            UsageError: If it is not such a folder, is another version's, or has no predictions yet.
            DataError: If the index cannot be read.
        """
        if not path.exists():
            raise UsageError(f"{path} is not there. Give a folder of predictions; {MADE_BY}.")
        if not path.is_dir():
            raise UsageError(f"{path} is a file. Give a folder of predictions; {MADE_BY}.")
        if not (path / INDEX).is_file():
            raise UsageError(_no_predictions(path))
        try:
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
            version = index["version"]
            if missing := [key for key in ("kind", "outputs", "rows", "shards") if key not in index]:
                raise KeyError(missing[0])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path / INDEX} cannot be read ({type(error).__name__}: {reason}). The same predict command into "
                "another folder makes it anew."
            ) from None
        if version != VERSION:
            raise UsageError(f"{path} is of version {version} of predictions, and this galaxyml reads {VERSION}.")
        numbered = [(int(found[1]), file) for file in (path / PARTS).glob("*") if (found := PART.fullmatch(file.name))]
        folder = cls(path, index, tuple(file for _, file in sorted(numbered)))
        if not folder.parts and not (path / FAILED).is_file():
            raise UsageError(f"{path} has no predictions yet: none of its {folder.shards:,} parts is there. {CARRY_ON}")
        return folder

    @property
    def kind(self) -> str:
        """Name of the kind of target."""
        return str(self.index["kind"])

    @property
    def shards(self) -> int:
        """How many parts it is to have."""
        return int(self.index["shards"])

    @property
    def rows(self) -> int:
        """How many objects were to be predicted."""
        return int(self.index["rows"])

    @property
    def finished(self) -> bool:
        """Whether all objects were seen."""
        return bool(self.index.get("finished")) and len(self.parts) >= self.shards

    @property
    def outputs(self) -> dict[str, str]:
        """What each column that a model has predicted holds, in words."""
        return {str(name): str(text) for name, text in self.index["outputs"].items()}

    @property
    def inputs(self) -> list[str]:
        """What the command was given to predict."""
        return [str(entry["given"]) for entry in self.index.get("inputs") or []]

    @property
    def begun_in(self) -> Path:
        """The folder that the command was given in, where its relative paths begin."""
        return Path(str(self.index.get("folder") or "."))

    @property
    def positions(self) -> tuple[str, str] | None:
        """Columns of right ascension and declination, in degrees; None where no positions are known."""
        names = self.index.get("positions")
        return (str(names[0]), str(names[1])) if names else None

    @cached_property
    def columns(self) -> list[str]:
        """Columns of the first part."""
        return list(self.schema(self.parts[0]).names) if self.parts else []

    @property
    def name_column(self) -> str:
        """The column of the objects' names."""
        return "id" if "id" in self.columns else "object_id"

    def schema(self, part: Path) -> pa.Schema:
        """Columns of a part; errors as of `batches`."""
        with readable(part):
            return pq.read_schema(part)

    def batches(
        self, part: Path, columns: Sequence[str] | None = None, rows: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a part, some at a time.

        Args:
            part: One of `parts`, or `failed.parquet`.
            columns: Those that are read; None for all.
            rows: How many at a time; None for `ROWS_AT_ONCE`.

        Raises:
            DataError: If the file is broken, or lacks a column.
        """
        with readable(part), pq.ParquetFile(part) as file:
            if missing := [name for name in columns or () if name not in file.schema_arrow.names]:
                raise DataError(
                    f"{part} has no column {missing[0]}; it has {shorten(file.schema_arrow.names)}. Delete it; the "
                    "same predict command makes it again."
                )
            wanted = list(columns) if columns is not None else None
            yield from file.iter_batches(rows or ROWS_AT_ONCE, columns=wanted)


@contextmanager
def readable(part: Path) -> Iterator[None]:
    """Turns what pyarrow raises on a broken file into a sentence.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{part} cannot be read ({reason[:160]}). Delete it; the same predict command makes it again."
        ) from None


def numbers(batch: pa.RecordBatch, name: str, part: Path, text: bool = False) -> np.ndarray:
    """A column as float64 of shape (N,), NaN where it is empty.

    Args:
        batch: Rows.
        name: The column.
        part: Where it is read from, for messages.
        text: Whether text is read as numbers, too, and as nothing where it is none.

    Raises:
        DataError: If it holds no numbers.
    """
    column = batch.column(name)
    if text and not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return np.asarray(pd.to_numeric(pd.Series(column.to_pylist(), dtype=object), errors="coerce"), np.float64)
    try:
        if pa.types.is_float16(column.type) and not column.null_count:
            return column.to_numpy(zero_copy_only=False).astype(np.float64)
        return column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise DataError(
            f"{part}: {name} holds {column.type}, not numbers. Delete it; the same predict command makes it again."
        ) from None


def _no_predictions(path: Path) -> str:
    """That a folder has no index, and what it is."""
    run = RunDir(path)
    if run.started or run.finished:
        return f"{path} is the folder of a run, not of predictions: galaxyml report {path} writes its report. {MADE}"
    if not any(path.iterdir()):
        return f"{path} is empty. Give a folder of predictions; {MADE_BY}."
    return f"{path} is no folder of predictions: it has no {INDEX}. {MADE}"
