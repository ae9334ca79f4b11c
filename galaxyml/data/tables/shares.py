"""Numbers of a table that look like the shares of a question's answers, as they sum to 1."""

from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.runs.errors import shorten
from galaxyml.trees.tree import tree_text

FEWEST = 10  # rows that may show it
GAP = 0.02  # of a sum from 1, by rounding
NEARLY_ALL = 0.95  # of the rows
LOOKED_AT = 2000  # rows


def shares_note(path: Path, numbers: pd.DataFrame) -> str | None:
    """A sentence on columns that look like shares of one question's answers each, and on how to learn them as such.

    Args:
        path: The table.
        numbers: What is learnt of it, a column each.

    Returns:
        None if there are none.
    """
    groups = groups_of_shares(numbers.head(LOOKED_AT).to_numpy(np.float64))
    if not groups:
        return None
    names = [[str(name) for name in numbers.columns[group]] for group in groups]
    numbered = [f"question {number}" for number in range(1, len(names) + 1)] if len(names) > 1 else ["question"]
    entries = [{"name": name, "answers": answers} for name, answers in zip(numbered, names, strict=True)]
    columns = "; ".join(shorten(answers) for answers in names)
    return (
        f"{path.name}: {columns} lie in [0, 1] and sum to 1, as shares of a question's answers do, and are learnt as "
        "plain numbers, which need not. To learn them as shares put this line into a file, tree.yaml, and give "
        f"tree=tree.yaml: {tree_text('My questions' if len(names) > 1 else 'My question', '{answer}', entries)}"
    )


def groups_of_shares(values: np.ndarray) -> list[slice]:
    """Columns side by side, two or more, that lie in [0, 1] and sum to 1 in nearly every row; the most from the left.

    Args:
        values: Shape (N, K).

    >>> groups_of_shares(np.tile([[0.2, 0.8, 0.0, 7.0, 0.5, 0.5], [0.1, 0.6, 0.3, 8.0, 0.4, 0.6]], (10, 1)))
    [slice(0, 3, None), slice(4, 6, None)]
    """
    if len(values) < FEWEST:
        return []
    is_out = ((values < 0) | (values > 1)).any(axis=0)
    groups, first = [], 0
    while first < values.shape[1]:
        end = next((column for column in np.flatnonzero(is_out) if column >= first), values.shape[1])
        sums = values[:, first:end].cumsum(axis=1)
        are_whole = (np.abs(sums - 1) <= GAP).mean(axis=0) >= NEARLY_ALL
        last = int(np.flatnonzero(are_whole).max(initial=0))
        if last > 0:
            groups.append(slice(first, first + last + 1))
        first += last + 1
    return groups
