"""From a net's scores to answers: concentrations of a Dirichlet distribution, or shares of each question."""

import math

import torch
from torch import Tensor, nn

from galaxyml.runs.errors import UserError
from galaxyml.trees.vocabulary import Vocabulary


class Concentrations(nn.Module):
    """Concentrations of Dirichlet distributions from scores: 1 + (highest - 1) sigmoid(score).

    At least 1, so that no share of 0 or 1 is more likely than those between; not above `highest`, so that a net cannot
    grow certain without end. Walmsley et al. 2022 (MNRAS 509, 3966), section 4, choose 1 to 100.

    Args:
        highest: Above 1.

    Raises:
        UserError: If it is not.
    """

    def __init__(self, highest: float = 100.0) -> None:
        super().__init__()
        if not 1 < highest < math.inf:
            raise UserError(f"head.highest={highest:g}: the highest concentration is above 1; 100 is common.")
        self.highest = highest

    def forward(self, scores: Tensor) -> Tensor:
        """Concentrations from any scores; both of shape (N, K)."""
        # Half precision would round 100 to steps of 0.06, bfloat16 to steps of 0.5.
        return 1 + (self.highest - 1) * scores.to(torch.promote_types(scores.dtype, torch.float32)).sigmoid()


class Answers(nn.Module):
    """Shares of each question's answers from scores: a softmax for each question.

    Args:
        vocabulary: What the net says, K answers to Q questions.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.sizes = list(vocabulary.sizes)

    def forward(self, scores: Tensor) -> Tensor:
        """Shares in [0, 1], each question summing to 1, from any scores; both of shape (N, K).

        Raises:
            UserError: If there are more or fewer scores than answers.
        """
        if scores.shape[1] != sum(self.sizes):
            raise UserError(
                f"outputs={scores.shape[1]}: the questions of this task have {sum(self.sizes)} answers; "
                "make them equal."
            )
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return torch.cat([part.softmax(1) for part in scores.split(self.sizes, dim=1)], dim=1)
