"""Predictions that obey a decision tree, by one of several ways."""

from collections.abc import Callable

from torch import Tensor

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.trees.projection import project
from galaxyml.trees.rules import normalise
from galaxyml.trees.tree import DecisionTree

CONSTRAINTS: dict[str, Callable[[Tensor, DecisionTree], Tensor]] = {
    "project": project,
    "normalise": normalise,
    "none": lambda values, tree: values,
}


def constrain(probabilities: Tensor, tree: DecisionTree, how: str = "project") -> Tensor:
    """Fractions that obey a decision tree, from predictions that need not.

    Args:
        probabilities: Any numbers, shape (N, K), columns in the tree's order.
        tree: The decision tree.
        how: `project` for the nearest consistent fractions, which never raises the squared error of a galaxy whose
            target is consistent; `normalise` for divisive normalisation down the tree, through which gradients flow;
            `none` for the predictions as they are.

    Returns:
        Fractions, shape (N, K); of `project` and `normalise` in [0, 1] and without violation.

    Raises:
        UserError: If there is no such way, or the predictions have another shape.

    >>> import torch
    >>> from galaxyml.trees import violation
    >>> tree = DecisionTree.load("kaggle")
    >>> predictions = torch.rand(5, len(tree.columns))
    >>> fractions = constrain(predictions, tree)
    >>> bool(violation(predictions, tree) > 0.1), bool(violation(fractions, tree) < 1e-6)
    (True, True)
    """
    if how not in CONSTRAINTS:
        raise UserError(f"constraint={how}: there is no such constraint. {did_you_mean(how, CONSTRAINTS)}")
    return CONSTRAINTS[how](probabilities, tree)
