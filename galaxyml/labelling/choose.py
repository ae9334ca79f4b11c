"""Which object is asked about next.

A stand-in with the interface that the page is written against, in random order whatever the strategy; it is replaced by
the chooser that learns.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from galaxyml.inference.embedded import Embedded

STRATEGIES = {
    "uncertainty": "objects whose answer is least certain",
    "disagreement": "objects about which several models disagree",
    "novelty": "objects unlike all that are labelled",
    "relevance": "objects like those with the target answer, and uncertain ones",
    "likely": "objects that most likely have the target answer",
    "random": "objects at random",
}


class Chooser:
    """Orders objects by how much an answer about them is worth.

    Args:
        objects: The objects, N of them.
        answers: The answers, K of them.
        by: Which of `STRATEGIES`.
        target: The answer that is sought; None for the last one.
        seed: Of what is random.

    Attributes:
        probabilities: Of each answer, shape (N, K); None before anything is learnt.
    """

    def __init__(
        self,
        objects: "Embedded",
        answers: Sequence[str],
        by: str = "uncertainty",
        target: str | None = None,
        seed: int = 0,
    ) -> None:
        self.answers, self.by, self.target = list(answers), by, target if target is not None else answers[-1]
        self.probabilities: np.ndarray | None = None
        self._order = np.random.default_rng(seed).permutation(len(objects))

    def learn(self, labels: Mapping[int, str]) -> None:
        """Learns from all labels so far, answers by row."""
        counts = np.array([1 + sum(label == answer for label in labels.values()) for answer in self.answers])
        self.probabilities = np.tile(counts / counts.sum(), (len(self._order), 1))

    def order(self, without: Collection[int]) -> np.ndarray:
        """Rows in the order in which they are worth being asked about, without some."""
        return self._order[~np.isin(self._order, list(without))]
