"""Tables for other programs, such as TOPCAT: CSV, Parquet, FITS, VOTable and ECSV, with what their columns mean."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UsageError

MAIN = ";meta.main"  # of the one column of its kind that a table goes by


@dataclass(frozen=True)
class Field:
    """What a column holds.

    Attributes:
        description: In words.
        unit: As astropy writes it, such as `deg`; '' for none.
        ucd: Unified content descriptor of the IVOA (UCD1+), such as `pos.eq.ra;meta.main`; '' for none.
    """

    description: str = ""
    unit: str = ""
    ucd: str = ""


def check_format(path: Path) -> None:
    """Makes sure that a table can be written under a name.

    Raises:
        UsageError: If its suffix is none of a format.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {path}: it must end in {', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}.")


def write_table(table: pd.DataFrame, path: Path, fields: Mapping[str, Field], suffix: str) -> list[str]:
    """Writes a table.

    Args:
        table: N rows.
        path: The file.
        fields: What columns hold; those that are not in it are written without.
        suffix: One of `FORMATS`.

    Returns:
        Sentences about what the format could not hold as it was.
    """
    return FORMATS[suffix.lower()](table, path, fields)


def _csv(table: pd.DataFrame, path: Path, fields: Mapping[str, Field]) -> list[str]:
    table.to_csv(path, index=False)
    return []


def _parquet(table: pd.DataFrame, path: Path, fields: Mapping[str, Field]) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    schema = [column.with_metadata(_metadata(fields.get(column.name, Field()))) for column in arrow.schema]
    pq.write_table(arrow.cast(pa.schema(schema, arrow.schema.metadata)), path)
    return []


def _metadata(field: Field) -> dict[str, str]:
    return {name: value for name, value in vars(field).items() if value}


def _votable(table: pd.DataFrame, path: Path, fields: Mapping[str, Field]) -> list[str]:
    from astropy.io.votable.exceptions import W03

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", W03)  # names with spaces stay as they are; their IDs are made from them
        _astropy(table, fields).write(path, format="votable", overwrite=True)
    return []


def _ecsv(table: pd.DataFrame, path: Path, fields: Mapping[str, Field]) -> list[str]:
    _astropy(table, fields).write(path, format="ascii.ecsv", overwrite=True)
    return []


def _fits(table: pd.DataFrame, path: Path, fields: Mapping[str, Field]) -> list[str]:
    """Units as TUNITn, descriptions as TCOMMn, UCDs as TUCDn, where TOPCAT looks for them."""
    from astropy.io import fits

    ascii_only, foreign = _ascii(table)
    unit = fits.table_to_hdu(_astropy(ascii_only, {}))
    for number, name in enumerate(table.columns, start=1):
        field = fields.get(str(name), Field())
        for key, value in (("TUNIT", field.unit), ("TCOMM", field.description), ("TUCD", field.ucd)):
            if value:
                unit.header[f"{key}{number}"] = _escaped(value)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path, overwrite=True, output_verify="silentfix")
    if not foreign:
        return []
    return [f"FITS holds ASCII alone: other letters of {', '.join(foreign)} are written as in 'Z\\xfcrich'."]


def _ascii(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A table in ASCII, other letters as escapes, and the columns that had any."""
    foreign = [
        name
        for name in table.columns
        if any(isinstance(cell, str) and not cell.isascii() for cell in (name, *table[name].to_numpy(object)))
    ]
    escaped = {name: [_escaped(cell) if isinstance(cell, str) else cell for cell in table[name]] for name in foreign}
    return table.assign(**escaped).rename(columns=lambda name: _escaped(str(name))), list(map(str, foreign))


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _astropy(table: pd.DataFrame, fields: Mapping[str, Field]) -> Any:
    """A table of astropy; what is missing is masked, in columns of text empty."""
    from astropy.table import MaskedColumn, Table

    columns = []
    for name in table.columns:
        values, field = table[name], fields.get(str(name), Field())
        if values.dtype == object or isinstance(values.dtype, pd.StringDtype | pd.CategoricalDtype):
            cells: Any = np.array(["" if pd.isna(cell) else str(cell) for cell in values], str)
            mask: Any = False
        elif values.dtype.kind == "f":
            cells, mask = values.to_numpy(), False  # NaN says so itself
        else:
            mask = values.isna().to_numpy()
            cells = values.fillna(0).to_numpy(getattr(values.dtype, "numpy_dtype", None))
        column = MaskedColumn(cells, name=str(name), mask=mask) if np.any(mask) else Table.Column(cells, name=str(name))
        column.description, column.unit = field.description or None, field.unit or None
        if field.ucd:
            column.meta["ucd"] = field.ucd
        columns.append(column)
    return Table(columns)


FORMATS: dict[str, Callable[[pd.DataFrame, Path, Mapping[str, Field]], list[str]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".fits": _fits,
    ".vot": _votable,
    ".ecsv": _ecsv,
}
