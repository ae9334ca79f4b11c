"""From what a net sees of images to how unusual each is, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.nearest import Nearest, Standardisation
from galaxyml.evaluation.unusual import Unusual, principal, unusual
from galaxyml.kinds.anomalies.detect import Sees, seen
from galaxyml.kinds.anomalies.detectors import FEWEST, cross_fitted
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

NEAREST = 3  # images that are named beside each
SIMPLE = ("brightness", "size", "bytes", "asymmetry")  # that need no net, and judge how hard the task is


@dataclass(frozen=True)
class Encoded:
    """What a net sees of N images, as `galaxyml.training.encoding.EncodingModule.predict_step` has it.

    Attributes:
        ids: Shape (N,).
        features: Float32 of shape (N, F).
        thumbnails: Float16 of shape (N, P).
        numbers: `residual`, `asymmetry`, `brightness`, `size` and `bytes`, and `odds` where the net says them.
    """

    ids: np.ndarray
    features: np.ndarray
    thumbnails: np.ndarray
    numbers: pd.DataFrame

    @classmethod
    def read(cls, run: RunDir) -> Self:
        """Of a run's images."""
        features, thumbnails, numbers = [], [], []
        for table in run.predictions_in_batches("survey", by="encoded"):
            features.append(np.stack(list(table.pop("features"))).astype(np.float32))
            thumbnails.append(np.stack(list(table.pop("thumbnail"))).astype(np.float16))
            numbers.append(table)
        joined = pd.concat(numbers, ignore_index=True)
        return cls(joined.pop("id").to_numpy(), np.concatenate(features), np.concatenate(thumbnails), joined)

    def columns(self, learnt: np.ndarray) -> pd.DataFrame:
        """What detectors may see, by the kinds of `Sees`: principal components of the features are its latents."""
        standard = Standardisation.fit([self.features[learnt]])
        scaled = ((self.features - standard.mean) / standard.spread).astype(np.float32)
        components = principal(scaled, np.flatnonzero(learnt), seed=0)
        table = {f"latent_{number}": column for number, column in enumerate(components.T)}
        table |= {"reconstruction_residual": self.numbers["residual"].to_numpy()}
        table |= {"class_odds": self.numbers["odds"].to_numpy()} if "odds" in self.numbers else {}
        plain = ("asymmetry", "brightness", "size")
        return pd.DataFrame(table | {f"feature_{name}": self.numbers[name].to_numpy() for name in plain})


class Families:
    """The sum of what is unusual about images, see `galaxyml.evaluation.unusual.unusual`."""

    def __call__(self, encoded: Encoded, learnt: np.ndarray, seed: int) -> Unusual:
        """How unusual each of N images is.

        Args:
            encoded: They.
            learnt: Which of them say what is usual, shape (N,).
            seed: Of what is drawn.
        """
        numbers = encoded.numbers
        odds = numbers["odds"].to_numpy(np.float64) if "odds" in numbers else None
        asymmetry = numbers["asymmetry"].to_numpy(np.float64)
        return unusual(encoded.features, odds, asymmetry, encoded.thumbnails, seed, learnt)


class DetectImages:
    """Scores images by every detector, each by one that has not learnt from it.

    Args:
        score: The detector that ranks.
        beside: Others that it is compared with, by the name of their column.
        parts: Of the cross-fit, 2 or more.
        seed: Of what is drawn.

    Raises:
        UserError: If there are fewer parts.
    """

    def __init__(self, score: Sees | Families, beside: Mapping[str, Sees], parts: int, seed: int) -> None:
        if parts < 2:
            raise UserError(f"kind.parts={parts}: it must be a whole number, 2 or more.")
        self.score = score
        self.beside = {
            name: sees for name, sees in beside.items() if isinstance(score, Families) or not sees.like(score)
        }
        self.parts, self.seed = parts, seed

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the scores and the reasons for them; does nothing where runs were joined.

        `predictions/survey.parquet` has `id`, `score`, a column a detector, and numbers that need no detector.
        `predictions/reasons/survey.parquet` has `id`, what each family adds to the sum, `reason` (the one that adds
        most), `nearest` (ids of the most similar other images) and `similarity` (the cosine to the first of them).
        """
        if not run.has_predictions("survey", by="encoded"):
            return {}
        encoded = Encoded.read(run)
        learnt = run.catalog().set_index("id")["learnt"].loc[encoded.ids].to_numpy(bool)
        if learnt.sum() < FEWEST * self.parts:
            raise UserError(
                f"{run.path}: {learnt.sum()} images are left to learn from, fewer than {FEWEST} for each of "
                f"kind.parts={self.parts}. Give more images."
            )
        families = self.score if isinstance(self.score, Families) else Families()
        found, columns = families(encoded, learnt, self.seed), encoded.columns(learnt)
        scores = {"score": found.score}
        if isinstance(self.score, Sees):
            scores = {"score": self._scores(self.score, columns, learnt), "unusual": found.score}
        scores |= {name: self._scores(sees, columns, learnt) for name, sees in self.beside.items()}
        plain = [name for name in ("residual", *SIMPLE) if np.isfinite(encoded.numbers[name]).all()]
        scores |= {name: encoded.numbers[name].to_numpy(np.float64) for name in plain}
        run.write_predictions("survey", pd.DataFrame({"id": encoded.ids, **scores}))
        nearest, similarity = _nearest(encoded, learnt)
        reasons = {"id": encoded.ids, **found.families, "reason": found.reasons}
        table = pd.DataFrame({**reasons, "nearest": nearest, "similarity": similarity})
        run.write_predictions("survey", table, by="reasons")
        return {}

    def _scores(self, sees: Sees, columns: pd.DataFrame, learnt: np.ndarray) -> np.ndarray:
        x = seen(columns, sees.of)
        labels = np.zeros(len(x), np.int64)
        scores = np.empty(len(x))
        given = (sees.detector, x[learnt], labels[learnt], self.parts, self.seed, x[~learnt])
        scores[learnt], scores[~learnt] = cross_fitted(*given)
        return scores


def _nearest(encoded: Encoded, learnt: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Ids of the most similar other images that were learnt from, and the similarity of the first."""
    rows = np.flatnonzero(learnt)
    found, cosines = Nearest(encoded.features[rows]).query(encoded.features, min(NEAREST + 1, len(rows)))
    others = rows[found] != np.arange(len(encoded.ids))[:, None]
    others[others.all(axis=1), -1] = False  # the farthest, where the image itself is not among them
    count = others.sum(axis=1)[0]
    kept = rows[found][others].reshape(len(others), count)
    names = encoded.ids.astype(str)[kept]
    return [" ".join(row) for row in names], cosines[others].reshape(len(others), count)[:, 0]
