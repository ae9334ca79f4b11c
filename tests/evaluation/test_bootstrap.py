import numpy as np
import pytest

from galaxyml.evaluation.bootstrap import draws, stratified


def test_each_stratum_keeps_its_number_of_objects() -> None:
    strata = np.array(["sdss"] * 30 + ["ukidss"] * 12)[np.random.default_rng(0).permutation(42)]
    (drawn,) = stratified(strata, 200, seed=1)
    assert drawn.shape == (201, 42)
    assert (drawn[0] == 1).all()
    for name, count in (("sdss", 30), ("ukidss", 12)):
        assert (drawn[:, strata == name].sum(1) == count).all()
    assert len(np.unique(drawn, axis=0)) == 201


def test_what_is_drawn_does_not_depend_on_how_much_fits_into_memory() -> None:
    strata = np.arange(50) % 3
    whole = np.concatenate(list(stratified(strata, 40, seed=2)))
    parts = list(stratified(strata, 40, seed=2, at_once=50 * 7))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 7, 6]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_mean_moves_as_normal_theory_says() -> None:
    values = np.random.default_rng(3).exponential(size=400)
    means = draws(400, 4000, seed=4)[1:] @ values / 400
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(400 * 4000))
    assert means.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.05)
