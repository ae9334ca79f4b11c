from typing import Any

import numpy as np
import pytest
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from galaxyml.data.splits import TEST, Folds, Holdout, stratified_split
from galaxyml.runs.errors import UserError


@pytest.fixture
def targets() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.beta(0.3, 1.5, (400, 10))


@pytest.fixture
def classes() -> np.ndarray:
    """One column a class, as rare as those of Galaxy10."""
    counts = [1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873]
    return np.eye(10)[np.random.default_rng(1).permutation(np.repeat(np.arange(10), np.array(counts) // 5))]


def test_every_object_is_in_one_fold_of_nearly_equal_size(targets: np.ndarray) -> None:
    fold = Folds(5)(targets, seed=0)
    assert set(fold) == set(range(5))
    assert np.ptp(np.bincount(fold)) <= 12


def test_same_seed_same_folds(targets: np.ndarray) -> None:
    assert np.array_equal(Folds(5)(targets, seed=0), Folds(5)(targets, seed=0))
    assert not np.array_equal(Folds(5)(targets, seed=0), Folds(5)(targets, seed=1))


def test_equal_shares_are_the_librarys_folds(targets: np.ndarray) -> None:
    indicators = np.hstack([targets > np.quantile(targets, level, axis=0) for level in (0.5, 0.9)])
    fold = stratified_split(targets, [0.2] * 5, seed=3)
    theirs = MultilabelStratifiedKFold(5, shuffle=True, random_state=3).split(targets, indicators)
    for number, (_, held_out) in enumerate(theirs):
        assert np.array_equal(np.flatnonzero(fold == number), held_out)


def test_folds_are_more_alike_than_random_ones(targets: np.ndarray) -> None:
    def unlike(fold: np.ndarray) -> float:
        return float(
            np.std([(targets[fold == k] > np.quantile(targets, 0.9, axis=0)).mean(0) for k in range(5)], axis=0).mean()
        )

    rng = np.random.default_rng(1)
    random = np.mean([unlike(rng.permutation(400) % 5) for _ in range(20)])
    stratified = np.mean([unlike(Folds(5)(targets, seed)) for seed in range(3)])
    assert stratified < 0.7 * random


def test_copies_of_one_image_stay_together(targets: np.ndarray) -> None:
    groups = np.random.default_rng(2).integers(0, 300, 400)
    for split in (Folds(5), Holdout(0.15, 0.15, 5)):
        fold = split(targets, seed=0, groups=groups)
        assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))


@pytest.fixture
def copies() -> tuple[np.ndarray, np.ndarray]:
    """Targets of 100 galaxies, each twice and far apart, and the galaxies' numbers, in no order."""
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(rng.permutation(100), 2))
    return rng.beta(0.5, 1.0, (100, 3))[groups], groups


def test_grouped_objects_are_stratified_as_single_ones(copies: tuple[np.ndarray, np.ndarray]) -> None:
    targets, groups = copies
    for seed in range(5):
        fold = stratified_split(targets, [0.2] * 5, seed, groups)
        assert all(len(set(fold[groups == group])) == 1 for group in range(100))
        for level in (0.5, 0.9):
            high = targets > np.quantile(targets, level, axis=0)
            counts = np.array([high[fold == number].sum(0) for number in range(5)]) / 2  # of galaxies
            assert (np.abs(counts - high.sum(0) / 10) <= 1.5).all()


def test_means_of_grouped_folds_differ_no_more_than_those_of_the_best_of_many(
    copies: tuple[np.ndarray, np.ndarray],
) -> None:
    targets, groups = copies

    def largest_difference(fold: np.ndarray) -> float:
        return float(np.ptp([targets[fold == number].mean(0) for number in range(5)], axis=0).max())

    rng = np.random.default_rng(4)
    drawn = [largest_difference((rng.permutation(100) % 5)[groups]) for _ in range(500)]
    stratified = [largest_difference(Folds(5)(targets, seed, groups)) for seed in range(10)]
    assert np.median(stratified) <= np.quantile(drawn, 0.1)


def test_a_holdout_gives_each_class_its_share(classes: np.ndarray) -> None:
    fold = Holdout(val=0.15, test=0.15, folds=5)(classes, seed=0)
    for column in classes.T:
        of_class = fold[column == 1]
        for number in (TEST, *range(5)):
            assert abs((of_class == number).sum() - 0.15 * len(of_class)) <= 1.5
        assert abs((of_class == 5).sum() - 0.10 * len(of_class)) <= 1.5


def test_every_fold_of_a_holdout_has_the_same_test_part(classes: np.ndarray) -> None:
    one, five = Holdout(0.15, 0.15, 1), Holdout(0.15, 0.15, 5)
    assert set(one(classes, 0)) == {TEST, 0, 1}
    assert set(five(classes, 0)) == {TEST, 0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0.15, "test": 0.15, "folds": 6}, "there is room for 5 validation parts"),
        ({"val": 0.0, "test": 0.15, "folds": 1}, r"split.val=0.0: it must be a share in \(0, 1\)"),
        ({"val": 0.5, "test": 0.5, "folds": 1}, "something to train on"),
        ({"val": 0.2, "test": 1.5, "folds": 1}, r"split.test=1.5: it must be a share"),
    ],
)
def test_impossible_shares_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Holdout(**options)


def test_constant_targets_do_no_harm() -> None:
    assert np.ptp(np.bincount(Folds(4)(np.zeros((23, 3)), seed=0))) <= 1


@pytest.mark.parametrize("folds", [0, 1, 2.5, True])
def test_impossible_numbers_of_folds_are_refused(folds: int) -> None:
    with pytest.raises(UserError, match=f"folds={folds}: it must be a whole number, 2 or more"):
        Folds(folds)


def test_fewer_objects_than_parts_are_refused() -> None:
    with pytest.raises(UserError, match=r"7 parts of the split cannot be dealt from 6 different objects"):
        Folds(7)(np.zeros((6, 2)), seed=0)


def test_one_fixed_split_of_any_shares_is_possible(classes: np.ndarray) -> None:
    fold = Holdout(val=0.4, test=0.3, folds=1)(classes, seed=0)
    assert np.bincount(fold + 1) / len(fold) == pytest.approx([0.3, 0.4, 0.3], abs=0.01)
