"""A table of labels of one's own: what it holds, by its header and values, and its rows as a run takes them.

The command reads it before anything else is done, a run once more; both by `LabelTable.read`.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.data.tables.reading import more
from galaxyml.data.tables.roles import FEWEST, Roles, find_roles
from galaxyml.data.tables.table_file import TextTable, read_table_file
from galaxyml.runs.errors import DataError, UserError, shorten

SIMULATED_CLASS, SIMULATED_NUMBERS = "kind", ("r90", "axis_ratio", "redshift")  # of the simulated sky's table
MOST_NUMBERED = 20  # different whole numbers that are taken for classes
MOST_CLASSES = 200
RGB = 3  # channels of images that say nothing else
MOST_TRIED = 20  # images that are opened to find how many channels they have
FEW_WORDS = 0.1  # share of cells below which words among numbers are mistakes
# Cells that say nothing, in any case: as people and programs write them, among these CDS, IRAF and databases.
MISSING = (
    *("NA", "N/A", "null", "None", "nan", "--", "-", "<NA>", "#N/A", "NaT", "—", "–", "...", "…", "INDEF", "\\N"),
    *("masked", "nodata", "\\nodata", "#NULL!"),
)
AMONG_NUMBERS = "none"  # is missing among numbers; among words, other than `None`, an answer: no bulge
FOLDER, LABELS = Path("data/images"), "labels.csv"  # where no other is given
SUFFIXES = (".parquet", ".fits", ".fits.gz", ".ecsv", ".vot", ".votable", ".tsv", ".txt", ".csv.gz")
WANTED = (
    "task=images reads a table (CSV, parquet, FITS, VOTable or ECSV) with the columns id (optional), path (of the "
    "image, from data_dir=… on), and what is to be predicted: a class, numbers, or votes or fractions of a decision "
    "tree (tree=NAME, or tree=FILE.yaml)"
)
# What stands for no value in many catalogues: 99, -99.9, -9999, -32768, 1e20, -1e30.
_SENTINEL = re.compile(
    r"[+-]?(9{2,}(\.9*0*)?|[19](\.0*)?[eE]\+?(19|[23]\d)|32768(\.0*)?|2147483648)|-9(\.9*0*)?|-999\.25"
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
    def read(cls, path: Path, missing: Sequence[Any] = (), targets: Sequence[str] = ()) -> "LabelTable":
        """Reads a table of any format.

        Args:
            path: The file.
            missing: As the attribute.
            targets: Columns that are asked for.

        Raises:
            UserError: If there is no such table, it has no rows, or no column of paths.
        """
        table = read_table_file(path, f"{WANTED}. labels=… names another table.")
        filled = (table.frame != "").any(axis=1)
        table = table if filled.all() else replace(table, frame=table.frame[filled])
        roles = find_roles(table, f"{WANTED}.", targets)
        if table.frame.empty:
            raise DataError(f"{path} has a header and no rows. {WANTED}.")
        return cls(table, roles, tuple("null" if word is None else str(word) for word in missing))

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @cached_property
    def _missing_words(self) -> set[str]:
        return {word.casefold() for word in (*MISSING, *self.missing)} | {""}

    @cached_property
    def _missing_numbers(self) -> list[float]:
        return [number for word in self.missing if (number := _number(word)) is not None]

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

    def column(self, name: str, classes: Sequence[str] = ()) -> "Column":
        """A column without the cells that say nothing."""
        nothing = self.says_nothing(name, classes)
        return Column(name, self.table, self.table.frame[name][~nothing])

    def cells(self, name: str, classes: Sequence[str] = ()) -> pd.Series:
        """Cells of a column, '' where they say nothing."""
        return self.table.frame[name].mask(self.says_nothing(name, classes), "")

    def candidates(self) -> tuple[dict[str, "Column"], dict[str, str]]:
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


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: Its name.
        table: The table.
        cells: Its cells that say something; the index is the table's.
    """

    name: str
    table: TextTable
    cells: pd.Series

    @property
    def filled(self) -> int:
        """Number of cells that say something."""
        return len(self.cells)

    @cached_property
    def numbers(self) -> pd.Series:
        """Its cells as numbers; NaN where they are no finite ones."""
        numbers = pd.to_numeric(self.cells, errors="coerce").astype(np.float64)
        return numbers.where(np.isfinite(numbers))

    @cached_property
    def words(self) -> pd.Series:
        """Cells that are no finite numbers."""
        return self.cells[self.numbers.isna()]

    @property
    def numeric(self) -> bool:
        """Whether all of its cells are finite numbers."""
        return self.words.empty

    @cached_property
    def values(self) -> Counter[str]:
        """Its different values, numbers in one form, and how many rows have each."""
        return Counter(in_one_form(self.cells).tolist())

    @property
    def is_class(self) -> bool:
        """Whether it reads as a class: words, or a few whole numbers."""
        whole = self.numeric and bool((self.numbers % 1 == 0).all())
        return not self.numeric or (whole and len(self.values) <= MOST_NUMBERED)

    @property
    def useless(self) -> str | None:
        """Why nothing can be learnt from it; None if something can."""
        if not self.filled:
            return "empty"
        if self.filled < FEWEST:
            return None
        if (self.cells == self.cells.iloc[0]).all():
            return "the same in all rows"
        if len(self.words) == self.filled and self.cells.is_unique:
            return "another word in each row"
        return None

    def check_numbers(self) -> None:
        """Raises DataError if a cell is no finite number."""
        if len(self.words):
            word, count = self.words.iloc[0], len(self.words)
            others = f" ({count:,} such cells of {self.filled:,})" if count > 1 else ""
            raise DataError(
                f"{self.table.place(int(self.words.index[0]))}: {self.name} is '{word}', which is no finite "
                f"number{others}. Correct the cell or leave it empty; missing=[…] says what stands for no value, "
                "kind=classes takes the column for a class."
            )

    def sentinel(self) -> tuple[float, int, float, float] | None:
        """A number that seems to stand for no value: it, how often it is there, and the range of the others.

        It is one that catalogues use for that, and it is repeated, or far away, outside the range of all others by
        more than its width, or the only ones below 0.
        """
        suspects = self.cells.str.fullmatch(_SENTINEL) & self.numbers.notna()
        others = self.numbers[~suspects].dropna()
        if not suspects.any() or len(others) < FEWEST:
            return None
        low, high = float(others.min()), float(others.max())
        counts = self.numbers[suspects].value_counts()
        for value, count in zip(counts.index.to_numpy(float).tolist(), counts.tolist(), strict=True):
            gap = max(low - value, value - high)
            is_far = gap > high - low or (value < 0 <= low)
            if is_far and (count > 1 or gap > 10 * (high - low)):
                return value, int(count), low, high
        return None


def in_one_form(cells: pd.Series) -> pd.Series:
    """Cells with numbers written in one way, so that 0, 0.0 and 0e0 are one class; words as they are."""
    forms = {cell: _one_form(cell) for cell in cells.unique()}
    return cells.map(forms)


def _one_form(cell: str) -> str:
    if _number(cell) is None or not re.fullmatch(r"[-+.\deE]+", cell):
        return cell
    number = Decimal(cell)
    if number == number.to_integral_value() and abs(number) < Decimal(10) ** 30:
        return str(int(number))
    return str(number.normalize())


def class_names(
    column: Column, classes: Sequence[str] | None = None, join_spellings: bool = False
) -> tuple[pd.Series, list[str]]:
    """The class of each cell of a column, and all classes in their order.

    Args:
        column: The column.
        classes: The names, where they are known.
        join_spellings: Whether names that differ in case or spaces alone are one class, called as most are.

    Raises:
        UserError: If there are such names and it is not said whether they are one class.
    """
    cells = in_one_form(column.cells)
    counts = Counter(cells.tolist())
    named = {_one_form(name): name for name in classes or ()}
    groups: dict[str, list[str]] = {}
    for value in sorted(counts, key=lambda value: (value not in named, -counts[value], value)):
        groups.setdefault(_spelling(value), []).append(value)
    known = {_spelling(name): name for name in named.values()} if join_spellings else {}
    if known:
        cells = cells.map({value: known.get(key, value) for key, values in groups.items() for value in values})
    elif join_spellings:
        cells = cells.map({value: values[0] for values in groups.values() for value in values})
    elif not named:
        _ask_about_spellings(column, counts, [values for values in groups.values() if len(values) > 1])
    cells = cells.replace(named) if named else cells
    if classes is not None:
        return cells, list(classes)
    order = sorted(cells.unique(), key=lambda value: (_number(value) if column.numeric else value.lower(), value))
    return cells, order


def _spelling(name: str) -> str:
    """What names have in common that differ in case, spaces, or how their accents are encoded alone."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _ask_about_spellings(column: Column, counts: Mapping[str, int], groups: Sequence[list[str]]) -> None:
    if groups:
        pairs = [" and ".join(f"'{value}' ({counts[value]:,} rows)" for value in sorted(group)) for group in groups]
        raise UserError(
            f"{column.table.path}: values of {column.name} differ in case or spaces alone: {shorten(pairs, '; ')}. If "
            "they are one class, add join_spellings=true; if not, give all names by classes=[…]."
        )


# --- what a run is about


def settings(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Settings that a command leaves to the table: `kind`, `columns`, `classes`, `tree`, `split` and `channels`.

    Args:
        given: The user's values, by key: text, lists of texts, None where something is left open.

    Raises:
        UserError: If there is no such table, or it does not tell what is to be predicted.
    """
    given = {key: value for key, value in given.items() if value is not None}
    simulated, real = (given.get("source") == name for name in ("simulated", "real"))
    if simulated or not (real or "data_dir" in given or FOLDER.is_dir()):
        if "labels" in given and not simulated:
            raise UserError(f"labels={given['labels']} needs data_dir=…, the folder that its paths begin in.")
        return _of_simulated(given) | _channels(given, lambda: given.get("simulate.bands", RGB))
    folder = Path(given.get("data_dir", FOLDER)).expanduser()
    path = table_path(folder, given.get("labels", LABELS))
    contents = table_contents(
        path,
        _names(given["columns"]) if "columns" in given else None,
        "fractions" if "tree" in given else given.get("kind"),
        _names(given["classes"]) if "classes" in given else None,
        tree=given.get("tree"),
        missing=_names(given.get("missing", [])),
        join_spellings=given.get("join_spellings", "").lower() in ("true", "yes", "on", "1"),
        properties=_names(given.get("properties", ["redshift"])),
    )
    settings: dict[str, str | list[str]] = {}
    if contents.has_test and "split" not in given:
        settings["split"] = "folds"
    settings |= _open(given, contents.kind, contents.columns if contents.kind != "fractions" else None)
    if contents.tree is not None and "tree" not in given:
        settings["tree"] = contents.tree
    if contents.classes is not None and "classes" not in given:
        settings["classes"] = contents.classes
    return settings | _channels(given, lambda: first_channels(folder, path, given.get("hdu")))


@dataclass(frozen=True)
class TableContents:
    """Contents of a table of labels.

    Attributes:
        kind: `classes`, `numbers` or `fractions`.
        columns: That are to be predicted; none for fractions, whose tree has them.
        classes: Names of the classes; None where there are none, or they are known.
        has_test: Whether the table says which rows are to test on.
        tree: Of fractions: the decision tree.
    """

    kind: str
    columns: list[str]
    classes: list[str] | None
    has_test: bool
    tree: str | None = None


def table_contents(
    path: Path,
    chosen: Sequence[str] | None = None,
    kind: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    tree: str | None = None,
    missing: Sequence[Any] = (),
    join_spellings: bool = False,
    properties: Sequence[str] = (),
) -> TableContents:
    """Reads from a table what it is about.

    Args:
        path: The table.
        chosen: Columns that are to be predicted; None for all that neither number nor name the rows nor tell where
            they are.
        kind: `classes`, `numbers` or `fractions`; None to see by the columns and values.
        classes: Names of the classes; None for all values.
        tree: The decision tree; None for the one whose columns the table has.
        missing: Further cells that say nothing.
        join_spellings: As for `class_names`.
        properties: Numbers that are no targets beside a class.

    Raises:
        UserError: If there is no such table, or it does not tell what is to be predicted.
    """
    labels = LabelTable.read(path, missing, chosen or ())
    header, split = labels.table.columns, labels.roles.split
    has_test = split is not None and bool((labels.table.frame[split].str.lower() == "test").any())
    if kind == "fractions" or (kind is None and chosen is None and classes is None):
        tree = tree if tree is not None else _ready_tree(header)
        if tree is not None:
            return TableContents("fractions", [], None, has_test, tree)
        if kind == "fractions":
            raise UserError(
                f"{path} has the columns of no decision tree that is known here; it has {shorten(header, shown=12)}. "
                "tree=NAME names one, tree=FILE.yaml one of your own."
            )
    if chosen is not None:
        if absent := [name for name in chosen if name not in header]:
            raise UserError(
                f"{path} has no column {absent[0]}, which columns=… names. It has {shorten(header, shown=12)}."
            )
        columns = {name: labels.column(name, classes or ()) for name in chosen}
    else:
        columns, _ = labels.candidates()
        columns = {name: labels.column(name, classes) for name in columns} if classes else columns
        columns = _without_properties(columns, properties, kind)
    if not columns:
        aside = described(labels.roles.aside)
        raise UserError(
            f"{path} has nothing to predict: {aside}. columns=[…] chooses one of these all the same. {WANTED}."
        )
    names = list(columns)
    if empty := [name for name in names if not columns[name].filled]:
        raise UserError(
            f"{path}: the column {empty[0]} is empty. Fill it, or choose others by columns=[…]; what stands for no "
            f"value are empty cells and {', '.join(MISSING)}."
        )
    kind = kind or _kind(path, columns)
    if kind == "numbers":
        for name in names:
            columns[name].check_numbers()
    found = _classes(path, columns, classes, join_spellings) if kind == "classes" else None
    return TableContents(kind, names, found if classes is None else None, has_test)


def described(aside: Mapping[str, str]) -> str:
    """Columns that are left aside, by the reason.

    >>> described({"ra": "position", "dec": "position", "": "numbers the rows"})
    "ra, dec (position), '' (numbers the rows)"
    """
    reasons: dict[str, list[str]] = {}
    for name, reason in aside.items():
        reasons.setdefault(reason, []).append(name or "''")
    return ", ".join(f"{shorten(names)} ({reason})" for reason, names in reasons.items())


def _ready_tree(header: Sequence[str]) -> str | None:
    """The tree whose columns a table has; torch, which the rules of trees need, is loaded for a likely one alone."""
    if sum(("_" in name or "." in name) for name in header) < FEWEST:
        return None
    from galaxyml.data.tables.vote_columns import matching_trees

    return next(iter(matching_trees(header)), None)


def _without_properties(columns: dict[str, Column], properties: Sequence[str], kind: str | None) -> dict[str, Column]:
    """Columns without numbers that performance is shown against, where they stand beside one class."""
    words = [name for name, column in columns.items() if not column.numeric]
    others = [name for name in columns if name not in words]
    shown = [name for name in others if name in properties]
    if kind in (None, "classes") and len(words) == 1 and shown == others:
        return {name: columns[name] for name in words}
    return columns


def _of_simulated(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The same of the simulated sky's table, which is drawn later."""
    if "tree" in given or given.get("kind") == "fractions":
        return _open(given, "fractions")
    if "columns" not in given:
        return {}
    names = _names(given["columns"])
    if unknown := [name for name in names if name not in (SIMULATED_CLASS, *SIMULATED_NUMBERS)]:
        raise UserError(
            f"The simulated sky's table has no column {unknown[0]}; it has {SIMULATED_CLASS} (a class) and "
            f"{', '.join(SIMULATED_NUMBERS)} (numbers)."
        )
    if len(names) > 1 and SIMULATED_CLASS in names:
        raise UserError(
            f"columns=…: a run learns one class, or numbers. Give columns=[{SIMULATED_CLASS}], or the others."
        )
    return _open(given, "classes" if names == [SIMULATED_CLASS] else "numbers", names)


def _open(given: Mapping[str, Any], kind: str, names: list[str] | None = None) -> dict[str, str | list[str]]:
    """Kind and columns, where the user has not given them."""
    settings: dict[str, str | list[str]] = {} if "kind" in given else {"kind": kind}
    if names is not None and not isinstance(given.get("columns"), list):
        settings["columns"] = names
    return settings


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else [str(value)]


def _channels(given: Mapping[str, Any], find: Callable[[], Any]) -> dict[str, str | list[str]]:
    """The number of channels, where the user has not given it: that of the bands, or what is found."""
    if "channels" in given:
        return {}
    if "bands" in given:
        return {"channels": str(len(_names(given["bands"])))}
    return {"channels": str(find())}


def first_channels(folder: Path, path: Path, hdu: Any = None) -> int:
    """Channels that the first image of a table holds; 3 where none of the first few can be read, which is told later.

    Args:
        folder: Of the images.
        path: The table.
        hdu: Of FITS files: name or number of the HDU with the image; None to find it.
    """
    from galaxyml.data.images.decode import channels_of, file_of  # here, as it takes a while
    from galaxyml.data.images.decoding import Decoding

    decoding = Decoding(hdu=int(hdu) if str(hdu).isdecimal() else hdu)
    labels = LabelTable.read(path)
    tried = 0
    for name in labels.table.frame[labels.roles.path]:
        if not (image := folder / name).is_file() and not Path(file_of(str(image))).is_file():
            continue
        try:
            return channels_of(image, decoding)
        except DataError:
            tried += 1
        if tried == MOST_TRIED:
            break
    return RGB


def table_path(folder: Path, labels: str) -> Path:
    """Path of a table: in the folder of the images, or else where its name says.

    Where there is no `labels.csv`, one of another format under the same name is it.

    Args:
        folder: The folder.
        labels: Its name, or a path.
    """
    inside, beside = folder / labels, Path(labels).expanduser()
    if inside.is_file() or not beside.is_file():
        others = [folder / f"labels{suffix}" for suffix in SUFFIXES] if labels == LABELS else []
        present = [path for path in others if path.is_file()]
        return inside if inside.is_file() or len(present) != 1 else present[0]
    return beside


def _kind(path: Path, columns: Mapping[str, Column]) -> str:
    """Kind of the columns: `classes` or `numbers`."""
    for column in columns.values():
        if 0 < len(column.words) < FEW_WORDS * column.filled:  # a number that went wrong rather than a class
            column.check_numbers()
    if len(columns) == 1:
        return "classes" if next(iter(columns.values())).is_class else "numbers"
    words = [name for name, column in columns.items() if not column.numeric]
    if not words:
        return "numbers"
    others = [name for name in columns if name not in words]
    numbers = f", or columns=[{','.join(others)}] for numbers" if others else ""
    raise UserError(
        f"{path} holds words in {shorten(words)}: a run learns one class, or numbers. Say which: "
        f"columns=[{words[0]}] for "
        f"a class{numbers}; tree=FILE.yaml for fractions of a decision tree."
    )


def _classes(
    path: Path, columns: Mapping[str, Column], classes: Sequence[str] | None, join_spellings: bool
) -> list[str]:
    """Names of the classes, numbers in their order."""
    if len(columns) > 1:
        raise UserError(
            f"kind=classes: a run learns one class, but there are {shorten(list(columns))}. Give "
            f"columns=[{next(iter(columns))}]."
        )
    ((name, column),) = columns.items()
    if classes is not None:
        return list(classes)
    if len(column.values) > MOST_CLASSES or 2 * len(column.values) > max(column.filled, 4):
        least = "more than " if len(column.values) > MOST_CLASSES else ""
        raise UserError(
            f"{path}: {name} has {least}{min(len(column.values), MOST_CLASSES)} different values in "
            f"{column.filled:,} rows, too many for a class. Choose another column by columns=[…]"
            f"{', or kind=numbers' if column.numeric else ''}."
        )
    _, names = class_names(column, None, join_spellings)
    if len(names) < 2:
        raise UserError(f"{path}: {name} is {names[0]} in all rows; a class needs two values or more.")
    return names


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


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


def sentinel_note(column: Column) -> str | None:
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


def _place(labels: LabelTable, wrong: np.ndarray) -> str:
    return labels.table.place(int(labels.table.frame.index[int(wrong.argmax())]))
