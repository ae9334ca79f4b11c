import numpy as np
import pandas as pd
import pytest

from galaxyml.data.duplicates import connected, duplicate_notes, equal_pairs, near_pairs


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
