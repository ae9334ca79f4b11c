"""The list of images that a person looks at, the most unusual first."""

import numpy as np
import pandas as pd

from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import RunDir

COLUMNS = ("reason", "nearest", "similarity")


def rank_images(run: RunDir) -> dict[str, float]:
    """Writes `anomalies.csv`; a stage without numbers of its own."""
    with atomic_write(run.path / "anomalies.csv") as draft:
        ranked(run).to_csv(draft, index=False)
    return {}


def ranked(run: RunDir) -> pd.DataFrame:
    """A run's images by their score, the highest first; equal ones by their id.

    Returns:
        `rank` from 1, `id`, `path`, `score`, `reason` (the family that adds most to it), `nearest` (ids of the most
        similar images), `similarity` (the cosine to the first of them), and `true_class` where any is known.
    """
    scores = run.predictions("survey")
    # Reasons of joined runs are the first one's.
    told = run if run.has_predictions("survey", by="reasons") else run.members()[0]
    reasons = told.predictions("survey", by="reasons")
    assert scores is not None
    assert reasons is not None
    table = scores[["id", "score"]].merge(reasons[["id", *COLUMNS]], on="id")
    table = table.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
    catalog = run.catalog().set_index("id").loc[table["id"]]
    columns = {
        "rank": np.arange(1, len(table) + 1),
        "id": table["id"],
        "path": catalog["image"].to_numpy(),
        "score": table["score"].round(4),
        "reason": table["reason"],
        "nearest": table["nearest"],
        "similarity": table["similarity"].round(3),
    }
    names = catalog["name"].to_numpy()
    return pd.DataFrame(columns | ({"true_class": names} if (names != "").any() else {}))
