"""A folder of predictions as a HATS catalogue, which LSDB opens: parquet files by HEALPix pixel.

The layout is that of HATS 1.0 (IVOA note, hats.readthedocs.io): `dataset/Norder=k/Dir=d/Npix=n.parquet`, each with the
rows of one pixel in the order of their `_healpix_29`, `partition_info.csv` and `hats.properties`.
"""

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml import __version__
from galaxyml.inference.healpix import coarser, has_position, pixels
from galaxyml.inference.prediction_folder import PredictionFolder, numbers, readable
from galaxyml.runs.errors import UsageError
from galaxyml.runs.files import atomic_write, check_space, file_lock
from galaxyml.runs.progress import track

NO_POSITIONS = (
    "A HATS catalogue needs right ascension and declination, and there are none. Predict from a table that has columns "
    "ra and dec, in degrees."
)
NAME, COLUMN, ORDER = "hats", "_healpix_29", 29
FINE = 9  # order of the smallest partitions, 7 arcminutes wide
_FINER = 2 * (ORDER - FINE)  # bits; both passes cut the same number, so that no row changes its pixel by rounding
MOST_ROWS = 1_000_000  # of a partition
MOST_BYTES = 2_000_000_000  # of a partition in memory
HELD_BYTES = 500_000_000  # of rows that wait to be written
GROUP = 250_000  # rows of a row group
MOST_FOOTERS = 500_000  # partitions times columns, up to which `_metadata` repeats the footers of all files


@dataclass(frozen=True)
class Catalogue:
    """A HATS catalogue that was written.

    Attributes:
        path: Its folder.
        rows: How many objects it has.
        partitions: In how many files.
        without_position: Objects that are not in it, as nobody knows where they are.
    """

    path: Path
    rows: int
    partitions: int
    without_position: int


def write_hats(
    folder: Path,
    positions: tuple[str, str] | None = None,
    most_rows: int = MOST_ROWS,
    held_bytes: int = HELD_BYTES,
) -> Catalogue:
    """Writes the predictions of a finished folder as a HATS catalogue, `FOLDER/hats`, whole or not at all.

    Rows are read twice: to count them by pixel, from which the pixels of the files follow, and to put them there. They
    pass through files of their own in a draft folder, one for each pixel, so that memory holds `held_bytes` of them,
    and then one pixel's.

    Args:
        folder: That `galaxyml predict … --out FOLDER/` has written.
        positions: Columns of right ascension and declination in degrees; None for those that the index names.
        most_rows: Of a file; fewer where rows are wide. More where even pixels of order 9 hold more.
        held_bytes: Of rows that are held at a time.

    Raises:
        UsageError: If it is no such folder, is not finished, has no positions, or has a catalogue already.
        DataError: If a part cannot be read, or the disk is full.
    """
    opened = PredictionFolder.open(folder)
    out = folder / NAME
    if not opened.finished:
        raise UsageError(
            f"{folder} is not finished: {len(opened.parts):,} of {opened.shards:,} parts are there. The same predict "
            "command carries on."
        )
    names = positions or opened.positions
    if names is None:
        raise UsageError(f"{folder}: {NO_POSITIONS}")
    if missing := [name for name in names if name not in opened.columns]:
        raise UsageError(f"{folder} has no column {missing[0]}; its positions are to be in {' and '.join(names)}.")
    with file_lock(out):
        if out.exists():
            raise UsageError(f"{out} is there already. Delete it to have it made anew.")
        for draft in folder.glob(f".{NAME}.*"):  # of a process that was killed
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
        schema, size = _schema(opened)
        check_space(out, 2 * size, "Free some space, then run the same command.")
        counts, without = _count(opened, names)
        rows = int(counts.sum())
        if not rows:
            raise UsageError(f"{folder}: none of its objects has a position in {' and '.join(names)}.")
        wide = max(size // max(rows + without, 1), 1)
        order_of = partition_orders(counts, max(min(most_rows, MOST_BYTES // wide), 1))
        partitions = _partitions(order_of, counts)
        with atomic_write(out) as draft:
            _write(opened, names, draft, schema, order_of, partitions, held_bytes)
            _describe(draft, folder.absolute().name, names, partitions, rows)
    return Catalogue(out, rows, len(partitions), without)


def partition_orders(counts: np.ndarray, most_rows: int) -> np.ndarray:
    """The order of the partition that each fine pixel belongs to: the lowest with few enough rows.

    Args:
        counts: Rows by pixel of order `FINE`, nested, shape (12 * 4**FINE,).
        most_rows: Of a partition.

    Returns:
        int8 of the same shape; `FINE` where even such a pixel has more.
    """
    orders = np.full(len(counts), FINE, np.int8)
    for order in reversed(range(FINE)):
        few = coarser(counts, FINE, order) <= most_rows
        orders[np.repeat(few, 4 ** (FINE - order))] = order
    return orders


def _partitions(order_of: np.ndarray, counts: np.ndarray) -> dict[tuple[int, int], int]:
    """Rows of each partition that has any, by its order and pixel, in the order of the sky."""
    filled = np.flatnonzero(counts)
    order = order_of[filled].astype(np.int64)
    number = filled >> (2 * (FINE - order))
    found: dict[tuple[int, int], int] = {}
    keys, first = np.unique(np.stack([order, number]), axis=1, return_index=True)
    inverse = np.argsort(first, kind="stable")
    starts = np.sort(first)
    sums = np.add.reduceat(counts[filled], starts) if len(filled) else np.empty(0, np.int64)
    for place, rows in zip(inverse, sums, strict=True):
        found[int(keys[0, place]), int(keys[1, place])] = int(rows)
    return found


def _schema(folder: PredictionFolder) -> tuple[pa.Schema, int]:
    """Columns that hold what all parts have, `_healpix_29` first, and bytes of all rows in memory, about."""
    merged: dict[str, pa.Field] = {}
    size = 0
    for part in folder.parts:
        with readable(part):
            footer = pq.read_metadata(part)
            size += sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
            for field in map(_plain, footer.schema.to_arrow_schema()):
                merged[field.name] = _both(merged.get(field.name, field), field)
    merged.pop(COLUMN, None)  # of a catalogue that the images were listed in, which may be of other positions
    return pa.schema([pa.field(COLUMN, pa.int64(), nullable=False), *merged.values()]), size


def _both(one: pa.Field, other: pa.Field) -> pa.Field:
    """A column that holds what either does: text, where one part has numbers and another text."""
    try:
        return pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    except pa.ArrowTypeError:
        return one.with_type(pa.string())


def _plain(field: pa.Field) -> pa.Field:
    """A column without a dictionary, which each part has its own of."""
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _count(folder: PredictionFolder, names: tuple[str, str]) -> tuple[np.ndarray, int]:
    """Rows by pixel of order `FINE`, and those without a position."""
    counts, without = np.zeros(12 * 4**FINE, np.int64), 0
    for part in track(folder.parts, "Counting by pixel", len(folder.parts)):
        for batch in folder.batches(part, names):
            ra, dec = (numbers(batch, name, part, text=True) for name in names)
            known = has_position(ra, dec)
            np.add.at(counts, pixels(ra[known], dec[known], ORDER) >> _FINER, 1)
            without += int((~known).sum())
    return counts, without


def _write(
    folder: PredictionFolder,
    names: tuple[str, str],
    draft: Path,
    schema: pa.Schema,
    order_of: np.ndarray,
    partitions: dict[tuple[int, int], int],
    held_bytes: int,
) -> None:
    """Writes the files of all partitions, and what repeats their schema."""
    dataset, aside = draft / "dataset", draft / "scattered"
    aside.mkdir(parents=True)
    numbered = {key: number for number, key in enumerate(partitions)}
    held: dict[int, list[pa.RecordBatch]] = {}
    waiting = 0
    for part in track(folder.parts, "Scattering over the sky", len(folder.parts)):
        for batch in folder.batches(part):
            for number, rows in _scattered(batch, part, names, schema, order_of, numbered):
                held.setdefault(number, []).append(rows)
                waiting += rows.nbytes
            if waiting >= held_bytes:
                _append(aside, held)
                waiting = 0
    _append(aside, held)
    footers: list[pq.FileMetaData] | None = [] if len(partitions) * len(schema) <= MOST_FOOTERS else None
    for (order, pixel), number in track(numbered.items(), "Writing partitions", len(numbered)):
        name = f"Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"
        _write_partition(aside / str(number), dataset / name, schema)
        if footers is not None:
            footers.append(pq.read_metadata(dataset / name))
            footers[-1].set_file_path(name)
    aside.rmdir()
    pq.write_metadata(schema, dataset / "_common_metadata")
    if footers is not None:
        pq.write_metadata(schema, dataset / "_metadata", metadata_collector=footers)


def _scattered(
    batch: pa.RecordBatch,
    part: Path,
    names: tuple[str, str],
    schema: pa.Schema,
    order_of: np.ndarray,
    numbered: dict[tuple[int, int], int],
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows of a batch that have a position, by the number of their partition, with their `_healpix_29`."""
    ra, dec = (numbers(batch, name, part, text=True) for name in names)
    known = np.flatnonzero(has_position(ra, dec))
    if not len(known):
        return
    deep = pixels(ra[known], dec[known], ORDER)
    order = order_of[deep >> _FINER].astype(np.int64)
    pixel = deep >> (2 * (ORDER - order))
    # Pixels of all orders in one number that grows with the place on the sky.
    place = pixel << (2 * (ORDER - order))
    in_order = np.argsort(place, kind="stable")
    taken = batch.take(pa.array(known[in_order]))
    columns = [pa.array(deep[in_order])]
    for field in list(schema)[1:]:
        has_it = field.name in batch.schema.names
        columns.append(taken.column(field.name).cast(field.type) if has_it else pa.nulls(len(taken), field.type))
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    starts = np.flatnonzero(np.diff(place[in_order], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        first = in_order[start]
        yield numbered[int(order[first]), int(pixel[first])], rows.slice(start, stop - start)


def _append(aside: Path, held: dict[int, list[pa.RecordBatch]]) -> None:
    """Writes rows that are held behind those of their partition that were written before, a file at a time."""
    for number, batches in held.items():
        (rows,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
        with (aside / str(number)).open("ab") as file:
            file.write(rows.serialize())
    held.clear()


def _write_partition(scattered: Path, path: Path, schema: pa.Schema) -> None:
    """Writes the rows of a partition in the order of their `_healpix_29`, and removes where they were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scattered.open("rb") as file:
        table = pa.Table.from_batches(list(_messages(file, scattered.stat().st_size, schema)), schema)
    order = np.argsort(table.column(COLUMN).to_numpy(), kind="stable")
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(order), GROUP):
            writer.write_table(table.take(pa.array(order[start : start + GROUP])), row_group_size=GROUP)
    scattered.unlink()


def _messages(file: BinaryIO, size: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while file.tell() < size:
        yield pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)


def _describe(
    draft: Path, name: str, positions: tuple[str, str], partitions: dict[tuple[int, int], int], rows: int
) -> None:
    """Writes the properties and the list of partitions."""
    with (draft / "partition_info.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("Norder", "Npix"), *sorted(partitions)])
    size = sum(path.stat().st_size for path in draft.rglob("*.parquet"))
    properties = {
        "obs_collection": "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name),
        "dataproduct_type": "object",
        "hats_nrows": rows,
        "hats_col_ra": positions[0],
        "hats_col_dec": positions[1],
        "hats_col_healpix": COLUMN,
        "hats_col_healpix_order": ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": max(order for order, _ in partitions),
        "hats_max_rows": max(partitions.values()),
        "moc_sky_fraction": f"{sum(1 / (12 * 4**order) for order, _ in partitions):.6g}",
        "hats_builder": f"galaxyml {__version__}",
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "hats_estsize": size // 1024,
        "hats_version": "v1.0",
    }
    text = "#HATS catalog\n" + "".join(f"{key}={value}\n" for key, value in properties.items())
    for file_name in ("hats.properties", "properties"):
        (draft / file_name).write_text(text, encoding="utf-8")
