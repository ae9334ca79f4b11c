"""Figures of predicted numbers: against the truth, their errors, over the epochs, and galaxy by galaxy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from galaxyml.evaluation.plots import (
    LOSS_CURVES,
    error_grid,
    loss_curves,
    scatter_grid,
    without_duplicates,
    write_images,
)
from galaxyml.kinds.numbers.metrics import MOST, deviation
from galaxyml.runs.run_dir import NAMED, RunDir

SHOWN = 8  # galaxies among the best and among the worst


@dataclass(frozen=True)
class NumberFigures:
    """Draws what a person looks at first.

    Attributes:
        columns: The numbers.
        crop: Central part of an image that is shown, a fraction of its side.
    """

    only_draws: ClassVar[bool] = True
    columns: list[str]
    crop: float

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures, of the test split where there is one and of the validation split otherwise.

        Returns:
            Nothing of its own.
        """
        split = "test" if run.has_predictions("test") else "val"
        catalog, table = run.catalog(), run.predictions(split)
        assert table is not None
        rows = pd.Index(catalog["id"]).get_indexer(table["id"])
        predicted, target = table[self.columns].to_numpy(np.float64), catalog[self.columns].to_numpy(np.float64)[rows]
        first = self.columns[:MOST]
        noun = f"{NAMED[split]} galaxies"
        run.write_figure(
            f"1_predicted_against_true_{split}",
            scatter_grid(predicted, target, first),
            f"Predicted against true numbers of {noun}. A perfect model lies on the line.",
        )
        run.write_figure(
            f"2_errors_{split}",
            error_grid(predicted, target, first),
            f"Errors of {noun} against the truth, with their running median: a line that slopes tells of predictions "
            "drawn towards the mean.",
        )
        run.write_figure("3_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        if "image" not in catalog:
            return {}
        errors = np.sqrt(np.square((predicted - target) / deviation(target)).mean(axis=1))
        order = without_duplicates(np.argsort(errors), catalog, rows)
        for name, title, extreme, chosen in (
            (f"4_best_galaxies_{split}", "Predicted best", "smallest", order[:SHOWN]),
            (f"5_worst_galaxies_{split}", "Predicted worst", "largest", order[::-1][:SHOWN]),
        ):
            captions = [
                f"{table['id'].iloc[row]}\n{caption(self.columns, predicted[row], target[row])}" for row in chosen
            ]
            description = f"{title}: the {noun} with the {extreme} error over all numbers, in standard deviations."
            write_images(run, name, title, description, catalog["image"].iloc[rows[chosen]], captions, self.crop)
        return {}


def caption(columns: Sequence[str], output: np.ndarray, target: np.ndarray) -> str:
    """The first three numbers of one object, a line each."""
    rows = zip(columns[:3], output, target, strict=False)
    return "\n".join(f"{name}: true {target:.4g}, predicted {predicted:.4g}" for name, predicted, target in rows)
