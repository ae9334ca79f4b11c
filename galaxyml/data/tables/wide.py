"""Wide tables of catalogues, as CSV, FITS or parquet: columns by name, read only where wanted, and checked."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from galaxyml.data.images.file_types import has_suffix
from galaxyml.data.images.fits import fits_units
from galaxyml.data.images.inside import PARQUET
from galaxyml.data.tables.data_set import find_data_set
from galaxyml.data.tables.reading import WHOLE, Rows, check_columns, more
from galaxyml.runs.errors import DataError, shorten

FITS = (".fits", ".fits.gz", ".fit", ".fit.gz")
_INSIDE = "image inside"  # a column that no table has
_EMPTY = ["", "nan", "NaN", "null", "NULL"]


class WideTable:
    """A table with a header, of which some columns are wanted.

    Args:
        path: A file, CSV (`.csv`, `.csv.gz`), FITS (`.fits`, `.fits.gz`; its first table) or parquet (`.parquet`); or a
            data set's folder of parquet files with images inside.
        where: Where it can be had, for error messages.

    Attributes:
        format: `FITS`, `parquet` or `CSV`, by the file's name.
        columns: Names of all its columns.
        parts: Of a data set its parts, as paths in the folder; otherwise none.

    Raises:
        DataError: If the file is missing or is no table, or a column occurs twice.
    """

    def __init__(self, path: Path, where: str = "") -> None:
        self.path, self.where = path, where
        data_set = find_data_set(path) if path.is_dir() else None
        self.parts = list(data_set.parts) if data_set is not None else []
        if any(not has_suffix(Path(part), PARQUET) for part in self.parts):
            raise DataError(f"{path}: votes are read of CSV, FITS and parquet, not of HDF5. {where}".rstrip())
        self.format = "FITS" if has_suffix(path, FITS) else "parquet" if has_suffix(path, PARQUET) else "CSV"
        with self._one_sentence():
            if self.parts:
                self.format, self.columns = "parquet", list(pa.parquet.read_schema(path / self.parts[0]).names)
            elif self.format == "FITS":
                with _fits_table(path) as table:
                    self.columns = list(table.columns.names)
            elif self.format == "parquet":
                self.columns = list(pa.parquet.read_schema(path).names)
            else:
                # Not pandas' own header: it would rename a column that occurs twice.
                head = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig", keep_default_na=False)
                self.columns = [name.strip() for name in head.iloc[0]]
        if twice := sorted({name for name in self.columns if name and self.columns.count(name) > 1}):
            raise DataError(f"{path}: columns that occur twice ({len(twice)}): {shorten(twice)}. Take one of each out.")

    def check(self, wanted: Sequence[str], other: Sequence[str] = ()) -> None:
        """Makes sure that columns are there.

        Args:
            wanted: Their names.
            other: Other names that a table of this kind has, which are therefore not misspelt ones.

        Raises:
            DataError: If some are not; the message names them, and near ones.
        """
        check_columns(self.path, self.columns, wanted, self.where, other)

    def read(
        self,
        id_column: str,
        texts: Sequence[str] = (),
        numbers: Sequence[str] = (),
        pattern: str = WHOLE,
        repeats: bool = False,
    ) -> Rows:
        """Reads an id and some columns; nothing else is held in memory.

        Args:
            id_column: Never read as a float, which would lose the last of 18 digits.
            texts: Columns of text; an empty cell is an empty text.
            numbers: Columns of numbers, to be checked by `Rows.numbers`.
            pattern: What an id looks like, as a regular expression.
            repeats: Whether an id may occur in several rows.

        Raises:
            DataError: If a column or an id is missing, or an id is malformed or occurs twice.
        """
        names = list(dict.fromkeys([id_column, *texts, *numbers]))
        self.check(names)
        with self._one_sentence():
            frame = self._frame(names, [id_column, *texts])
        for name in dict.fromkeys([id_column, *texts]):
            frame[name] = frame[name].fillna("").astype(str).str.strip()
        if not (filled := (frame[id_column] != "").to_numpy()).all():
            blank = (frame[[*texts]] == "").all(axis=1) & frame[[*numbers]].isna().all(axis=1)
            frame = frame[filled | ~blank.to_numpy()]  # empty lines
        if frame.empty:
            raise DataError(f"{self.path} has a header and no rows. Fetch it again. {self.where}".rstrip())
        inside = frame.pop(_INSIDE) if self.parts else None
        rows = Rows(self.path, id_column, frame, inside=inside)
        rows.check_ids(pattern, repeats)
        return rows

    def _frame(self, names: list[str], texts: list[str]) -> pd.DataFrame:
        if self.parts:
            return pd.concat([self._part(part, names, texts) for part in self.parts], ignore_index=True)
        if self.format == "FITS":
            with _fits_table(self.path) as table:
                return pd.DataFrame({name: _fits_column(table, name) for name in names})
        if self.format == "parquet":
            return _parquet_columns(self.path, names, texts)
        return self._csv(names, texts)

    def _part(self, part: str, names: list[str], texts: list[str]) -> pd.DataFrame:
        """Columns of one part of a data set, and where each row's image is."""
        if missing := sorted({*names} - {*pa.parquet.read_schema(self.path / part).names}):
            raise DataError(
                f"{self.path / part}: its columns are not those of {self.parts[0]}: {shorten(missing)} are missing. "
                "Parts of a data set have the same columns: move what does not belong to it away."
            )
        frame = _parquet_columns(self.path / part, names, texts)
        return frame.assign(**{_INSIDE: [f"{part}#{row}" for row in range(len(frame))]})

    def _csv(self, names: list[str], texts: list[str]) -> pd.DataFrame:
        """Columns of a CSV file; arrow's reader, unlike pandas', sees when a line has too many values."""
        blank: list[int] = []  # lines of nothing but commas; quite empty ones come as rows without values
        odd: list[Any] = []

        def left_out(row: Any) -> str:
            if row.text.strip(" ,\r"):
                odd.append(row)
            else:
                blank.append(row.number)
            return "skip"

        table = pa.csv.read_csv(
            self.path,
            read_options=pa.csv.ReadOptions(
                use_threads=False,  # so that rows are numbered
                skip_rows=1,
                column_names=[name or f" {number}" for number, name in enumerate(self.columns)],
            ),
            parse_options=pa.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=left_out),
            convert_options=pa.csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(texts, pa.string()),
                null_values=_EMPTY,
                strings_can_be_null=True,
            ),
        )
        if odd:
            raise DataError(
                f"{self.path}, line {odd[0].number} has {odd[0].actual_columns} values and the header "
                f"{odd[0].expected_columns}{more(len(odd))}. Decimals take points, text with commas takes quotes: "
                "correct the line or take it out."
            )
        frame = table.to_pandas(split_blocks=True, self_destruct=True)
        lines = np.delete(np.arange(len(frame) + len(blank)), np.array(blank, int) - 2)
        return frame.set_axis(lines)

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Turns what readers raise on missing and broken files into one sentence."""
        try:
            yield
        except DataError:
            raise
        except FileNotFoundError:
            raise DataError(f"{self.path} is missing. {self.where}".rstrip()) from None
        except (OSError, EOFError, ValueError, TypeError, zlib.error, pa.ArrowException) as error:
            reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")
            raise DataError(
                f"{self.path} is not a {self.format} table that can be read: {reason}. Fetch it again. "
                f"{self.where}".rstrip()
            ) from None


def _parquet_columns(path: Path, names: list[str], texts: list[str]) -> pd.DataFrame:
    table = pa.parquet.read_table(path, columns=names)
    for name in texts:  # before pandas, which makes floats of whole numbers with gaps
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    return table.to_pandas(ignore_metadata=True)[names]


@contextmanager
def _fits_table(path: Path) -> Iterator[Any]:
    """The first table of a FITS file."""
    from astropy.io import fits

    with path.open("rb") as file, fits_units(file) as units:
        table = next((unit for unit in units if isinstance(unit, fits.BinTableHDU | fits.TableHDU)), None)
        if table is None:
            raise ValueError("it has no table")
        yield table


def _fits_column(table: Any, name: str) -> np.ndarray | pd.Series:
    """A column in the machine's own byte order; what the header calls null is empty."""
    values = np.asarray(table.data[name])
    if values.ndim != 1:
        raise ValueError(f"the column {name} holds {values.shape[1:]} values a row, not one")
    if values.dtype.kind in "SU":
        return values.astype(str)
    values = values.astype(values.dtype.newbyteorder("="))
    null = table.columns[name].null
    if values.dtype.kind in "iu" and null is not None and (values == int(null)).any():
        return pd.Series(values, dtype="Int64").mask(values == int(null))
    return values
