"""A labeller who knows the truth: what labels are worth, by the order in which they are asked for."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from galaxyml.inference.embedded import Embedded
from galaxyml.labelling.choose import Chooser
from galaxyml.runs.seeds import derive

ANSWERS = ("ordinary", "odd")


@dataclass(frozen=True)
class Course:
    """What was known after some labels and more.

    Attributes:
        labels: How many there were, from 0, shape (R,).
        roc_auc: How well odd objects are told apart among those that nobody was asked about, shape (R,).
        pr_auc: Average precision of the same, shape (R,).
        found: Share of the odd objects that might be asked about and were, shape (R,).
    """

    labels: np.ndarray
    roc_auc: np.ndarray
    pr_auc: np.ndarray
    found: np.ndarray

    def labels_until(self, name: str, level: float) -> float:
        """How many labels it takes until a number of the course first reaches a level; inf if it never does."""
        reached = np.flatnonzero(getattr(self, name) >= level)
        return float(self.labels[reached[0]]) if len(reached) else float("inf")


def simulate(
    objects: Embedded, odd: np.ndarray, by: str, labels: int = 100, at_once: int = 10, seed: int = 0
) -> Course:
    """Labels objects in the order that a strategy asks for, as somebody who knows which are odd.

    Half of the objects, drawn by the seed with as many odd ones as the other half, are never asked about: on them it is
    measured what the labels tell.

    Args:
        objects: The set.
        odd: Which of them are, bool of shape (N,).
        by: One of `galaxyml.labelling.choose.STRATEGIES`.
        labels: How many are given.
        at_once: After how many the order is made anew.
        seed: Of the halves and of what the strategy draws.
    """
    judged = _half(odd, seed)
    chooser = Chooser(objects, ANSWERS, by, ANSWERS[-1], seed)
    given: dict[int, str] = {}
    aside = set(np.flatnonzero(judged).tolist())
    rows: list[tuple[float, float, float, float]] = []
    while True:
        asked = np.array(list(given), int)
        score = chooser.ranking[judged]
        found = odd[asked].sum() / max(int(odd[~judged].sum()), 1)
        rows.append((len(given), roc_auc_score(odd[judged], score), average_precision_score(odd[judged], score), found))
        following = chooser.order(aside | set(given))[: min(at_once, labels - len(given))]
        if not len(following):
            return Course(*np.array(rows).T)
        given |= {int(row): ANSWERS[int(odd[row])] for row in following}
        chooser.learn(given)


def _half(odd: np.ndarray, seed: int) -> np.ndarray:
    """Half of the objects, with half of the odd ones, as a mask."""
    rng = np.random.default_rng(derive(seed, "half"))
    judged = np.zeros(len(odd), bool)
    for kind in (True, False):
        rows = rng.permutation(np.flatnonzero(odd == kind))
        judged[rows[: len(rows) // 2]] = True
    return judged
