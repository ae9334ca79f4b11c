"""Figures of predicted classes: confusion, curves, reliability, and the galaxies that are taken for each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from galaxyml.evaluation.calibration import reliability, softmax
from galaxyml.evaluation.plots import LOSS_CURVES, loss_curves, without_duplicates, write_images
from galaxyml.kinds.classes.calibrate import FITTED
from galaxyml.kinds.classes.metrics import bootstrap, confusion, score
from galaxyml.kinds.classes.plots import (
    TOGETHER,
    by_property_figure,
    confusion_figure,
    f1_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from galaxyml.kinds.classes.score import ScoredClasses
from galaxyml.runs.run_dir import NAMED, RunDir

MOST = 12  # classes whose surest galaxy is shown
PAIRS, EACH = 4, 4  # pairs of classes that are confused most, and galaxies of each
RESAMPLES = 300
SAME = 0.005  # temperatures that are nearer to 1, and probabilities nearer to each other, look the same in a figure


@dataclass(frozen=True)
class ClassFigures:
    """Draws what a person looks at first; follows `ScoreClasses`, whose tables it draws.

    Attributes:
        classes: Names of the classes.
        crop: Central part of an image that is shown, a fraction of its side.
        properties: Those of `ScoreClasses`.
    """

    only_draws: ClassVar[bool] = True
    classes: Sequence[str]
    crop: float = 0.5
    properties: Sequence[str] = ()

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures, of the test split where its truth is known and of the validation split otherwise.

        Returns:
            Nothing of its own.
        """
        catalog = run.catalog()
        for split in ("test", "val"):
            if (scored := ScoredClasses.load(run, split, self.classes, catalog)) is not None:
                self._draw(run, catalog, scored, split)
                break
        return {}

    def _draw(self, run: RunDir, catalog: pd.DataFrame, scored: ScoredClasses, split: str) -> None:
        target, predicted = scored.target, scored.predicted
        matrix = confusion(target, predicted.argmax(1), len(self.classes))
        noun = f"{NAMED[split]} galaxies"
        apart = " A panel a class, the worst first; the others in grey." if len(np.unique(target)) > TOGETHER else ""
        run.write_figure(
            f"1_confusion_{split}",
            confusion_figure(matrix, self.classes),
            f"What {noun} of each class are taken for: number, and share of the true class.",
        )
        metrics, ends = score(target, predicted, self.classes), bootstrap(target, predicted, self.classes, RESAMPLES)
        f1, intervals = (np.array([values[f"f1/{name}"] for name in self.classes]) for values in (metrics, ends))
        run.write_figure(
            f"2_f1_{split}",
            f1_figure(self.classes, f1, intervals, matrix.sum(1)),
            f"F1 of each class on {noun}, with 95 % of bootstrap resamples.",
        )
        run.write_figure(
            f"3_roc_{split}",
            roc_figure(target, predicted, self.classes),
            f"Each class against all others on {noun}: share of the class that is found against share of the others "
            f"that is taken for it.{apart}",
        )
        run.write_figure(
            f"4_precision_recall_{split}",
            precision_recall_figure(target, predicted, self.classes),
            f"Each class against all others on {noun}: purity of what is called the class against completeness. The "
            f"short tick at the right edge is the purity of chance: the share of all that the class has.{apart}",
        )
        outputs, unscaled = softmax(scored.logits), why_unscaled(run, split, scored)
        if unscaled:
            curves, how = {"model output": reliability(predicted, target)}, f"as the model says it: {unscaled}"
        else:
            curves = {"model output": reliability(outputs, target), "calibrated": reliability(predicted, target)}
            how = "before and after calibration"
        run.write_figure(
            f"5_reliability_{split}",
            reliability_figure(curves),
            f"How often {noun} are right against how sure the model is, {how}. Calibrated confidence lies on the "
            "diagonal.",
        )
        run.write_figure("6_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        if "image" in catalog:
            self._surest(run, catalog["image"].iloc[scored.rows], scored, split)
            self._confused(run, catalog, scored, matrix, split)
        for name in self.properties:
            if rows := run.table_rows(f"by_{name}_{split}"):
                run.write_figure(
                    f"9_by_{name}_{split}",
                    by_property_figure(name, pd.DataFrame(rows)),
                    f"Macro F1 of {NAMED[split]} galaxies in bins of {name}, with 95 % of bootstrap resamples.",
                )

    def _surest(self, run: RunDir, images: pd.Series, scored: ScoredClasses, split: str) -> None:
        """Images of the galaxies that are right and surest, one a class, the surest classes first."""
        sure = np.where(scored.predicted.argmax(1) == scored.target, scored.predicted.max(1), -1.0)
        of_class = [np.flatnonzero(scored.target == number) for number in range(len(self.classes))]
        firsts = [int(rows[sure[rows].argmax()]) for rows in of_class if len(rows) and sure[rows].max() > 0]
        shown = sorted(firsts, key=lambda row: -sure[row])[:MOST]
        write_images(
            run,
            f"7_best_{split}",
            "Right, and surest of its class",
            f"The best {NAMED[split]} galaxies: of each class the one that the model is right about and surest of.",
            images.iloc[shown],
            [f"{scored.ids[row]}\n{self.classes[scored.target[row]]} {sure[row]:.2f}" for row in shown],
            self.crop,
        )

    def _confused(
        self, run: RunDir, catalog: pd.DataFrame, scored: ScoredClasses, matrix: np.ndarray, split: str
    ) -> None:
        """Images of the pairs of classes that are taken for each other most often, the surest mistakes first."""
        images = catalog["image"].iloc[scored.rows]
        wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
        predicted = scored.predicted.argmax(1)
        shown, captions = [], []
        for cell in [cell for cell in np.argsort(-wrong, axis=None)[:PAIRS] if wrong.flat[cell]]:
            true, taken = divmod(int(cell), len(matrix))
            inside = np.flatnonzero((scored.target == true) & (predicted == taken))
            surest = inside[np.argsort(-scored.predicted[inside, taken])]
            for row in without_duplicates(surest, catalog, scored.rows)[:EACH]:
                shown.append(row)
                chances = [f"{self.classes[k]} {scored.predicted[row, k]:.2f}" for k in (true, taken)]
                captions.append(f"{scored.ids[row]}\ntrue: {chances[0]}\npredicted: {chances[1]}")
        write_images(
            run,
            f"8_worst_{split}",
            "Confused most often, the surest mistakes first",
            f"The worst {NAMED[split]} galaxies: of the classes that are confused most often, those that the model was "
            "surest of.",
            images.iloc[shown],
            captions,
            self.crop,
        )


def why_unscaled(run: RunDir, split: str, scored: ScoredClasses) -> str:
    """Why the probabilities of a split are the nets' own, in words; "" where a temperature has changed them.

    Those of validation objects are scaled by what was fitted for the run, or for its joined folds; those of test
    objects net by net, by what was fitted for each.
    """
    fitted = {own.name: own.fitted_values(FITTED) for own in ([run] if split == "val" else run.nets())}
    if split == "val":
        same = np.allclose(softmax(scored.logits), scored.predicted, atol=SAME)
    else:
        same = np.allclose([values["temperature"] for values in fitted.values()], 1, atol=SAME)
    if not same:
        return ""
    harm = {name: values["not_scaled"] for name, values in fitted.items() if "not_scaled" in values}
    if not harm:
        return "the best temperature is 1"
    name, how = next(iter(harm.items()))
    return f"temperature scaling {how}" + (f" ({name})" if len(fitted) > 1 else "")
