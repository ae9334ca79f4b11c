"""The rules of a decision tree on vote fractions: the answers of a question sum to the answer that leads there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.trees.tree import DecisionTree

FLOOR = 1e-3  # added to every rectified score
LEAK = 0.1  # slope by which a score below 0 learns to rise, where one above 0 has 1


def gaps(values: Tensor, tree: DecisionTree) -> Tensor:
    """Distance of each question from its rule.

    Args:
        values: Fractions of paths, shape (N, K), columns in the tree's order.
        tree: The decision tree.

    Returns:
        Sum of the answers minus the value of the answer that leads there (1 for a question that everyone is asked),
        shape (N, Q).
    """
    check_shape(values, tree)
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

    >>> tree = DecisionTree.load("kaggle")
    >>> violation(torch.zeros(1, len(tree.columns)), tree)  # the answers to the first question sum to 0, not to 1
    tensor(1.)
    """
    sizes = gaps(values, tree).abs()
    return sizes.max() if sizes.numel() else values.new_zeros(())


def normalise(values: Tensor, tree: DecisionTree) -> Tensor:
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
    check_shape(values, tree)
    positive = values.clamp_min(0)
    sums = _sums(positive, tree)[:, tree.question_of]
    sizes = torch.bincount(torch.tensor(tree.question_of)).to(values)[tree.question_of]
    shares = torch.where(sums > 0, positive / torch.where(sums > 0, sums, 1), 1 / sizes)
    return _walk(shares, tree)


class _Rectified(torch.autograd.Function):
    """max(score, 0), where a score below 0 learns what would raise it, by the slope `LEAK`, and nothing else."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        return scores.relu()

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Tensor:
        (scores,) = ctx.saved_tensors
        return torch.where(scores > 0, slopes, LEAK * slopes.clamp_max(0))


def divisive(scores: Tensor) -> Tensor:
    """Shares of one question's answers: rectified scores, divided by their sum (Dieleman et al. 2015).

    Unlike a softmax it says next to 0 without scores that grow without end. `FLOOR` keeps the shares continuous and
    their slopes finite where the sum is small.

    A rectified score that is below 0 for every galaxy would learn nothing any more. The original, which got stuck at
    times, clipped scores to [0, 1] without dividing for its first 10,000 images. Here a score below 0 counts as 0
    but still learns, "straight through" (Bengio et al. 2013, arXiv:1308.3432), if the loss falls where it rises.

    Args:
        scores: Any numbers, shape (N, A).

    Returns:
        Shares in (0, 1) that sum to 1, shape (N, A); equal where no score is above 0.
    """
    positive = _Rectified.apply(scores) + FLOOR
    return positive / positive.sum(1, keepdim=True)


SHARES: dict[str, Callable[[Tensor], Tensor]] = {"softmax": lambda scores: scores.softmax(1), "divisive": divisive}


class TreeHead(nn.Module):
    """Turns scores into fractions that obey the tree: shares of each question, times the answer that leads there.

    Args:
        tree: Name of the decision tree.
        shares: How scores become shares: `softmax`, or `divisive` for rectified scores divided by their sum.

    Raises:
        UserError: If there is no such tree, or no such way.
    """

    def __init__(self, tree: str, shares: str = "softmax") -> None:
        super().__init__()
        if shares not in SHARES:
            raise UserError(f"head.shares={shares}: no such way to share a question. {did_you_mean(shares, SHARES)}")
        self.tree = DecisionTree.load(tree)
        self.shares = shares

    def forward(self, scores: Tensor) -> Tensor:
        """Fractions of paths from any scores; both of shape (N, K)."""
        # In half precision the sums would be off by 1e-3.
        blocks = scores.float().split(_sizes(self.tree), dim=1)
        return _walk(torch.cat([SHARES[self.shares](block) for block in blocks], dim=1), self.tree)


def _sizes(tree: DecisionTree) -> list[int]:
    return [len(question.columns) for question in tree.questions]


def _sums(values: Tensor, tree: DecisionTree) -> Tensor:
    """Sum of each question's answers, shape (N, Q)."""
    return torch.stack([answers.sum(1) for answers in values.split(_sizes(tree), dim=1)], dim=1)


def _leading(values: Tensor, tree: DecisionTree) -> Tensor:
    """Value that leads to each question, shape (N, Q)."""
    everyone = torch.ones_like(values[:, 0])
    return torch.stack([values[:, leads].sum(1) if leads else everyone for leads in tree.leads], dim=1)


def _walk(shares: Tensor, tree: DecisionTree) -> Tensor:
    """Fractions of paths from each question's shares, which sum to 1."""
    values = shares
    for _ in range(tree.depth - 1):
        values = shares * _leading(values, tree)[:, tree.question_of]
    return values


def check_shape(values: Tensor, tree: DecisionTree) -> None:
    """Refuses values that are not of shape (N, K), K being the number of the tree's answers."""
    if values.ndim != 2 or values.shape[1] != len(tree.columns):
        raise UserError(
            f"The tree '{tree.name}' has {len(tree.columns)} columns, so values must have the shape "
            f"(N, {len(tree.columns)}); found {tuple(values.shape)}."
        )
