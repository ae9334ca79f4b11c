"""Turns what the net says of classes into probabilities that mean what they say, and into sets that hold the truth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml import calibration
from galaxyml.runs import RunDir
from galaxyml.stages.classes import judged

LEARNT = "calibration"


class Calibrate:
    """Temperature scaling and conformal prediction sets, both fitted on the validation split.

    No object calibrates itself: a validation object is scaled, and its set is made, by what was fitted on the others
    (the other folds, or the other half of a single fold). Test objects and new pictures have what was fitted on all.

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
            `val/temperature`, and for each split whose truth is known `coverage` of the sets and their mean `set_size`.
        """
        catalog = run.catalog()
        said = judged(run, "val", self.classes, catalog)
        if said is None:
            return {}
        parts = said.fold if len(np.unique(said.fold)) > 1 else np.arange(len(said.fold)) % 2
        scaled, _ = calibration.cross_fitted(said.logits, said.labels, parts)
        temperature = calibration.fit_temperature(said.logits, said.labels)
        threshold = calibration.conformal_threshold(scaled, said.labels, self.coverage, self.method)
        kept = threshold if np.isfinite(threshold) else None  # JSON has no infinity
        run.write_learnt(LEARNT, {"temperature": temperature, "set_threshold": kept, "objects": len(said.labels)})
        for split in ("val", "test"):
            if (net := run.predictions(split, by="net")) is not None:
                run.write_predictions(split, self._probabilities(net, temperature))
        table = run.predictions("val")
        assert table is not None
        at = pd.Index(table["id"]).get_indexer(catalog["id"].to_numpy()[said.rows])
        table.loc[at, self.classes] = scaled
        run.write_predictions("val", table)

        sets = np.zeros(scaled.shape, bool)
        for part in np.unique(parts):
            inside = parts == part
            other = calibration.conformal_threshold(scaled[~inside], said.labels[~inside], self.coverage, self.method)
            sets[inside] = calibration.prediction_sets(scaled[inside], other, self.method)
        found = self._sizes("val", sets, said.labels) | {"val/temperature": temperature}
        test = judged(run, "test", self.classes, catalog)
        if test is not None:
            sets = calibration.prediction_sets(test.probabilities, threshold, self.method)
            found |= self._sizes("test", sets, test.labels)
        return found

    def transform(self, run: RunDir, outputs: pd.DataFrame) -> pd.DataFrame:
        """What a finished run's calibration makes of other pictures' outputs.

        Args:
            run: The run.
            outputs: One column a class: what its net said.

        Returns:
            Probabilities, one column a class; `class`, the likeliest; `confidence`, its probability; and `classes`, the
            prediction set, its names joined by `|`.
        """
        learnt = run.learnt(LEARNT)
        table = self._probabilities(outputs, learnt["temperature"])
        values = table[self.classes].to_numpy()
        threshold = np.inf if learnt["set_threshold"] is None else learnt["set_threshold"]
        sets = calibration.prediction_sets(values, threshold, self.method)
        names = np.array(self.classes, dtype=object)
        table["class"] = names[values.argmax(axis=1)]
        table["confidence"] = values.max(axis=1)
        table["classes"] = ["|".join(names[row]) for row in sets]
        return table

    def _probabilities(self, outputs: pd.DataFrame, temperature: float) -> pd.DataFrame:
        table = outputs.copy()
        table[self.classes] = calibration.softmax(outputs[self.classes].to_numpy(np.float64), temperature)
        return table

    def _sizes(self, split: str, sets: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return {
            f"{split}/coverage": calibration.coverage(sets, labels),
            f"{split}/set_size": calibration.mean_size(sets),
        }
