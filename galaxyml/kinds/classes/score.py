"""Numbers that say how good predicted classes are, beside those of predictors that see no picture."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.calibration import softmax
from galaxyml.evaluation.scored import under
from galaxyml.kinds.classes.metrics import bootstrap, confusion, rates, score
from galaxyml.kinds.classes.scored import ScoredClasses
from galaxyml.runs.run_dir import RunDir

DRAWS = 200  # of the random predictor, whose mean is shown
OVERALL = ("accuracy", "balanced_accuracy", "macro_f1")


class ScoreClasses:
    """Accuracy, F1, AUC and calibration, of the calibrated probabilities and of the net alone.

    Beside them stand the predictor that says the most frequent class of the training galaxies (with their frequencies
    as probabilities), and the one that draws classes at random with these frequencies.

    Args:
        classes: Names of the classes.
        resamples: Bootstrap resamples of the intervals; 0 for none.
    """

    def __init__(self, classes: Sequence[str], resamples: int = 1000) -> None:
        self.classes = list(classes)
        self.resamples = resamples

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split whose truth is known.

        Returns:
            Numbers by `<split>/<metric>[/<class>]`; `net_` marks a metric before calibration, `majority_` and `random_`
            those of the trivial predictors, and `_low` and `_high` the ends of a 95 % bootstrap interval. What is not
            defined, such as the AUC of a class that no object has, is left out.
        """
        catalog = run.catalog()
        found: dict[str, float] = {}
        for split in ("val", "test"):
            scored = ScoredClasses.load(run, split, self.classes, catalog)
            if scored is None:
                continue
            frequencies = self._frequencies(catalog, scored)
            for prefix, probabilities in (
                ("", scored.predicted),
                ("net_", softmax(scored.logits)),
                ("majority_", frequencies),
            ):
                numbers = score(scored.target, probabilities, self.classes)
                shown = numbers if not prefix else {key: value for key, value in numbers.items() if "/" not in key}
                found |= {f"{split}/{prefix}{key}": value for key, value in shown.items()}
            # Joined over folds, what a constant says only anticorrelates with what it leaves out.
            found[f"{split}/majority_macro_auc"] = 0.5
            found |= {f"{split}/random_{key}": value for key, value in self._random(scored, frequencies).items()}
            if self.resamples:
                for key, (low, high) in bootstrap(
                    scored.target, scored.predicted, self.classes, self.resamples
                ).items():
                    name, slash, column = key.partition("/")
                    found |= under(split, {f"{name}_low{slash}{column}": low, f"{name}_high{slash}{column}": high})
        return {key: float(value) for key, value in found.items() if np.isfinite(value)}

    def _frequencies(self, catalog: pd.DataFrame, scored: ScoredClasses) -> np.ndarray:
        """For each object the class frequencies of the labelled objects in all other folds, shape (N, K)."""
        label = catalog["label"].to_numpy()
        one_hot = (label[:, None] == np.arange(len(self.classes))).astype(np.float64)
        return out_of_fold_means(one_hot, catalog["fold"].to_numpy(), scored.rows, (label >= 0)[:, None].astype(float))

    def _random(self, scored: ScoredClasses, frequencies: np.ndarray) -> dict[str, float]:
        rng = np.random.default_rng(0)
        edges = frequencies.cumsum(axis=1)
        matrices = []
        for _ in range(DRAWS):
            drawn = (rng.random((len(edges), 1)) > edges).sum(axis=1).clip(max=len(self.classes) - 1)
            matrices.append(confusion(scored.target, drawn, len(self.classes)))
        means = rates(np.stack(matrices))
        return {name: float(means[name].mean()) for name in OVERALL} | {"macro_auc": 0.5}
