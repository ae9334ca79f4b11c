"""A column of a table of labels: what its cells say, as numbers, as words, or as classes."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
import pandas as pd

from galaxyml.data.tables.roles import FEWEST
from galaxyml.data.tables.text_table import TextTable
from galaxyml.runs.errors import DataError, UserError, shorten

MOST_NUMBERED = 20  # different whole numbers that are taken for classes
# What stands for no value in many catalogues: 99, -99.9, -9999, -32768, 1e20, -1e30.
_SENTINEL = re.compile(
    r"[+-]?(9{2,}(\.9*0*)?|[19](\.0*)?[eE]\+?(19|[23]\d)|32768(\.0*)?|2147483648)|-9(\.9*0*)?|-999\.25"
)


@dataclass(frozen=True)
class LabelColumn:
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
    if as_number(cell) is None or not re.fullmatch(r"[-+.\deE]+", cell):
        return cell
    number = Decimal(cell)
    if number == number.to_integral_value() and abs(number) < Decimal(10) ** 30:
        return str(int(number))
    return str(number.normalize())


def class_names(
    column: LabelColumn, classes: Sequence[str] | None = None, join_spellings: bool = False
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
    order = sorted(cells.unique(), key=lambda value: (as_number(value) if column.numeric else value.lower(), value))
    return cells, order


def _spelling(name: str) -> str:
    """What names have in common that differ in case, spaces, or how their accents are encoded alone."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _ask_about_spellings(column: LabelColumn, counts: Mapping[str, int], groups: Sequence[list[str]]) -> None:
    if groups:
        pairs = [" and ".join(f"'{value}' ({counts[value]:,} rows)" for value in sorted(group)) for group in groups]
        raise UserError(
            f"{column.table.path}: values of {column.name} differ in case or spaces alone: {shorten(pairs, '; ')}. If "
            "they are one class, add join_spellings=true; if not, give all names by classes=[…]."
        )


def as_number(value: str) -> float | None:
    """A cell as a finite number; None if it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
