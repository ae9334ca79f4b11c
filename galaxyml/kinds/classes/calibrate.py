"""From logits to probabilities that mean what they say, and to sets that hold the truth."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.evaluation import calibration
from galaxyml.evaluation.conformal import fewest
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.evaluation.scored import under
from galaxyml.kinds.classes.score import ScoredClasses
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

FITTED = "calibration"


@dataclass(frozen=True)
class Calibrate:
    """Temperature scaling and conformal prediction sets, both fitted on the validation split.

    No object calibrates itself: a validation object is scaled, and its set is made, by what was fitted on the others
    (the other folds, or the other half of a single fold). Test objects and new images have what was fitted on all.
    Where that lowers an AUC by more than 0.01, probabilities stay the net's own, and a note says so.

    Joined folds say the mean of their probabilities, each net's scaled by its own fold's temperature. No galaxy is left
    that none of the nets has learnt from, to scale this mean by. It is right more often than its parts and no surer, so
    that its probabilities are rather too low, and its sets hold the truth rather more often than asked.

    An ensemble of models says the mean of probabilities likewise; its validation objects are scaled by a temperature of
    the mean of what the models say, which is not quite the same.

    Attributes:
        classes: Names of the classes.
        coverage: Probability that a prediction set holds the true class, in (0, 1).
        method: `lac` for the smallest sets, `aps` for sets that grow where an object is hard.
    """

    classes: list[str]
    coverage: float = 0.9
    method: str = "lac"

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
        target = scored.target
        part_of = scored.fold if len(np.unique(scored.fold)) > 1 else np.arange(len(scored.fold)) % 2
        fitted = calibration.cross_fitted(scored.logits, target, part_of, self.classes)
        scaled, temperature = fitted.probabilities, fitted.temperature
        if fitted.harm:
            log.info("note: %s: probabilities stay the model's own: temperature scaling %s.", run.name, fitted.harm)
        threshold = self._threshold(scaled, target)
        written = threshold if np.isfinite(threshold) else None  # JSON has no infinity
        if run.members():  # at the end of a command
            self._say_few(target, part_of)
        values = {"temperature": temperature, "set_threshold": written, "objects": len(target)}
        run.write_fitted(FITTED, values | ({"not_scaled": fitted.harm} if fitted.harm else {}))

        table = run.predictions("val", by="net")
        assert table is not None
        table[self.classes] = calibration.softmax(table[self.classes].to_numpy(), temperature)  # of unknown class
        rows = pd.Index(table["id"]).get_indexer(catalog["id"].to_numpy()[scored.rows])
        table.loc[rows, self.classes] = scaled
        run.write_predictions("val", table)
        nets = [member.predictions("test", by="net") for member in run.nets()]
        if tables := [net for net in nets if net is not None]:
            run.write_predictions("test", self._probabilities(run, tables, run.shares()))

        sets = np.zeros(scaled.shape, bool)
        for part in np.unique(part_of):
            inside = part_of == part
            of_others = self._threshold(scaled[~inside], target[~inside])
            sets[inside] = calibration.prediction_sets(scaled[inside], of_others, self.method)
        metrics = under("val", _sizes(sets, target)) | {"val/temperature": temperature}
        test = ScoredClasses.load(run, "test", self.classes, catalog)
        if test is not None:
            sets = calibration.prediction_sets(test.predicted, threshold, self.method)
            metrics |= under("test", _sizes(sets, test.target))
        return metrics

    def combine(self, run: RunDir, nets: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Calibrates what a finished run's nets said of the same images.

        Args:
            run: The run, or the sweep.
            nets: One column a class, of each net, in the order of the sweep's members.
            table: What the stages before made of it.

        Returns:
            Probabilities, one column a class; `class`, the likeliest; `confidence`, its probability; and `classes`, the
            prediction set, its names joined by `|`.
        """
        table = self._probabilities(run, nets.outputs, nets.shares)
        threshold = run.fitted_values(FITTED)["set_threshold"]
        values = table[self.classes].to_numpy()
        sets = calibration.prediction_sets(values, np.inf if threshold is None else threshold, self.method)
        names = np.array(self.classes, dtype=object)
        table["class"] = names[values.argmax(axis=1)]
        table["confidence"] = values.max(axis=1)
        table["classes"] = ["|".join(names[row]) for row in sets]
        return table

    def _probabilities(self, run: RunDir, outputs: Sequence[pd.DataFrame], shares: Sequence[float]) -> pd.DataFrame:
        """Mean of what the nets say, each at its own temperature."""
        temperatures = [member.fitted_values(FITTED)["temperature"] for member in run.nets()]
        values = sum(
            share * calibration.softmax(table[self.classes].to_numpy(), temperature)
            for table, temperature, share in zip(outputs, temperatures, shares, strict=True)
        )
        return outputs[0].assign(**dict(zip(self.classes, np.transpose(values), strict=True)))

    def _say_few(self, target: np.ndarray, part_of: np.ndarray) -> None:
        """Says it where prediction sets hold all classes, as too few objects fit them."""
        needed, count = fewest(self.coverage), int((target >= 0).sum())
        others = min(int((target[part_of != part] >= 0).sum()) for part in np.unique(part_of))
        if others >= needed:
            return
        sets, few = ("prediction sets", count) if count < needed else ("prediction sets of validation objects", others)
        which = "validation objects" if count < needed else "others of them, as no object fits its own set"
        log.warning(
            f"note: {sets} take {needed} {which}, of which there are {few}: they hold all classes. split=folds -m "
            "fold=0,1,2,3,4 validates on all."
        )

    def _threshold(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        return calibration.conformal_threshold(probabilities, labels, self.coverage, self.method)


def _sizes(sets: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {"coverage": calibration.coverage(sets, labels), "set_size": calibration.mean_size(sets)}
