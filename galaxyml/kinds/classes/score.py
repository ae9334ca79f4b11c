"""Predicted classes beside the true ones, and how good they are, beside predictors that see no image."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.bootstrap import ends
from galaxyml.evaluation.calibration import softmax
from galaxyml.evaluation.scored import ScoredPredictions, under
from galaxyml.evaluation.words import Words
from galaxyml.kinds.classes.metrics import bootstrap, by_class, confusion, rates, score, weighted
from galaxyml.runs.errors import UserError, diverged, shorten
from galaxyml.runs.run_dir import RunDir

DRAWS = 200  # of the random predictor, whose mean is shown
BINS, FEWEST = 5, 10  # of a property, and objects a bin
RESAMPLES = 300  # of a bin's objects
OVERALL = ("accuracy", "balanced_accuracy", "macro_f1")

WORDS = Words(
    targets="classes",
    main="macro_f1",
    headline=("macro_f1", "accuracy", "macro_auc"),
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
    notes={
        "net_": "Model output: probabilities before temperature scaling.",
        "temperature": "Temperature: 1 leaves probabilities as they are. Of joined folds it is fitted on all their "
        "validation galaxies and scales these alone; test galaxies and new images have each net scaled by its own "
        "fold's.",
    },
)


@dataclass(frozen=True)
class ScoredClasses(ScoredPredictions):
    """Probabilities of classes that exclude each other; `target` is the class' index, 0 to K - 1.

    Attributes:
        rows: The objects' rows in the catalog, shape (N,).
        logits: The model's outputs, shape (N, K).
        fold: The fold that each belongs to, shape (N,).
    """

    rows: np.ndarray
    logits: np.ndarray
    fold: np.ndarray

    @classmethod
    def load(cls, run: RunDir, split: str, classes: Sequence[str], catalog: pd.DataFrame) -> Self | None:
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
        logits = outputs[list(classes)].to_numpy(np.float64)
        if not np.isfinite(logits).all():
            raise diverged(run.path)
        rows = rows[known]
        return cls(
            path=run.path,
            words=WORDS,
            columns=tuple(classes),
            ids=catalog["id"].to_numpy()[rows].astype(str),
            strata=np.zeros(len(rows), np.int8),
            predicted=final[list(classes)].to_numpy(np.float64)[known],
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
        predicted, logits, target = self.predicted[:, order], self.logits[:, order], np.argsort(order)[self.target]
        return replace(self, columns=tuple(columns), predicted=predicted, logits=logits, target=target)

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        return by_class(weighted(self.target, self.predicted, drawn, wanted), self.columns)

    def counts(self) -> dict[str, int]:
        support = dict(zip(self.columns, np.bincount(self.target, minlength=len(self.columns)).tolist(), strict=True))
        names = ("precision", "recall", "f1", "auc")
        return {f"{name}/{column}": count for name in names for column, count in support.items()}

    def _gaps(self, other: Self) -> np.ndarray:
        return self.target != other.target

    def _shown(self, row: int, column: int) -> str:
        return self.columns[self.target[row]]


@dataclass(frozen=True)
class ScoreClasses:
    """Accuracy, F1, AUC and calibration, of the calibrated probabilities and of the net alone.

    Beside them stand the predictor that says the most frequent class of the training galaxies (with their frequencies
    as probabilities), and the one that draws classes at random with these frequencies.

    Attributes:
        classes: Names of the classes.
        resamples: Bootstrap resamples of the intervals; 0 for none.
        properties: Columns of the catalog, where it has them, that performance is measured against, such as `redshift`.
    """

    classes: Sequence[str]
    resamples: int = 1000
    properties: Sequence[str] = ()

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split whose truth is known, and writes tables by property.

        Returns:
            Numbers by `<split>/<metric>[/<class>]`; `net_` marks a metric before calibration, `majority_` and `random_`
            those of the trivial predictors, and `_low` and `_high` the ends of a 95 % bootstrap interval. What is not
            defined, such as the AUC of a class that no object has, is left out.
        """
        catalog = run.catalog()
        metrics: dict[str, float] = {}
        for split in ("val", "test"):
            scored = ScoredClasses.load(run, split, self.classes, catalog)
            if scored is not None:
                metrics |= under(split, self._measured(scored, self._frequencies(catalog, scored)))
                for name in self.properties:
                    if name in catalog:
                        values = pd.to_numeric(catalog[name], errors="coerce").to_numpy(float)[scored.rows]
                        self._write_by_property(run, scored, name, values, split)
        return {key: float(value) for key, value in metrics.items() if np.isfinite(value)}

    def _measured(self, scored: ScoredClasses, frequencies: np.ndarray) -> dict[str, float]:
        metrics = score(scored.target, scored.predicted, self.classes)
        for prefix, probabilities in (("net_", softmax(scored.logits)), ("majority_", frequencies)):
            numbers = score(scored.target, probabilities, self.classes)
            metrics |= {f"{prefix}{key}": value for key, value in numbers.items() if "/" not in key}
        # Joined over folds, what a constant says only anticorrelates with what it leaves out.
        metrics["majority_macro_auc"] = 0.5
        metrics |= {f"random_{key}": value for key, value in self._random(scored, frequencies).items()}
        if self.resamples:
            for key, (low, high) in bootstrap(scored.target, scored.predicted, self.classes, self.resamples).items():
                metrics |= ends(key, low, high)
        return metrics

    def _write_by_property(self, run: RunDir, scored: ScoredClasses, name: str, values: np.ndarray, split: str) -> None:
        """Writes macro F1 and accuracy in bins of equal numbers of objects."""
        known = np.isfinite(values)
        bins = min(BINS, int(known.sum()) // FEWEST)
        if bins < 2 or np.ptp(values[known]) == 0:
            return
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)))
        within = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        rows = []
        for number, (lower, upper) in enumerate(pairwise(edges)):
            inside = known & (within == number)
            objects = scored.target[inside], scored.predicted[inside], self.classes
            metrics, intervals = score(*objects), bootstrap(*objects, RESAMPLES)
            row: dict[str, float] = {"from": lower, "to": upper, "galaxies": int(inside.sum())}
            for key in ("macro_f1", "accuracy"):
                row |= {key: metrics[key], f"{key}_low": intervals[key][0], f"{key}_high": intervals[key][1]}
            rows.append(row)
        run.write_table(f"by_{name}_{split}", pd.DataFrame(rows))

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
