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
from galaxyml.evaluation.correlation import (
    CENTRE,
    MOMENTS,
    asked,
    flattened_pearson,
    mean_defined,
    measures,
    summed,
)
from galaxyml.evaluation.plots import bars
from galaxyml.evaluation.scored import TIE
from galaxyml.trees.vocabulary import Vocabulary, shares

BINS = 10  # of predicted fractions


def published(outputs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Numbers as published comparisons give them: all values count alike, and an unasked question's as they come.

    - `flattened_pearson`: correlation over all N x F values at once.
    - `flattened_r2`: its square, which is what such tables call R2.
    - `variance_explained`: 1 - squared errors / squared distances to the mean of all values, which is R2 proper.
    - `mae`, `mse`: over all values.
    - `pearson`: mean of the columns' correlations.
    - `constant_flattened_pearson`: what the columns' true means, which see no galaxy, have of the first.

    Args:
        outputs: Shape (N, F).
        truth: Shape (N, F), no NaN.
    """
    outputs, truth = np.asarray(outputs, np.float64), np.asarray(truth, np.float64)
    alike = np.ones_like(truth)
    columns = measures(summed(outputs, truth, alike))
    flat = measures(summed(outputs.reshape(-1, 1), truth.reshape(-1, 1), alike.reshape(-1, 1)))
    r = float(flat["pearson"][0])
    return {
        "flattened_pearson": r,
        "flattened_r2": r**2,
        "variance_explained": float(flat["r2"][0]),
        "mae": float(flat["mae"][0]),
        "mse": float(flat["mse"][0]),
        "pearson": float(mean_defined(columns["pearson"])),
        "constant_flattened_pearson": flattened_pearson(np.broadcast_to(truth.mean(0), truth.shape), truth, alike),
    }


def fraction_reliability(said: np.ndarray, true: np.ndarray, votes: np.ndarray, bins: int = BINS) -> Reliability:
    """Observed against predicted fractions, in bins of equal width of what is said, all columns together.

    Args:
        said: Predicted fractions, shape (N, F).
        true: Shape (N, F); NaN where not asked.
        votes: Shape (N, F).
        bins: How many.

    Returns:
        Its `confidence` and `accuracy` are the mean predicted and the mean observed fraction of a bin, its `count` the
        bin's votes. Vote noise averages out, so that true probabilities have an `ece` of 0 but for chance.
    """
    counted = asked(true, votes)
    x, y, weight = said[counted].astype(np.float64), true[counted].astype(np.float64), votes[counted]
    within = confidence_bin(x, bins)
    total = np.bincount(within, weight, bins)
    filled = np.where(total > 0, total, np.nan)
    means = [np.bincount(within, weight * values, bins) / filled for values in (x, y)]
    return Reliability(np.linspace(0, 1, bins + 1), means[0], means[1], total)


def majorities(
    said: np.ndarray, true: np.ndarray, votes: np.ndarray, questions: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Each question that a galaxy was asked, as a choice of one answer: what most volunteers said.

    Questions of which fewer than two answers are known, and those in which the first two answers have equally many
    votes, are left out.

    Args:
        said: Predicted fractions, shape (N, F).
        true: Shape (N, F); NaN where not asked, or where the campaign lacks the answer.
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
        known = asked(true[:, columns], votes[:, columns])
        shown = np.where(known, true[:, columns], -1.0)
        best = np.sort(shown, axis=1)
        rows = (known.sum(1) >= 2) & (best[:, -1] - best[:, -2] > TIE)
        part = np.where(known, said[:, columns], 0.0)[rows]
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
        said = shares(outputs, self.question_of, known)
        said = torch.where(outputs.isfinite(), said, torch.nan)  # of a net that has diverged
        weight = torch.where(known, votes, 0.0)
        counted = weight > 0
        x, y = (torch.where(counted, values - CENTRE, 0.0) for values in (said, fractions))
        wx, wy = weight * x, weight * y
        parts = [weight, wx, wy, wx * x, wy * y, wx * y, weight * (x - y).abs()]
        self.sums += torch.stack([part.sum(0) for part in parts])

    def compute(self) -> dict[str, float]:
        """`pearson`, `mae`, `rmse` and `pearson/<column>`; never NaN, and the errors of a diverged net are infinite.

        `pearson` is the mean over the columns whose truth varies; a column that says nothing of the galaxies has 0.
        `mae` is the mean over columns that were asked, and `rmse` the root of the mean squared error over them.
        """
        sums = self.sums.cpu().numpy().copy()
        broken = ~np.isfinite(sums).all(0)
        sums[:, broken] = np.where(np.isfinite(sums[:, broken]), sums[:, broken], 0.0)
        sums[[1, 3, 5]] = np.where(broken, 0.0, sums[[1, 3, 5]])
        found = measures(sums)
        for name in ("mae", "mse"):
            found[name] = np.where(broken, np.inf, found[name])
        means = {name: float(np.nan_to_num(mean_defined(found[name]), posinf=np.inf)) for name in found}
        columns = np.nan_to_num(found["pearson"])
        return {"pearson": means["pearson"], "mae": means["mae"], "rmse": float(np.sqrt(means["mse"]))} | {
            f"pearson/{name}": float(value) for name, value in zip(self.columns, columns, strict=True)
        }

    def figures(self) -> dict[str, Figure]:
        """The correlation of each column of what was collected so far, by title."""
        found = {name.removeprefix("pearson/"): value for name, value in self.compute().items() if "/" in name}
        return {"pearson by column": bars(list(found), np.array(list(found.values())), label="Pearson's r")}
