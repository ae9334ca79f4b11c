"""What the stages of classification share: the labels and the outputs of a split, side by side."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir


@dataclass(frozen=True)
class Judged:
    """Objects of a split whose class is known, N of them.

    Attributes:
        rows: Their rows in the catalog, shape (N,).
        labels: Their classes, 0 to K - 1, shape (N,).
        logits: What the net said, shape (N, K).
        probabilities: What was made of it, shape (N, K).
        fold: The fold that each belongs to, shape (N,).
    """

    rows: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    fold: np.ndarray


def judged(run: RunDir, split: str, classes: list[str], catalog: pd.DataFrame) -> Judged | None:
    """The predictions of a split beside the truth; None if there are none, or nothing is known.

    Raises:
        UserError: If a prediction is not finite.
    """
    net, final = run.predictions(split, by="net"), run.predictions(split)
    if net is None or final is None:
        return None
    rows = pd.Index(catalog["id"]).get_indexer(net["id"])
    labels = catalog["label"].to_numpy()[rows]
    known = labels >= 0
    if not known.any():
        return None
    logits = net[classes].to_numpy(np.float64)
    if not np.isfinite(logits).all():
        raise diverged(run.path)
    fold = catalog["fold"].to_numpy()[rows]
    values = final[classes].to_numpy(np.float64)
    return Judged(rows[known], labels[known], logits[known], values[known], fold[known])
