"""A folder of predictions while it is made: its index, its manifest, a file a shard, and what could not be read."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml.inference.prediction_folder import FAILED, INDEX, MANIFEST, PARTS, VERSION
from galaxyml.inference.shards.manifest import Manifest
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.files import atomic_write, file_digest, write_json

REASON = "reason"
SAME = {  # parts of the index that a command which goes on has to share, and how errors call them
    "run": "another run, or the same run fitted anew",
    "inputs": "other inputs, or inputs that have changed since",
    "options": "other options",
}


@dataclass(frozen=True)
class Result:
    """A shard that is done.

    Attributes:
        shard: Its number.
        rows: Objects that were predicted.
        failed: Objects that could not be read.
        seconds: That it took.
    """

    shard: int
    rows: int
    failed: int
    seconds: float


class ShardFolder:
    """A folder of predictions, which shards are written into.

    Args:
        path: It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def begun(self) -> bool:
        """Whether predictions were begun here."""
        return (self.path / INDEX).is_file()

    def index(self) -> dict[str, Any]:
        """What is known of the predictions; see `begin`.

        Raises:
            UserError: If there is none, or another version's.
        """
        try:
            content: dict[str, Any] = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} has no {INDEX}: it is no folder that predictions were written into."
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / INDEX} cannot be read ({error}). Choose another folder.") from None
        if content.get("version") != VERSION:
            raise UserError(f"{self.path} was written by another version of galaxyml. Choose another folder.")
        return content

    @cached_property
    def manifest(self) -> Manifest:
        """All objects that are to be predicted; read once, when it is there."""
        return Manifest(self.path / MANIFEST)

    def begin(self, content: Mapping[str, Any]) -> None:
        """Writes the index, when the manifest is there.

        Args:
            content: `task`, `kind`, `run` (its path and digest), `inputs`, `options`, `folder` (where relative paths
                begin), `outputs`, `positions` and `software`.
        """
        manifest = self.manifest
        write_json(
            self.path / INDEX,
            {
                "version": VERSION,
                **content,
                "rows": manifest.rows,
                "shards": manifest.shards,
                "manifest": file_digest(self.path / MANIFEST),
                "begun": _now(),
                "finished": None,
            },
        )

    def check_same(self, content: Mapping[str, Any]) -> None:
        """Makes sure that a command goes on with what was begun here.

        Raises:
            UserError: If it would not.
        """
        index = self.index()
        for key, what in SAME.items():
            known, asked = index[key], json.loads(json.dumps(content[key]))
            if {**known, "path": None} != {**asked, "path": None} if isinstance(known, dict) else known != asked:
                raise UserError(
                    f"{self.path} was begun with {what}: {_difference(known, asked)}. Choose another --out, or delete "
                    "that folder."
                )
        if self.manifest.rows != index["rows"] or index["manifest"] != file_digest(self.path / MANIFEST):
            raise UserError(f"{self.path / MANIFEST} was changed. Choose another --out, or delete {self.path}.")

    def part(self, shard: int) -> Path:
        """The predictions of a shard."""
        return self.path / PARTS / f"part-{shard:05}.parquet"

    def missing(self) -> list[int]:
        """Numbers of the shards that are not done."""
        folder = self.path / PARTS
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        return [shard for shard in range(self.manifest.shards) if self.part(shard).name not in there]

    @contextmanager
    def shard_writer(self, shard: int, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """A writer of a shard's predictions, which appear whole or not at all."""
        with atomic_write(self.part(shard)) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
            yield writer

    def write_failed(self, shard: int, rows: pd.DataFrame) -> None:
        """Writes the rows of a shard that could not be read, before its predictions appear."""
        if not len(rows):  # all can be read, perhaps this time
            self._failed_part(shard).unlink(missing_ok=True)
            return
        schema = self.manifest.schema.append(pa.field(REASON, pa.string()))
        with atomic_write(self._failed_part(shard)) as draft:
            pq.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False), draft)

    def finish(self) -> int:
        """Joins what could not be read, and marks the folder as finished; gives the number of these rows.

        The parts stay: where a shard is made anew, those of the others are joined again.
        """
        parts = [path for shard in range(self.manifest.shards) if (path := self._failed_part(shard)).is_file()]
        count = 0
        if parts:
            schema = pq.read_schema(parts[0])
            with atomic_write(self.path / FAILED) as draft, pq.ParquetWriter(draft, schema) as writer:
                for path in parts:
                    table = pq.read_table(path)
                    writer.write_table(table)
                    count += len(table)
        else:
            (self.path / FAILED).unlink(missing_ok=True)
        if (index := self.index())["finished"] is None:
            write_json(self.path / INDEX, index | {"finished": _now()})
        for folder in (self.path / PARTS, self._failed_part(0).parent):
            for draft in folder.glob(".part-*"):  # of processes that were killed
                shutil.rmtree(draft, ignore_errors=True)
        return count

    def rows_done(self) -> tuple[int, int]:
        """Rows that were predicted, and rows that could not be read, of the shards that are done."""
        manifest, missing = self.manifest, {*self.missing()}
        rows = failed = 0
        for shard in range(manifest.shards):
            if shard not in missing:
                own = int(pq.read_metadata(self.part(shard)).num_rows)
                rows, failed = rows + own, failed + manifest.rows_of(shard) - own
        return rows, failed

    def _failed_part(self, shard: int) -> Path:
        return self.path / "failed" / f"part-{shard:05}.parquet"


def fingerprints(inputs: Sequence[str]) -> list[dict[str, Any]]:
    """What inputs are known by: files by their size and time of change, all others by their name alone."""
    known: list[dict[str, Any]] = []
    for given in inputs:
        path = Path(given).expanduser()
        stat = path.stat() if path.is_file() else None
        known.append({"given": given} | ({"size": stat.st_size, "changed": stat.st_mtime_ns} if stat else {}))
    return known


def _difference(known: Any, asked: Any) -> str:
    if isinstance(known, list):
        return f"{', '.join(item['given'] for item in known)} then, {', '.join(item['given'] for item in asked)} now"
    changed = [key for key in {**known, **asked} if known.get(key) != asked.get(key) and key != "digest"]
    return "; ".join(f"{key} {known.get(key)} then, {asked.get(key)} now" for key in changed) or "its weights differ"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
