"""Numbers that say how well anomaly scores find what is unlike the known classes."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from galaxyml.evaluation.scored import under
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.kinds.anomalies.detectors import Standard
from galaxyml.kinds.anomalies.metrics import bootstrap, false_alarm_rate, recall_at, score, threshold
from galaxyml.kinds.anomalies.scored import WORDS, ScoredAnomalies
from galaxyml.kinds.classes.metrics import confusion, rates
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

TREES = 500  # of the random forest that reads classes


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
        if bad := [k for k in ks if not isinstance(k, int) or k < 1]:
            raise UserError(f"ks={bad[0]}: it must be a whole number, 1 or more.")
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
        catalog = run.catalog()
        val = run.predictions("val")
        assert val is not None
        level = threshold(val["score"].to_numpy(), self.false_alarms)
        told = level if np.isfinite(level) else None
        run.write_fitted("threshold", {"score": told, "false_alarms": self.false_alarms, "objects": len(val)})
        if told is None:
            log.info(
                "note: %s validation objects cannot say what at most %g of known ones exceed: there is no threshold.",
                len(val),
                self.false_alarms,
            )
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
        metrics |= score(scores, unknown, objects.names, self.ks)
        if self.resamples:
            for name, (low, high) in bootstrap(scores, unknown, objects.names, self.ks, self.resamples).items():
                key, slash, column = name.partition("/")
                metrics |= {f"{key}_low{slash}{column}": low, f"{key}_high{slash}{column}": high}
        for detector, others in zip(objects.columns[1:], objects.predicted.T[1:], strict=True):
            for key, value in score(others, unknown, objects.names, self.ks).items():
                if not key.startswith(("prevalence", "support")):
                    metrics[f"{detector}_{key}"] = value
        return metrics | _chance(unknown, self.ks)

    def _read_classes(self, run: RunDir, catalog: pd.DataFrame) -> dict[str, float]:
        """Balanced accuracy of random forests on latents and on plain features, of known objects; joined runs' mean."""
        train = run.predictions("train", by="encoded")
        if train is None:
            found = [member.metrics() for member in run.members()]
            keys = [key for key in found[0] if key.endswith("balanced_accuracy")]
            return {key: float(np.mean([metrics[key] for metrics in found])) for key in keys}
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
                true = label.loc[table["id"]].to_numpy()
                said = forest.predict(standard(seen(table, [kind])))
                metrics[f"{split}/{prefix}balanced_accuracy"] = float(
                    rates(confusion(true, said, classes))["balanced_accuracy"]
                )
                metrics[f"{split}/random_balanced_accuracy"] = 1 / len(np.unique(true))
        return metrics


def _chance(unknown: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """What scores drawn at random would get on average."""
    share = float(unknown.mean())
    equal = np.zeros(len(unknown))
    of = {f"_{k}": k for k in ks} | {"_n": int(unknown.sum())}
    found = {"roc_auc": 0.5, "pr_auc": share, "pr_gain": 1.0}
    for name, k in of.items():
        found[f"recall{name}"] = recall_at(equal, unknown, k)
        if name != "_n":
            found |= {f"purity{name}": share, f"amplification{name}": 1.0}
    return {f"random_{name}": value for name, value in found.items()}
