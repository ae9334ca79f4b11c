"""Anomaly scores beside what is known of the objects."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.scored import ScoredPredictions, only_wanted
from galaxyml.evaluation.words import Words
from galaxyml.kinds.anomalies import metrics
from galaxyml.runs.run_dir import RunDir

WORDS = Words(
    targets="anomalies",
    main="roc_auc",
    noun="objects",
    known="of known and of unknown classes",
    column="class",
    labels={"roc_auc": "ROC AUC", "pr_auc": "PR AUC"},
    by_column={
        "roc_auc": "ROC AUC",
        "features_roc_auc": "plain features'",
        "pr_auc": "PR AUC",
        "prevalence": "prevalence",
        "support": "number",
    },
    brief=("roc_auc", "pr_auc", "purity_25", "recall_25"),
    counts=("support",),
)


@dataclass(frozen=True)
class ScoredAnomalies(ScoredPredictions):
    """Scores by every detector, the ranking one first; `target` is whether an object is of an unknown class.

    Unknown and known objects are resampled apart (see `galaxyml.kinds.anomalies.metrics.bootstrap`).

    Attributes:
        names: True class of each object, shape (N,).
    """

    names: np.ndarray

    @classmethod
    def load(cls, run: RunDir, split: str, catalog: pd.DataFrame, words: Words) -> Self | None:
        """The scores of a split beside the true classes; None if there are none, or no class is known."""
        table = run.predictions(split)
        if table is None:
            return None
        rows = pd.Index(catalog["id"]).get_indexer(table["id"])
        known = (catalog["unknown"] | catalog["known"]).to_numpy()[rows]
        if not known.any():
            return None
        rows, columns = rows[known], [name for name in table.columns if name != "id"]
        unknown, names = (catalog[name].to_numpy()[rows] for name in ("unknown", "name"))
        ids, scores = table["id"].to_numpy()[known].astype(str), table[columns].to_numpy()[known]
        return cls(run.path, words, tuple(columns), ids, unknown, scores, unknown, names)

    @property
    def both(self) -> bool:
        """Whether there are objects of unknown and of known classes to be told apart."""
        return bool(self.target.any() and not self.target.all())

    def only(self, columns: Sequence[str]) -> Self:
        return self

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        names = wanted if wanted is not None else ("roc_auc", "pr_auc", *(f"purity_{k}" for k in metrics.KS))
        ks = [int(name.removeprefix("purity_")) for name in names if name.startswith("purity_")]
        return only_wanted(metrics.weighted(self.predicted[:, 0], self.target, drawn, self.names, ks), names)

    def counts(self) -> dict[str, int]:
        support = pd.Series(self.names[self.target]).value_counts()
        return {f"{key}/{name}": int(count) for key in ("roc_auc", "pr_auc") for name, count in support.items()}

    def _gaps(self, other: Self) -> np.ndarray:
        return (self.target != other.target) | (self.names != other.names)

    def _shown(self, row: int, column: int) -> str:
        return f"{self.names[row]} ({'unknown' if self.target[row] else 'known'})"
