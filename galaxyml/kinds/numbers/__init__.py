"""Numbers with units."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torchmetrics import Metric

from galaxyml.data.tables.reading import Rows, finite_numbers
from galaxyml.evaluation.predict_intervals import PredictIntervals
from galaxyml.kinds.kind import Kind, Stage, scored_columns, with_column_means
from galaxyml.kinds.losses import MSELoss
from galaxyml.kinds.numbers.figures import NumberFigures, caption
from galaxyml.kinds.numbers.metrics import NumberMetrics
from galaxyml.kinds.numbers.scaling import ScaledLoss, TargetScaler
from galaxyml.kinds.numbers.score import WORDS, ScoredNumbers, ScoreNumbers
from galaxyml.runs.errors import DataError
from galaxyml.runs.run_dir import RunDir


class Numbers(Kind):
    """Numbers of any size, each in a unit of its own and with intervals.

    Targets and outputs are in the units of the table, shape (N, K); NaN marks a target that is not known.

    Args:
        columns: Names, K of them.
        resamples: Bootstrap resamples of the intervals of scores; 0 for none.
        crop: Central part of an image that figures show, a fraction of its side.
    """

    name: ClassVar[str] = "numbers"
    words = WORDS
    promise: ClassVar[str] = (
        "How sure: the interval beside a number holds the truth in 95 % of cases (conformal prediction), for galaxies "
        "like those that the run was validated on."
    )

    def __init__(self, columns: Sequence[str], resamples: int = 1000, crop: float = 1.0) -> None:
        self.outputs = list(columns)
        self.resamples, self.crop = resamples, crop

    @property
    def score_names(self) -> None:
        """None: scores are numbers in units of their spread over the training set."""
        return None

    def head(self) -> TargetScaler:
        return TargetScaler(len(self.outputs))

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        """Measured in standard deviations of each number."""
        return ScaledLoss(chosen if chosen is not None else MSELoss(), len(self.outputs))

    def metrics(self) -> Metric:
        return NumberMetrics(self.outputs)

    def baseline(self, targets: Tensor) -> Tensor:
        """Means of the numbers."""
        return targets.nanmean(dim=0)

    def read_targets(self, rows: Rows, columns: list[str], notes: list[str]) -> pd.DataFrame:
        values = finite_numbers(rows, columns)
        if constant := [name for name in columns if values[name].nunique() < 2]:
            raise DataError(
                f"{rows.path}: {constant[0]} is {values[constant[0]].iloc[0]:g} in all rows; there is nothing to "
                "learn. Choose others by columns=[…]."
            )
        return values

    def stages(self) -> list[Stage]:
        return [
            ScoreNumbers(self.outputs, self.resamples),
            PredictIntervals(self.outputs, bounded=False),
            NumberFigures(self.outputs, self.crop),
        ]

    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredNumbers | None:
        return scored_columns(ScoredNumbers, run, split, WORDS, self.outputs)

    def column_means(self, run: RunDir, scored: ScoredNumbers) -> ScoredNumbers:
        return with_column_means(scored, run)

    def targets_like_outputs(self, catalog: pd.DataFrame) -> np.ndarray:
        return catalog[self.outputs].to_numpy(np.float64)

    def unit(self, targets: np.ndarray) -> np.ndarray:
        """Standard deviations; 1 for a constant."""
        deviation = np.nanstd(targets, axis=0)
        return np.where(deviation > 0, deviation, 1.0)

    def caption(self, output: np.ndarray, target: np.ndarray) -> str:
        return caption(self.outputs, output, target)
