"""CSV with any delimiter, encoding and comments, as text."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa

from galaxyml.data.tables.reading import CUT, more, unpacked
from galaxyml.data.tables.table_formats import AT_ONCE
from galaxyml.data.tables.text_table import FORMATS, TextTable, distinct
from galaxyml.runs.errors import DataError, shorten

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # what text of some spreadsheets begins with
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # 0,5 for 0.5
_BLOCK = 1 << 20


def read_csv(path: Path) -> TextTable:
    """A table of text.

    Raises:
        DataError: If it is cut off or no text, or a line has too many or too few values.
    """
    blocks = list(csv_blocks(path))
    first = blocks[0]
    if len(blocks) == 1:
        return first
    return replace(first, frame=pd.concat([block.frame for block in blocks]))


def csv_blocks(path: Path) -> Iterator[TextTable]:
    """A table of text, `AT_ONCE` rows at a time; one block without rows where there are none.

    Raises:
        DataError: As `read_csv`, of lines with too many or too few values behind the last block.
    """
    notes: list[str] = []
    try:
        with unpacked(path) as (stream, _):
            encoding = _encoding(path, stream, notes)
        with unpacked(path) as (stream, _), io.TextIOWrapper(stream, encoding, newline="") as text:
            yield from _of_lines(path, text, notes)
    except (*CUT, csv.Error, UnicodeError) as error:
        raise DataError(
            f"{path} is not a table that can be read: {str(error).strip()}. It must be {FORMATS}: fetch or save it "
            "again."
        ) from None


def _encoding(path: Path, stream: IO[bytes], notes: list[str]) -> str:
    """The encoding of a text: UTF-8 if it can be, else that of old programs."""
    import codecs

    utf8 = codecs.getincrementaldecoder("utf-8")()
    is_utf8, has_controls, first = True, False, True
    while block := stream.read(_BLOCK):
        if first and block.startswith(UTF16):
            notes.append(f"{path.name}: read as UTF-16.")
            return "utf-16"
        first = False
        if b"\0" in block:
            raise DataError(f"{path} is not a table: it holds bytes that no text has. It must be {FORMATS}.")
        if is_utf8:
            try:
                utf8.decode(block)
            except UnicodeDecodeError:
                is_utf8 = False
        if not is_utf8:
            has_controls = has_controls or re.search(rb"[\x80-\x9f]", block) is not None
    if is_utf8 and not utf8.getstate()[0]:
        return "utf-8-sig"
    encoding, name = ("cp1252", "Windows-1252") if has_controls else ("latin-1", "Latin-1")
    notes.append(f"{path.name}: not UTF-8, read as {name}.")
    return encoding


def _of_lines(path: Path, text: Iterable[str], notes: list[str]) -> Iterator[TextTable]:
    lines = iter(text)
    before, header_line, following = _header_line(lines)
    delimiter = _delimiter(header_line, following)
    if delimiter != ",":
        notes.append(f"{path.name}: its columns are parted by {DELIMITERS[delimiter]}.")
    reader = csv.reader(
        _trimmed(chain([header_line], following, lines), delimiter), delimiter=delimiter, skipinitialspace=True
    )
    names = [name.strip() for name in next(reader, [])]
    if not names or not any(names):
        raise DataError(f"{path} is empty. It must be {FORMATS}.")
    nameless: list[int] = []  # empty columns, as a delimiter at the end of each line makes one
    labels: list[int] = []
    rows: list[list[str]] = []
    wrong: tuple[int, int] | None = None
    count_wrong = count = 0

    def block() -> TextTable:
        frame = _frame(rows, labels, len(names))
        if not count:
            nameless[:] = [number for number, name in enumerate(names) if not name and (frame[number] == "").all()]
        for number in nameless:
            if (filled := frame[number] != "").any():
                line = int(frame.index[int(filled.to_numpy().argmax())]) + 2
                raise DataError(f"{path}, line {line}: a value in a column without a name. Name it in the header.")
        frame = frame.drop(columns=nameless)
        frame.columns = distinct(path, [name for number, name in enumerate(names) if number not in nameless])
        if delimiter in ";\t":
            _point_decimals(path, frame, notes)
        return TextTable(path, "CSV", frame, notes=notes)

    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            wrong = wrong or (before + reader.line_num, len(row))
            count_wrong += 1
            continue
        if len(rows) == AT_ONCE:
            yield block()
            count += len(rows)
            labels, rows = [], []
        labels.append(before + reader.line_num - 2)
        rows.append(row)
    if rows or not count:
        yield block()
    if wrong is not None:
        raise DataError(
            f"{path}, line {wrong[0]}: {wrong[1]} values, but the header has {len(names)} columns{more(count_wrong)}. "
            f"The columns are parted by {DELIMITERS[delimiter]}: put values that hold one between quotation marks."
        )


def _frame(rows: Sequence[Sequence[str]], labels: Sequence[int], count: int) -> pd.DataFrame:
    """Lines of text as columns that are numbered, without spaces around the cells."""
    cells = zip(*rows, strict=True) if rows else [()] * count
    columns = {str(number): pa.array([cell.strip() for cell in of], pa.string()) for number, of in enumerate(cells)}
    return pa.table(columns).to_pandas().set_axis(pd.Index(labels, dtype=np.int64)).set_axis(range(count), axis=1)


def _header_line(lines: Iterator[str]) -> tuple[int, str, list[str]]:
    """Number of lines above the header, the header, and the line after it; comments begin with #.

    A comment that has as many columns as the first row, right above it, is the header.
    """
    before, comment = 0, ""
    for line in lines:
        if not line.strip():
            before, comment = before + 1, ""
        elif line.startswith("#"):
            before, comment = before + 1, line
        else:
            delimiter = _delimiter(line, [])
            named = comment.lstrip("#").strip()
            parts = len(_split(line, delimiter))
            if named and parts > 1 and len(_split(named, delimiter)) == parts:
                return before - 1, comment.lstrip("#").lstrip(), [line]
            after = next(lines, None)
            return before, line, [] if after is None else [after]
    return max(before - 1, 0), comment.lstrip("#").lstrip(), []


def _split(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line], delimiter=delimiter), [])


def _delimiter(header: str, following: Sequence[str]) -> str:
    """What parts the columns of a header: that which parts it most often."""
    bare = re.sub(r'"[^"]*"', "", header).strip("\r\n")
    best = max(",;\t|", key=bare.count)
    if bare.count(best):
        return best
    words = bare.split()
    aligned = len(words) > 1 and (not following or len(following[0].split()) == len(words))
    return " " if aligned else ","


def _trimmed(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    return (line.strip() + "\n" for line in lines) if delimiter == " " else iter(lines)


def _point_decimals(path: Path, frame: pd.DataFrame, notes: list[str]) -> None:
    """Writes numbers of columns with decimal commas with points, in place."""
    changed = []
    for name in frame.columns:
        cells = frame[name]
        commas = cells.str.fullmatch(COMMA)
        others = cells[~commas]
        if commas.any() and (others[others.str.contains(r"\d", regex=True)].str.fullmatch(NUMBER)).all():
            frame[name] = cells.where(~commas, cells.str.replace(",", ".", regex=False))
            changed.append(name)
    note = f"{path.name}: decimal commas in {shorten(changed)} are read as points."
    if changed and note not in notes:
        notes.append(note)
