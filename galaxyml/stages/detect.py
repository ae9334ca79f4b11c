"""From what a net tells of light curves to anomaly scores, and the reasons for them."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

from galaxyml.detectors import Detector, Standard, Surprise
from galaxyml.errors import UserError, near
from galaxyml.runs import RunDir

NEAREST = 5  # known objects that say which known class an object is nearest to
KINDS = ("latent", "reconstruction", "class", "feature")


class Sees:
    """A detector, and which columns it sees.

    Args:
        detector: Learns from training objects.
        of: Kinds of columns: `latent`, `reconstruction` (how badly the net decodes), `class` (scores of the classes)
            and `feature` (plain features).

    Raises:
        UserError: If there is no such kind.
    """

    def __init__(self, detector: Detector, of: Sequence[str]) -> None:
        if bad := [kind for kind in of if kind not in KINDS]:
            raise UserError(f"of={bad[0]}: a detector cannot see that. {near(bad[0], KINDS)}")
        self.detector, self.of = detector, list(of)

    def fit(self, table: pd.DataFrame, labels: np.ndarray) -> None:
        """Learns from the training objects' table and labels."""
        self.detector.fit(seen(table, self.of), labels)

    def score(self, table: pd.DataFrame) -> np.ndarray:
        """Higher is more unlike the training objects, shape (N,)."""
        return self.detector.score(seen(table, self.of))


def seen(table: pd.DataFrame, of: Sequence[str]) -> np.ndarray:
    """Some kinds of columns of a table of `told`, shape (N, F)."""
    kinds = tuple(f"{kind}_" for kind in of)
    return table[[name for name in table.columns if name.startswith(kinds)]].to_numpy(np.float64)


class Detect:
    """Scores objects by every detector, each of which learns from the training objects alone.

    Scores are given as surprise: how rare one as high is among the validation objects, in nats (`Surprise`), so that
    detectors, and the nets of several folds, speak of the same.

    Args:
        classes: Names of the classes, in the order of the labels.
        score: The detector that ranks.
        beside: Others that it is compared with, by the name of their column.
    """

    def __init__(self, classes: Sequence[str], score: Sees, beside: Mapping[str, Sees]) -> None:
        self.classes = np.array(classes)
        self.detectors = {"score": score, **beside}

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the scores of validation, test and survey objects; does nothing where runs were joined.

        The table `predictions/<split>.parquet` has one column a detector; `predictions/reasons/<split>.parquet` has of
        each object the `nearest` known class in the latent space, how surprising the `latent` and the `reconstruction`
        are by themselves, and where the reconstruction is off most, `mjd` and `band`.
        """
        train, val = run.predictions("train", by="told"), run.predictions("val", by="told")
        if train is None or val is None:
            return {}
        labels = run.catalog().set_index("id")["label"].loc[train["id"]].to_numpy()
        ranking = self.detectors["score"]
        parts = {kind: Sees(copy.deepcopy(ranking.detector), [kind]) for kind in ("latent", "reconstruction")}
        every = {**self.detectors, **parts}
        usual = {}
        for name, sees in every.items():
            sees.fit(train, labels)
            usual[name] = Surprise.fit(sees.score(val))
        standard = Standard.fit(seen(train, ["latent"]), "scaled")
        neighbours = KNeighborsClassifier(min(NEAREST, len(train)), weights="distance")
        neighbours.fit(standard(seen(train, ["latent"])), labels)
        for split in ("val", "test", "survey"):
            if not run.has_predictions(split, by="told"):
                continue
            with run.predictions_writer(split) as write, run.predictions_writer(split, by="reasons") as explain:
                for table in run.predictions_in_parts(split, by="told"):
                    found = {name: usual[name](sees.score(table)) for name, sees in every.items()}
                    write(pd.DataFrame({"id": table["id"], **{name: found[name] for name in self.detectors}}))
                    nearest = self.classes[neighbours.predict(standard(seen(table, ["latent"])))]
                    where = {"mjd": table["worst_mjd"], "band": table["worst_band"]}
                    reasons = {"nearest": nearest, **{name: found[name] for name in parts}, **where}
                    explain(pd.DataFrame({"id": table["id"], **reasons}))
        return {}
