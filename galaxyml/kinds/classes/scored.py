"""Predicted classes beside the true ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.scored import ScoredPredictions, per_column
from galaxyml.evaluation.words import Words
from galaxyml.kinds.classes import metrics
from galaxyml.runs.errors import UserError, diverged, shorten
from galaxyml.runs.run_dir import RunDir

WORDS = Words(
    targets="classes",
    main="macro_f1",
    known="of known class",
    column="class",
    labels={
        "macro_f1": "macro F1",
        "f1": "F1",
        "macro_auc": "macro AUC",
        "auc": "AUC",
        "nll": "NLL",
        "brier": "Brier",
        "ece": "ECE",
    },
    by_column={
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "auc": "AUC",
        "support": "number",
    },
    variants={"net_": "model output", "majority_": "majority class", "random_": "random"},
    baselines=("majority_", "random_"),
    counts=("support",),
)


@dataclass(frozen=True)
class ScoredClasses(ScoredPredictions):
    """Probabilities of classes that exclude each other; `target` is the class' place, 0 to K - 1.

    Attributes:
        rows: The objects' rows in the catalog, shape (N,).
        logits: The model's outputs, shape (N, K).
        fold: The fold that each belongs to, shape (N,).
    """

    rows: np.ndarray
    logits: np.ndarray
    fold: np.ndarray

    @classmethod
    def load(cls, run: RunDir, split: str, classes: list[str], catalog: pd.DataFrame) -> Self | None:
        """The predictions of a split beside the true classes; None if there are none, or no class is known.

        Raises:
            UserError: If a prediction is not finite.
        """
        outputs, final = run.predictions(split, by="net"), run.predictions(split)
        if outputs is None or final is None:
            return None
        rows = pd.Index(catalog["id"]).get_indexer(outputs["id"])
        known = catalog["label"].to_numpy()[rows] >= 0
        if not known.any():
            return None
        logits = outputs[classes].to_numpy(np.float64)
        if not np.isfinite(logits).all():
            raise diverged(run.path)
        rows = rows[known]
        return cls(
            path=run.path,
            words=WORDS,
            columns=tuple(classes),
            ids=catalog["id"].to_numpy()[rows].astype(str),
            strata=np.zeros(len(rows), np.int8),
            predicted=final[classes].to_numpy(np.float64)[known],
            target=catalog["label"].to_numpy()[rows],
            rows=rows,
            logits=logits[known],
            fold=catalog["fold"].to_numpy()[rows],
        )

    def only(self, columns: Sequence[str]) -> Self:
        if set(columns) != set(self.columns):
            raise UserError(
                f"{self.path} tells other classes apart than the others: {shorten(self.columns)}. "
                "Compare runs with the same classes."
            )
        order = np.array([self.columns.index(name) for name in columns])
        target = np.argsort(order)[self.target]
        return replace(
            self,
            columns=tuple(columns),
            predicted=self.predicted[:, order],
            logits=self.logits[:, order],
            target=target,
        )

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        values = metrics.weighted(self.target, self.predicted, drawn, wanted)
        means = {name: each for name, each in values.items() if each.ndim == 1}
        return means | per_column({name: each for name, each in values.items() if each.ndim > 1}, self.columns)

    def counts(self) -> dict[str, int]:
        support = np.bincount(self.target, minlength=len(self.columns))
        return {
            f"{name}/{column}": int(support[k])
            for name in ("precision", "recall", "f1", "auc")
            for k, column in enumerate(self.columns)
        }

    def _gaps(self, other: Self) -> np.ndarray:
        return self.target != other.target

    def _shown(self, row: int, column: int) -> str:
        return self.columns[self.target[row]]
