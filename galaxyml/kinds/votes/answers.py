"""What a net says, as fractions of the features that all surveys are judged by."""

import numpy as np
import pandas as pd

from galaxyml.evaluation.joined import NetOutputs
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.vocabulary import Vocabulary

SPLITS = ("val", "test")
NET = "net"  # tables of what nets say; those of the phases of a fit are called net_<phase>


class Answers:
    """Turns a net's outputs into fractions, as each galaxy's own volunteers would give them.

    Args:
        vocabulary: What the net says.
        campaign: Whose volunteers are asked about pictures from elsewhere.
    """

    def __init__(self, vocabulary: Vocabulary, campaign: str | None = None) -> None:
        self.vocabulary = vocabulary
        self.campaign = campaign if campaign is not None else vocabulary.trained[0]

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the fractions of every split, and those of the phases before; has no numbers of its own."""
        campaigns = run.catalog().set_index("id")["campaign"]
        for split in SPLITS:
            for by in run.tables_of_predictions(split):
                if not by.startswith(NET):
                    continue
                said = run.predictions(split, by=by)
                assert said is not None
                outputs = said[self.vocabulary.columns].to_numpy(float)
                of_each = campaigns.loc[said["id"]].to_numpy()
                run.write_predictions(
                    split, self._table(run, said, outputs, of_each), by=by.removeprefix(NET).lstrip("_")
                )
        return {}

    def combine(self, run: RunDir, said: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Fractions that volunteers of one campaign would give, from what nets say of the same pictures."""
        values = said.mean[self.vocabulary.columns].to_numpy(float)
        return self._table(run, said.mean, values, np.full(len(values), self.campaign))

    def _table(self, run: RunDir, said: pd.DataFrame, outputs: np.ndarray, campaigns: np.ndarray) -> pd.DataFrame:
        if not np.isfinite(outputs).all():
            raise diverged(run.path)
        found = pd.DataFrame(self.vocabulary.predicted_features(outputs, campaigns), columns=self.vocabulary.features)
        if "id" in said:
            found.insert(0, "id", said["id"].to_numpy())
        return found
