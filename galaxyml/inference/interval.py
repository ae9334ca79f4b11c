"""Which intervals of predicted numbers a table keeps."""

import re
from typing import TYPE_CHECKING

from galaxyml.runs.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

USUAL = "95"  # of the command
ALL, NONE = "all", "none"
_COLUMN = r"_(?:low|high)(\d+)$"  # end of the name of an interval's column, in per cent


def with_interval(table: "pd.DataFrame", interval: int | str) -> "pd.DataFrame":
    """A table of predictions with the ends of one interval of each column, of those that it has.

    Args:
        table: With columns such as `r90_low95`, or without.
        interval: Per cent; or `all`, or `none`.

    Raises:
        UserError: If it does not have this one.
    """
    interval = str(interval)
    levels = {name: ends.group(1) for name in table.columns if (ends := re.search(_COLUMN, name))}
    given = f"--interval {interval}, in Python interval={interval if interval.isdecimal() else repr(interval)}"
    if not levels and interval not in (USUAL, ALL, NONE):
        raise UsageError(f"{given}: this run's predictions have no intervals. Leave it out.")
    if not levels or interval == ALL:
        return table
    choices = sorted(set(levels.values()), key=int)
    if interval not in (*choices, NONE):
        raise UsageError(f"{given}: this run has intervals of {', '.join(choices)} %; or give all or none.")
    return table.drop(columns=[name for name, level in levels.items() if level != interval])
