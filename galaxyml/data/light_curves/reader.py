"""CSV files of light curves, read block by block and checked; errors name the line and the object."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from galaxyml.data.tables.reading import CUT, check_columns, unpacked
from galaxyml.runs.errors import DataError

BANDS = ("u", "g", "r", "i", "z", "y")  # passband 0 to 5
MJD = (15_000, 100_000)  # 1899 to 2132; one mistyped date far outside would stretch whatever is laid over a curve
HEADER = ("object_id", "mjd", "passband", "flux", "flux_err", "detected")
# What is kept of each of them: 26 bytes an observation.
COLUMNS: dict[str, type[np.generic]] = {
    "object": np.int64,
    "mjd": np.float64,
    "band": np.int8,
    "flux": np.float32,
    "error": np.float32,
    "detected": np.bool_,
}
Rows = dict[str, np.ndarray]  # the columns of some observations, each of shape (M,)

# Bytes read at once. Larger blocks cost page faults, smaller ones more calls: 4 to 16 MB were equally fast.
BLOCK = 1 << 22
# pandas' C parser took 0.90 s of processor time for 3.9 million rows in such blocks, pyarrow's 1.2 s (3.1, 25.0).
_TYPES = (np.int64, np.float64, np.int64, np.float64, np.float64, np.int64)


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    Attributes:
        path: The file.
        text: Its lines.
        line: Number of the first, the header being line 1.
        last: Number of the last.
        end: Bytes of the (unpacked) file up to the end of the last.
        read: Bytes read of the file as it lies on disk.
        names: The file's columns.
    """

    path: Path
    text: bytes
    line: int
    last: int
    end: int
    read: int
    names: list[str]


def blocks(path: Path, start: int = 0, line: int = 2) -> Iterator[Block]:
    """Lines of a CSV file, plain or gzip (known by its first bytes, whatever its name), about 4 MB at a time.

    Args:
        path: The file; the columns of `HEADER` in any order, and others. `detected_bool` serves as `detected`.
        start: Where to go on: a block's `end`; 0 for the first row.
        line: Number of the line there.

    Raises:
        DataError: If the file is missing, empty, cut off or damaged, or lacks a column.
    """
    try:
        with unpacked(path) as (stream, raw):
            first = stream.readline()
            names = _names(path, first)
            end = max(start, len(first))
            stream.seek(end)
            while text := stream.read(BLOCK) + stream.readline():
                end += len(text)
                last = line + _count(text, "\n") - text.endswith(b"\n")
                yield Block(path, text, line, last, end, raw.tell(), names)
                line = last + 1
    except CUT as error:
        raise DataError(
            f"{path} is cut off or damaged after line {line - 1:,} ({error}). Fetch the file again."
        ) from None


def parse(block: Block, compiled: bool = False) -> Rows:
    """The observations of a block, in its order.

    Args:
        block: The lines.
        compiled: Whether plain lines are read by a compiled loop, which gives the same in a third of the time once it
            has been loaded.

    Returns:
        As `COLUMNS` says: object (its id), mjd in `MJD`, band 0 to 5, flux and error (above 0) in FLUXCAL units.

    Raises:
        DataError: If a line has too few or too many values, or a value is none that its column may have; the message
            names line, object, value, what is allowed, and how many such rows the block has.
    """
    if compiled:
        from galaxyml.data.light_curves.plain_lines import read_plain  # loads numba

        if (rows := read_plain(block.text, block.names, block.last - block.line + 1)) is not None:
            return rows
    positions = [block.names.index(name) for name in HEADER]
    commas = _count(block.text, ",")
    try:
        with np.errstate(invalid="ignore"):  # pandas tries 1e300 as a whole number
            table = pd.read_csv(
                io.BytesIO(block.text),
                header=None,
                index_col=False,
                usecols=positions,
                dtype=dict(zip(positions, _TYPES, strict=True)),
            )
    except (ValueError, TypeError, OverflowError):
        return _parse_carefully(block)
    values = [table[position].to_numpy() for position in positions]
    # pandas fills short lines up and shortens long ones without a word.
    even = commas == len(table) * (len(block.names) - 1)
    if not even or not all(rule(column).all() for (rule, _), column in zip(_RULES, values, strict=True)):
        return _parse_carefully(block)
    return _compact(values)


def _count(text: bytes, letter: str) -> int:
    """How often an ASCII letter occurs; five times faster than bytes.count."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(letter)))


def _compact(values: list[np.ndarray]) -> Rows:
    return {name: column.astype(kind) for (name, kind), column in zip(COLUMNS.items(), values, strict=True)}


def _names(path: Path, first: bytes) -> list[str]:
    if not first.strip():
        raise DataError(f"{path} is empty. Fetch the file again.")
    text = first.decode("utf-8-sig", errors="replace")
    names = [name.strip().strip('"').strip() for name in text.split(",")]
    if "detected" not in names:
        names = ["detected" if name == "detected_bool" else name for name in names]
    check_columns(path, names, HEADER)
    if twice := [name for name in HEADER if names.count(name) > 1]:
        raise DataError(f"{path}: the header names {twice[0]} twice. Take one of the columns out.")
    return names


def _whole(values: np.ndarray) -> np.ndarray:
    """Where ids are whole numbers; floats only as far as they hold every whole number."""
    if values.dtype.kind == "f":
        return (np.abs(values) < 2**53) & (values == np.round(values))
    return values <= np.iinfo(np.int64).max


def _finite(values: np.ndarray) -> np.ndarray:
    """Where numbers are finite as float32, too."""
    with np.errstate(over="ignore"):
        return np.isfinite(values.astype(np.float32))


def _positive(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return _finite(values) & (values.astype(np.float32) > 0)


# For each column of `HEADER` where its values are allowed, and what is allowed in words.
_RULES: tuple[tuple[Callable[[np.ndarray], np.ndarray], str], ...] = (
    (_whole, "a whole number"),
    (
        lambda values: (values >= MJD[0]) & (values <= MJD[1]),
        f"a Modified Julian Date from {MJD[0]:,} to {MJD[1]:,} (1899 to 2132)",
    ),
    (
        lambda values: np.isin(values, np.arange(len(BANDS))),
        f"a number from 0 to {len(BANDS) - 1} (for {', '.join(BANDS)})",
    ),
    (_finite, "a finite number"),
    (_positive, "a finite number above 0"),
    (lambda values: np.isin(values, (0, 1)), "0 or 1"),
)


def _parse_carefully(block: Block) -> Rows:
    """Reads what a fast parser refuses: ids such as 615.0, flags such as True, spaces; refuses the first wrong line."""
    texts = enumerate(block.text.decode(errors="replace").split("\n"), block.line)
    lines = {line: text.rstrip("\r").split(",") for line, text in texts if text.strip()}
    width = len(block.names)
    if uneven := [line for line, cells in lines.items() if len(cells) != width]:
        count = len(lines[uneven[0]])
        cut = uneven[0] == block.last and not block.text.endswith(b"\n")
        fault = f"there {'is 1 value' if count == 1 else f'are {count} values'} for {width} columns"
        advice = "The file ends in the middle of a line; fetch it again."
        _refuse(block, uneven[0], fault, len(uneven), advice if cut else "Correct the line or fetch the file again.")
    values = []
    for name, (rule, allowed) in zip(HEADER, _RULES, strict=True):
        column = block.names.index(name)
        cells = pd.Series([line[column].strip(' \t"') for line in lines.values()], dtype=object)
        if name == "detected":
            cells = cells.str.lower().replace({"true": "1", "false": "0"})
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy()
        if (bad := np.flatnonzero(~rule(numbers))).size:
            line = list(lines)[bad[0]]
            value = f"'{text}'" if (text := lines[line][column].strip()) else "empty"
            object_id = lines[line][block.names.index("object_id")].strip(' \t"')
            fault = f"object {object_id}: {name} is {value}; it must be {allowed}"
            _refuse(block, line, fault, bad.size, "Correct the value or take the row out.")
        values.append(numbers)
    return _compact(values)


def _refuse(block: Block, line: int, fault: str, count: int, advice: str) -> NoReturn:
    more = f" ({count:,} such rows in lines {block.line:,} to {block.last:,})" if count > 1 else ""
    raise DataError(f"{block.path}, line {line}, {fault}{more}. {advice}")
