"""Tables of observations as surveys write them: CSV, FITS, parquet, VOTable, ECSV and SNANA's."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxyml.data.tables.table_file import read_table_file
from galaxyml.runs.errors import DataError

ENDINGS = re.compile(r"\.(csv|tsv|parquet|pq|fits|fit|vot|votable|xml|ecsv)(\.gz)?", re.IGNORECASE)
_SNANA = re.compile(r"(?P<stem>.*_)(?P<part>HEAD|PHOT)(?P<end>\.FITS?)(\.GZ)?", re.IGNORECASE)


@dataclass(frozen=True)
class SurveyTable:
    """A table with one row an observation, or one row an object.

    Attributes:
        path: Where it comes from, as messages call it.
        frame: Some of its columns; the index tells rows of the file apart.
        columns: Names of all its columns.
        place: The file and a row, from a label of the index.
        object: Name of the object of a file that has one alone, and so no column of names.
    """

    path: Path
    frame: pd.DataFrame
    columns: Sequence[str]
    place: Callable[[int], str]
    object: str


def find_tables(folder: Path) -> list[Path]:
    """All files in a folder and the folders in it that may be tables, by name."""
    files = (path for path in folder.rglob("*") if not any(part[0] in "._" for part in path.relative_to(folder).parts))
    return sorted(path for path in files if re.search(f"{ENDINGS.pattern}$", path.name, re.I) and path.is_file())


def read_tables(paths: Iterable[Path], wanted: Collection[str]) -> Iterator[SurveyTable]:
    """The tables of some files, one after the other.

    Args:
        paths: The files.
        wanted: Names of columns that are used, in small letters.

    Raises:
        DataError: If a file cannot be read, or the other half of SNANA's two is missing.
    """
    paths = list(paths)
    for path in paths:
        pair = _SNANA.fullmatch(path.name)
        if pair is None:
            yield _parquet(path, wanted) if _begins(path, b"PAR1") else _flat_file(path, wanted)
        elif pair["part"].upper() == "HEAD":
            yield from _snana(path, _other(path, pair), wanted)
        elif _other(path, pair) not in paths:
            raise DataError(f"{path}: give {_other(path, pair).name} too, which tells whose observations these are.")


def from_frame(frame: pd.DataFrame, name: str, wanted: Collection[str]) -> SurveyTable:
    """A DataFrame as a table; cells may be lists, of which each value is an observation."""
    try:
        table = pa.Table.from_pandas(frame.rename(columns=str), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError):  # columns of mixed kinds
        texts = {name: frame[name].astype(str) for name in frame.columns if frame[name].dtype == object}
        table = pa.Table.from_pandas(frame.assign(**texts).rename(columns=str), preserve_index=False)
    return replace(_arrow(Path(name), table, wanted), object="")


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False  # which the reader of tables tells


def _flat_file(path: Path, wanted: Collection[str]) -> SurveyTable:
    table = read_table_file(path)
    frame = table.frame[[name for name in table.columns if name.lower() in wanted]]
    return SurveyTable(path, frame, table.columns, table.place, ENDINGS.sub("", path.name))


def _parquet(path: Path, wanted: Collection[str]) -> SurveyTable:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=[field.name for field in file.schema_arrow if _is_used(field, wanted)])
            names = list(file.schema_arrow.names)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as parquet ({str(error).splitlines()[0]}). Fetch it again.") from None
    flat = _arrow(path, table, wanted)
    return SurveyTable(path, flat.frame, [*names, *flat.columns], flat.place, flat.object)


def _is_used(field: pa.Field, wanted: Collection[str]) -> bool:
    return field.name.lower() in wanted or _struct(field.type) is not None


def _struct(kind: pa.DataType) -> pa.DataType | None:
    """The structure that a column, or its lists, are made of."""
    kind = kind.value_type if _is_list(kind) else kind
    return kind if pa.types.is_struct(kind) else None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _arrow(path: Path, table: pa.Table, wanted: Collection[str]) -> SurveyTable:
    """A table whose cells may be lists or structures, one row an observation."""
    rows = pa.array(np.arange(len(table)))
    while nested := [field for field in table.schema if pa.types.is_struct(field.type) or _is_list(field.type)]:
        if structs := [field.name for field in nested if pa.types.is_struct(field.type)]:
            table = _without_structs(table, structs, wanted)
        else:
            table, rows = _without_lists(path, table, rows, [field.name for field in nested], wanted)
    names = [name for name in table.column_names if name.lower() in wanted]
    columns = {name: _native(table.column(name)) for name in names}
    frame = pd.DataFrame(columns, index=pd.Index(rows.to_numpy(zero_copy_only=False)))
    return SurveyTable(path, frame, table.column_names, lambda row: f"{path}, row {row + 1}", path.name.split(".")[0])


def _without_structs(table: pa.Table, structs: Sequence[str], wanted: Collection[str]) -> pa.Table:
    columns = {name: table.column(name) for name in table.column_names if name not in structs}
    for name in structs:
        column = table.column(name).combine_chunks()
        for field, values in zip(column.type, column.flatten(), strict=True):
            if field.name.lower() in wanted or pa.types.is_nested(field.type):
                columns.setdefault(field.name, values)
    return pa.table(columns)


def _without_lists(
    path: Path, table: pa.Table, rows: pa.Array, lists: Sequence[str], wanted: Collection[str]
) -> tuple[pa.Table, pa.Array]:
    """Each value of the lists in a row of its own; the other columns are repeated."""
    lists = [name for name in lists if name.lower() in wanted or _struct(table.schema.field(name).type)]
    parents, flat = None, {}
    for name in lists:
        column = table.column(name).combine_chunks()
        places = pc.list_parent_indices(column)
        if parents is not None and not places.equals(parents):
            lengths = [pc.fill_null(pc.list_value_length(table.column(other)), 0) for other in (lists[0], name)]
            row = int(np.argmax(lengths[0].to_numpy() != lengths[1].to_numpy()))
            raise DataError(
                f"{path}, row {rows[row].as_py() + 1}: the lists {lists[0]} and {name} have {lengths[0][row]} and "
                f"{lengths[1][row]} values. Lists of one object must be equally long."
            )
        parents, flat[name] = places, pc.list_flatten(column)
    others = [
        name for name, kind in zip(table.column_names, table.schema.types, strict=True) if not pa.types.is_nested(kind)
    ]
    if parents is None:
        return table.select(others), rows
    columns = {name: table.column(name).take(parents) for name in others}
    return pa.table(columns | flat), rows.take(parents)


def _native(column: pa.ChunkedArray) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None if value is None else value.decode("latin-1") for value in column.to_pylist()]
    return column.to_pandas().to_numpy()


def _other(path: Path, pair: re.Match[str]) -> Path:
    """The other of SNANA's two files, packed or not."""
    part = "PHOT" if pair["part"].upper() == "HEAD" else "HEAD"
    part = part if pair["part"].isupper() else part.lower()
    names = [f"{pair['stem']}{part}{pair['end']}{packed}" for packed in ("", ".gz", ".GZ")]
    return next((file for name in names if (file := path.with_name(name)).is_file()), path.with_name(names[0]))


def _snana(head_path: Path, phot_path: Path, wanted: Collection[str]) -> Iterator[SurveyTable]:
    """SNANA's observations, each with its SNID, and its objects (Kessler et al. 2009; section 4 of SNANA's manual)."""
    head = _fits(head_path, {*wanted, "ptrobs_min", "ptrobs_max"})
    if missing := [name for name in ("SNID", "PTROBS_MIN", "PTROBS_MAX") if name not in head]:
        raise DataError(f"{head_path}: SNANA's files have a column {missing[0]}; it has {', '.join(map(str, head))}.")
    if not phot_path.is_file():
        raise DataError(f"{phot_path} is missing, which has the observations of {head_path.name}. Put it there.")
    phot = _fits(phot_path, wanted)
    # Pointers count from 1, and the last observation belongs to the object.
    first, last = (head[name].to_numpy(np.int64) for name in ("PTROBS_MIN", "PTROBS_MAX"))
    if (wrong := (first < 1) | (last > len(phot)) | (last < first - 1)).any():
        row = int(wrong.argmax())
        raise DataError(
            f"{head_path}, row {row + 1}: PTROBS_MIN and PTROBS_MAX are {first[row]} and {last[row]}, but "
            f"{phot_path.name} has rows 1 to {len(phot)}. The files do not belong together: fetch them again."
        )
    lengths = last - first + 1
    rows = np.arange(lengths.sum()) + np.repeat(first - 1 - (np.cumsum(lengths) - lengths), lengths)
    observed = phot.iloc[rows].assign(SNID=np.repeat(head["SNID"].to_numpy(), lengths))
    yield SurveyTable(phot_path, observed, list(map(str, phot)), lambda row: f"{phot_path}, row {row + 1}", "")
    objects = head.drop(columns=["PTROBS_MIN", "PTROBS_MAX"])
    yield SurveyTable(head_path, objects, list(map(str, head)), lambda row: f"{head_path}, row {row + 1}", "")


def _fits(path: Path, wanted: Collection[str]) -> pd.DataFrame:
    """Columns of the first table of a FITS file, in this machine's byte order, text without spaces around."""
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as units:
            records = next(unit.data for unit in units if isinstance(unit, fits.BinTableHDU))
            names = [name for name in records.names if name.lower() in wanted and records[name].ndim == 1]
            columns = {name: records[name] for name in names}
    except (OSError, StopIteration, TypeError, ValueError) as error:
        raise DataError(f"{path} is no FITS table that can be read ({error}). Fetch it again.") from None
    return pd.DataFrame({name: _native_text(values) for name, values in columns.items()})


def _native_text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "SU":
        return np.asarray(np.char.strip(values.astype(str)))
    return np.asarray(values.astype(values.dtype.newbyteorder("=")))
