"""Builds the store of light curves: columns on disk, ordered by object, time and band, however large the files are.

Rows are appended as they are read, each block in order in itself. Blocks that continue each other make one stretch, so
files that are in order make one stretch and are done. Else the stretches are merged, one range of objects at a time (an
external merge sort). What has been read survives an interruption.
"""

import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.light_curves.reader import BANDS, COLUMNS, MJD, Block, Rows, blocks, parse
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import check_space, write_json
from galaxyml.runs.progress import track

ADVICE = "Free some space, or choose another folder with cache_dir=..., then run the same command."
CHECKPOINT = 10**9  # bytes of text after which the reading is made safe against an interruption
MERGED = 3_000_000  # rows sorted at once: about 0.5 GB of memory
_ROW = sum(np.dtype(kind).itemsize for kind in COLUMNS.values())
# Bytes on disk for an observation in the official files: 42 plain, and 17 packed.
_PLAIN, _PACKED = 40, 15
_AHEAD = 2  # blocks parsed at the same time
COMPILED = 1 << 27  # bytes of files that are worth the loading of a compiled parser


@dataclass
class State:
    """How far the reading has come.

    Attributes:
        file: Number of the file that is being read.
        offset: Bytes of it (unpacked) that have been read.
        line: Number of the line there.
        rows: Rows that have been written.
        starts: First row of each stretch in order.
        copies: Exact copies of observations that were left out.
        mixed: Names of the files whose rows were not in order.
    """

    file: int = 0
    offset: int = 0
    line: int = 2
    rows: int = 0
    starts: list[int] = field(default_factory=list)
    copies: int = 0
    mixed: list[str] = field(default_factory=list)


def build(paths: Sequence[Path], work: Path, known_ids: pd.Index | None) -> Path:
    """Reads the files, or what of them has not been read yet, and puts all in order.

    Args:
        paths: The CSV files.
        work: Folder of what is half done.
        known_ids: Ids that may occur, each once; None for any.

    Returns:
        The finished folder, inside of `work`: `ids.npy`, `offsets.npy`, a file a column, and `store.json`.

    Raises:
        DataError: If a file cannot be used, an object is unknown, or the disk is too small.
    """
    writer = Writer.resume(work / "rows")
    state = writer.state
    sizes = {path: path.stat().st_size for path in paths[state.file :]}
    rows = [size // (_PACKED if path.suffix == ".gz" else _PLAIN) for path, size in sizes.items()]
    check_space(work, _ROW * sum(rows), ADVICE)
    with _refusing(work), writer:
        size = sum(sizes.values())
        reading = _read(paths, writer, known_ids, compiled=size >= COMPILED)
        for _ in track(reading, "Reading light curves (MB)", size // 10**6):
            pass
    folder = work / "rows"
    if len(state.starts) > 1:
        check_space(work, _ROW * state.rows, ADVICE)
        with _refusing(work):
            folder = _merge(folder, work / "merged", state, shorten([path.name for path in paths]))
    _finish(folder, paths, _notes(state))
    return folder


def build_from_rows(rows: Rows, work: Path, paths: Sequence[Path], where: str, names: pd.Series, note: str) -> Path:
    """Puts observations in order that are in memory.

    Args:
        rows: In any order.
        work: Folder of what is half done.
        paths: The files that they come from.
        where: What these are called in messages.
        names: What users call the objects, by id.
        note: What they should know about the files.

    Returns:
        As `build`.

    Raises:
        DataError: If an observation occurs with two fluxes, or the disk is too small.
    """
    shutil.rmtree(work, ignore_errors=True)
    check_space(work, _ROW * len(rows["object"]), ADVICE)
    rows, copies, _ = _sort(rows, where, names)
    folder = work / "rows"
    folder.mkdir(parents=True)
    with Writer(folder, State()) as writer:
        writer.add(rows)
    _finish(folder, paths, [note, *_notes(State(copies=copies))])
    return folder


def _finish(folder: Path, paths: Sequence[Path], notes: list[str]) -> None:
    """Adds ids, offsets and notes to columns that are in order."""
    ids, offsets = _index(folder / "object.bin")
    np.save(folder / "ids.npy", ids)
    np.save(folder / "offsets.npy", offsets)
    write_json(folder / "store.json", {"files": [path.name for path in paths], "notes": notes})


@contextmanager
def _refusing(work: Path) -> Iterator[None]:
    """Clears up after files that are refused: once they are put right, their store has another name."""
    try:
        yield
    except DataError:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _notes(state: State) -> list[str]:
    notes = []
    if state.copies:
        notes.append(
            f"{state.copies:,} observations occur more than once with all values equal; each of them is used once."
        )
    if state.mixed:
        notes.append(f"rows that were not in the order of object and time were sorted: {shorten(state.mixed)}.")
    return notes


class Writer:
    """Column files that grow; a folder that an interruption left is gone on with.

    Args:
        folder: Of the columns.
        state: How far it has come.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state
        self.last: Rows = {name: np.empty(0, kind) for name, kind in COLUMNS.items()}  # the last row, if there is one

    @classmethod
    def resume(cls, folder: Path) -> "Writer":
        """Goes on from the last checkpoint, or begins."""
        checkpoint = folder / "state.json"
        state = State(**json.loads(checkpoint.read_text(encoding="utf-8"))) if checkpoint.is_file() else State()
        sizes = {name: state.rows * np.dtype(kind).itemsize for name, kind in COLUMNS.items()}
        paths = {name: folder / f"{name}.bin" for name in COLUMNS}
        if not all(path.is_file() and path.stat().st_size >= sizes[name] for name, path in paths.items()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            return cls(folder, State())
        for name, path in paths.items():
            os.truncate(path, sizes[name])
        writer = cls(folder, state)
        if state.rows:
            writer.last = {name: _gather(folder, name, [(state.rows - 1, state.rows)]) for name in COLUMNS}
        return writer

    def __enter__(self) -> "Writer":
        with ExitStack() as opened:
            self.files = {name: opened.enter_context((self.folder / f"{name}.bin").open("ab")) for name in COLUMNS}
            self._close = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def add(self, rows: Rows) -> None:
        """Appends rows in order; a new stretch begins where they do not continue the last one."""
        if not _later(_pick(rows, slice(1)), self.last).any():
            self.state.starts.append(self.state.rows)
        for name, column in rows.items():
            self.files[name].write(column.data)
        self.last = {name: column[-1:].copy() for name, column in rows.items()}
        self.state.rows += len(rows["object"])

    def save(self) -> None:
        """Makes safe what has been written."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        write_json(self.folder / "state.json", asdict(self.state))


def _read(paths: Sequence[Path], writer: Writer, known_ids: pd.Index | None, compiled: bool) -> Iterator[None]:
    """Reads the files from where the writer stands; yields once a megabyte."""
    state = writer.state
    for number in range(state.file, len(paths)):
        path, saved, shown, empty = paths[number], state.offset, 0, not state.offset
        for block, rows in _parsed(blocks(path, state.offset, state.line), compiled):
            if known_ids is not None:
                check_known(f"{path}, lines {block.line:,} to {block.last:,}", rows["object"], known_ids)
            if len(rows["object"]):
                empty = False
                _add(writer, path, rows, first=not state.offset)
            state.offset, state.line = block.end, block.last + 1
            if block.end - saved >= CHECKPOINT:
                saved = block.end
                writer.save()
            while shown + 10**6 <= block.read:
                shown += 10**6
                yield
        if empty:
            raise DataError(f"{path} has a header and no rows. Fetch the file again.")
        state.file, state.offset, state.line = number + 1, 0, 2
        writer.save()


def _parsed(unparsed: Iterator[Block], compiled: bool) -> Iterator[tuple[Block, Rows]]:
    """Parses blocks while the next ones are read and unpacked."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[tuple[Block, Future[Rows]]] = deque()
        for block in unparsed:
            waiting.append((block, pool.submit(parse, block, compiled)))
            if len(waiting) > _AHEAD:
                first, rows = waiting.popleft()
                yield first, rows.result()
        while waiting:
            first, rows = waiting.popleft()
            yield first, rows.result()


def _add(writer: Writer, path: Path, rows: Rows, first: bool) -> None:
    """Appends the rows of a block; notes a file in which rows, or the first of them and the one before, are mixed."""
    state = writer.state
    rows, copies, mixed = _sort(rows, path.name)
    state.copies += copies
    if not first:
        mixed |= bool(_later(writer.last, _pick(rows, slice(1))).any())
    if mixed and path.name not in state.mixed:
        state.mixed.append(path.name)
    writer.add(rows)


def _pick(rows: Rows, index: slice | np.ndarray) -> Rows:
    return {name: column[index] for name, column in rows.items()}


def _later(rows: Rows, others: Rows) -> np.ndarray:
    """Where rows come later than others by object, time and band; bool."""
    later = (rows["mjd"] > others["mjd"]) | ((rows["mjd"] == others["mjd"]) & (rows["band"] > others["band"]))
    return (rows["object"] > others["object"]) | ((rows["object"] == others["object"]) & later)


def _sort(rows: Rows, where: str, names: pd.Series | None = None) -> tuple[Rows, int, bool]:
    """Rows by object, time and band, each once; how many copies were left out, and whether any row moved.

    Args:
        rows: The rows.
        where: Their file, for error messages.
        names: What users call the objects, by id; None for the ids.

    Raises:
        DataError: If two rows of one object, time and band differ.
    """
    if _later(_pick(rows, slice(1, None)), _pick(rows, slice(-1))).all():
        return rows, 0, False
    mixed = bool(_later(_pick(rows, slice(-1)), _pick(rows, slice(1, None))).any())
    if mixed:
        rows = _pick(rows, _order(rows))
    same = np.logical_and.reduce([rows[name][1:] == rows[name][:-1] for name in ("object", "mjd", "band")])
    equal = np.logical_and.reduce([rows[name][1:] == rows[name][:-1] for name in ("flux", "error", "detected")])
    if (bad := np.flatnonzero(same & ~equal)).size:
        row = int(bad[0])
        fluxes = [f"{rows['flux'][n]:g} +- {rows['error'][n]:g}" for n in (row, row + 1)]
        called = rows["object"][row] if names is None else names[rows["object"][row]]
        raise DataError(
            f"{where}, object {called}: two observations at mjd {rows['mjd'][row]} in passband "
            f"{rows['band'][row]} ({BANDS[rows['band'][row]]}) differ: {fluxes[0]} and {fluxes[1]} "
            f"({bad.size:,} such pairs so far). An object has one at a time and band; take one out."
        )
    return _pick(rows, np.concatenate([[True], ~same])), int(same.sum()), mixed


def _order(rows: Rows) -> np.ndarray:
    """Order by object, time and band, as `np.lexsort` gives it, which merges thrice and takes three times as long."""
    # The bits of dates, which are positive, are in their order; those from 1899 to 2132 leave room for the passband.
    when = ((rows["mjd"].view(np.int64) - np.float64(MJD[0]).view(np.int64)) << 3) | rows["band"]
    by_time = np.argsort(when)
    _, ranks = np.unique(rows["object"][by_time], return_inverse=True)
    keys = (ranks << 32) | np.arange(len(ranks))
    keys.sort()
    order = by_time[keys & 0xFFFFFFFF]
    objects, when = rows["object"][order], when[order]
    if ((objects[1:] == objects[:-1]) & (when[1:] == when[:-1])).any():  # copies, which are to stay as they follow
        return np.lexsort((rows["band"], rows["mjd"], rows["object"]))
    return order


def check_known(where: str, ids: np.ndarray, known_ids: pd.Index) -> None:
    """Makes sure that objects with observations have metadata.

    Args:
        where: The file, for error messages.
        ids: Ids of observations or objects.
        known_ids: Ids with metadata, each once.

    Raises:
        DataError: If some have none.
    """
    ids = pd.unique(np.append(ids[:1], ids[1:][ids[1:] != ids[:-1]]))  # an object's rows are mostly together
    unknown = ids[known_ids.get_indexer(pd.Index(ids)) < 0]
    if unknown.size:
        raise DataError(
            f"{where}: object {unknown[0]} has observations and no row in the metadata ({unknown.size:,} such objects "
            "there). The files belong to different releases, or a metadata file was cut; fetch them again."
        )


def _gather(folder: Path, name: str, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
    """The values of a column in some ranges of rows, one after the other."""
    values = np.empty(sum(end - start for start, end in ranges), COLUMNS[name])
    filled = 0
    with (folder / f"{name}.bin").open("rb") as file:
        for start, end in ranges:
            file.seek(start * values.itemsize)
            file.readinto(values[filled : filled + end - start].data)
            filled += end - start
    return values


def _merge(source: Path, target: Path, state: State, where: str) -> Path:
    """Merges the stretches of a folder into another, one range of objects at a time; counts copies on."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    bounds = [*state.starts, state.rows]
    edges = _edges(source / "object.bin", state.rows)
    cuts = np.zeros((len(edges) + 2, len(state.starts)), np.int64)
    cuts[0], cuts[-1] = bounds[:-1], bounds[1:]
    for stretch, (start, end) in enumerate(pairwise(bounds)):
        objects = np.memmap(source / "object.bin", np.int64, "r", offset=8 * start, shape=(end - start,))
        cuts[1:-1, stretch] = start + np.searchsorted(objects, edges)
    with Writer(target, State()) as writer:
        for starts, ends in track(pairwise(cuts), "Sorting light curves", len(cuts) - 1):
            ranges = [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]
            if ranges:
                rows, copies, _ = _sort({name: _gather(source, name, ranges) for name in COLUMNS}, where)
                state.copies += copies
                writer.add(rows)
    return target


def _objects(path: Path) -> Iterator[np.ndarray]:
    """The ids of all rows, some at a time: mapped pages would count as memory."""
    with path.open("rb") as file:
        while (ids := np.fromfile(file, np.int64, max(1, MERGED // 10))).size:
            yield ids


def _edges(path: Path, rows: int) -> np.ndarray:
    """Ids that part the rows into about equal ranges of `MERGED` rows."""
    step = max(1, MERGED // 1000)
    sample = np.sort(np.concatenate([ids[::step] for ids in _objects(path)]))
    return np.unique(sample[MERGED // step :: MERGED // step])


def _index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids, ascending, and offsets of the objects of ordered rows."""
    ids, starts, row, last = [], [], 0, None
    for objects in _objects(path):
        first = np.concatenate([[objects[0] != last], objects[1:] != objects[:-1]])
        ids.append(objects[first])
        starts.append(row + np.flatnonzero(first))
        row, last = row + len(objects), objects[-1]
    return np.concatenate(ids), np.append(np.concatenate(starts), row).astype(np.int64)
