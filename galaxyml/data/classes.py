"""Classes of a catalog: how evenly they are drawn, and whether there is something to learn from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.runs.errors import DataError, UserError

UNKNOWN = -1  # the label of an object whose class is not known


def check_balance(balance: float) -> None:
    """Refuses what is no number in [0, 1].

    Raises:
        UserError: If it is not.
    """
    if not 0 <= balance <= 1:
        raise UserError(f"balance={balance}: it must be a number in [0, 1]; 0 is as they come, 1 is all alike.")


def row_weights(labels: Tensor, balance: float) -> Tensor:
    """How often objects are drawn: the frequency of their class to the power of -balance.

    Args:
        labels: Shape (N,), 0 or more.
        balance: 0 as they come, 1 all classes equally often.
    """
    counts = torch.bincount(labels).double()
    return counts[labels] ** -balance


def check_counts(labels: pd.Series, classes: Sequence[str], where: str, advice: str) -> list[str]:
    """Makes sure that there is something to learn from; gives notes on classes without objects.

    Args:
        labels: Of the labelled objects, 0 to K - 1.
        classes: Names of the K classes.
        where: The file that they come from.
        advice: What the user can do.

    Raises:
        DataError: If there are no objects, or fewer than two classes have any.
    """
    if labels.empty:
        raise DataError(f"{where}: no galaxies are left after the cuts. {advice}")
    counts = np.bincount(labels, minlength=len(classes))
    if (counts > 0).sum() < 2:
        only = classes[int(counts.argmax())]
        raise DataError(f"{where}: all {len(labels):,} galaxies that are left are of the class '{only}'. {advice}")
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    return [f"no galaxy is of the class {', '.join(missing)}."] if missing else []
