"""Which object is held out when: folds that look alike in every target."""

import warnings

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from galaxyml.errors import UserError


def assign_folds(targets: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Deals objects into folds so that each fold has its share of high and of very high values of every target.

    Iterative stratification (Sechidis et al. 2011) over two indicators a column: above its median, and above its 0.9
    quantile.

    Args:
        targets: Shape (N, K), such as vote fractions.
        folds: Number of folds, 2 to N.
        seed: Same seed, same folds.
        groups: Shape (N,); objects with equal numbers (such as copies of one picture) come into one fold.

    Returns:
        Each object's fold, 0 to `folds` - 1, shape (N,).

    Raises:
        UserError: If there are fewer groups than folds, or fewer than 2 folds.
    """
    count = len(targets)
    groups = np.arange(count) if groups is None else groups
    _, firsts, member = np.unique(groups, return_index=True, return_inverse=True)
    if not 2 <= folds <= len(firsts):
        raise UserError(
            f"folds={folds} cannot be dealt from {len(firsts)} different objects; "
            f"choose 2 to {max(len(firsts), 2)} folds, or give more objects."
        )
    one_each = targets[np.sort(firsts)]
    position = np.argsort(np.argsort(firsts))
    indicators = np.hstack([one_each > np.quantile(one_each, level, axis=0) for level in (0.5, 0.9)])
    fold = np.empty(len(firsts), np.int64)
    splitter = MultilabelStratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about targets that are constant; they need no stratification
        for number, (_, held_out) in enumerate(splitter.split(one_each, indicators)):
            fold[held_out] = number
    return fold[position[member]]
