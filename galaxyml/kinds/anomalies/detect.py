"""From encoded light curves to anomaly scores, and the reasons for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

from galaxyml.kinds.anomalies.detectors import Detector, EmpiricalTail, Forest, Pyod, Standard
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.run_dir import RunDir

NEAREST = 5  # known objects by which the nearest known class is found
KINDS = ("latent", "reconstruction", "class", "feature")


class Sees:
    """A detector with the columns that it sees.

    Args:
        detector: Learns from training objects.
        of: Kinds of columns: `latent`, `reconstruction` (how badly the net decodes), `class` (scores of the classes)
            and `feature` (plain features).

    Raises:
        UserError: If there is no such kind.
    """

    def __init__(self, detector: Detector, of: Sequence[str]) -> None:
        if bad := [kind for kind in of if kind not in KINDS]:
            raise UserError(f"of={bad[0]}: a detector cannot see that. {did_you_mean(bad[0], KINDS)}")
        self.detector, self.of = detector, list(of)

    def like(self, other: "Sees") -> bool:
        """Whether another one is the same detector of the same columns."""
        mine, others = self.detector, other.detector
        return type(mine) is type(others) and vars(mine) == vars(others) and self.of == other.of

    def fit(self, table: pd.DataFrame, labels: np.ndarray) -> None:
        """Learns from the training objects' table and labels."""
        self.detector.fit(seen(table, self.of), labels)

    def score(self, table: pd.DataFrame) -> np.ndarray:
        """Higher is more unlike the training objects, shape (N,)."""
        return self.detector.score(seen(table, self.of))


def pyod(name: str, of: Sequence[str], **options: Any) -> Sees:
    """A detector of pyod with the columns that it sees; arguments as for `Pyod` and `Sees`."""
    return Sees(Pyod(name, **options), of)


def seen(table: pd.DataFrame, of: Sequence[str]) -> np.ndarray:
    """Columns of some kinds, of a table of encoded light curves, shape (N, F)."""
    prefixes = tuple(f"{kind}_" for kind in of)
    return table[[name for name in table.columns if name.startswith(prefixes)]].to_numpy(np.float64)


@dataclass(frozen=True)
class Learnt:
    """Detectors that have learnt from a run's training objects, and how surprising their scores are.

    Attributes:
        detectors: Those whose scores are kept, by the name of their column.
        by_reason: Those that give the reason, forests on `latent` and on `reconstruction`.
        tails: Of each, the scores of the validation objects.
        standard: Of the latents.
        neighbours: Classifies standardised latents by the nearest training objects.
        classes: Names of the classes, in the order of the labels.
    """

    detectors: dict[str, Sees]
    by_reason: dict[str, Sees]
    tails: dict[str, EmpiricalTail]
    standard: Standard
    neighbours: KNeighborsClassifier
    classes: np.ndarray

    def judge(self, encoded: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The scores of objects, and the reasons for them.

        Args:
            encoded: What the run's net makes of them (`galaxyml.training.light_curve_predictions.encoded_tables`).

        Returns:
            `id` and one column a detector, in nats; and `id`, the `nearest` known class in the latent space, how
            surprising the `latent` and the `reconstruction` are by themselves, in nats, and where the reconstruction is
            off most, `mjd` and `band`.
        """
        scores, by_reason = (
            {name: self.tails[name](sees.score(encoded)) for name, sees in detectors.items()}
            for detectors in (self.detectors, self.by_reason)
        )
        nearest = self.classes[self.neighbours.predict(self.standard(seen(encoded, ["latent"])))]
        worst = {"mjd": encoded["worst_mjd"], "band": encoded["worst_band"]}
        reasons = {"id": encoded["id"], "nearest": nearest, **by_reason, **worst}
        return pd.DataFrame({"id": encoded["id"], **scores}), pd.DataFrame(reasons)


class Detect:
    """Scores objects by every detector, each of which learns from the training objects alone.

    Scores are surprises: how rare one as high is among the validation objects, in nats (`EmpiricalTail`), so that those
    of several detectors, and of the nets of several folds, compare.

    Args:
        classes: Names of the classes, in the order of the labels.
        score: The detector that ranks.
        beside: Others that it is compared with, by the name of their column; the ranking one is left out.
    """

    def __init__(self, classes: Sequence[str], score: Sees, beside: Mapping[str, Sees]) -> None:
        self.classes = np.array(classes)
        self.detectors = {"score": score} | {name: sees for name, sees in beside.items() if not sees.like(score)}

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the scores of validation, test and survey objects; does nothing where runs were joined.

        The tables are those of `Learnt.judge`: `predictions/<split>.parquet` and `predictions/reasons/<split>.parquet`.
        """
        if not run.has_predictions("train", by="encoded"):
            return {}
        learnt = self.learn(run)
        for split in ("val", "test", "survey"):
            if run.has_predictions(split, by="encoded"):
                with run.predictions_writer(split) as write, run.predictions_writer(split, by="reasons") as explain:
                    for table in run.predictions_in_batches(split, by="encoded"):
                        scores, reasons = learnt.judge(table)
                        write(scores)
                        explain(reasons)
        return {}

    def learn(self, run: RunDir) -> Learnt:
        """Detectors fitted to a run's training objects; the same each time."""
        train, val = run.predictions("train", by="encoded"), run.predictions("val", by="encoded")
        assert train is not None
        assert val is not None
        labels = run.catalog().set_index("id")["label"].loc[train["id"]].to_numpy()
        by_reason = {kind: Sees(Forest(), [kind]) for kind in ("latent", "reconstruction")}
        tails = {}
        for name, sees in {**self.detectors, **by_reason}.items():
            sees.fit(train, labels)
            tails[name] = EmpiricalTail.fit(sees.score(val))
        latents = seen(train, ["latent"])
        standard = Standard.fit(latents, "scaled")
        neighbours = KNeighborsClassifier(min(NEAREST, len(train)), weights="distance").fit(standard(latents), labels)
        return Learnt(self.detectors, by_reason, tails, standard, neighbours, self.classes)
