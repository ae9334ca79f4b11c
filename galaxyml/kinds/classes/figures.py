"""Figures of predicted classes: confusion, curves, reliability, and the galaxies that are taken for each other."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from galaxyml.evaluation.calibration import reliability, softmax
from galaxyml.evaluation.plots import LOSS_CURVES, loss_curves, write_images
from galaxyml.kinds.classes.metrics import bootstrap, confusion, score
from galaxyml.kinds.classes.plots import (
    by_property_figure,
    confusion_figure,
    f1_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from galaxyml.kinds.classes.scored import ScoredClasses
from galaxyml.runs.run_dir import NAMED, RunDir

MOST = 12  # classes whose surest galaxy is shown
PAIRS, EACH = 4, 4  # pairs of classes that are confused most, and galaxies of each
BINS = 5
FEWEST = 10  # objects a bin
RESAMPLES = 300


class ClassFigures:
    """Draws what a person looks at first.

    Args:
        classes: Names of the classes.
        crop: Central part of a picture that is shown, a fraction of its side.
        properties: Columns of the catalog, where it has them, that performance is shown against, such as `redshift`.
    """

    def __init__(self, classes: Sequence[str], crop: float = 0.5, properties: Sequence[str] = ()) -> None:
        self.classes = list(classes)
        self.crop = crop
        self.properties = list(properties)

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures, of the test split where its truth is known and of the validation split otherwise.

        Returns:
            Nothing of its own.
        """
        catalog = run.catalog()
        split = "test" if ScoredClasses.load(run, "test", self.classes, catalog) is not None else "val"
        scored = ScoredClasses.load(run, split, self.classes, catalog)
        if scored is None:
            return {}
        matrix = confusion(scored.target, scored.predicted.argmax(1), len(self.classes))
        things = f"{NAMED[split]} galaxies"
        run.write_figure(
            f"1_confusion_{split}",
            confusion_figure(matrix, self.classes),
            f"What {things} of each class are taken for: number, and share of the true class.",
        )
        numbers = score(scored.target, scored.predicted, self.classes)
        ends = bootstrap(scored.target, scored.predicted, self.classes, RESAMPLES)
        f1, intervals = (np.array([found[f"f1/{name}"] for name in self.classes]) for found in (numbers, ends))
        run.write_figure(
            f"2_f1_{split}",
            f1_figure(self.classes, f1, intervals),
            f"F1 of each class on {things}, with 95 % of bootstrap resamples.",
        )
        run.write_figure(
            f"3_roc_{split}",
            roc_figure(scored.target, scored.predicted, self.classes),
            f"Each class against all others on {things}: share of the class that is found against share of the others "
            "that is taken for it.",
        )
        curves = precision_recall_figure(scored.target, scored.predicted, self.classes)
        run.write_figure(
            f"4_precision_recall_{split}",
            curves,
            f"Each class against all others on {things}: purity of what is called the class against completeness.",
        )
        curve = {
            "model output": reliability(softmax(scored.logits), scored.target),
            "calibrated": reliability(scored.predicted, scored.target),
        }
        run.write_figure(
            f"5_reliability_{split}",
            reliability_figure(curve),
            f"How often {things} are right against how sure the model is, before and after calibration. Calibrated "
            "confidence lies on the diagonal.",
        )
        run.write_figure("6_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        if "image" in catalog:
            self._surest(run, catalog, scored, split)
            self._confused(run, catalog, scored, matrix, split)
        for name in self.properties:
            if name in catalog:
                self._by_property(run, catalog, scored, name, split)
        return {}

    def _surest(self, run: RunDir, catalog: pd.DataFrame, scored: ScoredClasses, split: str) -> None:
        """Pictures of the galaxies that are right and surest, one a class, the surest classes first."""
        predicted = scored.predicted.argmax(1)
        sure = np.where(predicted == scored.target, scored.predicted.max(1), -1.0)
        best = [np.flatnonzero(scored.target == number) for number in range(len(self.classes))]
        firsts = [int(rows[sure[rows].argmax()]) for rows in best if len(rows) and sure[rows].max() > 0]
        shown = sorted(firsts, key=lambda at: -sure[at])[:MOST]
        write_images(
            run,
            f"7_surest_{split}",
            "Right, and surest of its class",
            f"The best {NAMED[split]} galaxies: of each class the one that the model is right about and surest of.",
            catalog["image"].iloc[scored.rows[shown]],
            [f"{scored.ids[at]}\n{self.classes[scored.target[at]]} {sure[at]:.2f}" for at in shown],
            self.crop,
        )

    def _confused(
        self, run: RunDir, catalog: pd.DataFrame, scored: ScoredClasses, matrix: np.ndarray, split: str
    ) -> None:
        """Pictures of the pairs of classes that are taken for each other most often, the surest mistakes first."""
        wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
        predicted = scored.predicted.argmax(1)
        shown, captions = [], []
        for cell in [cell for cell in np.argsort(-wrong, axis=None)[:PAIRS] if wrong.flat[cell]]:
            true, taken = divmod(int(cell), len(matrix))
            inside = np.flatnonzero((scored.target == true) & (predicted == taken))
            for at in inside[np.argsort(-scored.predicted[inside, taken])][:EACH]:
                shown.append(at)
                chances = [f"{self.classes[k]} {scored.predicted[at, k]:.2f}" for k in (true, taken)]
                captions.append(f"{scored.ids[at]}\ntrue: {chances[0]}\npredicted: {chances[1]}")
        write_images(
            run,
            f"8_confused_{split}",
            "Confused most often, the surest mistakes first",
            f"The worst {NAMED[split]} galaxies: of the classes that are confused most often, those that the model was "
            "surest of.",
            catalog["image"].iloc[scored.rows[shown]],
            captions,
            self.crop,
        )

    def _by_property(self, run: RunDir, catalog: pd.DataFrame, scored: ScoredClasses, name: str, split: str) -> None:
        """Macro F1 and accuracy in bins of equal numbers of objects, as a figure and as a table."""
        values = pd.to_numeric(catalog[name], errors="coerce").to_numpy(float)[scored.rows]
        known = np.isfinite(values)
        bins = min(BINS, int(known.sum()) // FEWEST)
        if bins < 2 or np.ptp(values[known]) == 0:
            return
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)))
        within = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        rows = []
        for number, (lower, upper) in enumerate(pairwise(edges)):
            inside = known & (within == number)
            labels, probabilities = scored.target[inside], scored.predicted[inside]
            found, ends = (
                score(labels, probabilities, self.classes),
                bootstrap(labels, probabilities, self.classes, RESAMPLES),
            )
            row: dict[str, float] = {"from": lower, "to": upper, "galaxies": int(inside.sum())}
            for key in ("macro_f1", "accuracy"):
                row |= {key: found[key], f"{key}_low": ends[key][0], f"{key}_high": ends[key][1]}
            rows.append(row)
        table = pd.DataFrame(rows)
        run.write_table(f"by_{name}_{split}", table)
        value, low, high = (table[f"macro_f1{end}"].to_numpy() for end in ("", "_low", "_high"))
        counts = table["galaxies"].to_numpy()
        figure = by_property_figure(name, edges, value, low, high, counts, "macro F1")
        run.write_figure(
            f"9_by_{name}_{split}",
            figure,
            f"Macro F1 of {NAMED[split]} galaxies in bins of {name}, with 95 % of bootstrap resamples.",
        )
