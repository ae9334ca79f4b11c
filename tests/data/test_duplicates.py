import numpy as np
import pandas as pd
import pytest

from galaxyml.data.duplicates import (
    connected,
    duplicate_notes,
    equal_pairs,
    near_pairs,
    nearest,
    same_galaxies,
    seen_by_all,
)


def separation(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Angles between all positions in arcsec, by the haversine formula."""
    a, d = np.radians(ra), np.radians(dec)
    half = np.sin((d[:, None] - d) / 2) ** 2 + np.cos(d)[:, None] * np.cos(d) * np.sin((a[:, None] - a) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(half))) * 3600


def test_near_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 0.02, 80) % 360, rng.uniform(60, 60.01, 80)
    ra[:10] = 360 - ra[:10] / 10  # across the meridian
    found = near_pairs(ra, dec, 3.0)
    angle = separation(ra, dec)
    expected = {(i, j) for i in range(80) for j in range(i + 1, 80) if angle[i, j] < 3.0}
    assert expected
    assert {tuple(pair) for pair in found.tolist()} == expected


def test_unknown_positions_are_near_nothing() -> None:
    ra = np.array([np.nan, 10.0, np.nan, 10.0])
    assert near_pairs(ra, np.zeros(4), 1.0).tolist() == [[1, 3]]
    assert near_pairs(ra[:1], np.zeros(1), 1.0).shape == (0, 2)


def test_pairs_join_chains() -> None:
    group = connected(6, np.array([[0, 1], [1, 4], [2, 3]]))
    assert group[0] == group[1] == group[4]
    assert group[2] == group[3]
    assert len({group[0], group[2], group[5]}) == 3


def test_equal_numbers_are_connected() -> None:
    numbers = np.array([7, 3, 7, 7, 5, 3], np.uint64)
    group = connected(6, equal_pairs(numbers))
    assert all((group[i] == group[j]) == (numbers[i] == numbers[j]) for i in range(6) for j in range(6))


def test_what_is_leaked_and_what_is_not_are_told_apart() -> None:
    catalog = pd.DataFrame({"id": [11, 12, 13, 14, 15], "split": ["train", "train", "train", "test", "train"]})
    first, second = duplicate_notes(catalog, np.array([[0, 3], [1, 2]]), "images")
    assert first == "images that are in training and in test at once (1): 11 = 14."
    assert second == "images under several ids (1): 12 = 13; duplicates of a galaxy stay in one part."
    assert duplicate_notes(catalog, np.zeros((0, 2), int), "images") == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_objects_do_no_harm(count: int) -> None:
    assert len(connected(count, np.zeros((0, 2), int))) == count


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
