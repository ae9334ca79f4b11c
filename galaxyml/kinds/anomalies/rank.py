"""The list that an observer can act on."""

import numpy as np
import pandas as pd

from galaxyml.data.light_curves.data_module import name_column
from galaxyml.data.light_curves.reader import BANDS
from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import RunDir


def rank_anomalies(run: RunDir) -> dict[str, float]:
    """Writes `anomalies.csv`: the survey's objects, or test objects where there is none, the highest score first.

    A stage; it has no numbers of its own.
    """
    split = "survey" if run.has_predictions("survey") else "test"
    if run.has_predictions(split):
        with atomic_write(run.path / "anomalies.csv") as draft:
            ranked(run, split).to_csv(draft, index=False)
    return {}


def ranked(run: RunDir, split: str) -> pd.DataFrame:
    """A run's objects of one split in the order of `in_order`."""
    # What a joined run's nets say in numbers was averaged; the reasons are the first one's.
    reasons = (run if run.has_predictions(split, by="reasons") else run.members()[0]).predictions(split, by="reasons")
    scores = run.predictions(split)
    assert scores is not None
    assert reasons is not None
    return in_order(scores, reasons, run.fitted_values("threshold")["score"], run.catalog())


def in_order(scores: pd.DataFrame, reasons: pd.DataFrame, level: float | None, catalog: pd.DataFrame) -> pd.DataFrame:
    """Objects by their score, the highest first; equal ones by their id.

    Args:
        scores: With `id` and `score`.
        reasons: As `galaxyml.kinds.anomalies.detect.Learnt.judge` has them, of the same objects.
        level: The threshold, or None.
        catalog: Has the objects' true classes, `name`, '' where not known, and what users call them.

    Returns:
        `rank` from 1; `object_id`, as users call it; `score`, in nats; `anomaly`, whether it is above the threshold,
        empty without one; `nearest_known_class`; `reason`, `latent` or `reconstruction`, whichever is more surprising;
        `passband` and `mjd` of the observations that the net reconstructs worst; and `true_class` where any is known.
    """
    table = scores[["id", "score"]].merge(reasons, on="id")
    table = table.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
    objects = catalog.set_index("id", drop=False).loc[table["id"]]
    true_class = objects["name"].to_numpy()
    columns = {
        "rank": np.arange(1, len(table) + 1),
        "object_id": objects[name_column(catalog)].to_numpy(),
        "score": table["score"].round(4),
        "anomaly": table["score"] > level if level is not None else "",
        "nearest_known_class": table["nearest"],
        "reason": np.where(table["latent"] >= table["reconstruction"], "latent", "reconstruction"),
        "passband": np.array(BANDS)[table["band"]],
        "mjd": table["mjd"].round(2),
    }
    return pd.DataFrame(columns | ({"true_class": true_class} if (true_class != "").any() else {}))
