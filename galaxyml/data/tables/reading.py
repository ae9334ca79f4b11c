"""CSV tables of catalogues, read and checked: an error names the line and the galaxy."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from galaxyml.runs.errors import DataError, did_you_mean, shorten

WHOLE = r"\d{1,19}"  # object ids of SDSS have 18 or 19 digits
NAME = r"[^\s/\\]+"
ROUNDING = 1e-6  # a fraction in single precision may lie this far outside [0, 1]
CUT = (EOFError, zlib.error, gzip.BadGzipFile)  # what a packed file raises that is cut off or damaged
CORRECT = "Correct the value or take the row out."


@dataclass(frozen=True)
class Rows:
    """Some columns of a table.

    Attributes:
        path: The file.
        id_column: The column that tells objects apart.
        frame: Its columns; the index counts the file's rows from 0.
        noun: What an object is called in error messages.
        lines: Whether rows are lines of a text below a header; None to tell by the file's name.
        inside: Where the rows' images lie in the parts of a data set, as `part.parquet#7`, which names the rows; shape
            (N,); None where rows are named by their numbers.
    """

    path: Path
    id_column: str
    frame: pd.DataFrame
    noun: str = "galaxy"
    lines: bool | None = None
    inside: pd.Series | None = None

    @property
    def ids(self) -> pd.Series:
        """The objects' ids, shape (N,)."""
        return self.frame[self.id_column]

    def place(self, row: int) -> str:
        """File, line and object of one of the N rows."""
        return f"{self.path}, {self.line(row)}, {self.noun} {self.ids.iloc[row]}"

    def line(self, row: int) -> str:
        """Line of one of the N rows in a CSV file, below a header; or its number, from 1, in FITS and parquet."""
        if self.inside is not None:
            return str(self.inside.iloc[row])
        number = int(self.frame.index[row])
        lines = self.lines if self.lines is not None else ".csv" in self.path.name.lower()
        return f"line {number + 2}" if lines else f"row {number + 1}"

    def refuse(self, wrong: np.ndarray, fault: Callable[..., str], advice: str = CORRECT) -> None:
        """Refuses the table if something in it is wrong.

        Args:
            wrong: What is wrong, bool of shape (N,) or (N, K).
            fault: Words that follow the place, from the first row (and column) that is wrong.
            advice: What the user can do.

        Raises:
            DataError: If anything is wrong; the message names the first place and how many there are.
        """
        if wrong.any():
            first = [int(number) for number in np.argwhere(wrong)[0]]
            raise DataError(f"{self.place(first[0])}{fault(*first)}{more(int(wrong.sum()))}. {advice}")

    def refuse_cells(self, wrong: np.ndarray, names: Sequence[str], allowed: str, advice: str = CORRECT) -> None:
        """Refuses values of some columns, wrong (N, K), as `refuse`; the message shows the first one's cell."""
        self.refuse(
            wrong,
            lambda row, column: f": {names[column]} is {shown(self.frame[names[column]].iloc[row])}; {allowed}",
            advice,
        )

    def numbers(
        self, names: Sequence[str], lowest: float, highest: float, allowed: str, empty: bool = False
    ) -> np.ndarray:
        """Columns of numbers.

        Args:
            names: K columns.
            lowest: Smallest value that is allowed.
            highest: Largest one; no value may be infinite.
            allowed: What is allowed, in words, for error messages.
            empty: Whether cells may be empty.

        Returns:
            Shape (N, K), NaN where a cell is empty.

        Raises:
            DataError: If a cell holds anything else; the message names the first one.
        """
        cells = self.frame[list(names)]
        values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        good = (values >= lowest - ROUNDING) & (values <= highest + ROUNDING) & np.isfinite(values)
        if empty:
            good |= cells.isna().to_numpy()
        self.refuse_cells(~good, names, allowed)
        return np.clip(values, lowest, highest)

    def check_ids(self, pattern: str, repeats: bool = False) -> None:
        """Makes sure that ids, as text, look like ids and, unless they may repeat, that each object has one row.

        Raises:
            DataError: If not. A float has lost the last of 18 digits, so it is refused rather than rounded.
        """
        if not (good := self.ids.str.fullmatch(pattern).to_numpy(bool)).all():
            row = int((~good).argmax())
            value = self.ids.iloc[row]
            allowed = "a name without spaces and slashes" if pattern == NAME else "a whole number"
            advice = " Correct it or take the row out."
            if pattern != NAME and re.fullmatch(r"[\d.]+(e\+?\d+|\.0*)", value, re.IGNORECASE):
                allowed += "; as a float it has lost digits, so the table must be fetched again"
                advice = ""
            raise DataError(
                f"{self.path}, {self.line(row)}: {self.id_column} is {shown(value)}; it must be {allowed}"
                f"{more(int((~good).sum()))}.{advice}"
            )
        if not repeats and (again := self.ids.duplicated().to_numpy()).any():
            first = int((self.ids == self.ids.iloc[again.argmax()]).to_numpy().argmax())
            self.refuse(
                again,
                lambda row: f" has a row already, in {self.line(first)}",
                f"Each {self.noun} has one row; take one out.",
            )


def read_table(
    path: Path,
    id_column: str,
    numbers: Sequence[str] = (),
    texts: Sequence[str] = (),
    optional: Sequence[str] = (),
    where: str = "",
    span: str | None = "in [0, 1]",
    repeats: bool = False,
    otherwise: str = "",
) -> Rows:
    """Reads a CSV with an id and the given columns; other columns are left out.

    Args:
        path: The file.
        id_column: Its column of whole numbers of up to 18 digits, which are never read as floats.
        numbers: Columns that must hold a number in every row.
        texts: Columns that are kept as text.
        optional: More columns that are kept as text where the table has them.
        where: Where the file can be had, for error messages.
        span: What the numbers must be, for error messages.
        repeats: Whether an id may occur in several rows.
        otherwise: What else the user can do if columns are missing.

    Returns:
        The id as int64, numbers as float64, texts as str.

    Raises:
        DataError: If the file is missing or is no such table, an id is no whole number or occurs twice, or a value is
            no number.
    """
    table = read_csv(
        path,
        where,
        dtype={id_column: str, **dict.fromkeys((*texts, *optional), str)},
        index_col=False,
        keep_default_na=False,
        na_values=[""],
        skip_blank_lines=False,
        low_memory=False,
    )
    wanted = [id_column, *numbers, *texts]
    check_columns(path, list(table.columns), wanted, otherwise)
    table = table[[*wanted, *(name for name in optional if name in table.columns)]].dropna(how="all")
    if table.empty:
        raise DataError(f"{path} has a header and no rows. Fetch it again. {where}".rstrip())
    table = table.assign(**{id_column: table[id_column].fillna("").str.strip()})
    rows = Rows(path, id_column, table)
    rows.check_ids(r"\d{1,18}", repeats)
    values = table[list(numbers)].apply(pd.to_numeric, errors="coerce")
    rows.refuse_cells(values.isna().to_numpy(), numbers, f"it must be a number {span or ''}".rstrip())
    table = table.assign(**{id_column: table[id_column].astype(np.int64)})
    table[list(numbers)] = values.astype(np.float64)
    return Rows(path, id_column, table)


def check_range(rows: Rows, columns: Sequence[str]) -> None:
    """Makes sure that fractions lie in [0, 1].

    Raises:
        DataError: If one does not.
    """
    values = rows.frame[list(columns)].to_numpy(np.float64)
    rows.refuse_cells(~((values >= 0) & (values <= 1)), columns, "fractions lie in [0, 1]")


def finite_numbers(rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a table of text as numbers.

    Raises:
        DataError: If one is no finite number.
    """
    values = rows.frame[list(columns)].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    rows.refuse_cells(
        ~np.isfinite(values.to_numpy()),
        columns,
        "it must be a finite number",
        "Correct it, leave it empty, or take the row out.",
    )
    return values


def header(path: Path, where: str = "") -> list[str]:
    """Names of a table's columns.

    Raises:
        DataError: If it is missing or is no table.
    """
    return list(read_csv(path, where, nrows=0).columns)


def read_csv(path: Path, where: str = "", **options: Any) -> pd.DataFrame:
    """Reads a CSV file, plain or gzip, with pandas.

    Args:
        path: The file.
        where: Where it can be had, for error messages.
        **options: Of `pandas.read_csv`.

    Raises:
        DataError: If the file is missing or is no table.
    """
    try:
        with unpacked(path, where) as (stream, _):
            return pd.read_csv(stream, encoding="utf-8-sig", **options)
    except (*CUT, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a CSV table that can be read: {str(error).strip()}. Fetch it again. {where}".rstrip()
        ) from None


@contextmanager
def unpacked(path: Path, where: str = "Put it there, or take its name out.") -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Opens a file that may be packed by gzip (known by its first bytes); yields its content, and the file itself.

    Raises:
        DataError: If it is missing or may not be read. Reading may raise one of `CUT`.
    """
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {where}".rstrip()) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. It must be a CSV file that you may read.") from None
    with raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        yield (cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw), raw


def check_columns(
    path: Path, columns: Sequence[str], wanted: Sequence[str], advice: str = "", other: Sequence[str] = ()
) -> None:
    """Makes sure that a table has the columns that are needed.

    Args:
        path: The file.
        columns: Names of its columns.
        wanted: Those that are needed.
        advice: What the user can do.
        other: Other names that a table of this kind has, which are therefore not misspelt ones.

    Raises:
        DataError: If some are missing; the message names them, and near ones.
    """
    if missing := [name for name in wanted if name not in columns]:
        unknown = [name for name in columns if name and name not in {*wanted, *other}]
        hint = f"The table has {shorten(unknown, shown=12)}, which are none of these. " if unknown else ""
        close = did_you_mean(missing[0], unknown)
        hint += f"{close} " if close.startswith("Did") else ""
        raise DataError(
            f"{path}: missing columns ({len(missing)}): {shorten(missing)}. {hint}Columns are found by their names in "
            f"the header, in any order; a CSV file parts them with commas. {advice}".rstrip()
        )


def degrees(rows: Rows, ra: str, dec: str, empty: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Positions in degrees, from sexagesimal text (hours and degrees, as `00:00:00.41`) or from decimal degrees.

    Args:
        rows: With the two columns as text.
        ra: Column of the right ascension.
        dec: Column of the declination.
        empty: Whether cells may be empty.

    Returns:
        Right ascension in [0, 360) and declination in [-90, 90], shape (N,) each; NaN where a cell is empty.

    Raises:
        DataError: If a value is neither.
    """
    angles = []
    for column, per_hour, lowest, highest in ((ra, 15.0, 0.0, 360.0), (dec, 1.0, -90.0, 90.0)):
        text = rows.frame[column].fillna("").str.strip()
        cells = text.str.extract(r"^([+-]?)(\d+)[: ](\d+)[: ](\d+(?:\.\d*)?)$")
        sign = np.where(cells[0] == "-", -1.0, 1.0)
        hours, minutes, seconds = (pd.to_numeric(cells[number]).to_numpy(float) for number in (1, 2, 3))
        sexagesimal = per_hour * sign * (hours + minutes / 60 + seconds / 3600)
        decimal = pd.to_numeric(text, errors="coerce").to_numpy(float)
        values = np.where(cells[1].notna(), np.where((minutes < 60) & (seconds < 60), sexagesimal, np.nan), decimal)
        example = "00:00:00.41 (hours)" if column == ra else "-10:22:25.7"
        good = ((values >= lowest) & (values <= highest)) | ((text == "").to_numpy() if empty else False)
        rows.refuse_cells(
            ~good[:, None],
            [column],
            f"it must be sexagesimal, such as {example}, or degrees from {lowest:g} to {highest:g}",
        )
        angles.append(values)
    return angles[0], angles[1]


def more(count: int) -> str:
    """Number of places that share a fault, as part of an error message."""
    return f" ({count:,} such places in all)" if count > 1 else ""


def shown(value: Any) -> str:
    """A cell as an error message shows it."""
    if pd.isna(value) or str(value) in ("", "nan"):
        return "empty or nan"
    return f"{float(value):.10g}" if isinstance(value, int | float | np.number) else f"'{value}'"
