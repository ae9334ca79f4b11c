"""A table of labels of one's own: its columns by what they are for, and its cells that say something.

The command reads it before anything else is done, a run once more; both by `LabelTable.read`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.data.tables.data_set import find_data_set
from galaxyml.data.tables.images_by_id import images_by_name, with_paths
from galaxyml.data.tables.label_column import LabelColumn, as_number
from galaxyml.data.tables.reading import more
from galaxyml.data.tables.roles import FEWEST, Roles, find_roles
from galaxyml.data.tables.table_file import read_table_file, tables_in
from galaxyml.data.tables.text_table import TextTable
from galaxyml.runs.errors import DataError, near, shorten

# Cells that say nothing, in any case: as people and programs write them, among these CDS, IRAF and databases.
MISSING = (
    *("NA", "N/A", "null", "None", "nan", "--", "-", "<NA>", "#N/A", "NaT", "—", "–", "...", "…", "INDEF", "\\N"),
    *("masked", "nodata", "\\nodata", "#NULL!"),
)
AMONG_NUMBERS = "none"  # is missing among numbers; among words, other than `None`, an answer: no bulge
MOST_RARE = 3  # classes of few rows that have a note each
LABELS = "labels.csv"  # where no other is given
SUFFIXES = (".parquet", ".fits", ".fits.gz", ".ecsv", ".vot", ".votable", ".tsv", ".txt", ".csv.gz")
WANTED = (
    "task=images reads a table (CSV, parquet, FITS, VOTable or ECSV) with the columns id (optional), path (of the "
    "image, from data_dir=… on; none where images are called by their ids, such as 123.jpg; parquet and HDF5 may hold "
    "the images themselves), and what is to be predicted: a "
    "class, numbers, or votes or fractions of a decision tree (tree=NAME, or tree=FILE.yaml)"
)


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes:
        table: As it was read, but for rows without any value.
        roles: What its columns are for.
        missing: Further cells that say nothing: words, or numbers such as -999.
    """

    table: TextTable
    roles: Roles
    missing: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, path: Path, root: Path | None = None, missing: Sequence[Any] = (), targets: Sequence[str] = ()
    ) -> "LabelTable":
        """Reads a table of any format.

        Args:
            path: The file.
            root: The folder of images, in which they are found by id where the table has no paths; None for the
                table's own.
            missing: As the attribute.
            targets: Columns that are asked for.

        Raises:
            UserError: If there is no such folder or table, it has no rows, or neither paths nor images called by its
                ids.
        """
        if root is not None and not root.exists():
            raise no_folder(root)
        table = read_table_file(path, _where(path, root))
        filled = (table.frame != "").any(axis=1)
        table = table if filled.all() else replace(table, frame=table.frame[filled])
        table = with_paths(table, partial(images_by_name, path.parent if root is None else root), targets)
        roles = find_roles(table, f"{WANTED}.", targets)
        if table.frame.empty:
            raise DataError(f"{path} has a header and no rows. {WANTED}.")
        return cls(table, roles, tuple("null" if word is None else str(word) for word in missing))

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    def images(self, root: Path) -> pd.Series:
        """Each row's image, as a path from the folder of images on, or an absolute one."""
        names, folder = self.table.frame[self.roles.path], self.table.folder
        if folder is None or folder == root:
            return names
        inside = folder.is_relative_to(root)
        return (f"{folder.relative_to(root) if inside else folder.absolute()}/" + names).astype(names.dtype)

    @cached_property
    def _missing_words(self) -> set[str]:
        return {word.casefold() for word in (*MISSING, *self.missing)} | {""}

    @cached_property
    def _missing_numbers(self) -> list[float]:
        return [number for word in self.missing if (number := as_number(word)) is not None]

    def says_nothing(self, name: str, classes: Sequence[str] = ()) -> np.ndarray:
        """Which cells of a column are missing, bool of shape (N,).

        Args:
            name: The column.
            classes: Words that are classes whatever they look like, as they were given.
        """
        cells = self.table.frame[name]
        nothing = cells.str.casefold().isin(self._missing_words)
        if self._missing_numbers:
            nothing |= pd.to_numeric(cells, errors="coerce").isin(self._missing_numbers)
        if (none := cells[nothing & (cells.str.casefold() == AMONG_NUMBERS) & (cells != "None")]).size:
            others = cells[~nothing]
            if not pd.to_numeric(others, errors="coerce").notna().any():
                nothing[none.index] = AMONG_NUMBERS in {word.casefold() for word in self.missing}
        return (nothing & ~cells.isin(list(classes))).to_numpy(bool)

    def column(self, name: str, classes: Sequence[str] = ()) -> LabelColumn:
        """A column without the cells that say nothing."""
        nothing = self.says_nothing(name, classes)
        return LabelColumn(name, self.table, self.table.frame[name][~nothing])

    def cells(self, name: str, classes: Sequence[str] = ()) -> pd.Series:
        """Cells of a column, '' where they say nothing."""
        return self.table.frame[name].mask(self.says_nothing(name, classes), "")

    def candidates(self) -> tuple[dict[str, LabelColumn], dict[str, str]]:
        """Columns that may be learnt where none is named, and why the others may not.

        A column that says nothing, or the same in all rows, or words that are different in all of them, is none if
        there are others.
        """
        columns = {name: self.column(name) for name in self.table.columns if name not in self.roles.aside}
        useless = {name: reason for name, column in columns.items() if (reason := column.useless) is not None}
        if len(useless) == len(columns):
            return columns, dict(self.roles.aside)
        left = {name: column for name, column in columns.items() if name not in useless}
        return left, {**self.roles.aside, **useless}


def no_folder(root: Path) -> DataError:
    """The error of a folder of images that is not there, with those beside it that are called nearly so."""
    beside = [path.name for path in root.parent.iterdir() if path.is_dir()] if root.parent.is_dir() else []
    close = [str(root.with_name(name)) for name in near(root.name, beside)]
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return DataError(f"There is no folder {root}.{meant} Give that of your images: data_dir=…, in Python Images('…').")


def rare_notes(path: Path, column: str, counts: Mapping[str, int]) -> list[str]:
    """Sentences on classes that very few rows have: one each, or one on all where there are more than a few.

    Args:
        path: The table.
        column: Of the classes.
        counts: Rows of each.
    """
    rare = [name for name, count in counts.items() if count < FEWEST]
    if len(rare) > MOST_RARE:
        return [
            f"{path.name}: {len(rare)} of {len(counts)} classes of {column} have fewer than {FEWEST} rows, too few to "
            f"learn and to judge: {shorten(rare)}."
        ]
    notes = []
    for name in rare:
        close = near(name, counts.keys() - {*rare}) if as_number(name) is None else []
        advice = f"is it a misspelling of {' or '.join(close)}?" if close else "take such rows out, or add more."
        rows = f"{counts[name]} row{'s' * (counts[name] > 1)} (of {sum(counts.values()):,})"
        notes.append(f"{path.name}: class {name} of {column} has {rows}, too few to learn and to judge; {advice}")
    return notes


def missing_note(labels: LabelTable, names: Sequence[str], classes: Sequence[str] = ()) -> str | None:
    """A sentence on the rows in which some of these columns say nothing; None if there are none."""
    nothing = {name: cells for name in names if (cells := labels.says_nothing(name, classes)).any()}
    if not nothing:
        return None
    rows = np.logical_or.reduce(list(nothing.values()))
    counts = Counter(word for name, cells in nothing.items() for word in labels.table.frame[name][cells].tolist())
    words = [f"{word or 'empty'}: {count:,}" for word, count in counts.most_common()]
    return (
        f"{labels.path.name}: {shorten(list(nothing))} missing in {int(rows.sum()):,} of {len(rows):,} rows "
        f"({shorten(words)}), which are left out."
    )


def sentinel_note(column: LabelColumn) -> str | None:
    """A sentence on a number that seems to stand for no value; None if there is none."""
    if (sentinel := column.sentinel()) is None:
        return None
    value, count, low, high = sentinel
    return (
        f"{column.table.path.name}: {column.name} is {value:.10g} in {count:,} of {column.filled:,} rows, beside "
        f"{low:.4g} to {high:.4g}: if that stands for no value, missing=[{value:.10g}] leaves these rows out."
    )


def refuse_repeats(labels: LabelTable) -> None:
    """Makes sure that each row has a path, and an id where it is the table's own, which no other row has.

    Raises:
        DataError: If not; the message names the first row.
    """
    for name in dict.fromkeys(filter(None, (labels.roles.id, labels.roles.path))):
        cells = labels.table.frame[name]
        empty = ((cells == "") | (cells.str.lower() == "nan")).to_numpy()
        if empty.any():
            raise DataError(f"{_place(labels, empty)}: {name} is empty. Fill it or take the row out.")
        twice = cells.duplicated().to_numpy()
        if twice.any():
            raise DataError(
                f"{_place(labels, twice)}: {name} {cells.iloc[int(twice.argmax())]} occurs a second time"
                f"{more(int(twice.sum()))}. Each image has one row; take one out."
            )


def _where(path: Path, root: Path | None) -> str:
    """What a user can do whose table is not there: name one that lies in its folder, if there is one."""
    tables = tables_in(path.parent) if not path.exists() else []
    if not tables:
        return f"{WANTED}. labels=… names another table."
    start = root if root is not None and path.is_relative_to(root) else None
    names = [str(table.relative_to(start) if start is not None else table) for table in tables]
    others = f" (or {shorten(names[1:])})" if names[1:] else ""
    return f"{path.parent} has {names[0]}{others}: if that is your table, give labels={names[0]}."


def _place(labels: LabelTable, wrong: np.ndarray) -> str:
    return labels.table.place(int(labels.table.frame.index[int(wrong.argmax())]))


def table_path(folder: Path, labels: str) -> Path:
    """Path of a table: in the folder of the images, or else where its name says.

    Where there is no `labels.csv`, one of another format under the same name is it, or else the folder itself, if it is
    a data set's. The name may be that of such a folder in it, or of a configuration of the data set.

    Args:
        folder: The folder.
        labels: Its name, or a path.
    """
    inside, beside = folder / labels, Path(labels).expanduser()
    if inside.is_file() or not beside.is_file():
        others = [folder / f"labels{suffix}" for suffix in SUFFIXES] if labels == LABELS else []
        present = [path for path in others if path.is_file()]
        if inside.is_file() or len(present) > 1:
            return inside
        is_data_set = labels == LABELS and not present and find_data_set(folder) is not None
        return present[0] if present else folder if is_data_set else inside
    return beside
