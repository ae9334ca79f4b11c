"""Losses of what a net says of volunteers' votes, where each question has its own number of votes.

Targets have shape (N, K, 2): the fraction of each answer among the votes of its question (NaN where the question was
not asked, or the campaign lacks the answer), and those votes. Fractions times votes are counts; they need not be whole.
"""

import torch
from torch import Tensor, nn

from galaxyml.runs.errors import UserError
from galaxyml.trees.vocabulary import Vocabulary, shares


class VoteLoss(nn.Module):
    """A loss over the questions of a vocabulary.

    A question counts for a galaxy where it got votes, two or more of its answers are known, and one of
    them was chosen; with a single one there is nothing to choose.

    Args:
        vocabulary: What the net says, K answers to Q questions.
    """

    sums: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.question_of = list(vocabulary.question_of)
        # Multiplied by, values of answers become sums over questions; unlike index_add it adds in one order on GPUs.
        sums = nn.functional.one_hot(torch.tensor(self.question_of), len(vocabulary.sizes))
        self.register_buffer("sums", sums.float(), persistent=False)

    def counted(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The part of a batch that counts, in double precision where the device has it.

        Args:
            outputs: Shape (N, K).
            targets: Fractions and votes, shape (N, K, 2).

        Returns:
            `outputs` (N, K); the `counts` of votes (N, K), 0 where not known; whether an answer is `known` (N, K); and
            whether a question is `asked` (N, Q), that is, counts.

        Raises:
            UserError: If the shapes are others.
        """
        _check(outputs, targets)
        if outputs.shape[1] != len(self.question_of):
            raise UserError(
                f"outputs={outputs.shape[1]}: the questions of this task have {len(self.question_of)} answers; "
                "make them equal."
            )
        kind = torch.float64
        fractions, votes = targets.to(kind).unbind(2)
        known = ~fractions.isnan()
        counts = torch.where(known, fractions * votes, 0)
        voted = torch.where(known & (votes > 0), 1, 0).to(kind)
        sums = self.sums.to(kind)
        asked = (voted @ sums >= 2) & (counts @ sums > 0)
        return outputs.to(kind), counts, known, asked


class DirichletMultinomialLoss(VoteLoss):
    """Minus the log of the probability of the votes, where shares follow a Dirichlet distribution.

    For counts c of n votes and concentrations a > 0 with sum A,

        -log p = log(G(n + A) / (G(A) G(n + 1))) + sum over answers of log(G(a) G(c + 1) / G(c + a))

    with the gamma function G, the multinomial coefficient included; natural logarithm, mean over all pairs of a galaxy
    and a question that it was asked. Walmsley et al. 2022 (MNRAS 509, 3966), section 4, for the questions of a tree;
    Walmsley et al. 2020 (MNRAS 491, 1554) before with two answers. Answers that are not known are left out with their
    votes: given its sum, a part of a Dirichlet-multinomial is one of the same concentrations.

    The best value depends on the votes and is not 0. The net's outputs are the concentrations (head=concentrations).

    Args:
        vocabulary: What the net says, K answers to Q questions.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self.checked = False

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Concentrations above 0, shape (N, K), fractions and votes of shape (N, K, 2)."""
        with torch.autocast(outputs.device.type, enabled=False):
            alpha, counts, known, asked = self.counted(outputs, targets)
            if not self.checked:  # once, as the answer would keep a GPU waiting
                _check_concentrations(alpha, alpha @ self.sums.to(alpha))
                self.checked = True
            alpha = torch.where(known, alpha, 1)
            sums = self.sums.to(alpha)
            votes = counts @ sums
            total = torch.where(asked, torch.where(known, alpha, 0) @ sums, 1)
            answers = torch.lgamma(alpha) + torch.lgamma(counts + 1) - torch.lgamma(counts + alpha)
            questions = torch.lgamma(votes + total) - torch.lgamma(total) - torch.lgamma(votes + 1)
            losses = questions + answers @ sums
            mean = torch.where(asked, losses, 0).sum() / asked.sum().clamp_min(1)
        return mean.to(torch.promote_types(outputs.dtype, torch.float32))


class MultinomialLoss(VoteLoss):
    """Cross-entropy of the answers of each question, each vote counting the same.

    Minus the sum over answers of count times log share, divided by the votes of all that was asked. Shares are the
    outputs of any head divided by their sum over the answers that are known (`galaxyml.trees.vocabulary.shares`). At
    best it is the entropy of the fractions, 0 only where all volunteers agree.

    Args:
        vocabulary: What the net says, K answers to Q questions.
    """

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs of shape (N, K), fractions and votes of shape (N, K, 2)."""
        with torch.autocast(outputs.device.type, enabled=False):
            predicted, counts, known, asked = self.counted(outputs, targets)
            counts = torch.where(asked[:, self.question_of], counts, 0)
            # Above 0, where the logarithm is finite, and its slope too.
            share = shares(predicted, self.question_of, known).clamp_min(torch.finfo(torch.float32).tiny)
            total = counts.sum()
            mean = -(counts * share.log()).sum() / torch.where(total > 0, total, 1)
        return mean.to(torch.promote_types(outputs.dtype, torch.float32))


class FractionLoss(nn.Module):
    """Mean squared error of outputs as they are against the fractions that are known. The best value is 0.

    Args:
        weighted: Whether a fraction counts by the votes of its question, by which its variance falls; else all count
            the same.
    """

    def __init__(self, weighted: bool = True) -> None:
        super().__init__()
        self.weighted = weighted

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs of shape (N, K), fractions and votes of shape (N, K, 2)."""
        _check(outputs, targets)
        predicted = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        fractions, votes = targets.to(predicted.dtype).unbind(2)
        known = ~fractions.isnan()
        weights = torch.where(known, votes, 0) if self.weighted else known.to(predicted)
        errors = torch.where(known, predicted - fractions, 0).square()
        total = weights.sum()
        return (weights * errors).sum() / torch.where(total > 0, total, 1)


def _check(outputs: Tensor, targets: Tensor) -> None:
    if outputs.ndim != 2 or targets.shape != (*outputs.shape, 2):
        raise UserError(
            "This loss takes fractions and the votes of their questions, shape (N, K, 2) for outputs of shape (N, K), "
            f"but targets have shape {tuple(targets.shape)} and outputs {tuple(outputs.shape)}. It is for "
            "task=surveys; for fractions alone give loss=mse, for classes loss=cross_entropy."
        )


def _check_concentrations(alpha: Tensor, totals: Tensor) -> None:
    if (alpha <= 0).any():
        raise UserError(
            f"loss=dirichlet takes concentrations above 0, but the net says {alpha.min():.3g}. Give "
            "head=concentrations, or another loss, such as loss=multinomial."
        )
    if torch.allclose(totals, torch.ones_like(totals), atol=1e-3):
        raise UserError(
            "loss=dirichlet takes concentrations, but what the net says are shares: each question sums to 1. Give "
            "head=concentrations, or loss=multinomial for shares."
        )
