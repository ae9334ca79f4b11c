"""A table as text, whatever file it was read from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from galaxyml.runs.errors import DataError

FORMATS = "CSV (with , ; tabs or | between its columns), parquet, FITS, VOTable or ECSV"


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
        images: The column of images that are inside, as `file.parquet#7`; None where there are none.
        folder: The folder that these begin in.
    """

    path: Path
    format: str
    frame: pd.DataFrame
    nested: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    images: str | None = None
    folder: Path | None = None

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
        if self.images is not None and self.folder is not None:
            return str(self.folder / str(self.frame.loc[label, self.images]))
        return f"{self.path}, " + (f"line {label + 2}" if self.has_lines else f"row {label + 1}")


def distinct(path: Path, names: Sequence[str]) -> list[str]:
    """Names of columns; a column without one is called as pandas does, such as `Unnamed: 0`."""
    named = [name or f"Unnamed: {number}" for number, name in enumerate(names)]
    if twice := [name for name in named if named.count(name) > 1]:
        raise DataError(f"{path} has two columns '{twice[0]}'. Rename one of them.")
    return named
