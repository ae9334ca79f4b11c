import numpy as np
import pytest

from galaxyml.novelty import Familiar

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(6, 20))


def features(count: int, shift: float = 0.0) -> np.ndarray:
    """Features that vary in 6 of 20 directions, besides a little noise."""
    return 3 + RNG.normal(size=(count, 6)) @ MIX + 0.05 * RNG.normal(size=(count, 20)) + shift * np.eye(20)[0]


def test_a_given_share_of_familiar_pictures_is_flagged() -> None:
    known = Familiar.fit(features(2000), features(2000), flagged=0.05)
    assert (known.distance(features(4000)) > 1).mean() == pytest.approx(0.05, abs=0.02)


def test_what_leaves_the_usual_directions_is_flagged() -> None:
    known = Familiar.fit(features(2000), features(500), flagged=0.01)
    assert (known.distance(features(200, shift=4.0)) > 1).all()
    assert known.distance(np.full((1, 20), np.nan))[0] == np.inf


def test_distances_are_mahalanobis_ones() -> None:
    train = features(500)
    known = Familiar.fit(train, features(100), flagged=0.01)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    asked = unit[:5] - unit.mean(0)
    expected = np.sqrt([row @ known.precision @ row for row in asked])
    np.testing.assert_allclose(known.distance(train[:5]) * known.threshold, expected, rtol=1e-6)
    far, near = RNG.normal(size=(2, 1, 20)) * [[[1.0]], [[0.0]]] + features(1)
    assert known.distance(far) > known.distance(near)


def test_fewer_pictures_than_features_suffice() -> None:
    known = Familiar.fit(features(12), features(8), flagged=0.01)
    assert np.isfinite(known.distance(features(5))).all()


def test_it_is_kept_in_single_precision_with_nothing_lost_that_matters() -> None:
    known = Familiar.fit(features(500), features(100), flagged=0.01)
    again = Familiar(**known.arrays())
    asked = features(50)
    np.testing.assert_allclose(again.distance(asked), known.distance(asked), rtol=1e-3)
