"""How well a ranking of images finds those that are known to be odd."""

from dataclasses import replace

import numpy as np

from galaxyml.evaluation.scored import under
from galaxyml.kinds.anomalies.score import WORDS as OF_CURVES
from galaxyml.kinds.anomalies.score import ScoredAnomalies, measured
from galaxyml.kinds.kind import check_whole
from galaxyml.runs.run_dir import RunDir

WORDS = replace(
    OF_CURVES, noun="images", judged=("survey",), known="that are known to be odd or ordinary", learnt=False
)


class ScoreImageAnomalies:
    """Measures every score against what is known; nothing learns from that.

    Args:
        ks: How many of the highest scores are looked at.
        resamples: Bootstrap resamples of the intervals; 0 for none.

    Raises:
        UserError: If a number is too small.
    """

    def __init__(self, ks: list[int], resamples: int) -> None:
        for k in ks:
            check_whole(1, ks=k)
        check_whole(0, resamples=resamples)
        self.ks, self.resamples = ks, resamples

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Numbers by `survey/<metric>[/<class>]`; none where not both odd and ordinary images are known."""
        objects = ScoredAnomalies.load(run, "survey", run.catalog(), WORDS)
        if objects is None or not objects.both:
            return {}
        metrics = under("survey", measured(objects, self.ks, self.resamples))
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
