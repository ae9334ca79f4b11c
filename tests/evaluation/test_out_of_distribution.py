from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

from galaxyml.evaluation.out_of_distribution import (
    LEVELS,
    RIM,
    MahalanobisFit,
    OutOfDistribution,
    Reduction,
    appearance,
    unit,
)
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


@pytest.mark.parametrize("numbers", [7, 42, 130])
def test_a_distance_does_not_depend_on_the_other_images_to_the_last_bit(numbers: int) -> None:
    known = MahalanobisFit.fit(RNG.normal(size=(400, numbers)), RNG.normal(size=(100, numbers)), flagged=0.01)
    known = replace(known, precision=np.ascontiguousarray(known.precision, np.float32))  # as it is kept
    asked = RNG.normal(size=(70, numbers))
    together = known.distance(asked)
    np.testing.assert_array_equal([known.distance(row[None])[0] for row in asked], together)
    np.testing.assert_array_equal(known.distance(asked[1:68]), together[1:68])


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


OTHER = np.random.default_rng(1)
WIDE = OTHER.normal(size=(6, 3000))
ASIDE = OTHER.choice([-1.0, 1.0], 3000)


def wide(count: int, away: float = 0.0) -> np.ndarray:
    """3,000 features that vary in 6 directions, besides a little noise, and away along a seventh."""
    noise = OTHER.normal(size=(count, 3000))
    return 20 + OTHER.normal(size=(count, 6)) @ WIDE + 0.05 * noise + away * ASIDE


def test_of_very_many_features_what_is_beside_the_components_counts() -> None:
    looks = values(300), values(200)
    known = OutOfDistribution.fit(looks, (wide(300), wide(200)), flagged=0.02)
    assert sum(array.nbytes for array in known.arrays().values()) < 4e6  # all of their covariance has 18 MB
    assert (known.distance(values(500), wide(500)) > 1).mean() < 0.1
    assert (known.distance(values(50), wide(50, away=2.0)) > 1).all()
    assert known.distance(values(1), np.full((1, 3000), np.nan))[0] == np.inf
    again = OutOfDistribution.of_arrays(known.arrays())
    asked = values(50), wide(50)
    np.testing.assert_allclose(again.distance(*asked), known.distance(*asked), rtol=2e-2)
    alone = [again.distance(*(part[row : row + 1] for part in asked))[0] for row in range(50)]
    np.testing.assert_array_equal(alone, again.distance(*asked))


def test_components_and_the_rest_keep_all_lengths() -> None:
    """With all components there is no rest, and distances between rows are those of the numbers."""
    numbers = wide(40)
    reduced = Reduction.fit(numbers)
    seen = reduced(numbers)
    np.testing.assert_allclose(seen[:, -1], 0, atol=1e-3)
    np.testing.assert_allclose(cdist(seen, seen), cdist(numbers, numbers), rtol=1e-6, atol=1e-3)


def views(galaxies: pd.DataFrame, **options: object) -> np.ndarray:
    pixels = render(galaxies, 64, **options)  # type: ignore[arg-type]
    return appearance(pixels)


def test_another_survey_shows_in_the_pixels() -> None:
    galaxies = population(300, seed=3)
    looks = views(galaxies)
    known = MahalanobisFit.fit(looks[:200], looks[200:260], flagged=0.05)
    other = views(galaxies.iloc[260:], survey=DECALS)
    assert (known.distance(other) > 1).mean() > 0.9
    assert (known.distance(looks[260:]) > 1).mean() < 0.3


def test_appearance_is_of_each_image_by_itself() -> None:
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    found = appearance(images)
    assert found.shape == (6, 42)
    np.testing.assert_array_equal(appearance(images[2:3])[0], found[2])
    assert np.isfinite(appearance(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))).all()


@pytest.mark.parametrize("shape", [(9, 64, 64, 3), (4, 12, 17, 1), (3, 31, 12, 5), (2, 7, 9, 3)])
def test_appearance_of_many_images_is_counted_and_the_same_to_the_last_bit(shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    images[0] = 7
    images[-1, :, :, 0] //= 50
    np.testing.assert_array_equal(appearance(images, many=True), appearance(images))


def test_appearance_is_what_torch_makes_of_the_same_images() -> None:
    pixels = torch.randint(0, 256, (5, 24, 20, 3), dtype=torch.uint8)
    pixels[..., 1] = pixels[..., 0] // 2 + 9
    images = pixels.permute(0, 3, 1, 2).double() / 255
    flat = images.flatten(2)
    levels = flat.quantile(torch.tensor(LEVELS, dtype=torch.float64), dim=2).permute(1, 2, 0).flatten(1)
    next_to, two_away = ((images[..., step:] - images[..., :-step]).abs().flatten(2) for step in (1, 2))
    around, spread = flat - flat.mean(2, keepdim=True), flat.std(2)
    pairs = ((0, 1), (0, 2), (1, 2))
    alike = [(around[:, i] * around[:, j]).mean(1) / (spread[:, i] * spread[:, j] + 1e-6) for i, j in pairs]
    rim = torch.cat([images[:, :, :RIM], images[:, :, -RIM:]], 2).flatten(2)
    steps = [next_to.median(2).values, two_away.median(2).values, next_to.quantile(0.9, dim=2)]
    expected = [levels, *steps, spread, torch.stack(alike, 1), rim.median(2).values, rim.std(2)]
    np.testing.assert_allclose(appearance(pixels), torch.cat(expected, 1).numpy(), rtol=1e-9, atol=1e-12)
