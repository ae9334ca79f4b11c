"""CSV tables of catalogues, read and checked: what is wrong is told with its line and its galaxy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.runs.errors import DataError, did_you_mean, shorten


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
) -> pd.DataFrame:
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
        The id as int64, numbers as float64, texts as str; the index counts the lines after the header.

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
    check_header(path, list(table.columns), wanted, otherwise)
    table = table[[*wanted, *(name for name in optional if name in table.columns)]].dropna(how="all")
    if table.empty:
        raise DataError(f"{path} has a header and no rows. Fetch it again.")
    table = table.assign(**{id_column: _whole_numbers(path, table, id_column)})
    if not repeats and (twice := table[id_column].duplicated()).any():
        row = int(np.flatnonzero(twice)[0])
        raise DataError(
            f"{path}, {place(table, row, id_column)} occurs a second time. Each galaxy has one row; take one out."
        )
    values = table[list(numbers)].apply(pd.to_numeric, errors="coerce")
    if (bad := np.argwhere(values.isna().to_numpy())).size:
        row, column = (int(number) for number in bad[0])
        value: Any = table[numbers[column]].iloc[row]
        found = "empty" if pd.isna(value) else f"'{value}'"
        raise DataError(
            f"{path}, {place(table, row, id_column)}: {numbers[column]} is {found}; it must be a number"
            f"{f' {span}' if span else ''}{more(len(bad))}. Correct the value or take the row out."
        )
    table[list(numbers)] = values.astype(np.float64)
    return table


def check_range(path: Path, table: pd.DataFrame, id_column: str, columns: Sequence[str]) -> None:
    """Makes sure that fractions lie in [0, 1].

    Raises:
        DataError: If one does not.
    """
    values = table[list(columns)].to_numpy(np.float64)
    if (bad := np.argwhere(~((values >= 0) & (values <= 1)))).size:
        row, column = (int(number) for number in bad[0])
        raise DataError(
            f"{path}, {place(table, row, id_column)}: {columns[column]} is {float(values[row, column])}; "
            f"fractions lie in [0, 1]{more(len(bad))}. Correct the value or take the row out."
        )


def header(path: Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        DataError: If it is no table.
    """
    return list(read_csv(path, nrows=0).columns)


def read_csv(path: Path, where: str = "", **options: Any) -> pd.DataFrame:
    """What pandas reads of a CSV file.

    Args:
        path: The file.
        where: Where it can be had, for error messages.
        **options: Of `pandas.read_csv`.

    Raises:
        DataError: If the file is missing or is no table.
    """
    try:
        return pd.read_csv(path, encoding="utf-8-sig", **options)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {where}".strip()) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV table that can be read: {str(error).strip()}. Fetch it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. It must be a CSV file that you may read.") from None


def check_header(path: Path, found: list[str], wanted: list[str], otherwise: str = "") -> None:
    """Makes sure that a table has the columns that are needed.

    Raises:
        DataError: If it has not; the message names those that are missing, and near ones.
    """
    unknown = [name for name in found if name not in wanted]
    if missing := [name for name in wanted if name not in found]:
        hint = f" It has {shorten(unknown)}, which this table does not know." if unknown else ""
        close = did_you_mean(missing[0], unknown) if unknown else ""
        hint += f" {close}" if close.startswith("Did") else ""
        names = ",".join(wanted) if len(wanted) < 8 else f"{wanted[0]},{wanted[1]},…,{wanted[-1]}"
        raise DataError(
            f"{path}: missing columns ({len(missing)}): {shorten(missing)}.{hint} "
            f"The header must be {names}, with commas. {otherwise}".rstrip()
        )


def degrees(path: Path, table: pd.DataFrame, id_column: str, ra: str, dec: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions in degrees, from sexagesimal text (hours and degrees, as `00:00:00.41`) or from decimal degrees.

    Args:
        path: The file, for error messages.
        table: With the two columns as text.
        id_column: Its ids, for error messages.
        ra: Column of the right ascension.
        dec: Column of the declination.

    Returns:
        Right ascension in [0, 360) and declination in [-90, 90], shape (N,) each.

    Raises:
        DataError: If a value is neither.
    """
    found = []
    for column, per_hour, lowest, highest in ((ra, 15.0, 0.0, 360.0), (dec, 1.0, -90.0, 90.0)):
        text = table[column].fillna("").str.strip()
        parts = text.str.extract(r"^([+-]?)(\d+)[: ](\d+)[: ](\d+(?:\.\d*)?)$")
        sign = np.where(parts[0] == "-", -1.0, 1.0)
        hours, minutes, seconds = (pd.to_numeric(parts[number]).to_numpy(float) for number in (1, 2, 3))
        sexagesimal = per_hour * sign * (hours + minutes / 60 + seconds / 3600)
        decimal = pd.to_numeric(text, errors="coerce").to_numpy(float)
        values = np.where(parts[1].notna(), np.where((minutes < 60) & (seconds < 60), sexagesimal, np.nan), decimal)
        if (bad := np.flatnonzero(~((values >= lowest) & (values <= highest)))).size:
            row = int(bad[0])
            example = "00:00:00.41 (hours)" if column == ra else "-10:22:25.7"
            raise DataError(
                f"{path}, {place(table, row, id_column)}: {column} is '{text.iloc[row]}'; it must be sexagesimal, such "
                f"as {example}, or degrees from {lowest:g} to {highest:g}{more(len(bad))}. Correct it or take the row "
                "out."
            )
        found.append(values)
    return found[0], found[1]


def place(table: pd.DataFrame, row: int, id_column: str) -> str:
    """Where a row stands in its file."""
    return f"line {table.index[row] + 2}, galaxy {table[id_column].iloc[row]}"


def more(count: int) -> str:
    """How many places share a fault, as part of an error message."""
    return f" ({count:,} such places in all)" if count > 1 else ""


def finite_numbers(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a table of text as numbers.

    Raises:
        DataError: If one is no finite number; the message names its row by `id`.
    """
    values = table[list(columns)].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if (bad := np.argwhere(~np.isfinite(values.to_numpy()))).size:
        row, column = (int(at) for at in bad[0])
        raise DataError(
            f"{path}, {place(table, row, 'id')}: {columns[column]} is '{table[columns[column]].iloc[row]}'; it must be "
            f"a finite number{more(len(bad))}. Correct it, leave it empty, or take the row out."
        )
    return values


def _whole_numbers(path: Path, table: pd.DataFrame, id_column: str) -> pd.Series:
    """The ids as int64. A float has lost the last of 18 digits, so it is refused rather than rounded."""
    ids = table[id_column].fillna("").str.strip()
    if not (whole := ids.str.fullmatch(r"\d{1,18}")).all():
        row = int(np.flatnonzero(~whole)[0])
        value = ids.iloc[row]
        lost = "; as a float it has lost digits, so the table must be fetched again" if _is_float(value) else ""
        raise DataError(
            f"{path}, line {table.index[row] + 2}: {id_column} is '{value}'; it must be a whole number{lost}. "
            "Correct it or take the row out."
        )
    return ids.astype(np.int64)


def _is_float(text: str) -> bool:
    try:
        return abs(float(text)) > 2**53
    except ValueError:
        return False
