"""The rules of a decision tree on vote fractions: the answers of a question sum to the answer that leads there."""

import torch
from torch import Tensor, nn

from galaxyml.errors import UserError
from galaxyml.trees.tree import DecisionTree


def gaps(values: Tensor, tree: DecisionTree) -> Tensor:
    """How far each question is from its rule.

    Args:
        values: Fractions of paths, shape (N, K), columns in the tree's order.
        tree: The decision tree.

    Returns:
        Sum of the answers minus the value of the answer that leads there (1 for a question that everyone is asked),
        shape (N, Q).
    """
    _check(values, tree)
    sums = _sums(values, tree)
    return sums - _leading(values, tree)


def violation(values: Tensor, tree: DecisionTree) -> Tensor:
    """Largest gap, over galaxies and questions, between the sum of the answers and the answer that leads there.

    The best value is 0.

    Args:
        values: Fractions of paths, shape (N, K), columns in the tree's order.
        tree: The decision tree.

    Returns:
        A scalar; 0 for no galaxies.
    """
    found = gaps(values, tree).abs()
    return found.max() if found.numel() else values.new_zeros(())


def constrain(values: Tensor, tree: DecisionTree) -> Tensor:
    """Divisive normalisation down the tree.

    Negatives become 0, then the answers of each question are scaled to sum to the answer that leads there (Dieleman et
    al. 2015, MNRAS 450, 1441, do it inside the net). A question whose answers are all 0 or below shares its parent's
    value equally. Consistent values stay as they are.

    Args:
        values: Any numbers, shape (N, K), columns in the tree's order.
        tree: The decision tree.

    Returns:
        Fractions in [0, 1] without violation, shape (N, K).
    """
    _check(values, tree)
    positive = values.clamp_min(0)
    sums = _sums(positive, tree)[:, tree.question_of]
    sizes = torch.bincount(torch.tensor(tree.question_of)).to(values)[tree.question_of]
    shares = torch.where(sums > 0, positive / torch.where(sums > 0, sums, 1), 1 / sizes)
    return _walk(shares, tree)


class TreeHead(nn.Module):
    """Turns scores into fractions that obey the tree: a softmax for each question, times the answer that leads there.

    Args:
        tree: Name of the decision tree.
    """

    def __init__(self, tree: str) -> None:
        super().__init__()
        self.tree = DecisionTree.load(tree)

    def forward(self, scores: Tensor) -> Tensor:
        """Fractions of paths from any scores; both of shape (N, K)."""
        # In half precision the sums would be off by 1e-3.
        scores = scores.float()
        shares = torch.cat([part.softmax(1) for part in scores.split(_sizes(self.tree), dim=1)], dim=1)
        return _walk(shares, self.tree)


def _sizes(tree: DecisionTree) -> list[int]:
    return [len(question.columns) for question in tree.questions]


def _sums(values: Tensor, tree: DecisionTree) -> Tensor:
    """Sum of each question's answers, shape (N, Q)."""
    return torch.stack([part.sum(1) for part in values.split(_sizes(tree), dim=1)], dim=1)


def _leading(values: Tensor, tree: DecisionTree) -> Tensor:
    """Value that leads to each question, shape (N, Q)."""
    one = values.new_ones(len(values))
    return torch.stack([values[:, leads].sum(1) if leads else one for leads in tree.leads], dim=1)


def _walk(shares: Tensor, tree: DecisionTree) -> Tensor:
    """Fractions of paths from each question's shares, which sum to 1."""
    values = shares
    for _ in range(tree.depth - 1):
        values = shares * _leading(values, tree)[:, tree.question_of]
    return values


def _check(values: Tensor, tree: DecisionTree) -> None:
    if values.ndim != 2 or values.shape[1] != len(tree.columns):
        raise UserError(
            f"The tree '{tree.name}' has {len(tree.columns)} columns, so values must have the shape "
            f"(N, {len(tree.columns)}); found {tuple(values.shape)}."
        )
