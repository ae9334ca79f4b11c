"""The same galaxy in two surveys, found by id and by position."""

import numpy as np
import pandas as pd
import pytest

from galaxyml.data.leakage import nearest, same_galaxies, seen_by_all


def angle(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Between two places in degrees, in arcsec, by their unit vectors."""
    one, other = (
        np.array(
            [
                np.cos(np.radians(d)) * np.cos(np.radians(r)),
                np.cos(np.radians(d)) * np.sin(np.radians(r)),
                np.sin(np.radians(d)),
            ]
        )
        for r, d in ((ra, dec), (other_ra, other_dec))
    )
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)) * 3600)


def places(count: int, seed: int, name: str) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    # Around the pole and over the seam at 0 degrees, where differences of coordinates mislead.
    ra = rng.uniform(-0.003, 0.003, count) % 360
    dec = rng.uniform(84.0, 84.003, count)
    return pd.DataFrame({"id": [f"{name}:{n}" for n in range(count)], "ra": ra, "dec": dec})


def test_the_nearest_is_that_of_a_brute_force() -> None:
    own, other = places(25, 1, "a"), places(30, 2, "b")
    own.loc[3, "ra"] = np.nan
    row, away = nearest(own, other)
    for at in range(len(own)):
        found = [angle(own.ra[at], own.dec[at], other.ra[k], other.dec[k]) for k in range(len(other))]
        if at == 3:
            assert (row[at], away[at]) == (-1, np.inf)
        else:
            assert row[at] == np.argmin(found)
            assert away[at] == pytest.approx(min(found), abs=1e-4)


def test_galaxies_are_the_same_by_position_or_by_id_but_not_by_their_order() -> None:
    own = pd.DataFrame(
        {"id": ["a:1", "a:2", "a:3", "a:4"], "ra": [10.0, 20.0, np.nan, 40.0], "dec": [0.0, 0.0, np.nan, 0.0]}
    )
    other = pd.DataFrame(
        {"id": ["b:9", "b:3", "b:8"], "ra": [20.0 + 2 / 3600, np.nan, 10.0 + 4 / 3600], "dec": [0.0, np.nan, 0.0]}
    )
    found = same_galaxies(own, other, separation=3.0)
    assert found["row"].tolist() == [1, 2]
    assert found["other"].tolist() == [0, 1]
    assert found["by"].tolist() == ["position", "id"]
    assert found["separation"][0] == pytest.approx(2.0, abs=1e-6)
    assert same_galaxies(own, other, separation=5.0)["row"].tolist() == [0, 1, 2]


def test_only_what_every_survey_has_seen_is_kept() -> None:
    one = pd.DataFrame({"ra": [1.0, 2.0, 3.0], "dec": [0.0, 0.0, 0.0]})
    two = pd.DataFrame({"ra": [3.0 + 1 / 3600, 1.0], "dec": [0.0, 0.0]})
    three = pd.DataFrame({"ra": [1.0 - 1 / 3600, 9.0], "dec": [0.0, 0.0]})
    kept = seen_by_all([one, two, three], separation=2.0)
    assert [mask.tolist() for mask in kept] == [[True, False, False], [False, True], [True, False]]
