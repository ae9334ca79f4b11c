"""Probabilities that mean what they say: temperature scaling, reliability, and sets that hold the true class.

Labels are integers from 0 to K - 1, shape (N,); -1 marks an object whose class is not known, which counts nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import brentq

from galaxyml.evaluation.conformal import conformal_quantiles
from galaxyml.evaluation.correlation import mean_defined
from galaxyml.evaluation.roc import one_vs_rest_auc
from galaxyml.runs.errors import UserError, did_you_mean

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
TOLERATED = 0.01  # of an AUC, that calibration may lower it by


def softmax(logits: np.ndarray, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    """Probabilities in double precision, each row summing to 1; (N, K) -> (N, K).

    Args:
        logits: Shape (N, K). A row with NaN or +inf gives a row of NaN.
        temperature: Positive, one for all or of shape (N, 1); above 1 it makes the net less sure of itself.
    """
    # In rows: numpy adds up columns of a table in another order, so a row's last bit would depend on its company.
    rows = np.ascontiguousarray(logits, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf, of a net that has diverged
        return special.softmax(rows / temperature, axis=1)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017, eq. 9), within [0.05, 20].

    Of n labels, 1 / (n + 2) of each is spread over the other classes, as Platt 1999 does: a few objects that are all
    right do not make the net certain. The likelihood is convex in 1 / T, so that its slope has one root. Where the net
    does worse than chance the answer is the highest temperature; 1 where 1 is as good as any, as it is for logits that
    are all alike, and where the labels as they are would become less likely.

    Args:
        logits: Shape (N, K).
        labels: Shape (N,); -1 marks what is not known.

    Raises:
        UserError: No label is known, or a logit is not finite.
    """
    known = labels >= 0
    z = np.asarray(logits, np.float64)[known]
    if not len(z):
        raise UserError("No object has a known class, so there is nothing to fit a temperature on.")
    if broken := int((~np.isfinite(z).all(axis=1)).sum()):
        raise UserError(
            f"{broken} of {len(z)} objects have logits that are NaN or infinite, so the net has diverged. "
            "Train it again with a lower learning rate."
        )
    z_true = np.take_along_axis(z, labels[known, None], axis=1)[:, 0]
    spread = 1 / (len(z) + 2)
    z_aimed = (1 - spread) * z_true + spread * (z.sum(axis=1) - z_true) / (z.shape[1] - 1)

    def slope(inverse: float) -> float:
        """Derivative of the mean negative log-likelihood by 1 / T; it never falls as 1 / T grows."""
        return float(((special.softmax(inverse * z, axis=1) * z).sum(axis=1) - z_aimed).mean())

    def loss(inverse: float) -> float:
        """Mean negative log-likelihood of the labels as they are."""
        return float((special.logsumexp(inverse * z, axis=1) - inverse * z_true).mean())

    if slope(1.0) == 0:
        return 1.0
    if slope(1 / LOWEST) <= 0:
        best = 1 / LOWEST
    elif slope(1 / HIGHEST) >= 0:
        best = 1 / HIGHEST
    else:
        best = brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-10)
    return float(1 / best) if loss(best) <= loss(1.0) else 1.0


@dataclass(frozen=True)
class Scaled:
    """Probabilities scaled by temperatures that were fitted on other objects, so that no object calibrates itself.

    Attributes:
        probabilities: Shape (N, K).
        temperatures: That each object was scaled by, shape (N,).
        temperature: Fitted on all objects, for others than these.
        harm: Why nothing is scaled, so that all temperatures are 1, in words; "" where they are as they were fitted.
    """

    probabilities: np.ndarray
    temperatures: np.ndarray
    temperature: float
    harm: str = ""


def cross_fitted(logits: np.ndarray, labels: np.ndarray, parts: np.ndarray, names: Sequence[str]) -> Scaled:
    """Scales each part by the temperature fitted on all the other parts; nothing where that lowers an AUC.

    A temperature cannot mend a net that prefers some classes to others. It then depends much on the objects that it is
    fitted on, and those of parts with a high one are all moved towards equal probabilities, past those of other parts.

    Args:
        logits: Shape (N, K).
        labels: Shape (N,); -1 marks what is not known, which is scaled but fits nothing.
        parts: The part, a fold say, that each object belongs to; integers of shape (N,). One part alone is treated as
            two: its even and its odd rows.
        names: Of the K classes.

    Raises:
        UserError: All known labels are in one part, or a logit is not finite.
    """
    if (parts == parts[:1]).all():
        parts = np.arange(len(parts)) % 2
    temperature, temperatures = fit_temperature(logits, labels), np.ones(len(logits))
    harm = lowered_auc(logits, labels, temperature, names)
    for part in np.unique(parts):
        inside = parts == part
        if not (labels[~inside] >= 0).any():
            raise UserError(
                f"Part {part} cannot be calibrated: no object outside of it has a known class. "
                "Give known classes to at least two parts."
            )
        others = logits[~inside], labels[~inside]
        temperatures[inside] = of_others = fit_temperature(*others)
        harm = harm or lowered_auc(*others, of_others, names)
    if harm := harm or lowered_auc(logits, labels, temperatures[:, None], names):
        temperature, temperatures = 1.0, np.ones(len(logits))
    return Scaled(softmax(logits, temperatures[:, None]), temperatures, temperature, harm)


def lowered_auc(logits: np.ndarray, labels: np.ndarray, temperature: float | np.ndarray, names: Sequence[str]) -> str:
    """The first AUC that temperatures lower by more than 0.01, in words; "" if there is none.

    Args:
        logits: Shape (N, K).
        labels: Shape (N,); -1 marks what is not known.
        temperature: One for all or of shape (N, 1).
        names: Of the K classes.
    """
    known = labels >= 0
    weights = np.ones((known.sum(), 1))
    before, after = (
        one_vs_rest_auc(labels[known], softmax(logits, of_objects)[known], weights)[0]
        for of_objects in (1.0, temperature)
    )
    titles = [*(f"AUC of {name}" for name in names), "macro AUC"]
    areas = zip(titles, np.append(before, mean_defined(before)), np.append(after, mean_defined(after)), strict=True)
    return next((f"would lower the {name} from {a:.3f} to {b:.3f}" for name, a, b in areas if a - b > TOLERATED), "")


@dataclass(frozen=True)
class Reliability:
    """Accuracy of the net's first choices against its confidence in them; B bins of confidence.

    Attributes:
        edges: Ends of the bins, in [0, 1]; shape (B + 1,). The upper end belongs to the bin.
        confidence: Mean probability of the first choice in each bin, shape (B,); NaN where a bin is empty.
        accuracy: Share of first choices that are right in each bin, shape (B,); NaN where a bin is empty.
        count: Objects in each bin, shape (B,).
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]: gaps weighted by objects (Guo et al. 2017, eq. 3). The best is 0."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(self.count * gaps) / max(self.count.sum(), 1))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Accuracy against confidence of each object's likeliest class, in bins.

    Args:
        probabilities: Rows that sum to 1, shape (N, K).
        labels: Shape (N,); -1 marks what is not known.
        bins: How many, of equal width. More bins find more error, true or of chance: compare like with like.
    """
    known = labels >= 0
    confidence = probabilities[known].max(axis=1)
    right = probabilities[known].argmax(axis=1) == labels[known]
    within = confidence_bin(confidence, bins)
    count = np.bincount(within, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return Reliability(
        edges=np.linspace(0, 1, bins + 1),
        confidence=np.bincount(within, confidence, bins) / filled,
        accuracy=np.bincount(within, right, bins) / filled,
        count=count,
    )


def confidence_bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of equal width that each confidence in [0, 1] falls in; bin m holds (m / bins, (m + 1) / bins]."""
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)


def _least_ambiguous(probabilities: np.ndarray) -> np.ndarray:
    """Score 1 - p of each class (Sadinle, Lei & Wasserman 2019): the smallest sets on average."""
    return 1 - probabilities


def _adaptive(probabilities: np.ndarray) -> np.ndarray:
    """Score of each class, never random: what it and all likelier ones sum to (Romano, Sesia & Candès 2020)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1), axis=1)
    return scores


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"lac": _least_ambiguous, "aps": _adaptive}


def _strangeness(probabilities: np.ndarray, method: str) -> np.ndarray:
    """Score of each class as the answer, in [0, 1], high where it would be strange; (N, K) -> (N, K)."""
    if method not in METHODS:
        raise UserError(f"No way {method!r} to build prediction sets. {did_you_mean(method, METHODS)}")
    return METHODS[method](np.asarray(probabilities, np.float64))


def conformal_threshold(probabilities: np.ndarray, labels: np.ndarray, coverage: float, method: str = "lac") -> float:
    """The score below which sets hold the true class with the asked probability (Angelopoulos & Bates 2023, sec. 1).

    It holds on average over draws of calibration and new objects, if those could be swapped for each other; not for
    each class, nor for a survey that looks elsewhere. The net must not have been trained on these objects.

    Args:
        probabilities: Rows that sum to 1, shape (N, K).
        labels: Shape (N,); -1 marks what is not known.
        coverage: Probability that the true class is in the set, between 0 and 1.
        method: `lac` for the smallest sets, `aps` for sets that grow where an object is hard.

    Returns:
        Quantile ceil((n + 1) coverage) / n of the true classes' scores; inf, at which sets hold every class, where n
        is too small for the coverage.

    Raises:
        UserError: The coverage or the method is not possible.
    """
    if not 0 < coverage < 1:
        raise UserError(f"coverage is {coverage}; it lies between 0 and 1. Take 0.9, say.")
    known = labels >= 0
    scores = np.take_along_axis(_strangeness(probabilities, method)[known], labels[known, None], axis=1)[:, 0]
    return float(conformal_quantiles(scores, np.array([coverage]))[0])


def prediction_sets(probabilities: np.ndarray, threshold: float, method: str = "lac") -> np.ndarray:
    """The classes that each object may have; never none, as the likeliest is always in.

    Adding the likeliest class can only raise the coverage.

    Args:
        probabilities: Rows that sum to 1, shape (N, K).
        threshold: As found by `conformal_threshold`, of the same method.
        method: `lac` or `aps`.

    Returns:
        Whether each class is in the object's set; bool of shape (N, K).

    Raises:
        UserError: There is no such method.
    """
    sets = _strangeness(probabilities, method) <= threshold
    np.put_along_axis(sets, probabilities.argmax(axis=1)[:, None], True, axis=1)
    return sets


def coverage(sets: np.ndarray, labels: np.ndarray) -> float:
    """Share of objects of known class whose set holds it, in [0, 1]; 0 where none is known.

    Args:
        sets: Bool of shape (N, K).
        labels: Shape (N,); -1 marks what is not known.
    """
    known = labels >= 0
    return float(np.take_along_axis(sets[known], labels[known, None], axis=1).sum() / max(known.sum(), 1))


def mean_size(sets: np.ndarray) -> float:
    """Mean number of classes in a set, from 1 to K; of two methods of equal coverage the smaller is better."""
    return float(sets.sum(axis=1).mean())
