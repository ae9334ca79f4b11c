import numpy as np
import pytest

from galaxyml.data.folds import assign_folds
from galaxyml.errors import UserError


@pytest.fixture
def targets() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.beta(0.3, 1.5, (400, 10))


def test_every_object_is_in_one_fold_of_nearly_equal_size(targets: np.ndarray) -> None:
    fold = assign_folds(targets, 5, seed=0)
    assert set(fold) == set(range(5))
    assert np.ptp(np.bincount(fold)) <= 12


def test_same_seed_same_folds(targets: np.ndarray) -> None:
    assert np.array_equal(assign_folds(targets, 5, seed=0), assign_folds(targets, 5, seed=0))
    assert not np.array_equal(assign_folds(targets, 5, seed=0), assign_folds(targets, 5, seed=1))


def test_folds_are_more_alike_than_random_ones(targets: np.ndarray) -> None:
    def unlike(fold: np.ndarray) -> float:
        return float(
            np.std([(targets[fold == k] > np.quantile(targets, 0.9, axis=0)).mean(0) for k in range(5)], axis=0).mean()
        )

    rng = np.random.default_rng(1)
    random = np.mean([unlike(rng.permutation(400) % 5) for _ in range(20)])
    stratified = np.mean([unlike(assign_folds(targets, 5, seed)) for seed in range(3)])
    assert stratified < 0.7 * random


def test_copies_of_one_picture_stay_together(targets: np.ndarray) -> None:
    groups = np.random.default_rng(2).integers(0, 300, 400)
    fold = assign_folds(targets, 5, seed=0, groups=groups)
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))


def test_constant_targets_do_no_harm() -> None:
    assert np.ptp(np.bincount(assign_folds(np.zeros((23, 3)), 4, seed=0))) <= 1


@pytest.mark.parametrize("folds", [0, 1, 7])
def test_impossible_numbers_of_folds_are_refused(folds: int) -> None:
    with pytest.raises(UserError, match=f"folds={folds} cannot be dealt from 6 different objects; choose 2 to 6"):
        assign_folds(np.zeros((6, 2)), folds, seed=0)
