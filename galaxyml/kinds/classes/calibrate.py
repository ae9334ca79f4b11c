"""Turns what the net says of classes into probabilities that mean what they say, and into sets that hold the truth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.evaluation import calibration
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.kinds.classes.scored import ScoredClasses
from galaxyml.runs.run_dir import RunDir

LEARNT = "calibration"


class Calibrate:
    """Temperature scaling and conformal prediction sets, both fitted on the validation split.

    No object calibrates itself: a validation object is scaled, and its set is made, by what was fitted on the others
    (the other folds, or the other half of a single fold). Test objects and new pictures have what was fitted on all.

    Joined folds say the mean of their probabilities, each net's scaled by its own fold's temperature. No galaxy is left
    that none of the nets has learnt from, to scale this mean by. It is right more often than its parts and no surer, so
    that its probabilities are rather too low, and its sets hold the truth rather more often than asked.

    An ensemble of models says the mean of probabilities likewise; its validation objects are scaled by a temperature of
    the mean of what the models say, which is not quite the same.

    Args:
        classes: Names of the classes.
        coverage: Probability that a prediction set holds the true class, in (0, 1).
        method: `lac` for the smallest sets, `aps` for sets that grow where an object is hard.
    """

    def __init__(self, classes: Sequence[str], coverage: float = 0.9, method: str = "lac") -> None:
        self.classes = list(classes)
        self.coverage = coverage
        self.method = method

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes probabilities of every split.

        Returns:
            `val/temperature` (of a sweep, fitted on all folds together, for comparison), and for each split whose truth
            is known `coverage` of the sets and their mean `set_size`.
        """
        catalog = run.catalog()
        scored = ScoredClasses.load(run, "val", self.classes, catalog)
        if scored is None:
            return {}
        parts = scored.fold if len(np.unique(scored.fold)) > 1 else np.arange(len(scored.fold)) % 2
        scaled, _ = calibration.cross_fitted(scored.logits, scored.target, parts)
        temperature = calibration.fit_temperature(scored.logits, scored.target)
        threshold = calibration.conformal_threshold(scaled, scored.target, self.coverage, self.method)
        kept = threshold if np.isfinite(threshold) else None  # JSON has no infinity
        run.write_fitted(LEARNT, {"temperature": temperature, "set_threshold": kept, "objects": len(scored.target)})

        table = run.predictions("val", by="net")
        assert table is not None
        table[self.classes] = calibration.softmax(table[self.classes].to_numpy(), temperature)  # of unknown class
        at = pd.Index(table["id"]).get_indexer(catalog["id"].to_numpy()[scored.rows])
        table.loc[at, self.classes] = scaled
        run.write_predictions("val", table)
        nets = [member.predictions("test", by="net") for member in run.nets()]
        if tables := [net for net in nets if net is not None]:
            run.write_predictions("test", self._probabilities(run, tables, run.shares()))

        sets = np.zeros(scaled.shape, bool)
        for part in np.unique(parts):
            inside = parts == part
            other = calibration.conformal_threshold(scaled[~inside], scored.target[~inside], self.coverage, self.method)
            sets[inside] = calibration.prediction_sets(scaled[inside], other, self.method)
        found = self._sizes("val", sets, scored.target) | {"val/temperature": temperature}
        test = ScoredClasses.load(run, "test", self.classes, catalog)
        if test is not None:
            sets = calibration.prediction_sets(test.predicted, threshold, self.method)
            found |= self._sizes("test", sets, test.target)
        return found

    def combine(self, run: RunDir, said: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """What a finished run's calibration makes of what its nets said of the same pictures.

        Args:
            run: The run, or the sweep.
            said: One column a class, of each net, in the order of the sweep's members.
            table: What the stages before made of it.

        Returns:
            Probabilities, one column a class; `class`, the likeliest; `confidence`, its probability; and `classes`, the
            prediction set, its names joined by `|`.
        """
        table = self._probabilities(run, said.outputs, said.shares)
        threshold = run.fitted_values(LEARNT)["set_threshold"]
        values = table[self.classes].to_numpy()
        sets = calibration.prediction_sets(values, np.inf if threshold is None else threshold, self.method)
        names = np.array(self.classes, dtype=object)
        table["class"] = names[values.argmax(axis=1)]
        table["confidence"] = values.max(axis=1)
        table["classes"] = ["|".join(names[row]) for row in sets]
        return table

    def _probabilities(self, run: RunDir, outputs: Sequence[pd.DataFrame], shares: Sequence[float]) -> pd.DataFrame:
        """Mean of what the nets say, each at its own temperature."""
        temperatures = [member.fitted_values(LEARNT)["temperature"] for member in run.nets()]
        values = sum(
            share * calibration.softmax(table[self.classes].to_numpy(), temperature)
            for table, temperature, share in zip(outputs, temperatures, shares, strict=True)
        )
        return outputs[0].assign(**dict(zip(self.classes, np.transpose(values), strict=True)))

    def _sizes(self, split: str, sets: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return {
            f"{split}/coverage": calibration.coverage(sets, labels),
            f"{split}/set_size": calibration.mean_size(sets),
        }
