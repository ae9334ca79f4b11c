"""Numbers that say how good predicted numbers are, each beside the trivial predictor's."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.bootstrap import draws, with_ends
from galaxyml.evaluation.scored import per_column
from galaxyml.kinds.numbers.metrics import by_column, over_columns, resampled
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir

RESAMPLES = 1000


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
            predicted = table[self.columns].to_numpy(np.float64)
            if not np.isfinite(predicted).all():
                raise diverged(run.path)
            rows = pd.Index(catalog["id"]).get_indexer(table["id"])
            target = catalog[self.columns].to_numpy(np.float64)[rows]
            found |= {f"{split}/{key}": value for key, value in self._scored(predicted, target).items()}
            means = self._scored(
                out_of_fold_means(catalog[self.columns].to_numpy(), catalog["fold"].to_numpy(), rows),
                target,
                intervals=False,
            )
            # Within a fold means are constant; joined over folds they only anticorrelate with what they leave out.
            means = {key: 0.0 if key.startswith("pearson") else value for key, value in means.items()}
            kept = {key: value for key, value in means.items() if not key.startswith(("bias", "nmad", "r2/"))}
            found |= {f"{split}/mean_{key}": value for key, value in kept.items()}
        return {key: value for key, value in found.items() if np.isfinite(value)}

    def _scored(self, predicted: np.ndarray, target: np.ndarray, intervals: bool = True) -> dict[str, float]:
        each = resampled(predicted, target, draws(len(target), self.resamples if intervals else 0, seed=0))
        singles = {name: values[None] for name, values in by_column(predicted, target).items()}
        values = over_columns(each) | per_column(
            singles | {name: each[name] for name in singles if name in each}, self.columns
        )
        numbers: dict[str, float] = {}
        for key, drawn in values.items():
            numbers |= with_ends(key, drawn) if intervals and len(drawn) > 1 else {key: float(drawn[0])}
        return numbers
