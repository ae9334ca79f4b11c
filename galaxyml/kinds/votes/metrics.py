"""How good predicted vote fractions are: pure functions, their resamples, and a metric that collects an epoch's sums.

Fractions are shares of one question's votes, in [0, 1], shape (N, F). A NaN in the truth marks a galaxy that was not
asked, which counts nowhere. `votes`, shape (N, F), says how many votes each true fraction is made of: its weight.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from galaxyml.evaluation.bootstrap import draws
from galaxyml.evaluation.calibration import Reliability, confidence_bin
from galaxyml.evaluation.plots import bars
from galaxyml.trees.vocabulary import Vocabulary, shares

MOMENTS = 7  # sums that every measure follows from
CENTRE = 0.5  # of fractions: moments about it lose fewer digits than those about 0
BINS = 10  # of predicted fractions
GALAXIES_AT_ONCE = 2048
LEAST = 20  # galaxies that a correlation is given for
TIE = 1e-6  # fractions of votes that are nearer than this are the same


def asked(true: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Whether a galaxy's fraction is known and has a vote; (N, F) twice -> bool of shape (N, F)."""
    return ~np.isnan(true) & (votes > 0)


def moments(said: np.ndarray, true: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """What each galaxy adds to the sums that `measures` takes; three of shape (N, F) -> (N, 7, F)."""
    counted = asked(true, votes)
    weight = np.where(counted, votes, 0.0)
    x = np.where(counted, np.asarray(said, np.float64) - CENTRE, 0.0)
    y = np.where(counted, np.asarray(true, np.float64) - CENTRE, 0.0)
    wx, wy = weight * x, weight * y
    return np.stack([weight, wx, wy, wx * x, wy * y, wx * y, weight * np.abs(x - y)], axis=1)


def measures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure of each column, from sums of moments.

    - `pearson`: weighted correlation, in [-1, 1]; 0 where only what is said is constant. The best value is 1.
    - `r2`: 1 - weighted squared errors / weighted squared distances to the columns' own mean. The best value is 1; the
      column's true mean has 0, and what is worse than that is negative.
    - `mae`, `mse`: weighted means of absolute and squared errors. The best value is 0.

    Args:
        sums: Shape (..., 7, F).

    Returns:
        Each of shape (..., F). All are NaN where nobody was asked, the first two also where the truth is constant.
    """
    weight, x, y, xx, yy, xy, absolute = np.moveaxis(np.asarray(sums, np.float64), -2, 0)
    total = np.where(weight > 0, weight, np.nan)
    x_spread, y_spread = xx - x * x / total, yy - y * y / total
    x_varies, y_varies = x_spread > 1e-12 * xx, y_spread > 1e-12 * yy
    squared = np.maximum(xx - 2 * xy + yy, 0.0)
    truth = np.where(y_varies, y_spread, np.nan)
    scale = np.sqrt(np.where(x_varies, x_spread, 1.0) * truth)
    r = np.where(x_varies | np.isnan(x_spread), (xy - x * y / total) / scale, 0.0 * truth)
    return {"pearson": np.clip(r, -1, 1), "r2": 1 - squared / truth, "mae": absolute / total, "mse": squared / total}


def by_column(said: np.ndarray, true: np.ndarray, votes: np.ndarray, least: int = 1) -> dict[str, np.ndarray]:
    """`measures` of each column, and `rmse`, the root of `mse`; three of shape (N, F) -> (F,) each.

    Args:
        said: Predicted fractions.
        true: Fractions of votes; NaN where not asked.
        votes: The votes of each fraction's question.
        least: Galaxies that must have been asked; with fewer, everything is NaN.
    """
    enough = asked(true, votes).sum(0) >= least
    found = measures(_summed(said, true, votes))
    found["rmse"] = np.sqrt(found["mse"])
    return {name: np.where(enough, values, np.nan) for name, values in found.items()}


def flattened_pearson(said: np.ndarray, true: np.ndarray, votes: np.ndarray) -> float:
    """Weighted correlation over the known values of all columns at once, in [-1, 1]; NaN where it is not defined.

    It is high for a constant a column, as the columns' means differ; read it beside that of the means.
    """
    return float(flattened(_summed(said, true, votes)))


def flattened(sums: np.ndarray) -> np.ndarray:
    """Correlation over all columns at once, from sums of moments; (..., 7, F) -> (...)."""
    return measures(sums.sum(-1, keepdims=True))["pearson"][..., 0]


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    return np.where(count > 0, np.where(defined, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


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
    columns = measures(_summed(outputs, truth, alike))
    flat = measures(_summed(outputs.reshape(-1, 1), truth.reshape(-1, 1), alike.reshape(-1, 1)))
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


class Resampled:
    """Measures of some galaxies and of their bootstrap resamples (Efron & Tibshirani 1993, ch. 13).

    Several nets' outputs of the same galaxies are measured on the same resamples, so that their differences are paired.
    Galaxies of two surveys are two samples, resampled apart. Every array begins with the sample itself, and R resamples
    follow; sums, means and differences of such arrays are such arrays, and `interval` reads them.

    Args:
        said: Predicted fractions by what they are called, such as `""` and `head`, shape (N, F) each.
        true: Shape (N, F); NaN where not asked.
        votes: Shape (N, F).
        resamples: R, or how often each galaxy is drawn, uint8 of shape (1 + R, N), ones first (`resampling.draws`).
        least: Galaxies that must have been asked for a column to be measured.
        seed: Of the draws, where they are not given.

    Attributes:
        asked: How many galaxies were asked, shape (F,).
        votes: How many votes they have, shape (F,).
        defined: Whether a column is measured: enough galaxies, and not all the same, shape (F,).
        stages: What the outputs are called.
    """

    def __init__(
        self,
        said: Mapping[str, np.ndarray],
        true: np.ndarray,
        votes: np.ndarray,
        resamples: int | np.ndarray = 1000,
        least: int = LEAST,
        seed: int = 0,
    ) -> None:
        drawn = draws(len(true), resamples, seed) if isinstance(resamples, int) else resamples
        self._sums = {by: resampled_sums(values, true, votes, drawn) for by, values in said.items()}
        self._measures = {by: measures(sums) for by, sums in self._sums.items()}
        self.stages = list(said)
        counted = asked(true, votes)
        self.asked = counted.sum(0)
        self.votes = np.where(counted, votes, 0.0).sum(0)
        highest = np.where(counted, true, -np.inf).max(0, initial=-np.inf)
        lowest = np.where(counted, true, np.inf).min(0, initial=np.inf)
        self.defined = (self.asked >= least) & (highest > lowest)

    def column(self, measure: str, by: str = "") -> np.ndarray:
        """One of `measures` (or `rmse`), shape (1 + R, F); NaN for columns that are not measured."""
        if measure == "rmse":
            return np.sqrt(self.column("mse", by))
        return np.where(self.defined, self._measures[by][measure], np.nan)

    def mean(self, measure: str, columns: np.ndarray, by: str = "") -> np.ndarray:
        """Mean of a measure over columns, or `flattened_pearson` of them, shape (1 + R,).

        Args:
            measure: `rmse` is the root of the mean `mse`.
            columns: Which to take, bool of shape (F,); those that are not measured are left out.
            by: Whose outputs.
        """
        chosen = columns & self.defined
        if measure == "rmse":
            return np.sqrt(self.mean("mse", columns, by))
        if measure == "flattened_pearson":
            return flattened(self._sums[by][..., chosen])
        return mean_defined(self._measures[by][measure][:, chosen])


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """A value and the ends of its percentile interval, which are NaN without resamples.

    It says how far the value would move with other galaxies of the same kind, not with another training.

    Args:
        values: The sample's and its resamples', shape (1 + R,). Resamples that do not define it are left out.
        level: Share of the resamples within the interval.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    if not len(drawn) or np.isnan(values[0]):
        return float(values[0]), np.nan, np.nan
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(values[0]), float(low), float(high)


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


def _summed(said: np.ndarray, true: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Moments added up over the galaxies; three of shape (N, F) -> (7, F)."""
    return resampled_sums(said, true, votes, np.ones((1, len(true)), np.uint8))[0]


def resampled_sums(said: np.ndarray, true: np.ndarray, votes: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Moments added up over resamples of the galaxies.

    Args:
        said: Predicted fractions, shape (N, F).
        true: Shape (N, F); NaN where not asked.
        votes: Shape (N, F).
        drawn: How often each galaxy is drawn, shape (R, N).

    Returns:
        Shape (R, 7, F), as `measures` takes it.
    """
    count, columns = true.shape
    sums = np.zeros((len(drawn), MOMENTS * columns))
    for start in range(0, count, GALAXIES_AT_ONCE):
        part = slice(start, start + GALAXIES_AT_ONCE)
        parts = moments(said[part], true[part], votes[part]).reshape(-1, MOMENTS * columns)
        sums += drawn[:, part].astype(np.float64) @ parts
    return sums.reshape(-1, MOMENTS, columns)
