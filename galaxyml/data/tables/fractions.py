"""Vote fractions of a table, checked against the decision tree that they are of."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from galaxyml.data.tables.reading import check_range, more, place
from galaxyml.runs.errors import DataError
from galaxyml.trees import DecisionTree, gaps

REFUSED_GAP, REPORTED_GAP = 0.05, 0.001  # real catalogues are off by up to 0.02, by rounding


def check_fractions(path: Path, table: pd.DataFrame, id_column: str, tree: DecisionTree, notes: list[str]) -> None:
    """Makes sure that fractions lie in [0, 1] and that each question's sum to the answer that leads there.

    Args:
        path: The file, for messages.
        table: With the tree's columns; its index counts the lines after the header.
        id_column: Column of the galaxies' ids.
        tree: The decision tree.
        notes: Gets a sentence if groups are off by more than rounding of the sixth digit, but within rounding of
            real catalogues.

    Raises:
        DataError: If the table breaks a rule; the message names the row, the galaxy, and what is allowed.
    """
    check_range(path, table, id_column, tree.columns)
    values = table[tree.columns].to_numpy(np.float64)
    off = gaps(torch.tensor(values), tree).numpy()
    if (wrong := np.argwhere(np.abs(off) > REFUSED_GAP)).size:
        row, number = (int(found) for found in wrong[0])
        question, leads = tree.questions[number], tree.leads[number]
        parent = float(values[row, leads].sum()) if leads else 1.0
        raise DataError(
            f"{path}, {place(table, row, id_column)}: {question.columns[0]} to {question.columns[-1]} sum to "
            f"{off[row, number] + parent:.4f}, but {' + '.join(question.after) or 'the whole'} is {parent:.4f}; "
            f"they may differ by {REFUSED_GAP}{more(len(wrong))}. Give fractions of paths: each question's fractions "
            "times the answer that leads to it."
        )
    if count := int((np.abs(off) > REPORTED_GAP).sum()):
        notes.append(
            f"{path.name}: {count:,} of {off.size:,} sums differ from their parent by more than {REPORTED_GAP} "
            f"(at most {np.abs(off).max():.3f}); taken as they are."
        )
