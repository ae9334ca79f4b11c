"""Makes predicted fractions obey a decision tree."""

import torch

from galaxyml.runs import RunDir
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
                values = torch.tensor(table[self.tree.columns].to_numpy("float64"))
                table[self.tree.columns] = constrain(values, self.tree).numpy()
                run.write_predictions(split, table)
        return {}
