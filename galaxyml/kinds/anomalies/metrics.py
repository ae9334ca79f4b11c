"""How good anomaly scores are, where it is known which objects are anomalies: pure functions.

Scores have shape (N,) and are higher the more anomalous an object is; `unknown`, bool of shape (N,), marks the true
anomalies, objects of classes that no model was trained on. Among equal scores nothing is gained by the order in which
objects happen to be listed: what depends on it is its mean over all orders.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from galaxyml.runs.errors import UserError

KS = (10, 25, 100)  # how many of the highest scores a person may find the time to look at
LEVEL = 0.95  # share of the resamples within an interval
CELLS_AT_ONCE = 1_000_000  # of resamples times groups of objects: a few arrays of 8 MB


def grouped(scores: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects in G groups from the highest score to the lowest, those with equal scores in one.

    Known objects with no unknown one between them are one group too: how they are ordered changes no number here, and
    millions of them become a few thousand groups.

    Returns:
        How many anomalies, and how many other objects, each group has; int64 of shape (G,) each.

    Raises:
        UserError: If a score is NaN.
    """
    order, starts = _groups(scores, unknown)
    anomalies = np.add.reduceat(unknown[order].astype(np.int64), starts)
    return anomalies, np.diff(starts, append=len(order)) - anomalies


def roc_auc(scores: np.ndarray, unknown: np.ndarray) -> float:
    """Probability that an anomaly scores higher than another object, ties counting half (Hanley & McNeil 1982).

    The area under `roc_curve`, in [0, 1]; chance is 0.5, the best value is 1. NaN without anomalies or without others.
    """
    return float(_roc_auc(*_once(scores, unknown))[0])


def pr_auc(scores: np.ndarray, unknown: np.ndarray) -> float:
    """Average precision: the mean, over the anomalies, of the purity of all that scores as high as they do.

    In (0, 1]; chance is the prevalence, the best value is 1. The sum of the steps of `pr_curve`, which does not cut
    corners as a trapezium does (Davis & Goadrich 2006). NaN without anomalies.
    """
    return float(_pr_auc(*_once(scores, unknown))[0])


def roc_curve(scores: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the ROC curve, from (0, 0) to (1, 1); straight lines between them.

    Returns:
        Share of the other objects, and share of the anomalies, that are among the highest scores; each of shape
        (G + 1,) with at most two groups an anomaly and one. NaN where there are no such objects.
    """
    anomalies, known = grouped(scores, unknown)
    return _shares(known), _shares(anomalies)


def pr_curve(scores: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the precision-recall curve; a precision holds from the recall before it to its own.

    Returns:
        Recall and precision among the highest scores, each of shape (G + 1,); the first point, at recall 0, repeats
        the first precision. Recall is NaN without anomalies.
    """
    anomalies, known = grouped(scores, unknown)
    precision = anomalies.cumsum() / (anomalies + known).cumsum()
    return _shares(anomalies), np.concatenate([precision[:1], precision])


def recall_curve(scores: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the share of the anomalies found by looking at the highest scores, from (0, 0) to (N, 1).

    The straight lines between them are exact, as the anomalies of a group are spread evenly over it:
    `np.interp(k, *recall_curve(...))` is the `recall_<k>` of `score`.

    Returns:
        How many objects were looked at, and the share found, each of shape (G + 1,); NaN without anomalies.
    """
    anomalies, known = grouped(scores, unknown)
    return np.append(0, (anomalies + known).cumsum()), _shares(anomalies)


def score(scores: np.ndarray, unknown: np.ndarray, classes: np.ndarray, ks: Sequence[int] = KS) -> dict[str, float]:
    """Every number there is about anomaly scores; NaN where there are no anomalies, or no other objects to tell from.

    - `roc_auc`, `pr_auc`: see the functions; `prevalence`: share of the objects that are anomalies, in [0, 1].
    - `pr_gain`: `pr_auc` over the prevalence; chance is 1, the best value is 1 over the prevalence.
    - `purity_<k>`: share of anomalies among the k highest scores (all N where that is fewer), in [0, 1]; chance is the
      prevalence, the best value is 1. `amplification_<k>`: how many times purer in anomalies they are than all objects;
      chance is 1.
    - `recall_<k>`: share of all anomalies that are among the k highest scores, in [0, 1]; chance is k / N, the best
      value is 1, or k over the number of anomalies where they are more than k.
    - `recall_n`: recall among as many objects as there are anomalies, where it equals the purity.
    - For each unknown class, against all known objects and without the other unknown classes: `roc_auc/<name>`,
      `pr_auc/<name>`, `prevalence/<name>`, `support/<name>` (how many objects it has).

    Args:
        scores: Shape (N,), higher the more anomalous.
        unknown: Whether each object is an anomaly, shape (N,).
        classes: Name of each object's true class, shape (N,).
        ks: How many objects are looked at, each 1 or more.

    Raises:
        UserError: If a score is NaN.
    """
    numbers = overall(scores, unknown, ks)
    areas = {key: numbers.pop(key) for key in ("roc_auc", "pr_auc")}
    numbers = areas | {"prevalence": float(unknown.mean())} | numbers
    for name, own in _by_class(unknown, classes):
        rows = ~unknown | own
        numbers[f"roc_auc/{name}"] = roc_auc(scores[rows], unknown[rows])
        numbers[f"pr_auc/{name}"] = pr_auc(scores[rows], unknown[rows])
        numbers[f"prevalence/{name}"] = float(unknown[rows].mean())
        numbers[f"support/{name}"] = float(np.count_nonzero(unknown[rows]))
    return numbers


def overall(scores: np.ndarray, unknown: np.ndarray, ks: Sequence[int] = KS) -> dict[str, float]:
    """`score`'s numbers about all anomalies together, but the prevalence; arguments as there."""
    return {key: float(values[0]) for key, values in _numbers(*_once(scores, unknown), ks).items()}


def bootstrap(
    scores: np.ndarray, unknown: np.ndarray, classes: np.ndarray, ks: Sequence[int] = KS, resamples: int = 1000
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of `score`'s numbers over objects (Efron & Tibshirani 1993, ch. 13).

    Anomalies and other objects are resampled apart, as two samples are (the same, sect. 8.3): how many there are of
    each is set by the protocol, not found by the detector, and purity and average precision move with it. The
    intervals say how far a number would move with other objects of the same classes and numbers, and nothing of how it
    would move with another training or with other classes left out.

    On Gaussian scores with 12 to 300 anomalies, one sigma apart, a 95 % interval held the expected `roc_auc` in 92 to
    95 % of samples, `pr_auc` in 90 to 94 % and purities in 86 to 97 %. A resample repeats objects, which ties them, so
    that intervals of `pr_auc` sit a little high; and where no anomaly is misplaced no resample misplaces one, so that
    the interval has no width.

    Args:
        scores: Shape (N,), higher the more anomalous.
        unknown: Whether each object is an anomaly, shape (N,); some are and some are not.
        classes: Name of each object's true class, shape (N,).
        ks: How many objects are looked at, each 1 or more.
        resamples: How many; a thousand gives each end of a 95 % interval a standard error of 2 % of its width.

    Returns:
        Lower and upper ends under the same keys as `score`'s, but for prevalence and support.

    Raises:
        UserError: If a score is NaN.
    """
    rng = np.random.default_rng(0)
    drawn = _resampled(*grouped(scores, unknown), ks, resamples, rng)
    for name, own in _by_class(unknown, classes):
        rows = ~unknown | own
        of_class = _resampled(*grouped(scores[rows], unknown[rows]), (), resamples, rng)
        drawn |= {f"{key}/{name}": of_class[key] for key in ("roc_auc", "pr_auc")}
    ends = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    return {key: (float(low), float(high)) for key in drawn for low, high in [np.percentile(drawn[key], ends)]}


def weighted(
    scores: np.ndarray, unknown: np.ndarray, drawn: np.ndarray, classes: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """`score`'s numbers, but prevalence and support, of resamples.

    Args:
        scores: Shape (N,), higher the more anomalous.
        unknown: Whether each object is an anomaly, shape (N,).
        drawn: How often each object is drawn, shape (R, N); as many anomalies, and as many others, in each resample.
        classes: Name of each object's true class, shape (N,).
        ks: How many objects are looked at, each 1 or more.

    Returns:
        Shape (R,) each; NaN where it is not defined.
    """
    order, starts = _groups(scores, unknown)
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))

    def counted(chosen: np.ndarray) -> np.ndarray:
        """How often objects of each group are drawn of those that are chosen, shape (R, G)."""
        rows = np.flatnonzero(chosen[order])
        heads = np.flatnonzero(np.diff(group[rows], prepend=-1))
        counts = np.zeros((len(drawn), len(starts)), np.int64)
        if len(rows):
            counts[:, group[rows[heads]]] = np.add.reduceat(drawn[:, order[rows]], heads, axis=1, dtype=np.int64)
        return counts

    known = counted(~unknown)
    numbers = _numbers(counted(unknown), known, ks)
    for name, own in _by_class(unknown, classes):
        of_class = counted(own)
        numbers |= {f"roc_auc/{name}": _roc_auc(of_class, known), f"pr_auc/{name}": _pr_auc(of_class, known)}
    return numbers


def threshold(scores_of_known: np.ndarray, false_alarms: float) -> float:
    """Score that a known object exceeds with at most a given probability.

    Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018, sect. 2.2): the bound is exact for any number
    n of calibration objects, if none of them trained the detector and a new known object is like them (exchangeable).
    It is over the draw of the calibration objects too: the rate of a single threshold scatters about it.

    Args:
        scores_of_known: Scores of known objects, of validation say, shape (n,).
        false_alarms: Largest probability that a known object scores above the threshold, in (0, 1).

    Returns:
        The threshold; objects *above* it are called anomalies. Infinity, which nothing exceeds, where n is too small:
        below 1 / false_alarms - 1.

    Raises:
        UserError: If a score is NaN.
    """
    ordered = np.sort(_checked(scores_of_known))
    # A decimal fraction, as 0.29 * 100 is 28.999999999999996.
    above = math.floor((len(ordered) + 1) * Fraction(str(false_alarms)))
    return float(ordered[len(ordered) - above]) if above else math.inf


def false_alarm_rate(scores_of_known: np.ndarray, threshold: float) -> float:
    """Share of known objects, shape (n,), that score above the threshold, in [0, 1]; NaN without objects."""
    scores = _checked(scores_of_known)
    return float((scores > threshold).mean()) if len(scores) else np.nan


def _checked(scores: np.ndarray) -> np.ndarray:
    """The scores, none of them NaN."""
    scores = np.asarray(scores)
    if (bad := np.flatnonzero(np.isnan(scores))).size:
        raise UserError(
            f"{bad.size:,} of {len(scores):,} anomaly scores are NaN, the first at row {bad[0]}; a score is a number "
            "or infinite. Look at what the detector was given there: its latents or features should be finite."
        )
    return scores


def _groups(scores: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects from the highest score to the lowest, shape (N,), and where in this order each group begins."""
    order = np.argsort(_checked(scores))[::-1]
    starts = np.flatnonzero(np.append(True, scores[order][1:] != scores[order][:-1]))
    known_alone = np.add.reduceat(unknown[order].astype(np.int64), starts) == 0
    return order, starts[np.append(True, ~(known_alone[1:] & known_alone[:-1]))]


def _once(scores: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anomalies and other objects of each group, each of shape (1, G): the sample itself, as one resample."""
    anomalies, known = grouped(scores, unknown)
    return anomalies[None], known[None]


def _roc_auc(unknown: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`roc_auc` of R resamples, given how many anomalies and others each group has, shapes (R, G); shape (R,)."""
    lower = known.sum(1, keepdims=True) - known.cumsum(1) + known / 2
    wins, pairs = (unknown * lower).sum(1), unknown.sum(1) * known.sum(1)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


def _pr_auc(unknown: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`pr_auc` of R resamples; shapes as in `_roc_auc`."""
    found, anomalies = unknown.cumsum(1), unknown.sum(1)
    precision = found / np.maximum(found + known.cumsum(1), 1)
    total = (unknown * precision).sum(1)
    return np.divide(total, anomalies, out=np.full(len(total), np.nan), where=anomalies > 0)


def _among_highest(unknown: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    """How many anomalies are among the k highest scores, the mean over orders of ties; shapes as in `_roc_auc`."""
    found, looked = unknown.cumsum(1), (unknown + known).cumsum(1)
    reached = np.minimum((looked < k).sum(1), looked.shape[1] - 1)[:, None]  # the group that holds the k-th object
    up_to, end, inside, size = (
        np.take_along_axis(values, reached, 1)[:, 0] for values in (found, looked, unknown, unknown + known)
    )
    beyond = np.maximum(end - k, 0)  # objects of that group that are not looked at
    return up_to - inside * beyond / np.maximum(size, 1)


def _numbers(unknown: np.ndarray, known: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """`score`'s numbers about all anomalies of R resamples, but the prevalence; shapes as in `_roc_auc`."""
    anomalies = unknown[:1].sum()
    count = anomalies + known[:1].sum()
    undefined = np.full(len(unknown), np.nan)
    numbers = {"roc_auc": _roc_auc(unknown, known), "pr_auc": _pr_auc(unknown, known)}
    numbers["pr_gain"] = numbers["pr_auc"] * count / anomalies if anomalies else undefined
    for k in ks:
        found = _among_highest(unknown, known, k)
        numbers[f"purity_{k}"] = found / min(k, count)
        numbers[f"recall_{k}"] = found / anomalies if anomalies else undefined
        numbers[f"amplification_{k}"] = numbers[f"purity_{k}"] * count / anomalies if anomalies else undefined
    numbers["recall_n"] = _among_highest(unknown, known, anomalies) / anomalies if anomalies else undefined
    return numbers


def _by_class(unknown: np.ndarray, classes: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each unknown class, and which objects are its own, shape (N,)."""
    for name in np.unique(classes[unknown].astype(str)):
        yield str(name), unknown & (classes == name)


def _resampled(
    unknown: np.ndarray, known: np.ndarray, ks: Sequence[int], resamples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """`_numbers` of resamples of groups of shape (G,), as many anomalies and others in each; shape (resamples,)."""
    at_once = max(CELLS_AT_ONCE // len(known), 1)
    numbers = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        anomalies, others = (rng.multinomial(n.sum(), n / n.sum(), size) for n in (unknown, known))
        numbers.append(_numbers(anomalies, others, ks))
    return {key: np.concatenate([part[key] for part in numbers]) for key in numbers[0]}


def _shares(counts: np.ndarray) -> np.ndarray:
    """Share of the whole up to each group, from 0 to 1; (G,) -> (G + 1,), NaN where the whole is nothing."""
    up_to = np.append(0, counts.cumsum())
    return np.divide(up_to, up_to[-1], out=np.full(len(up_to), np.nan), where=up_to[-1] > 0)
