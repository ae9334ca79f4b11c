"""Tables in the formats of libraries: each column as arrow's text, and the names of the columns that are left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxyml.data.images.inside import image_column, images_in
from galaxyml.runs.errors import DataError

AT_ONCE = 50_000  # rows that are held at a time where a table is read in blocks


def parquet(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Parquet's columns of one value a row."""
    with pq.ParquetFile(path) as file:
        wanted, nested = _columns(file)
        return _text(file.read(columns=wanted), wanted, 0, file.metadata.num_rows), nested


def parquet_blocks(path: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """As `parquet`, `AT_ONCE` rows at a time."""
    with pq.ParquetFile(path) as file:
        wanted, nested = _columns(file)
        row = 0
        if not wanted:
            while row < file.metadata.num_rows:
                count = min(AT_ONCE, file.metadata.num_rows - row)
                yield _numbered(row, count), nested
                row += count
            return
        for batch in file.iter_batches(AT_ONCE, columns=wanted):
            yield _text(pa.Table.from_batches([batch]), wanted, row, len(batch)), nested
            row += len(batch)


def _columns(file: pq.ParquetFile) -> tuple[list[str], list[str]]:
    """Names of the columns of one value a row, and of the others."""
    schema = file.schema_arrow
    wanted = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_plain(kind)]
    return wanted, [name for name in schema.names if name not in wanted]


def _text(table: pa.Table, wanted: list[str], start: int, count: int) -> dict[str, Any]:
    return {name: _arrow_text(table.column(name)) for name in wanted} or _numbered(start, count)


def parquet_images(path: Path) -> str | None:
    """The column of a parquet file that holds images; None if it has none, or cannot be read."""
    try:
        return image_column(pq.read_schema(path))
    except (OSError, pa.ArrowException):
        return None  # which is told when it is read


def hdf5_images(path: Path) -> str:
    """The name of the array of images in an HDF5 file."""
    import h5py

    with h5py.File(path) as file:
        return str(images_in(file).name).lstrip("/")


def hdf5(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Its arrays of one value a row; others are left out."""
    import h5py

    with h5py.File(path) as file:
        count = len(images_in(file))
        wanted = [name for name, values in file.items() if getattr(values, "shape", None) == (count,)]
        columns = {name: _numpy_text(file[name][()]) for name in wanted}
        return columns or _numbered(0, count), [name for name in file if name not in wanted]


def _numbered(start: int, count: int) -> dict[str, Any]:
    """A column of rows, of a table with nothing but images."""
    return {"row": _numpy_text(np.arange(start, start + count))}


def _is_plain(kind: pa.DataType) -> bool:
    return not (
        pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_extension(kind)
    )


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


def _arrow_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        return _numpy_text(values.to_numpy())
    text = values.cast(pa.string())
    if pa.types.is_boolean(values.type):
        text = pc.utf8_title(text)  # as Python writes them
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def fits_table(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The first table of a FITS file.

    Raises:
        DataError: If it has none.
    """
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path, memmap=False) as units:
        unit = next((unit for unit in units if isinstance(unit, fits.BinTableHDU | fits.TableHDU)), None)
        if unit is None or isinstance(unit, fits.CompImageHDU):
            raise DataError(f"{path} is a FITS image, without a table. Give a table of paths, or of labels.")
        return _astropy_text(Table.read(unit))


def votable(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The first table of a VOTable."""
    from astropy.io.votable import parse

    tables = list(parse(str(path), verify="ignore").iter_tables())
    if not tables:
        raise ValueError("it has no table")
    return _astropy_text(tables[0].to_table(use_names_over_ids=True))


def ecsv(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A table of astropy's own text format."""
    from astropy.table import Table

    return _astropy_text(Table.read(path, format="ascii.ecsv"))


def _astropy_text(table: Any) -> tuple[dict[str, Any], list[str]]:
    columns, nested = {}, []
    for name in table.colnames:
        column = table[name]
        if not hasattr(column, "dtype") or getattr(column, "ndim", 1) != 1 or column.dtype.names:
            nested.append(name)
            continue
        values = np.ma.getdata(getattr(column, "value", column))
        mask = np.broadcast_to(np.ma.getmaskarray(np.ma.asarray(column)), values.shape)
        if values.dtype.kind == "O" and any(isinstance(value, np.ndarray) for value in values):
            nested.append(name)
            continue
        columns[name] = _numpy_text(values, mask)
    return columns, nested


def _numpy_text(values: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    """Numbers by the fewest digits that tell them apart in their own precision, so that 0.1 is 0.1 in float32 too."""
    if values.dtype.kind in "SO":
        text = np.array([_decoded(value) for value in values.tolist()], dtype=object)
    else:
        text = values.astype(str).astype(object)
        if values.dtype.kind == "f":
            text[np.isnan(values)] = ""
    if mask is not None:
        text[mask] = ""
    return pa.array([cell.strip().rstrip("\0") for cell in text.tolist()], pa.string())


def _decoded(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return "" if value is None else str(value)
