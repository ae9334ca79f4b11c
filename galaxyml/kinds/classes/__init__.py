"""Classes that exclude each other."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from galaxyml.data.catalog import as_text, check_counts
from galaxyml.data.tables.reading import Rows
from galaxyml.evaluation.stacking import log_loss_weights
from galaxyml.kinds.classes.calibrate import Calibrate
from galaxyml.kinds.classes.figures import ClassFigures
from galaxyml.kinds.classes.losses import CrossEntropyLoss
from galaxyml.kinds.classes.metrics import ClassMetrics
from galaxyml.kinds.classes.score import WORDS, ScoreClasses, ScoredClasses
from galaxyml.kinds.kind import Kind, Stage
from galaxyml.kinds.view import Bar, Chart, Row, View
from galaxyml.runs.errors import shorten
from galaxyml.runs.run_dir import RunDir


class Classes(Kind):
    """Classes that exclude each other, as calibrated probabilities and sets.

    Targets are class indices, int64 of shape (N,), -1 where not known; outputs are logits, shape (N, K).

    Args:
        classes: Names, K of them, in the order of the indices.
        coverage: Probability that a prediction set holds the true class, in (0, 1).
        method: How sets are built: `lac` for the smallest, `aps` for sets that grow where an object is hard.
        resamples: Bootstrap resamples of the intervals; 0 for none.
        crop: Central part of an image that figures show, a fraction of its side.
        properties: Columns of the catalog, where it has them, that performance is shown against, such as `redshift`.
    """

    name: ClassVar[str] = "classes"
    stacked: ClassVar[str] = ""  # calibrated probabilities, which is what an ensemble takes the mean of
    words = WORDS
    promise: ClassVar[str] = (
        "How sure: of answers with a confidence of 70 % about 70 % are right (temperature scaling, Guo et al. 2017), "
        "and the set of classes holds the true one as often as it says (conformal prediction), for galaxies like those "
        "that the run was validated on."
    )

    def __init__(
        self,
        classes: Sequence[str],
        coverage: float = 0.9,
        method: str = "lac",
        resamples: int = 1000,
        crop: float = 0.5,
        properties: Sequence[str] = (),
    ) -> None:
        self.classes = self.outputs = [str(name) for name in classes]
        self.coverage, self.method, self.resamples = coverage, method, resamples
        self.crop, self.properties = crop, list(properties)

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        return chosen if chosen is not None else CrossEntropyLoss(classes=len(self.classes))

    def metrics(self) -> ClassMetrics:
        return ClassMetrics(self.classes)

    def baseline(self, targets: Tensor) -> Tensor:
        """Logarithms of the classes' frequencies."""
        counts = torch.bincount(targets[targets >= 0], minlength=len(self.classes))
        return (counts / counts.sum()).clamp_min(1e-9).log()

    @property
    def target_columns(self) -> list[str]:
        return ["label"]

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """Class indices, int64 of shape (N,)."""
        return torch.tensor(catalog["label"].to_numpy(np.int64))

    def example_targets(self) -> Tensor:
        """One object of each class."""
        return torch.arange(len(self.classes))

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """One column a class, 1 for its objects."""
        return np.eye(len(self.classes))[catalog["label"].to_numpy()]

    def describe(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """Their id and the name of their class."""
        names = pd.Series([*self.classes, "?"]).iloc[catalog["label"]].to_numpy()
        return as_text(catalog.assign(label=names), ["id", "label"])

    def read_targets(self, rows: Rows, columns: list[str], notes: list[str]) -> pd.DataFrame:
        """The column `label`, 0 to K - 1."""
        (column,) = columns  # as `galaxyml.data.tables.labels` makes sure
        label = rows.frame[column].map({name: k for k, name in enumerate(self.classes)})
        rows.refuse_cells(
            label.isna().to_numpy()[:, None],
            columns,
            f"the classes are {shorten(self.classes, shown=12)}",
            "Correct the row, or give classes=[…] with it.",
        )
        if all(name.lstrip("+-").isdecimal() for name in self.classes):
            notes.append(f"{column}: its whole numbers are taken for classes; kind=numbers learns numbers.")
        targets = pd.DataFrame({"label": label.astype(np.int64)})
        notes += check_counts(targets["label"], self.classes, str(rows.path), "Give rows of two classes or more.")
        return targets

    def stages(self) -> list[Stage]:
        return [
            Calibrate(self.classes, self.coverage, self.method),
            ScoreClasses(self.classes, self.resamples, self.properties),
            ClassFigures(self.classes, self.crop, self.properties),
        ]

    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredClasses | None:
        return ScoredClasses.load(run, split, self.classes, run.catalog())

    def ensemble_weights(self, predicted: np.ndarray, catalog: pd.DataFrame) -> np.ndarray:
        """With the least log loss."""
        return log_loss_weights(predicted, catalog["label"].to_numpy())

    def view(self, row: Row) -> View:
        in_set = str(row["classes"]).split("|") if row["classes"] else []
        chosen = " or ".join(in_set) or "none of them"
        if len(in_set) == len(self.classes):
            chosen = f"any of the {len(in_set)}"
        order = sorted(self.classes, key=lambda name: -row[name])
        bars = tuple(Bar(name, row[name], chosen=name == row["class"]) for name in order)
        given = f"In {100 * self.coverage:g} % of cases the true class is in the set that is given; here it is:"
        return View(
            explained=str(row["class"]),
            verdict=str(row["class"]),
            confidence=float(row["confidence"]),
            charts=(Chart("Probability of each class", bars),),
            conclusion=(given, chosen),
        )

    def known(self, row: Row) -> str:
        return self.classes[int(row["label"])]

    def caption(self, output: np.ndarray, target: np.ndarray) -> str:
        chances = np.exp(output - output.max())
        chances /= chances.sum()
        likeliest = ", ".join(f"{self.classes[k]} {chances[k]:.2f}" for k in np.argsort(-chances)[:2])
        true = self.classes[int(target)] if target >= 0 else "not known"
        return f"true: {true}\npredicted: {likeliest}"
