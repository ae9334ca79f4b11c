"""The list that an observer can act on."""

import numpy as np
import pandas as pd

from galaxyml.data.light_curves import BANDS
from galaxyml.files import whole
from galaxyml.runs import RunDir


class RankAnomalies:
    """Writes `anomalies.csv`: the survey's objects, or test objects where there is none, the highest score first."""

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the list; has no numbers of its own."""
        split = "survey" if run.has_predictions("survey") else "test"
        if not run.has_predictions(split):
            return {}
        table = ranked(run, split)
        with whole(run.path / "anomalies.csv") as draft:
            table.to_csv(draft, index=False)
        return {}


def ranked(run: RunDir, split: str) -> pd.DataFrame:
    """Objects of a split by their score, the highest first; equal ones by their id.

    Returns:
        `rank` from 1; `object_id`; `score`, in nats; `anomaly`, whether it is above the run's threshold;
        `nearest_known_class`; `reason`, `latent` or `reconstruction`, whichever is more surprising; `passband` and
        `mjd` of the observations that the net reconstructs worst; and `true_class` where it is told.
    """
    scores, reasons = run.predictions(split), None
    # What a joined run's nets say in numbers was averaged; reasons are the first one's.
    for member in (run, *run.members()):
        if (reasons := member.predictions(split, by="reasons")) is not None:
            break
    assert scores is not None
    assert reasons is not None
    catalog = run.catalog().set_index("id")["name"]
    table = scores[["id", "score"]].merge(reasons, on="id")
    table = table.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
    names = catalog.loc[table["id"]].to_numpy()
    columns = {
        "rank": np.arange(1, len(table) + 1),
        "object_id": table["id"],
        "score": table["score"].round(4),
        "anomaly": table["score"] > run.learnt("threshold")["score"],
        "nearest_known_class": table["nearest"],
        "reason": np.where(table["latent"] >= table["reconstruction"], "latent", "reconstruction"),
        "passband": np.array(BANDS)[table["band"]],
        "mjd": table["mjd"].round(2),
    }
    return pd.DataFrame(columns | ({"true_class": names} if (names != "").any() else {}))
