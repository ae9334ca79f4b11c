"""Stratified splits: parts of a sample that look alike in every target."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification

from galaxyml.runs.errors import UserError
from galaxyml.runs.ranges import check_whole

TEST = -1  # the fold of objects that no run trains on or chooses by


@dataclass(frozen=True)
class Folds:
    """Every object is held out once, by one of K runs.

    Attributes:
        folds: Number of folds, K; at least 2.
    """

    folds: int = 5
    has_test: ClassVar[bool] = False  # whether it deals a test part, too

    def __post_init__(self) -> None:
        check_whole("folds", self.folds, 2)

    def __call__(self, targets: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
        """Folds 0 to K - 1; arguments and errors as for `stratified_split`."""
        return stratified_split(targets, [1 / self.folds] * self.folds, seed, groups)


@dataclass(frozen=True)
class Holdout:
    """A test part that no run sees, the same for all folds, and validation parts of a fixed share.

    With 0.15 and 0.15 each run trains on 0.70. There is room for 5 validation parts that have nothing in common; what
    is left over is trained on by all.

    Attributes:
        val: Share of a validation part, in (0, 1).
        test: Share of the test part, in (0, 1).
        folds: Number of validation parts; at most (1 - test) / val.
    """

    val: float = 0.15
    test: float = 0.15
    folds: int = 5
    has_test: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("folds", self.folds, 1)
        for name, value in (("val", self.val), ("test", self.test)):
            if not 0 < value < 1:
                raise UserError(f"split.{name}={value}: it must be a share in (0, 1).")
        room = math.floor((1 - self.test) / self.val + 1e-9)
        if self.val + self.test >= 1 or self.folds > room:
            raise UserError(
                f"folds={self.folds}: with split.val={self.val} and split.test={self.test} there is room for {room} "
                "validation parts and something to train on. Choose fewer folds, smaller shares, or split=folds."
            )

    def __call__(self, targets: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
        """`TEST`, folds 0 to K - 1, and K for what all train on; arguments and errors as for `stratified_split`."""
        left = max(1 - self.test - self.folds * self.val, 0.0)
        fold = stratified_split(targets, [self.test, *[self.val] * self.folds, left], seed, groups)
        return np.where(fold == 0, TEST, fold - 1)


Split = Folds | Holdout


def stratified_split(
    targets: np.ndarray, shares: list[float], seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Parts of objects that each have their share of high and of very high values of every target.

    Iterative stratification (Sechidis et al. 2011) over two indicators a column: above its median, and above its 0.9
    quantile. With one column a class, 1 for its objects, each part has its share of every class.

    Args:
        targets: Shape (N, K), such as vote fractions.
        shares: Of the parts; they sum to 1.
        seed: Same seed, same parts.
        groups: Shape (N,); objects with equal numbers (such as copies of one image) come into one part.

    Returns:
        Each object's part, 0 to len(shares) - 1, shape (N,).

    Raises:
        UserError: If there are fewer groups than parts, or fewer than 2 parts.
    """
    count = len(targets)
    groups = np.arange(count) if groups is None else groups
    _, firsts, member = np.unique(groups, return_index=True, return_inverse=True)
    if not 2 <= len(shares) <= len(firsts):
        raise UserError(
            f"{len(shares)} parts of the split cannot be dealt from {len(firsts)} different objects. "
            "Choose fewer folds=…, or give more objects."
        )
    of_groups = targets[np.sort(firsts)]
    position = np.argsort(np.argsort(firsts))
    indicators = np.hstack([of_groups > np.quantile(of_groups, level, axis=0) for level in (0.5, 0.9)])
    rng = np.random.RandomState(seed)
    order = np.arange(len(of_groups))
    rng.shuffle(order)
    part_of_group = np.empty(len(order), np.int64)
    part_of_group[order] = IterativeStratification(labels=indicators[order], r=np.array(shares), random_state=rng)
    return part_of_group[position[member]]
