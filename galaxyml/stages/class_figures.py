"""Figures of predicted classes: confusion, curves, reliability, and the galaxies that are taken for each other."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from galaxyml.calibration import reliability, softmax
from galaxyml.class_metrics import bootstrap, confusion, score
from galaxyml.class_plots import (
    by_property_figure,
    confusion_figure,
    f1_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from galaxyml.plots import loss_curves, picture_grid
from galaxyml.runs import RunDir
from galaxyml.stages.classes import Judged, judged
from galaxyml.stages.figures import centre

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
        split = "test" if judged(run, "test", self.classes, catalog) is not None else "val"
        said = judged(run, split, self.classes, catalog)
        if said is None:
            return {}
        matrix = confusion(said.labels, said.probabilities.argmax(1), len(self.classes))
        run.write_figure(f"1_confusion_{split}", confusion_figure(matrix, self.classes))
        numbers = score(said.labels, said.probabilities, self.classes)
        ends = bootstrap(said.labels, said.probabilities, self.classes, RESAMPLES)
        f1, intervals = (np.array([found[f"f1/{name}"] for name in self.classes]) for found in (numbers, ends))
        run.write_figure(f"2_f1_{split}", f1_figure(self.classes, f1, intervals))
        run.write_figure(f"3_roc_{split}", roc_figure(said.labels, said.probabilities, self.classes))
        curves = precision_recall_figure(said.labels, said.probabilities, self.classes)
        run.write_figure(f"4_precision_recall_{split}", curves)
        curve = {
            "net alone": reliability(softmax(said.logits), said.labels),
            "calibrated": reliability(said.probabilities, said.labels),
        }
        run.write_figure(f"5_reliability_{split}", reliability_figure(curve))
        run.write_figure("6_loss_curves", loss_curves(run.histories()))
        self._confused(run, catalog, said, matrix, split)
        for name in self.properties:
            if name in catalog:
                self._by_property(run, catalog, said, name, split)
        return {}

    def _confused(self, run: RunDir, catalog: pd.DataFrame, said: Judged, matrix: np.ndarray, split: str) -> None:
        """Pictures of the pairs of classes that are taken for each other most often, the surest mistakes first."""
        wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
        predicted = said.probabilities.argmax(1)
        shown, captions = [], []
        for cell in [cell for cell in np.argsort(-wrong, axis=None)[:PAIRS] if wrong.flat[cell]]:
            true, taken = divmod(int(cell), len(matrix))
            inside = np.flatnonzero((said.labels == true) & (predicted == taken))
            surest = inside[np.argsort(-said.probabilities[inside, taken])][:EACH]
            for at in surest:
                row = catalog.iloc[said.rows[at]]
                shown.append(centre(run, row["image"], self.crop))
                captions.append(
                    f"{row['id']}\ntrue: {self.classes[true]} {said.probabilities[at, true]:.2f}\n"
                    f"said: {self.classes[taken]} {said.probabilities[at, taken]:.2f}"
                )
        if shown:
            figure = picture_grid(shown, captions, "Confused most often, the surest mistakes first")
            run.write_figure(f"7_confused_{split}", figure)

    def _by_property(self, run: RunDir, catalog: pd.DataFrame, said: Judged, name: str, split: str) -> None:
        """Macro F1 and accuracy in bins of equal numbers of objects, as a figure and as a table."""
        values = pd.to_numeric(catalog[name], errors="coerce").to_numpy(float)[said.rows]
        known = np.isfinite(values)
        bins = min(BINS, int(known.sum()) // FEWEST)
        if bins < 2 or np.ptp(values[known]) == 0:
            return
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)))
        within = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        rows = []
        for number, (lower, upper) in enumerate(pairwise(edges)):
            inside = known & (within == number)
            labels, probabilities = said.labels[inside], said.probabilities[inside]
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
        run.write_figure(f"8_by_{name}_{split}", figure)
