"""How good predicted classes are: pure functions, and a metric that collects an epoch's outputs.

Labels are integers from 0 to K - 1, shape (N,), of objects whose class is known. Probabilities have shape (N, K) and
rows that sum to 1.
"""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import csr_array
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from galaxyml.evaluation.bootstrap import interval, stratified
from galaxyml.evaluation.calibration import confidence_bin, reliability, softmax
from galaxyml.evaluation.correlation import mean_defined
from galaxyml.evaluation.roc import one_vs_rest_auc
from galaxyml.evaluation.scored import per_column
from galaxyml.kinds.classes.plots import confusion_figure, f1_figure, reliability_figure

BINS = 15  # of confidence, as in Guo et al. 2017
WEIGHTS_AT_ONCE = 1_000_000  # of objects times resamples: a few arrays of 8 MB


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many objects of each true class (rows) were given each class (columns); int64 of shape (K, K)."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def rates(confusion: np.ndarray, undefined: float = 0.0) -> dict[str, np.ndarray]:
    """Rates that follow from a confusion matrix; all but `support` lie in [0, 1] and are best at 1.

    - `accuracy`: share of objects given their own class.
    - `balanced_accuracy`: mean recall of the classes that some object has.
    - `macro_f1`: mean F1 of the classes that some object has or was given.
    - `precision`: of the objects given a class, the share that has it.
    - `recall`: of the objects that have a class, the share given it.
    - `f1`: harmonic mean of precision and recall.
    - `support`: how many objects have a class.

    Args:
        confusion: Rows true, columns predicted; shape (..., K, K).
        undefined: What 0/0 is in the values of each class.

    Returns:
        The first three of shape (...,), the others of shape (..., K). All three are 0 for a matrix of zeros.
    """
    matrix = np.asarray(confusion, np.float64)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    having, given = matrix.sum(-1), matrix.sum(-2)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full_like(whole, undefined), where=whole > 0)

    def mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
        return np.where(counted, values, 0.0).sum(-1) / np.maximum(counted.sum(-1), 1)

    recall, f1 = share(right, having), share(2 * right, having + given)
    return {
        "accuracy": right.sum(-1) / np.maximum(having.sum(-1), 1),
        "balanced_accuracy": mean(recall, having > 0),
        "macro_f1": mean(f1, having + given > 0),
        "precision": share(right, given),
        "recall": recall,
        "f1": f1,
        "support": having,
    }


def score(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Every number there is about predicted classes.

    - `accuracy`, `balanced_accuracy`, `macro_f1` and, by class, `precision/<name>`, `recall/<name>`, `f1/<name>`,
      `support/<name>`: see `rates`.
    - `auc/<name>`: area under the ROC curve of a class against all others, in [0, 1]: the probability that an object of
      the class scores higher than another, ties counting half (Hanley & McNeil 1982); chance is 0.5, the best value
      is 1. NaN where a class is absent or is all there is. `macro_auc` is the mean over the others.
    - `nll`: mean negative log-likelihood in nats, probabilities below 2.2e-16 counting as that. The best value is 0.
    - `brier`: mean squared distance to the true class' corner (Brier 1950), in [0, 2]. The best value is 0.
    - `ece`: expected calibration error in 15 bins, in [0, 1]. The best value is 0.
    """
    values = weighted(labels, probabilities, np.ones((1, len(labels))))
    values = {name: each if "auc" in name else np.nan_to_num(each) for name, each in values.items()}
    values["support"] = np.bincount(labels, minlength=len(names)).astype(np.float64)[None]
    return {key: float(each[0]) for key, each in by_class(values, names).items()}


def bootstrap(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], resamples: int = 1000
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of `score`'s numbers, all but the support, over objects.

    (Efron & Tibshirani 1993, ch. 13.) They say how far a number would move with other objects of the same kind, and
    nothing of how it would move with another training. A class' number is left out of the resamples that do not define
    it, those without the class say, and is (NaN, NaN) where none does; for rare classes the interval is that of the
    resamples that have one. A resampled `ece` tends to be higher than the sample's, as noise adds to its gaps, so that
    the interval of a well calibrated net may lie above its value.

    Args:
        labels: Shape (N,).
        probabilities: Shape (N, K).
        names: Of the K classes.
        resamples: How many; a thousand gives each end of a 95 % interval a standard error of 2 % of its width.

    Returns:
        Lower and upper ends, under the same keys as `score`'s; (NaN, NaN) without objects.
    """
    if not len(labels):
        return {key: (np.nan, np.nan) for key in score(labels, probabilities, names) if not key.startswith("support/")}
    chunks = stratified(np.zeros(len(labels), np.int8), resamples, seed=0, at_once=WEIGHTS_AT_ONCE)
    parts = [weighted(labels, probabilities, drawn) for drawn in chunks]
    values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return {key: interval(each)[1:] for key, each in by_class(values, names).items()}


def weighted(
    labels: np.ndarray, probabilities: np.ndarray, drawn: np.ndarray, wanted: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """`score`'s numbers, all but the support, of resamples; what a resample does not define is NaN.

    Args:
        labels: Shape (N,).
        probabilities: Shape (N, K).
        drawn: How often each object is drawn, shape (R, N).
        wanted: Which are needed, without their classes, such as `f1`; None for all.

    Returns:
        Shape (R,) each, or (R, K) where there is one a class.
    """
    classes = probabilities.shape[1]
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    objects = np.arange(len(labels))
    of_cells = np.ones(len(labels)), (labels * classes + predicted, objects)
    cells = csr_array(of_cells, shape=(classes * classes, len(labels)))
    weights = np.ascontiguousarray(drawn.T, np.float64)
    metrics = rates((cells @ weights).T.reshape(-1, classes, classes), undefined=np.nan)
    del metrics["support"]
    wanted = {*metrics, "auc", "macro_auc", "nll", "brier", "ece"} if wanted is None else set(wanted)
    count = np.maximum(weights.sum(0), 1)
    if wanted & {"auc", "macro_auc"}:
        metrics["auc"] = one_vs_rest_auc(labels, probabilities, weights)
        metrics["macro_auc"] = mean_defined(metrics["auc"])
    if wanted & {"nll", "brier"}:
        metrics |= dict(zip(("nll", "brier"), _losses(labels, probabilities) @ weights / count, strict=True))
    if "ece" in wanted:
        gaps = np.zeros((BINS, len(labels)))  # row b holds right - confidence of the objects in bin b
        gaps[confidence_bin(confidence, BINS), objects] = (predicted == labels) - confidence
        metrics["ece"] = np.abs(gaps @ weights).sum(0) / count
    return {name: values for name, values in metrics.items() if name in wanted}


def by_class(values: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Metrics by key, shape (R,) each: `f1` of shape (R, K) becomes `f1/<name>` for each class."""
    means = {name: each for name, each in values.items() if each.ndim == 1}
    return means | per_column({name: each for name, each in values.items() if each.ndim > 1}, names)


class ClassMetrics(Metric):
    """Scores of predicted classes, from the outputs and targets of an epoch.

    Logits that have no softmax, those of a net that has diverged, count as the worst answer there is: full certainty of
    the class that follows the true one.

    Args:
        classes: Names of the K classes, two or more.
    """

    full_state_update = False
    outputs: list[Tensor]
    targets: list[Tensor]

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.add_state("outputs", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch.

        Args:
            outputs: Logits, shape (N, K).
            targets: Classes, int64 of shape (N,); -1 marks what is not known.
        """
        self.outputs.append(outputs.detach().float())
        self.targets.append(targets)

    def compute(self) -> dict[str, float]:
        """`macro_f1`, `accuracy`, `balanced_accuracy`, `macro_auc`, `ece`, `nll` and `f1/<class>`; never NaN.

        `macro_auc` is that of chance, 0.5, where no class has both objects and others; the rest is 0 without objects.
        """
        metrics = score(*self._collected(), self.classes)
        if np.isnan(metrics["macro_auc"]):
            metrics["macro_auc"] = 0.5
        means = ("macro_f1", "accuracy", "balanced_accuracy", "macro_auc", "ece", "nll")
        return {key: metrics[key] for key in (*means, *(f"f1/{name}" for name in self.classes))}

    def figures(self) -> dict[str, Figure]:
        """Figures of what this process collected so far, by title; none where no class is known."""
        labels, probabilities = self._collected()
        if not len(labels):
            return {}
        matrix = confusion(labels, probabilities.argmax(1), len(self.classes))
        return {
            "confusion": confusion_figure(matrix, self.classes),
            "f1 by class": f1_figure(self.classes, rates(matrix)["f1"], support=matrix.sum(1)),
            "reliability": reliability_figure({"net": reliability(probabilities, labels, BINS)}),
        }

    def _collected(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and probabilities of the objects whose class is known."""
        if not len(self.outputs):
            return np.zeros(0, np.int64), np.zeros((0, len(self.classes)))
        labels = dim_zero_cat(self.targets).cpu().numpy()
        known = labels >= 0
        labels, probabilities = labels[known], softmax(dim_zero_cat(self.outputs).cpu().numpy()[known])
        broken = ~np.isfinite(probabilities).all(axis=1)
        probabilities[broken] = np.eye(len(self.classes))[(labels[broken] + 1) % len(self.classes)]
        return labels, probabilities


def _losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Negative log-likelihood and squared distance of each object, shape (2, N)."""
    at_truth = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    squared = (probabilities**2).sum(1) - 2 * at_truth + 1
    return np.stack([-np.log(np.maximum(at_truth, np.finfo(np.float64).eps)), squared])
