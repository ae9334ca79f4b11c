"""Classes of a catalog: whether there is something to learn from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.runs.errors import DataError

UNKNOWN = -1  # the label of an object whose class is not known


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
