"""What the stages that judge anomaly scores share: the scores of a split beside the truth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.runs.run_dir import RunDir


@dataclass(frozen=True)
class Scored:
    """Objects of a split whose true class is told, N of them.

    Attributes:
        ids: Shape (N,).
        scores: By detector, `score` first, shape (N,) each.
        unknown: Whether each object is of no known class, shape (N,).
        names: Of the true classes, shape (N,).
    """

    ids: np.ndarray
    scores: dict[str, np.ndarray]
    unknown: np.ndarray
    names: np.ndarray


def scored(run: RunDir, split: str, catalog: pd.DataFrame) -> Scored | None:
    """The scores of a split beside the truth; None if there are none, or nothing is told."""
    found = run.predictions(split)
    if found is None:
        return None
    rows = pd.Index(catalog["id"]).get_indexer(found["id"])
    unknown, known = (catalog[name].to_numpy()[rows] for name in ("unknown", "known"))
    told = unknown | known
    if not told.any():
        return None
    scores = {name: found[name].to_numpy()[told] for name in found.columns if name != "id"}
    return Scored(found["id"].to_numpy()[told], scores, unknown[told], catalog["name"].to_numpy()[rows][told])
