"""Makes predicted fractions obey a decision tree."""

from collections.abc import Sequence

import pandas as pd
import torch

from galaxyml.runs import RunDir
from galaxyml.stages.ensemble import mean_table
from galaxyml.trees import DecisionTree, constrain


class Constrain:
    """Replaces what the net said by fractions that obey the tree, by divisive normalisation.

    Args:
        tree: Name of the decision tree.
    """

    def __init__(self, tree: str) -> None:
        self.tree = DecisionTree.load(tree)

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the constrained predictions of every split; has no numbers of its own."""
        for split in ("val", "test"):
            if (table := run.predictions(split, by="net")) is not None:
                run.write_predictions(split, self.combine(run, [table]))
        return {}

    def combine(self, run: RunDir, outputs: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Fractions that obey the tree, from what the nets of a run said of the same pictures."""
        said = mean_table(outputs)
        values = torch.tensor(said[self.tree.columns].to_numpy("float64"))
        return said.assign(**dict(zip(self.tree.columns, constrain(values, self.tree).numpy().T, strict=True)))
