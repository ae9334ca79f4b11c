import numpy as np
import pandas as pd
import pytest
import torch

from galaxyml.evaluation.out_of_distribution import MahalanobisFit, OutOfDistribution, appearance, unit
from galaxyml.sky import population, render
from galaxyml.sky.survey import DECALS

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(6, 20))


def values(count: int, shift: float = 0.0) -> np.ndarray:
    """Numbers that vary in 6 of 20 directions, besides a little noise."""
    return 3 + RNG.normal(size=(count, 6)) @ MIX + 0.05 * RNG.normal(size=(count, 20)) + shift * np.eye(20)[0]


def test_a_given_share_of_familiar_images_is_flagged() -> None:
    known = MahalanobisFit.fit(values(2000), values(2000), flagged=0.05)
    assert (known.distance(values(4000)) > 1).mean() == pytest.approx(0.05, abs=0.02)


def test_what_leaves_the_usual_directions_is_flagged() -> None:
    known = MahalanobisFit.fit(values(2000), values(500), flagged=0.01)
    assert (known.distance(values(200, shift=4.0)) > 1).all()
    assert known.distance(np.full((1, 20), np.nan))[0] == np.inf


def test_distances_are_mahalanobis_ones() -> None:
    train = values(5000)
    known = MahalanobisFit.fit(train, values(100), flagged=0.01)
    covariance = np.cov(train.T, bias=True)  # of so many images hardly shrunk
    asked = values(50)
    away = asked - train.mean(0)
    expected = np.sqrt(np.einsum("nf,fg,ng->n", away, np.linalg.inv(covariance), away))
    assert np.corrcoef(known.distance(asked), expected)[0, 1] > 0.8
    shrunk = np.einsum("nf,fg,ng->n", away, known.precision, away)
    np.testing.assert_allclose((known.distance(asked) * known.threshold) ** 2, shrunk, rtol=1e-9)


def test_fewer_images_than_numbers_suffice() -> None:
    known = MahalanobisFit.fit(values(12), values(8), flagged=0.01)
    assert np.isfinite(known.distance(values(5))).all()
    constant = MahalanobisFit.fit(np.zeros((9, 4)), np.zeros((5, 4)), flagged=0.01)  # of a net whose features have died
    assert np.isfinite(constant.distance(np.zeros((3, 4)))).all()


def test_the_larger_of_the_two_distances_counts() -> None:
    looks, features = (values(500), values(200)), (values(500), values(200))
    both = OutOfDistribution.fit(looks, features, flagged=0.02)
    strange, usual = values(1, shift=9.0), values(1)
    assert both.distance(strange, usual)[0] > 1
    assert both.distance(usual, strange)[0] == pytest.approx(
        max(both.looks.distance(usual)[0], both.features.distance(unit(strange))[0])  # type: ignore[union-attr]
    )
    assert (both.distance(looks[1], features[1]) > 1).mean() <= 0.02
    alone = OutOfDistribution.fit(looks, None, flagged=0.02)
    np.testing.assert_array_equal(alone.distance(strange, None), alone.looks.distance(strange))


def test_it_is_kept_in_single_precision_with_nothing_lost_that_matters() -> None:
    for features in (None, (values(500), values(100))):
        known = OutOfDistribution.fit((values(500), values(100)), features, flagged=0.01)
        again = OutOfDistribution.of_arrays(known.arrays())
        asked = values(50), values(50) if features else None
        np.testing.assert_allclose(again.distance(*asked), known.distance(*asked), rtol=2e-2)


def views(galaxies: pd.DataFrame, **options: object) -> np.ndarray:
    pixels = render(galaxies, 64, **options)  # type: ignore[arg-type]
    return appearance(pixels.permute(0, 3, 1, 2) / 255)


def test_another_survey_shows_in_the_pixels() -> None:
    galaxies = population(300, seed=3)
    looks = views(galaxies)
    known = MahalanobisFit.fit(looks[:200], looks[200:260], flagged=0.05)
    other = views(galaxies.iloc[260:], survey=DECALS)
    assert (known.distance(other) > 1).mean() > 0.9
    assert (known.distance(looks[260:]) > 1).mean() < 0.3


def test_appearance_is_of_each_image_by_itself() -> None:
    images = torch.rand(6, 3, 32, 32)
    found = appearance(images)
    assert found.shape == (6, 42)
    np.testing.assert_allclose(appearance(images[2:3])[0], found[2], rtol=1e-6)
    assert np.isfinite(appearance(torch.zeros(2, 3, 16, 16))).all()
