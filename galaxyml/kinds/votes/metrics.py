"""How good predicted vote fractions are: pure functions, their resamples, and a metric that collects an epoch's sums.

Fractions are shares of one question's votes, in [0, 1], shape (N, F). A NaN in the truth marks a galaxy that was not
asked, which counts nowhere. `votes`, shape (N, F), says how many votes each true fraction is made of: its weight.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from galaxyml.evaluation.calibration import Reliability, confidence_bin
from galaxyml.evaluation.correlation import MOMENTS, asked, by_column, mean_defined, measures, weighted_sums
from galaxyml.evaluation.plots import bars
from galaxyml.evaluation.scored import TIE
from galaxyml.trees.vocabulary import Vocabulary, shares

BINS = 10  # of predicted fractions


def published(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Correlation over all N x F values at once, and that of the columns' true means, which see no galaxy.

    Published comparisons give the former, and call its square R2; all values count alike, unasked ones as they come.

    Args:
        outputs: Shape (N, F).
        targets: Shape (N, F), no NaN.
    """
    targets = np.asarray(targets, np.float64)
    weights = np.ones((targets.size, 1))
    values = (outputs, np.broadcast_to(targets.mean(0), targets.shape))
    r, constant = (by_column(each.reshape(-1, 1), targets.reshape(-1, 1), weights)["pearson"][0] for each in values)
    return float(r), float(constant)


def fraction_reliability(predicted: np.ndarray, target: np.ndarray, votes: np.ndarray) -> Reliability:
    """Observed against predicted fractions, in ten bins of predicted ones of equal width, all columns together.

    Args:
        predicted: Predicted fractions, shape (N, F).
        target: Shape (N, F); NaN where not asked.
        votes: Shape (N, F).

    Returns:
        Its `confidence` and `accuracy` are the mean predicted and the mean observed fraction of a bin, its `count` the
        bin's votes. Vote noise averages out, so that true probabilities have an `ece` of 0 but for chance.
    """
    counted = asked(target, votes)
    x, y, weight = predicted[counted].astype(np.float64), target[counted].astype(np.float64), votes[counted]
    within = confidence_bin(x, BINS)
    total = np.bincount(within, weight, BINS)
    filled = np.where(total > 0, total, np.nan)
    means = [np.bincount(within, weight * values, BINS) / filled for values in (x, y)]
    return Reliability(np.linspace(0, 1, BINS + 1), means[0], means[1], total)


def majorities(
    predicted: np.ndarray, target: np.ndarray, votes: np.ndarray, questions: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Each question that a galaxy was asked, as a choice of one answer: that of most volunteers.

    Questions of which fewer than two answers are known, and those in which the first two answers have equally many
    votes, are left out.

    Args:
        predicted: Predicted fractions, shape (N, F).
        target: Shape (N, F); NaN where not asked, or where the campaign lacks the answer.
        votes: Shape (N, F).
        questions: The columns of each question's answers.

    Returns:
        Predicted fractions of a question's answers, 0 where there are fewer, shape (M, A), and the answer with most
        votes, shape (M,), as `galaxyml.evaluation.calibration` takes them.
    """
    widest = max((len(columns) for columns in questions), default=0)
    fractions, labels = [np.zeros((0, widest))], [np.zeros(0, np.int64)]
    for columns in questions:
        if len(columns) < 2:
            continue
        known = asked(target[:, columns], votes[:, columns])
        shown = np.where(known, target[:, columns], -1.0)
        best = np.sort(shown, axis=1)
        rows = (known.sum(1) >= 2) & (best[:, -1] - best[:, -2] > TIE)
        part = np.where(known, predicted[:, columns], 0.0)[rows]
        fractions.append(np.pad(part, ((0, 0), (0, widest - len(columns)))))
        labels.append(shown[rows].argmax(1))
    return np.concatenate(fractions), np.concatenate(labels)


class VoteMetrics(Metric):
    """Correlation and errors of predicted fractions of votes, from sums that each step adds to.

    Args:
        vocabulary: What the net says.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.columns = list(vocabulary.columns)
        self.question_of = list(vocabulary.question_of)
        # In double precision, where sums lose nothing that matters.
        self.add_state("sums", torch.zeros(MOMENTS, len(self.columns), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch.

        Args:
            outputs: Of any head, shape (N, K).
            targets: Fractions (NaN where not known) and the votes of their question, shape (N, K, 2).
        """
        fractions, votes = targets.double().unbind(-1)
        known = ~fractions.isnan()
        outputs = outputs.detach().double()
        predicted = shares(outputs, self.question_of, known)
        predicted = torch.where(outputs.isfinite(), predicted, torch.nan)  # of a net that has diverged
        self.sums += weighted_sums(predicted, fractions, torch.where(known, votes, 0.0))

    def compute(self) -> dict[str, float]:
        """`pearson`, `mae`, `rmse` and `pearson/<column>`; never NaN, and the errors of a diverged net are infinite.

        `pearson` is the mean over the columns whose truth varies; a column that says nothing of the galaxies has 0.
        `mae` is the mean over columns that were asked, and `rmse` the root of the mean squared error over them.
        """
        sums = self.sums.cpu().numpy().copy()
        broken = ~np.isfinite(sums).all(0)
        sums[:, broken] = np.where(np.isfinite(sums[:, broken]), sums[:, broken], 0.0)
        sums[[1, 3, 5]] = np.where(broken, 0.0, sums[[1, 3, 5]])
        columns = measures(sums)
        for name in ("mae", "mse"):
            columns[name] = np.where(broken, np.inf, columns[name])
        mean = {name: float(np.nan_to_num(mean_defined(each), posinf=np.inf)) for name, each in columns.items()}
        metrics = {"pearson": mean["pearson"], "mae": mean["mae"], "rmse": float(np.sqrt(mean["mse"]))}
        r = zip(self.columns, np.nan_to_num(columns["pearson"]), strict=True)
        return metrics | {f"pearson/{name}": float(value) for name, value in r}

    def figures(self) -> dict[str, Figure]:
        """The correlation of each column of what was collected so far, by title."""
        r = {name.removeprefix("pearson/"): value for name, value in self.compute().items() if "/" in name}
        return {"pearson by column": bars(list(r), np.array(list(r.values())), label="Pearson's r")}
