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

from galaxyml.data.light_curves.reader import BANDS, COLUMNS, Block, Rows, blocks, parse
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import check_space, write_json
from galaxyml.runs.progress import track

ADVICE = "Free some space, or choose another folder with cache_dir=..., then run the same command."
CHECKPOINT = 10**9  # bytes of text after which the reading is made safe against an interruption
MERGED = 4_000_000  # rows sorted at once: about 0.5 GB of memory
_ROW = sum(np.dtype(kind).itemsize for kind in COLUMNS.values())
# Bytes on disk for an observation in the official files: 42 plain, and 17 packed.
_PLAIN, _PACKED = 40, 15
_AHEAD = 2  # blocks parsed at the same time


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


def build(paths: Sequence[Path], work: Path, known_ids: np.ndarray | None) -> Path:
    """Reads the files, or what of them has not been read yet, and puts all in order.

    Args:
        paths: The CSV files.
        work: Folder of what is half done.
        known_ids: Ids that may occur, ascending; None for any.

    Returns:
        The finished folder, inside of `work`: `ids.npy`, `offsets.npy`, a file a column, and `store.json`.

    Raises:
        DataError: If a file cannot be used, an object is unknown, or the disk is too small.
    """
    writer = Writer.resume(work / "rows")
    state, left = writer.state, list(paths[writer.state.file :])
    sizes = [path.stat().st_size if path.is_file() else 0 for path in left]  # a missing one is told when its turn comes
    check_space(work, sum(_ROW * size // _bytes_a_row(path) for path, size in zip(left, sizes, strict=True)), ADVICE)
    with _refusing(work), writer:
        for _ in track(_read(paths, writer, known_ids), "Reading light curves (MB)", sum(sizes) // 10**6):
            pass
    folder = work / "rows"
    if len(state.starts) > 1:
        check_space(work, _ROW * state.rows, ADVICE)
        with _refusing(work):
            folder = _merge(folder, work / "merged", state, shorten([path.name for path in paths]))
    ids, offsets = _index(folder / "object.bin")
    np.save(folder / "ids.npy", ids)
    np.save(folder / "offsets.npy", offsets)
    write_json(folder / "store.json", {"files": [path.name for path in paths], "notes": _notes(state)})
    return folder


@contextmanager
def _refusing(work: Path) -> Iterator[None]:
    """Clears up after files that are refused: once they are put right, their store has another name."""
    try:
        yield
    except DataError:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _bytes_a_row(path: Path) -> int:
    return _PACKED if path.suffix == ".gz" else _PLAIN


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
        self.last: Rows = {}  # the last row

    @classmethod
    def resume(cls, folder: Path) -> "Writer":
        """Goes on from the last checkpoint, or begins."""
        kept = folder / "state.json"
        state = State(**json.loads(kept.read_text(encoding="utf-8"))) if kept.is_file() else State()
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
            writer.last = _slice(folder, state.rows - 1, state.rows)
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
        state, first_row = self.state, {name: column[:1] for name, column in rows.items()}
        if not state.rows or not _continues(self.last, first_row)[0]:
            state.starts.append(state.rows)
        for name, column in rows.items():
            self.files[name].write(column.data)
        self.last = {name: column[-1:].copy() for name, column in rows.items()}
        state.rows += len(rows["object"])

    def save(self) -> None:
        """Makes safe what has been written."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        write_json(self.folder / "state.json", asdict(self.state))


def _read(paths: Sequence[Path], writer: Writer, known_ids: np.ndarray | None) -> Iterator[None]:
    """Reads the files from where the writer stands; yields once a megabyte."""
    state = writer.state
    for number in range(state.file, len(paths)):
        path, saved, shown, empty = paths[number], state.offset, 0, not state.offset
        for block, rows in _parsed(blocks(path, state.offset, state.line)):
            _check_known(block, rows, known_ids)
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


def _parsed(unparsed: Iterator[Block]) -> Iterator[tuple[Block, Rows]]:
    """Parses blocks while the next ones are read and unpacked."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[tuple[Block, Future[Rows]]] = deque()
        for block in unparsed:
            waiting.append((block, pool.submit(parse, block)))
            if len(waiting) > _AHEAD:
                first, rows = waiting.popleft()
                yield first, rows.result()
        while waiting:
            first, rows = waiting.popleft()
            yield first, rows.result()


def _add(writer: Writer, path: Path, rows: Rows, first: bool) -> None:
    state = writer.state
    mixed = False
    if not _continues(rows).all():
        rows, copies, mixed = in_order(rows, path.name)
        state.copies += copies
    first_row = {name: column[:1] for name, column in rows.items()}
    if not first and writer.last and _continues(first_row, writer.last)[0]:
        mixed = True
    if mixed and path.name not in state.mixed:
        state.mixed.append(path.name)
    writer.add(rows)


def _continues(rows: Rows, following: Rows | None = None) -> np.ndarray:
    """Where the next row (or the same row of `following`) comes later by object, time and band; bool."""
    a = {name: rows[name] if following else rows[name][:-1] for name in ("object", "mjd", "band")}
    b = following or {name: rows[name][1:] for name in ("object", "mjd", "band")}
    later = (b["mjd"] > a["mjd"]) | ((b["mjd"] == a["mjd"]) & (b["band"] > a["band"]))
    return (b["object"] > a["object"]) | ((b["object"] == a["object"]) & later)


def in_order(rows: Rows, where: str) -> tuple[Rows, int, bool]:
    """Sorts rows by object, time and band, and keeps one of those that are equal in all columns.

    Args:
        rows: Columns, shape (M,) each.
        where: Their file, for error messages.

    Returns:
        The rows, how many were left out, and whether any stood in another place.

    Raises:
        DataError: If two rows of one object, time and band differ.
    """
    order = np.lexsort((rows["band"], rows["mjd"], rows["object"]))
    mixed = bool((order[1:] < order[:-1]).any())
    rows = {name: column[order] for name, column in rows.items()}
    same = np.logical_and.reduce([rows[name][1:] == rows[name][:-1] for name in ("object", "mjd", "band")])
    equal = np.logical_and.reduce([rows[name][1:] == rows[name][:-1] for name in ("flux", "error", "detected")])
    if (bad := np.flatnonzero(same & ~equal)).size:
        row = int(bad[0])
        fluxes = [f"{rows['flux'][n]:g} +- {rows['error'][n]:g}" for n in (row, row + 1)]
        raise DataError(
            f"{where}, object {rows['object'][row]}: two observations at mjd {rows['mjd'][row]} in passband "
            f"{rows['band'][row]} ({BANDS[rows['band'][row]]}) differ: {fluxes[0]} and {fluxes[1]} "
            f"({bad.size:,} such pairs so far). An object has one at a time and band; take one out."
        )
    keep = np.concatenate([[True], ~same])
    return {name: column[keep] for name, column in rows.items()}, int(same.sum()), mixed


def _check_known(block: Block, rows: Rows, known_ids: np.ndarray | None) -> None:
    if known_ids is not None:
        check_known(f"{block.path}, lines {block.line:,} to {block.last:,}", rows["object"], known_ids)


def check_known(where: str, ids: np.ndarray, known_ids: np.ndarray) -> None:
    """Makes sure that objects with observations have metadata.

    Args:
        where: The file, for error messages.
        ids: Ids of observations or objects.
        known_ids: Ids with metadata, ascending.

    Raises:
        DataError: If some have none.
    """
    ids = ids[np.concatenate([[True], ids[1:] != ids[:-1]])] if len(ids) else ids
    index = np.searchsorted(known_ids, ids)
    known = index < len(known_ids)
    known[known] = known_ids[index[known]] == ids[known]
    if not known.all():
        count = len(np.unique(ids[~known]))
        raise DataError(
            f"{where}: object {ids[~known][0]} has observations and no row in the metadata ({count:,} such objects "
            "there). The files belong to different releases, or a metadata file was cut; fetch them again."
        )


def _slice(folder: Path, start: int, end: int) -> Rows:
    return {
        name: np.fromfile(folder / f"{name}.bin", kind, end - start, offset=start * np.dtype(kind).itemsize)
        for name, kind in COLUMNS.items()
    }


def _merge(source: Path, target: Path, state: State, where: str) -> Path:
    """Merges the stretches, one range of objects at a time.

    Args:
        source: Folder of the stretches.
        target: Folder for the rows in order; what an interruption left there goes.
        state: Where the stretches start; its copies are counted on.
        where: The files, for error messages.
    """
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
            pieces = [_slice(source, start, end) for start, end in zip(starts, ends, strict=True) if end > start]
            if pieces:
                rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}
                rows, copies, _ = in_order(rows, where)
                state.copies += copies
                writer.add(rows)
    return target


def _objects(path: Path) -> Iterator[np.ndarray]:
    """The ids of all rows, some at a time: mapped pages would count as memory."""
    with path.open("rb") as file:
        while (ids := np.fromfile(file, np.int64, MERGED)).size:
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
        new = np.concatenate([[objects[0] != last], objects[1:] != objects[:-1]])
        ids.append(objects[new])
        starts.append(row + np.flatnonzero(new))
        row, last = row + len(objects), objects[-1]
    return np.concatenate(ids), np.append(np.concatenate(starts), row).astype(np.int64)
