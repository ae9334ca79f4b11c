"""Outputs of a net as fractions of the features that all surveys are judged by."""

import numpy as np
import pandas as pd

from galaxyml.evaluation.joined import NetOutputs
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.vocabulary import Vocabulary

NET = "net"  # tables of what nets say; those of the phases of a fit are called net_<phase>


class Answers:
    """Turns a net's outputs into fractions, as each galaxy's own volunteers would give them.

    Args:
        vocabulary: What the net says.

    Attributes:
        campaign: Whose volunteers are asked about images from elsewhere.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.campaign = vocabulary.trained[0]

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the fractions of every split, and those of the phases before; has no numbers of its own."""
        campaigns = run.catalog().set_index("id")["campaign"]
        for split in ("val", "test"):
            for by in run.tables_of_predictions(split):
                if by.startswith(NET):
                    table = run.predictions(split, by=by)
                    assert table is not None
                    fractions = self._fractions(run, table, campaigns.loc[table["id"]].to_numpy())
                    run.write_predictions(split, fractions, by=by.removeprefix(NET).lstrip("_"))
        return {}

    def combine(self, run: RunDir, nets: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Fractions that volunteers of one campaign would give, from what nets say of the same images."""
        return self._fractions(run, nets.mean, np.full(len(nets.mean), self.campaign))

    def _fractions(self, run: RunDir, table: pd.DataFrame, campaigns: np.ndarray) -> pd.DataFrame:
        outputs = table[self.vocabulary.columns].to_numpy(float)
        if not np.isfinite(outputs).all():
            raise diverged(run.path)
        values = self.vocabulary.predicted_features(outputs, campaigns)
        fractions = pd.DataFrame(values, columns=self.vocabulary.features)
        if "id" in table:
            fractions.insert(0, "id", table["id"].to_numpy())
        return fractions
