"""Numbers that say how good predicted numbers are, each beside the trivial predictor's."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import column_means
from galaxyml.evaluation.bootstrap import draws
from galaxyml.kinds.numbers.metrics import by_column, over_columns, resampled
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir

RESAMPLES = 1000
LEVEL = 0.95


class ScoreNumbers:
    """R2, Pearson's correlation and errors of each number and over all of them, with bootstrap intervals.

    Args:
        columns: The numbers, K of them.
        resamples: Of the bootstrap, over objects.
    """

    def __init__(self, columns: Sequence[str], resamples: int = RESAMPLES) -> None:
        self.columns = list(columns)
        self.resamples = resamples

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split.

        Returns:
            Numbers by `<split>/<metric>[/<column>]`; `mean_` marks those of the mean over the training objects, `_low`
            and `_high` the ends of 95 % of bootstrap resamples.

        Raises:
            UserError: If a prediction is not finite.
        """
        found: dict[str, float] = {}
        catalog = run.catalog()
        for split in ("val", "test"):
            if (table := run.predictions(split)) is None:
                continue
            said = table[self.columns].to_numpy(np.float64)
            if not np.isfinite(said).all():
                raise diverged(run.path)
            rows = pd.Index(catalog["id"]).get_indexer(table["id"])
            true = catalog[self.columns].to_numpy(np.float64)[rows]
            found |= {f"{split}/{key}": value for key, value in self._scored(said, true).items()}
            means = self._scored(column_means(catalog, self.columns, rows), true, intervals=False)
            # Within a fold means are constant; joined over folds they only anticorrelate with what they leave out.
            means = {key: 0.0 if key.startswith("pearson") else value for key, value in means.items()}
            kept = {key: value for key, value in means.items() if not key.startswith(("bias", "nmad", "r2/"))}
            found |= {f"{split}/mean_{key}": value for key, value in kept.items()}
        return {key: value for key, value in found.items() if np.isfinite(value)}

    def _scored(self, said: np.ndarray, true: np.ndarray, intervals: bool = True) -> dict[str, float]:
        drawn = draws(len(true), self.resamples if intervals else 0, seed=0)
        each = resampled(said, true, drawn)
        columns = by_column(said, true)
        found: dict[str, float] = {}
        for name, values in over_columns(each).items():
            found |= _with_ends(name, values, "", intervals)
        for name, singles in columns.items():
            for at, column in enumerate(self.columns):
                values = each[name][:, at] if name in each else singles[at : at + 1]
                found |= _with_ends(name, values, f"/{column}", intervals and name in each)
        return found


def _with_ends(name: str, values: np.ndarray, column: str, intervals: bool) -> dict[str, float]:
    """A metric, and the ends of its interval over resamples, the first of which is the sample itself."""
    found = {f"{name}{column}": float(values[0])}
    if intervals:
        low, high = np.nanquantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found |= {f"{name}_low{column}": float(low), f"{name}_high{column}": float(high)}
    return found
