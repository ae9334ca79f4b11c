"""Anomaly scores beside what is known of the objects, and how well they find what is unlike the known classes."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from galaxyml.evaluation.bootstrap import ends
from galaxyml.evaluation.scored import ScoredPredictions, only_wanted, under
from galaxyml.evaluation.words import Words
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.kinds.anomalies.detectors import Standard
from galaxyml.kinds.anomalies.metrics import KS, bootstrap, false_alarm_rate, overall, score, threshold, weighted
from galaxyml.kinds.classes.metrics import confusion, rates
from galaxyml.kinds.kind import check_whole
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

TREES = 500  # of the random forest that reads classes

WORDS = Words(
    targets="anomalies",
    main="roc_auc",
    judged=("survey", "test"),
    headline=("roc_auc", "pr_auc", "purity_25"),
    noun="objects",
    known="of known and of unknown classes",
    column="class",
    labels={"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "purity_25": "purity of the first 25"},
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
        names = wanted if wanted is not None else ("roc_auc", "pr_auc", *(f"purity_{k}" for k in KS))
        ks = [int(name.removeprefix("purity_")) for name in names if name.startswith("purity_")]
        return only_wanted(weighted(self.predicted[:, 0], self.target, drawn, self.names, ks), names)

    def counts(self) -> dict[str, int]:
        support = pd.Series(self.names[self.target]).value_counts()
        return {f"{key}/{name}": int(count) for key in ("roc_auc", "pr_auc") for name, count in support.items()}

    def _gaps(self, other: Self) -> np.ndarray:
        return (self.target != other.target) | (self.names != other.names)

    def _shown(self, row: int, column: int) -> str:
        return f"{self.names[row]} ({'unknown' if self.target[row] else 'known'})"


def measured(objects: ScoredAnomalies, ks: Sequence[int], resamples: int) -> dict[str, float]:
    """How high objects of unknown classes rank, by every score.

    Args:
        objects: Of known and of unknown classes.
        ks: How many of the highest scores are looked at.
        resamples: Bootstrap resamples of the intervals; 0 for none.

    Returns:
        Numbers of `galaxyml.kinds.anomalies.metrics.score`; those of other scores than the ranking one begin with their
        names, those of chance with `random_`, and `_low` and `_high` mark the ends of a 95 % bootstrap interval.
    """
    scores, unknown, names = objects.predicted[:, 0], objects.target, objects.names
    metrics = score(scores, unknown, names, ks)
    if resamples:
        for key, (low, high) in bootstrap(scores, unknown, names, ks, resamples).items():
            metrics |= ends(key, low, high)
    for detector, others in zip(objects.columns[1:], objects.predicted.T[1:], strict=True):
        for key, value in score(others, unknown, names, ks).items():
            if not key.startswith(("prevalence", "support")):
                metrics[f"{detector}_{key}"] = value
    return metrics | _chance(unknown, ks)


def _chance(unknown: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Numbers that scores drawn at random would get on average."""
    share = float(unknown.mean())
    equal = overall(np.zeros(len(unknown)), unknown, ks)
    metrics = {"roc_auc": 0.5, "pr_auc": share, "pr_gain": 1.0}
    for k in ks:
        metrics |= {f"recall_{k}": equal[f"recall_{k}"], f"purity_{k}": share, f"amplification_{k}": 1.0}
    metrics["recall_n"] = equal["recall_n"]
    return {f"random_{name}": value for name, value in metrics.items()}


class ScoreAnomalies:
    """How high objects of unknown classes rank, by every detector, and a threshold for calling them so.

    The threshold is what at most a chosen share of known objects exceeds, if they are like the validation objects.
    Where runs were joined it is that of single nets, while other objects' scores are the mean of several, which is less
    extreme: then fewer known objects exceed it than were asked for.

    Args:
        ks: How many of the highest scores are looked at.
        false_alarms: Share of known objects that may lie above the threshold, in (0, 1).
        resamples: Bootstrap resamples of the intervals; 0 for none.

    Raises:
        UserError: If a number is none of those.
    """

    def __init__(self, ks: Sequence[int], false_alarms: float, resamples: int = 1000) -> None:
        for k in ks:
            check_whole(1, ks=k)
        if not 0 < false_alarms < 1:
            raise UserError(f"false_alarms={false_alarms}: it must be a share in (0, 1).")
        self.ks = list(ks)
        self.false_alarms = false_alarms
        self.resamples = resamples

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the scores of test and survey objects whose truth is told; keeps the threshold with the run.

        Returns:
            Numbers by `<split>/<metric>[/<class>]`; those of other detectors than the ranking one begin with their
            names, those of chance with `random_`, and `_low` and `_high` mark the ends of a 95 % bootstrap interval.
            `found` is the share of unknown objects above the threshold, `false_alarm_rate` that of known ones.
            `balanced_accuracy` is that of a random forest that reads known classes from the latents.
        """
        catalog, val = run.catalog(), run.predictions("val")
        assert val is not None
        level = threshold(val["score"].to_numpy(), self.false_alarms)
        if not np.isfinite(level):
            log.info(
                "note: %s validation objects cannot say what at most %g of known ones exceed: there is no threshold.",
                len(val),
                self.false_alarms,
            )
        written = level if np.isfinite(level) else None  # JSON has no infinity
        run.write_fitted("threshold", {"score": written, "false_alarms": self.false_alarms, "objects": len(val)})
        metrics: dict[str, float] = {}
        for split in ("test", "survey"):
            objects = ScoredAnomalies.load(run, split, catalog, WORDS)
            if objects is not None:
                metrics |= under(split, self._measured(objects, level))
        metrics |= self._read_classes(run, catalog)
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}

    def _measured(self, objects: ScoredAnomalies, level: float) -> dict[str, float]:
        scores, unknown = objects.predicted[:, 0], objects.target
        metrics = {"false_alarm_rate": false_alarm_rate(scores[~unknown], level)} if np.isfinite(level) else {}
        if not objects.both:
            return metrics
        if np.isfinite(level):
            metrics["found"] = float((scores[unknown] > level).mean())
        return metrics | measured(objects, self.ks, self.resamples)

    def _read_classes(self, run: RunDir, catalog: pd.DataFrame) -> dict[str, float]:
        """Balanced accuracy of random forests on latents and on plain features, of known objects; joined runs' mean."""
        train = run.predictions("train", by="encoded")
        if train is None:
            of_members = [member.metrics() for member in run.members()]
            keys = [key for key in of_members[0] if key.endswith("balanced_accuracy")]
            return {key: float(np.mean([metrics[key] for metrics in of_members])) for key in keys}
        label = catalog.set_index("id")["label"]
        classes = int(label.max()) + 1
        metrics: dict[str, float] = {}
        for prefix, kind in (("", "latent"), ("features_", "feature")):
            standard = Standard.fit(seen(train, [kind]), "raw")
            forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=0)
            forest.fit(standard(seen(train, [kind])), label.loc[train["id"]])
            for split in ("val", "test"):
                table = run.predictions(split, by="encoded")
                if table is None:
                    continue
                table = table[(label.loc[table["id"]] >= 0).to_numpy()]
                if table.empty:
                    continue
                target = label.loc[table["id"]].to_numpy()
                predicted = forest.predict(standard(seen(table, [kind])))
                accuracy = rates(confusion(target, predicted, classes))["balanced_accuracy"]
                metrics[f"{split}/{prefix}balanced_accuracy"] = float(accuracy)
                metrics[f"{split}/random_balanced_accuracy"] = 1 / len(np.unique(target))
        return metrics
