"""A table of any format as text: CSV, FITS, parquet, VOTable or ECSV, known by what it begins with, not by its name."""

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxyml.data.tables.reading import CUT, more, unpacked
from galaxyml.runs.errors import DataError, shorten

FORMATS = "CSV (with , ; tabs or | between its columns), parquet, FITS, VOTable or ECSV"
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # what text of some spreadsheets begins with
OTHERS = {  # what a file may be instead of a table
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip archive or a workbook of Excel",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel",
    b"%PDF": "a PDF document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # 0,5 for 0.5
_AT_ONCE = 50_000  # rows of a CSV file that are held as Python's text
_BLOCK = 1 << 20


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        path: The file.
        format: `CSV`, `FITS`, `parquet`, `VOTable` or `ECSV`.
        frame: Its columns, without spaces around; '' where a cell is empty. The index counts rows from 0, of a CSV file
            lines below a header in the first one.
        nested: Columns that hold no single value a row, which are left out.
        notes: What had to be interpreted, in sentences.
    """

    path: Path
    format: str
    frame: pd.DataFrame
    nested: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return list(self.frame.columns)

    @property
    def has_lines(self) -> bool:
        """Whether rows are lines of a text below a header."""
        return self.format == "CSV"

    def place(self, label: int) -> str:
        """The file and a row, by its label in the index of `frame`."""
        return f"{self.path}, " + (f"line {label + 2}" if self.has_lines else f"row {label + 1}")


def read_table_file(path: Path, where: str = "") -> TextTable:
    """Reads a table of any format; the last one is remembered until its file changes.

    Args:
        path: The file, plain or packed by gzip.
        where: What the user can do if it is missing, for error messages.

    Raises:
        DataError: If it is missing, cut off or no table, a line has too many or too few values, or a name occurs twice.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {where}".rstrip()) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}. It must be a table that you may read.") from None
    if path.is_dir():
        raise DataError(f"{path} is a folder; it must be a table: {FORMATS}.")
    return _read(path, status.st_mtime_ns, status.st_size)


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


@lru_cache(maxsize=1)
def _read(path: Path, changed: int, size: int) -> TextTable:
    head = _head(path)
    for start, what in OTHERS.items():
        if head.startswith(start):
            raise DataError(f"{path} is {what}. A table must be {FORMATS}: save it as one of these.")
    if head.startswith(b"PAR1"):
        return _guarded(path, "parquet", _parquet)
    if head.startswith(b"SIMPLE  ="):
        return _guarded(path, "FITS", _fits)
    if re.match(rb"\s*(<\?xml|<VOTABLE|<!--)", head.removeprefix(b"\xef\xbb\xbf")):
        return _guarded(path, "VOTable", _votable)
    if head.startswith(b"# %ECSV"):
        return _guarded(path, "ECSV", _ecsv)
    return _csv(path)


def _head(path: Path) -> bytes:
    try:
        with unpacked(path) as (stream, _):
            return stream.read(512)
    except CUT as error:
        raise DataError(f"{path} cannot be read: {error}. It may have been cut off: fetch it again.") from None


def _guarded(path: Path, name: str, read: Callable[[Path], tuple[Mapping[str, Any], list[str]]]) -> TextTable:
    """A table that a library reads, whatever it raises on broken files."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy's, on files that depart from the standard
            columns, nested = read(path)
    except (MemoryError, DataError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a {name} table that can be read: {shorten([reason[:200]])}. Fetch or write it again."
        ) from None
    names = _distinct(path, [str(name).strip() for name in columns])
    table = pa.table(dict(zip(names, columns.values(), strict=True)))
    return TextTable(path, name, table.to_pandas(), nested)


def _distinct(path: Path, names: Sequence[str]) -> list[str]:
    """Names of columns; a column without one is called as pandas does, such as `Unnamed: 0`."""
    named = [name or f"Unnamed: {number}" for number, name in enumerate(names)]
    if twice := [name for name in named if named.count(name) > 1]:
        raise DataError(f"{path} has two columns '{twice[0]}'. Rename one of them.")
    return named


# --- formats of libraries: columns as arrow's text, and the names of those that are left out


def _parquet(path: Path) -> tuple[dict[str, Any], list[str]]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        wanted = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_plain(kind)]
        table = file.read(columns=wanted)
    columns = {name: _arrow_text(table.column(name)) for name in wanted}
    return columns, [name for name in schema.names if name not in wanted]


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


def _fits(path: Path) -> tuple[dict[str, Any], list[str]]:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path, memmap=False) as units:
        unit = next((unit for unit in units if isinstance(unit, fits.BinTableHDU | fits.TableHDU)), None)
        if unit is None or isinstance(unit, fits.CompImageHDU):
            raise DataError(f"{path} is a FITS image, without a table. Give a table of paths, or of labels.")
        return _astropy_text(Table.read(unit))


def _votable(path: Path) -> tuple[dict[str, Any], list[str]]:
    from astropy.io import votable

    tables = list(votable.parse(str(path), verify="ignore").iter_tables())
    if not tables:
        raise ValueError("it has no table")
    return _astropy_text(tables[0].to_table(use_names_over_ids=True))


def _ecsv(path: Path) -> tuple[dict[str, Any], list[str]]:
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


# --- CSV


def _csv(path: Path) -> TextTable:
    notes: list[str] = []
    try:
        with unpacked(path) as (stream, _):
            encoding = _encoding(path, stream, notes)
        with unpacked(path) as (stream, _), io.TextIOWrapper(stream, encoding, newline="") as text:
            return _of_lines(path, text, notes)
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


def _of_lines(path: Path, text: Iterable[str], notes: list[str]) -> TextTable:
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
    columns: list[list[pa.Array]] = [[] for _ in names]
    labels: list[int] = []
    buffer: list[list[str]] = []
    wrong: tuple[int, int] | None = None
    count_wrong = 0
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            wrong = wrong or (before + reader.line_num, len(row))
            count_wrong += 1
            continue
        labels.append(before + reader.line_num - 2)
        buffer.append(row)
        if len(buffer) == _AT_ONCE:
            _flush(buffer, columns)
    _flush(buffer, columns)
    if wrong is not None:
        raise DataError(
            f"{path}, line {wrong[0]}: {wrong[1]} values, but the header has {len(names)} columns{more(count_wrong)}. "
            f"The columns are parted by {DELIMITERS[delimiter]}: put values that hold one between quotation marks."
        )
    table = pa.table({str(number): pa.chunked_array(cells, pa.string()) for number, cells in enumerate(columns)})
    frame = table.to_pandas().set_axis(pd.Index(labels, dtype=np.int64))
    frame.columns = names
    empty = [not name and (frame.iloc[:, number] == "").all() for number, name in enumerate(names)]
    frame = frame.loc[:, [not flag for flag in empty]]  # what a delimiter at the end of each line makes
    frame.columns = _distinct(path, list(frame.columns))
    if delimiter in ";\t":
        _point_decimals(path, frame, notes)
    return TextTable(path, "CSV", frame, notes=notes)


def _flush(buffer: list[list[str]], columns: list[list[pa.Array]]) -> None:
    for number, cells in enumerate(zip(*buffer, strict=True)):
        columns[number].append(pa.array([cell.strip() for cell in cells], pa.string()))
    buffer.clear()


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
    if changed:
        notes.append(f"{path.name}: decimal commas in {shorten(changed)} are read as points.")
