"""A table of any format as text: CSV, FITS, parquet, VOTable or ECSV, known by what it begins with, not by its name.

Parquet and HDF5 may hold the images, too, in one file or in the parts of a data set's folder; these are not read here.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from galaxyml.data.images.file_types import FITS, has_suffix
from galaxyml.data.images.inside import PARQUET
from galaxyml.data.tables import table_formats
from galaxyml.data.tables.csv_text import csv_blocks, read_csv
from galaxyml.data.tables.data_set import find_data_set, holds_images
from galaxyml.data.tables.reading import CUT, unpacked
from galaxyml.data.tables.text_table import FORMATS, TextTable, distinct
from galaxyml.runs.errors import DataError, shorten

OTHERS = {  # what a file may be instead of a table
    b"\x89HDF": "an HDF5 file without images",
    b"PK\x03\x04": "a zip archive or a workbook of Excel",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel",
    b"%PDF": "a PDF document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}

_VOTABLE = re.compile(rb"\s*(<\?xml|<VOTABLE|<!--)")
TABLES = (".csv", ".csv.gz", ".tsv", ".parquet", ".ecsv", ".vot", ".votable")  # ends of the names of tables
MOST_OPENED = 20  # FITS files, which may be as many as images


def read_table_file(path: Path, where: str = "") -> TextTable:
    """Reads a table of any format; the last one is remembered until its file changes.

    Args:
        path: The file, plain or packed by gzip.
        where: What the user can do if it is missing, for error messages.

    Raises:
        DataError: If it is missing, cut off or no table, a line has too many or too few values, or a name occurs twice.
    """
    if (data_set := find_data_set(path)) is not None:
        return _read_parts(path, tuple((part, _changed(data_set.root / part)) for part in data_set.parts))
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {where}".rstrip()) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}. It must be a table that you may read.") from None
    if path.is_dir():
        raise DataError(f"{path} is a folder without parquet or HDF5 files of images; it must be a table: {FORMATS}.")
    return _read(path, status.st_mtime_ns, status.st_size)


def table_blocks(path: Path) -> Iterator[TextTable]:
    """A table of any format, some rows at a time where its format allows it: CSV, parquet, parts of a data set.

    The index of blocks counts the rows of their file. Errors as of `read_table_file`; of a CSV file some come last.
    """
    data_set = find_data_set(path)
    if data_set is None:
        if path.is_file() and (head := _head(path)).startswith(b"PAR1"):
            yield from _parquet_blocks(path, path.parent)
        elif path.is_file() and _is_csv(head):
            yield from csv_blocks(path)
        else:
            yield read_table_file(path)
        return
    splits = data_set.parts.values()
    for part, split in data_set.parts.items():
        is_parquet = has_suffix(Path(part), PARQUET) and holds_images(data_set.root / part)
        parts = (
            _parquet_blocks(data_set.root / part, data_set.root) if is_parquet else [_with_images(part, data_set.root)]
        )
        for block in parts:
            told = None not in splits and "split" not in block.frame
            frame = block.frame.assign(split=str(split)) if told else block.frame
            yield replace(block, frame=frame, notes=list(data_set.notes))


def holds_fits_table(path: Path) -> bool:
    """Whether a FITS file holds a table and no image before it, as its first headers tell."""
    try:
        with unpacked(path) as (stream, _):
            head = stream.read(8 * 2880)
    except (*CUT, DataError):
        return False
    cards = [head[start : start + 80].decode("latin-1") for start in range(0, len(head), 80)]
    first = next((number for number, card in enumerate(cards) if card.rstrip() == "END"), len(cards))
    is_empty = any(re.match(r"NAXIS   = +0( |$)", card) for card in cards[:first])
    is_table = any(re.match(r"XTENSION= '(BINTABLE|TABLE)", card) for card in cards[first:])
    is_image = any(re.match(r"XTENSION= 'IMAGE|ZIMAGE  =", card) for card in cards[first:])
    return is_empty and is_table and not is_image


def tables_in(folder: Path) -> list[Path]:
    """Files in a folder that are tables by their names, and of its first FITS files those that hold one."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    fits = [path for path in files if has_suffix(path, FITS)][:MOST_OPENED]
    return [*(path for path in files if has_suffix(path, TABLES)), *filter(holds_fits_table, fits)]


def _changed(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1)
def _read_parts(path: Path, parts: tuple[tuple[str, tuple[int, int]], ...]) -> TextTable:
    """The table of a data set's parts, one below the other, with their images, and the split that their names tell."""
    data_set = find_data_set(path)
    assert data_set is not None
    tables = [_with_images(part, data_set.root) for part, _ in parts]
    first = tables[0]
    for table in tables[1:]:
        if odd := set(table.columns).symmetric_difference(first.columns):
            raise DataError(
                f"{table.path}: its columns are not those of {first.path.name}: {shorten(sorted(odd))} are in one of "
                "them alone. Parts of a data set have the same columns: move what does not belong to it away."
            )
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    if None not in data_set.parts.values() and "split" not in frame:
        splits = np.array([str(split) for split in data_set.parts.values()])
        frame = frame.assign(split=np.repeat(splits, [len(table.frame) for table in tables]))
    return TextTable(
        path, first.format, frame, first.nested, list(data_set.notes), images=first.images, folder=data_set.root
    )


def _with_images(part: str, root: Path) -> TextTable:
    """The table of one part, whose images are named from the data set's folder on."""
    path = root / part
    if not holds_images(path):
        raise DataError(f"{path} cannot be read, or holds no images. Fetch it again, or move it away.")
    table = _read_table(path)
    assert table.images is not None
    return replace(table, frame=table.frame.assign(**{table.images: [f"{part}#{row}" for row in table.frame.index]}))


@lru_cache(maxsize=1)
def _read(path: Path, changed: int, size: int) -> TextTable:
    return _read_table(path)


def _read_table(path: Path) -> TextTable:
    head = _head(path)
    if head.startswith(b"\x89HDF") and holds_images(path):
        return _guarded(path, "HDF5", table_formats.hdf5, table_formats.hdf5_images(path))
    for start, what in OTHERS.items():
        if head.startswith(start):
            raise DataError(f"{path} is {what}. A table must be {FORMATS}: save it as one of these.")
    if head.startswith(b"PAR1"):
        return _guarded(path, "parquet", table_formats.parquet, table_formats.parquet_images(path))
    if head.startswith(b"SIMPLE  ="):
        return _guarded(path, "FITS", table_formats.fits_table)
    if _VOTABLE.match(head.removeprefix(b"\xef\xbb\xbf")):
        return _guarded(path, "VOTable", table_formats.votable)
    if head.startswith(b"# %ECSV"):
        return _guarded(path, "ECSV", table_formats.ecsv)
    return read_csv(path)


def _is_csv(head: bytes) -> bool:
    """Whether a file is taken for CSV, which anything is that begins like nothing else."""
    others = (*OTHERS, b"PAR1", b"SIMPLE  =", b"# %ECSV")
    return not head.startswith(others) and not _VOTABLE.match(head.removeprefix(b"\xef\xbb\xbf"))


def _parquet_blocks(path: Path, folder: Path) -> Iterator[TextTable]:
    """Rows of a parquet file, with its images, whose names begin in `folder`."""
    images = table_formats.parquet_images(path)
    name, row = path.relative_to(folder).as_posix(), 0
    blocks = table_formats.parquet_blocks(path)
    while (block := _guarded_next(path, blocks)) is not None:
        columns, nested = block
        frame = _text_frame(path, columns)
        frame.index = pd.RangeIndex(row, row + len(frame))
        if images is not None:
            frame = frame.assign(**{images: [f"{name}#{number}" for number in frame.index]})
            nested = [column for column in nested if column != images]
        row += len(frame)
        yield TextTable(path, "parquet", frame, nested, images=images, folder=folder if images is not None else None)


def _head(path: Path) -> bytes:
    try:
        with unpacked(path) as (stream, _):
            return stream.read(512)
    except CUT as error:
        raise DataError(f"{path} cannot be read: {error}. It may have been cut off: fetch it again.") from None


def _guarded(
    path: Path, name: str, read: Callable[[Path], tuple[Mapping[str, Any], list[str]]], images: str | None = None
) -> TextTable:
    """A table that a library reads, whatever it raises on broken files."""
    with _refusing(path, name):
        columns, nested = read(path)
    frame = _text_frame(path, columns)
    if images is None:
        return TextTable(path, name, frame, nested)
    frame = frame.assign(**{images: [f"{path.name}#{row}" for row in range(len(frame))]})
    nested = [column for column in nested if column != images]
    return TextTable(path, name, frame, nested, images=images, folder=path.parent)


def _guarded_next(path: Path, blocks: Iterator[Any]) -> Any:
    with _refusing(path, "parquet"):
        return next(blocks, None)


@contextmanager
def _refusing(path: Path, name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy's, on files that depart from the standard
            yield
    except (MemoryError, DataError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a {name} table that can be read: {shorten([reason[:200]])}. Fetch or write it again."
        ) from None


def _text_frame(path: Path, columns: Mapping[str, Any]) -> pd.DataFrame:
    names = distinct(path, [str(name).strip() for name in columns])
    return pa.table(dict(zip(names, columns.values(), strict=True))).to_pandas()
