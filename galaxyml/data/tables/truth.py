"""What a table says of images that are ranked without it: which are odd."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.runs.errors import DataError, UserError, did_you_mean, shorten

USUAL = "odd"  # the column that says so where none is named
YES, NO = ("true", "yes", "1", "1.0", "odd"), ("false", "no", "0", "0.0", "ordinary")
ODD, ORDINARY = "odd", "ordinary"


@dataclass(frozen=True)
class Truth:
    """Which images are odd, by a column of their table.

    Attributes:
        column: It; None for one called `odd`, where there is one.
        odd: A number above which its numbers are odd, or the classes that are; None where it says yes and no.

    Raises:
        UserError: If it is said what is odd, and not in which column.
    """

    column: str | None = None
    odd: Any = None

    def __post_init__(self) -> None:
        if self.column is None and self.odd is not None:
            raise UserError(f"truth.odd={self.odd} needs truth.column=…, the column of the table that tells it.")

    def of(self, table: pd.DataFrame, where: str) -> pd.DataFrame:
        """What is known of each row.

        Args:
            table: What is said of N images.
            where: The table, for messages.

        Returns:
            `unknown`, whether it is odd; `known`, whether it is ordinary; both False where the cell is empty; `name`,
            its class, or `odd` and `ordinary`, '' where not known. One row an image.

        Raises:
            DataError: If there is no such column, or its cells are not what `odd` asks for.
        """
        column = self.column if self.column is not None else USUAL
        if column not in table:
            if self.column is not None:
                others = [str(name) for name in table if name != "id"]
                has = f" {did_you_mean(column, others)} It has {shorten(others)}." if others else " It has no columns."
                raise DataError(f"truth.column={column}: {where} has no such column.{has}")
            return self._as_table(np.zeros(len(table), bool), np.zeros(len(table), bool), [""] * len(table))
        cells = table[column]
        text = cells.astype("string").fillna("").str.strip()
        filled = (text != "").to_numpy(bool)
        if not filled.any():
            raise DataError(f"{where}: {column} is empty in all rows, so that it tells of none whether it is odd.")
        if isinstance(self.odd, int | float) and not isinstance(self.odd, bool):
            odd, names = self._above(cells, filled, float(self.odd), where)
        elif self.odd is not None:
            odd, names = self._of_classes(text, filled, where)
        else:
            odd, names = self._yes(text, filled, column, where)
        return self._as_table(odd & filled, ~odd & filled, names)

    def _above(self, cells: pd.Series, filled: np.ndarray, level: float, where: str) -> tuple[np.ndarray, list[str]]:
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
        if (bad := filled & np.isnan(numbers) & ~cells.isna().to_numpy()).any():
            row = int(bad.argmax())
            raise DataError(
                f"{where}: {self.column} of {_name(cells, row)} is {cells.iloc[row]}, which is no number above or "
                f"below truth.odd={level:g}. Of classes, give their names: truth.odd=[…]."
            )
        odd = numbers > level
        return odd, np.where(filled, np.where(odd, ODD, ORDINARY), "").tolist()

    def _of_classes(self, text: pd.Series, filled: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
        given: Sequence[Any] = [self.odd] if isinstance(self.odd, str | bool) else list(self.odd)
        classes = [str(name).strip() for name in given]
        there = sorted(set(text[filled]))
        if absent := [name for name in classes if name not in there]:
            raise DataError(
                f"truth.odd={absent[0]}: {where} has no such class in {self.column}. {did_you_mean(absent[0], there)} "
                f"It has {shorten(there)}."
            )
        return text.isin(classes).to_numpy(bool), text.tolist()

    def _yes(self, text: pd.Series, filled: np.ndarray, column: str, where: str) -> tuple[np.ndarray, list[str]]:
        said = text.str.lower()
        odd = said.isin(YES).to_numpy(bool)
        if (bad := filled & ~odd & ~said.isin(NO).to_numpy(bool)).any():
            row = int(bad.argmax())
            how = (
                "Say what is odd: truth.odd=[CLASS,…], or truth.odd=NUMBER for what is above it."
                if self.column is not None
                else "Rename the column if it says something else."
            )
            raise DataError(
                f"{where}: {column} of {_name(text, row)} is {text.iloc[row]}; it must be true or false, yes or no, 1 "
                f"or 0. {how}"
            )
        return odd, np.where(filled, np.where(odd, ODD, ORDINARY), "").tolist()

    def _as_table(self, unknown: np.ndarray, known: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
        return pd.DataFrame({"unknown": unknown, "known": known, "name": list(names)})


def _name(cells: pd.Series, row: int) -> str:
    """A row in words."""
    return f"row {row + 1:,} of {len(cells):,}"
