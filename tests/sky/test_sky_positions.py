import numpy as np
import pytest

from galaxyml.sky.positions import CLOSEST, galactic_latitude, positions, redshifts


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


def test_small_galaxies_are_far():
    near, far = (np.median(redshifts(np.full(4000, r90), np.random.default_rng(2))) for r90 in (20.0, 5.0))
    assert far == pytest.approx(4 * near, rel=0.05)
