"""The manifest: a parquet file with one row an object, in order; its row groups are the shards."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml.data.inputs import Block, find_blocks, typed
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.files import atomic_write
from galaxyml.runs.progress import counted

ID, PATH, LOCATION = "id", "path", "_location"  # the last one only where it is not the path itself
OWN = (ID, PATH, LOCATION)
TEXT, FLOAT, WHOLE, MISSING, EMPTY = "text", "float", "whole", "whole or missing", "empty"  # what a column's cells hold
_ARROW = {TEXT: pa.string(), EMPTY: pa.string(), FLOAT: pa.float64(), WHOLE: pa.int64(), MISSING: pa.int64()}


def write_manifest(inputs: Sequence[str], file: Path, rows_per_shard: int) -> int:
    """Lists all images that inputs name; gives their number. At most some 50,000 are held.

    Args:
        inputs: Files, folders, patterns and tables, as for `galaxyml.data.inputs.find`.
        file: The manifest; it appears whole or not at all.
        rows_per_shard: Rows of a row group.

    Raises:
        UserError: If something is not there, holds no images, or has other columns than what came before.
    """
    with atomic_write(file) as draft, tempfile.TemporaryDirectory(prefix=".listing.", dir=file.parent) as folder:
        listed = Path(folder) / "listed.parquet"
        holds = _list(inputs, listed)
        with pq.ParquetFile(listed) as plain:
            _write_shards(plain, draft, holds, rows_per_shard)
            return int(plain.metadata.num_rows)


def _list(inputs: Sequence[str], draft: Path) -> dict[str, str]:
    """Writes all that inputs name as text; gives what each of the user's columns holds."""
    holds: dict[str, str] = {}
    writer: pq.ParquetWriter | None = None
    try:
        with counted("Listing images") as count:
            done = 0
            for given, block in find_blocks(inputs):
                beside = _beside(block)
                table = pa.table(_own(block) | {name: pa.array(beside[name], pa.string()) for name in beside})
                if writer is None:
                    writer = pq.ParquetWriter(draft, table.schema, compression="zstd")
                    holds = dict.fromkeys(map(str, beside), EMPTY)
                if odd := sorted({*map(str, beside)}.symmetric_difference(holds)):
                    raise DataError(
                        f"{given}: its columns are not those of what comes before: {shorten(odd)} are in one of them "
                        "alone. Predict them into folders of their own, or give them the same columns."
                    )
                holds = {name: _joined(known, _held(beside[name])) for name, known in holds.items()}
                writer.write_table(table.select(writer.schema.names))
                done += len(block)
                count(done)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise UserError("There is nothing to predict.")
    return holds


def _own(block: Block) -> dict[str, pa.Array]:
    apart = [where if where != path else None for where, path in zip(block.locations, block.paths, strict=True)]
    ids = [str(name) for name in block.ids]
    return {
        ID: pa.array(ids, pa.string()),
        PATH: pa.array(block.paths, pa.string()),
        LOCATION: pa.array(apart, pa.string()),
    }


def _beside(block: Block) -> pd.DataFrame:
    """The user's columns, as text; `id` is the manifest's already."""
    if block.table is None:
        return pd.DataFrame(index=range(len(block)))
    table = block.table.drop(columns=ID, errors="ignore")
    return table.rename(columns={name: f"{name}_given" for name in OWN if name in table})


def _held(cells: pd.Series) -> str:
    """What some cells of text hold, by the rule by which `predict` makes numbers of them."""
    if not len(cells) or (cells == "").all():
        return EMPTY
    values = typed(pd.DataFrame({"cells": cells}))["cells"]
    if isinstance(values.dtype, pd.Int64Dtype):
        return MISSING
    return {"i": WHOLE, "f": FLOAT}.get(getattr(values.dtype, "kind", ""), TEXT)


def _joined(first: str, second: str) -> str:
    """What a column holds of whose parts this is known."""
    kinds = {first, second}
    if TEXT in kinds:
        return TEXT
    if FLOAT in kinds:
        return FLOAT
    if kinds in ({EMPTY}, {WHOLE}):
        return first
    return MISSING


def _write_shards(plain: pq.ParquetFile, file: Path, holds: Mapping[str, str], rows_per_shard: int) -> None:
    names = plain.schema_arrow.names
    schema = pa.schema([(name, _ARROW[holds.get(name, TEXT)]) for name in names])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        count = 0
        for batch in plain.iter_batches(min(rows_per_shard, 50_000)):
            table = pa.Table.from_batches([batch])
            waiting.append(pa.table([_cast(table[name], holds.get(name, TEXT)) for name in names], schema=schema))
            count += len(batch)
            while count >= rows_per_shard:
                table = pa.concat_tables(waiting)
                writer.write_table(table.slice(0, rows_per_shard), row_group_size=rows_per_shard)
                waiting, count = [table.slice(rows_per_shard)], count - rows_per_shard
        if count:
            writer.write_table(pa.concat_tables(waiting), row_group_size=rows_per_shard)


def _cast(cells: pa.ChunkedArray, held: str) -> pa.Array:
    """Text as what its column holds."""
    if held in (TEXT, EMPTY):
        return cells.combine_chunks()
    texts = cells.to_pylist()
    if held == FLOAT:
        return pa.array([float(text) if text else float("nan") for text in texts], pa.float64())
    return pa.array([int(text) if text else None for text in texts], pa.int64())


class Manifest:
    """A manifest that is there.

    Args:
        file: The parquet file.

    Attributes:
        rows: Number of objects.
        shards: Number of shards.
        schema: Names and types of its columns.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            metadata = pq.read_metadata(file)
        except FileNotFoundError:
            raise DataError(f"{file} is missing. Choose another --out, where the images are listed anew.") from None
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{file} cannot be read ({str(error).splitlines()[0]}). Choose another --out, or delete its folder."
            ) from None
        self._groups = metadata
        self.rows, self.shards = int(metadata.num_rows), int(metadata.num_row_groups)
        self.schema: pa.Schema = metadata.schema.to_arrow_schema()

    def read(self, shard: int) -> pd.DataFrame:
        """The rows of one shard."""
        with pq.ParquetFile(self.file, metadata=self._groups) as file:  # the footer grows with the shards
            return nullable(file.read_row_group(shard))

    def rows_of(self, shard: int) -> int:
        """Number of objects of one shard."""
        return int(self._groups.row_group(shard).num_rows)

    def blank(self) -> pd.DataFrame:
        """No rows, with all columns as `read` has them."""
        return nullable(self.schema.empty_table())


def nullable(table: pa.Table) -> pd.DataFrame:
    """A table in whose whole numbers some may be missing, of types that do not depend on whether some are."""
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
