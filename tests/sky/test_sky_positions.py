import numpy as np
import pytest

from galaxyml.sky.positions import CLOSEST, galactic_latitude, positions, redshifts, separation


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def test_places_are_evenly_spread_over_their_part_of_the_sphere():
    ra, dec = positions(20_000, -18.0, 34.0, np.random.default_rng(0))
    assert len(ra) == len(dec) == 20_000
    assert ra.min() >= 0
    assert ra.max() < 360
    assert np.abs(galactic_latitude(ra, dec)).min() > CLOSEST
    assert dec.min() >= -18
    assert dec.max() <= 34
    # Around the northern pole of the Galaxy nothing is cut out: equal areas hold equal numbers.
    inside = np.abs(ra - 192) < 40
    counts, _ = np.histogram(np.sin(np.radians(dec[inside])), 5, (np.sin(np.radians(-18)), np.sin(np.radians(34))))
    assert counts.std() < 3 * np.sqrt(counts.mean())


def test_the_centre_and_the_pole_of_the_galaxy_are_where_they_are():
    # Sagittarius A* (J2000) lies in the plane within a tenth of a degree.
    latitude = galactic_latitude(np.array([266.417, 192.859]), np.array([-29.008, 27.128]))
    np.testing.assert_allclose(latitude, [-0.05, 90], atol=0.05)


def test_separations_are_the_angles_between_unit_vectors():
    rng = np.random.default_rng(1)
    ra, other_ra = rng.uniform(0, 360, (2, 50))
    dec, other_dec = rng.uniform(-80, 80, (2, 50))
    cosine = (unit_vectors(ra, dec) * unit_vectors(other_ra, other_dec)).sum(-1)
    np.testing.assert_allclose(
        separation(ra, dec, other_ra, other_dec), np.degrees(np.arccos(cosine)) * 3600, rtol=1e-9
    )


def test_half_an_arcsecond_is_half_an_arcsecond():
    found = separation(
        np.array([359.9999999]), np.array([33.0]), np.array([359.9999999]), np.array([33.0 + 0.5 / 3600])
    )
    assert found[0] == pytest.approx(0.5, abs=1e-6)


def test_small_galaxies_are_far():
    near, far = (np.median(redshifts(np.full(4000, r90), np.random.default_rng(2))) for r90 in (20.0, 5.0))
    assert far == pytest.approx(4 * near, rel=0.05)
