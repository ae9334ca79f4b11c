from typing import Any

import pandas as pd
import pytest

from galaxyml.data.tables.truth import Truth
from galaxyml.runs.errors import UserError

TABLE = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "kind": ["smooth", "merger", "", "ring"],
        "f": [0.2, 0.9, None, 0.8],
        "odd": ["false", "Yes", "", "1"],
        "flag": [0, 1, 1, 0],
    }
)


def flags(truth: Truth, table: pd.DataFrame = TABLE) -> list[tuple[bool, bool, str]]:
    known = truth.of(table, "labels.csv")
    return list(zip(known["unknown"], known["known"], known["name"], strict=True))


def test_a_column_called_odd_is_read_where_none_is_named():
    ordinary, odd, nothing = (False, True, "ordinary"), (True, False, "odd"), (False, False, "")
    assert flags(Truth()) == [ordinary, odd, nothing, odd]
    assert flags(Truth("flag")) == [ordinary, odd, odd, ordinary]
    assert flags(Truth(), TABLE[["id", "kind"]]) == [nothing] * 4


def test_classes_keep_their_names_and_cells_that_are_empty_say_nothing():
    assert flags(Truth("kind", ["ring", "merger"])) == [
        (False, True, "smooth"),
        (True, False, "merger"),
        (False, False, ""),
        (True, False, "ring"),
    ]
    assert flags(Truth("kind", "ring"))[1] == (False, True, "merger")
    assert flags(Truth("flag", ["1"]))[1] == (True, False, "1")


def test_numbers_are_odd_above_a_threshold_and_not_at_it():
    assert [odd for odd, _, _ in flags(Truth("f", 0.8))] == [False, True, False, False]
    assert [known for _, known, _ in flags(Truth("f", 0.8))] == [True, False, False, True]


@pytest.mark.parametrize(
    ("column", "odd", "said"),
    [
        (None, 0.8, "truth.odd=0.8 needs truth.column="),
        ("kinds", ["ring"], "labels.csv has no such column. Did you mean kind"),
        ("kind", ["rings"], "truth.odd=rings: labels.csv has no such class in kind. Did you mean ring"),
        ("kind", 0.8, "kind of row 1 of 4 is smooth, which is no number above or below truth.odd=0.8"),
        ("kind", None, "kind of row 1 of 4 is smooth; it must be true or false"),
    ],
)
def test_what_does_not_fit_is_refused(column: str | None, odd: Any, said: str):
    with pytest.raises(UserError) as error:
        Truth(column, odd).of(TABLE, "labels.csv")
    assert said in str(error.value)


def test_a_column_without_a_cell_is_refused():
    with pytest.raises(UserError, match="odd is empty in all rows"):
        Truth().of(TABLE.assign(odd=""), "labels.csv")
