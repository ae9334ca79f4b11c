"""Numbers with units."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from galaxyml.evaluation.predict_intervals import PredictIntervals
from galaxyml.kinds.kind import Kind, Stage
from galaxyml.kinds.losses import MSELoss
from galaxyml.kinds.numbers.figures import NumberFigures, caption
from galaxyml.kinds.numbers.head import TargetScaler
from galaxyml.kinds.numbers.losses import ScaledLoss
from galaxyml.kinds.numbers.metrics import NumberMetrics
from galaxyml.kinds.numbers.score import ScoreNumbers


class Numbers(Kind):
    """Numbers of any size, each in a unit of its own and with intervals.

    Targets and outputs are in the units of the table, shape (N, K); NaN marks a target that is not known.

    Args:
        columns: Names, K of them.
        resamples: Bootstrap resamples of the intervals of scores; 0 for none.
        crop: Central part of an image that figures show, a fraction of its side.
    """

    name: ClassVar[str] = "numbers"
    monitor: ClassVar[str] = "val/r2"
    mode: ClassVar[str] = "max"

    def __init__(self, columns: Sequence[str], resamples: int = 1000, crop: float = 1.0) -> None:
        self.outputs = list(columns)
        self.resamples, self.crop = resamples, crop

    def head(self) -> TargetScaler:
        return TargetScaler(len(self.outputs))

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        """Measured in standard deviations of each number."""
        return ScaledLoss(chosen if chosen is not None else MSELoss(), len(self.outputs))

    def metrics(self) -> NumberMetrics:
        return NumberMetrics(self.outputs)

    def baseline(self, targets: Tensor) -> Tensor:
        """Means of the numbers."""
        return targets.nanmean(dim=0)

    def stages(self) -> list[Stage]:
        return [
            ScoreNumbers(self.outputs, self.resamples),
            PredictIntervals(self.outputs, bounded=False),
            NumberFigures(self.outputs, self.crop),
        ]

    def caption(self, output: np.ndarray, target: np.ndarray) -> str:
        return caption(self.outputs, output, target)
