"""Makes predicted fractions obey a decision tree."""

import numpy as np
import pandas as pd
import torch

from galaxyml.evaluation.joined import NetOutputs
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import CONSTRAINTS, DecisionTree, constrain


def constrained(values: np.ndarray, tree: DecisionTree, constraint: str) -> np.ndarray:
    """Fractions under one of `CONSTRAINTS`, in double precision; (N, K) -> (N, K)."""
    return constrain(torch.from_numpy(values.astype(np.float64)), tree, constraint).numpy()


class Constrain:
    """Replaces the net's outputs by fractions that obey the tree.

    Args:
        tree: The decision tree.
        constraint: `project` for the nearest consistent fractions, which never raises the squared error of a galaxy
            whose truth is consistent; `normalise` for divisive normalisation down the tree; `none` to take what the
            net said.

    Raises:
        UserError: If there is no such constraint.
    """

    def __init__(self, tree: DecisionTree, constraint: str = "project") -> None:
        if constraint not in CONSTRAINTS:
            raise UserError(
                f"constraint={constraint}: there is no such constraint. {did_you_mean(constraint, CONSTRAINTS)}"
            )
        self.tree, self.constraint = tree, constraint

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the constrained predictions of every split; has no numbers of its own."""
        for split in ("val", "test"):
            if (table := run.predictions(split, by="net")) is not None:
                run.write_predictions(split, self.combine(run, NetOutputs.equal([table]), table))
        return {}

    def combine(self, run: RunDir, nets: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Fractions that obey the tree, from what the nets of a run say of the same images."""
        values = constrained(nets.mean[self.tree.columns].to_numpy(), self.tree, self.constraint)
        return nets.mean.assign(**dict(zip(self.tree.columns, values.T, strict=True)))
