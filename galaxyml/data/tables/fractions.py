"""Vote fractions of a table, checked against the decision tree that they are of."""

import numpy as np
import torch

from galaxyml.data.tables.reading import Rows, check_range
from galaxyml.trees import DecisionTree, gaps

REFUSED_GAP, REPORTED_GAP = 0.05, 0.001  # real catalogues are off by up to 0.02, by rounding


def check_fractions(rows: Rows, tree: DecisionTree, notes: list[str]) -> None:
    """Makes sure that fractions lie in [0, 1] and that each question's sum to the answer that leads there.

    Args:
        rows: With the tree's columns.
        tree: The decision tree.
        notes: Gets a sentence if groups are off by more than rounding of the sixth digit, but within rounding of
            real catalogues.

    Raises:
        DataError: If the table breaks a rule; the message names the row, the galaxy, and what is allowed.
    """
    check_range(rows, tree.columns)
    values = rows.frame[tree.columns].to_numpy(np.float64)
    off = gaps(torch.tensor(values), tree).numpy()

    def fault(row: int, number: int) -> str:
        question, leads = tree.questions[number], tree.leads[number]
        parent = float(values[row, leads].sum()) if leads else 1.0
        return (
            f": {question.columns[0]} to {question.columns[-1]} sum to {off[row, number] + parent:.4f}, but "
            f"{' + '.join(question.after) or 'the whole'} is {parent:.4f}; they may differ by {REFUSED_GAP}"
        )

    rows.refuse(
        np.abs(off) > REFUSED_GAP,
        fault,
        "Give fractions of paths: each question's fractions times the answer that leads to it.",
    )
    if count := int((np.abs(off) > REPORTED_GAP).sum()):
        notes.append(
            f"{rows.path.name}: in {count:,} of {off.size:,} groups the answers do not sum to their parent question "
            f"(largest gap {np.abs(off).max():.3f}, rounding); used unchanged."
        )
