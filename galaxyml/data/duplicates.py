"""The same object under several names: equal pictures, or positions on the sky that are next to each other."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from galaxyml.runs.errors import shorten


def near_pairs(ra: np.ndarray, dec: np.ndarray, separation: float) -> np.ndarray:
    """Pairs of positions that are closer to each other than a separation.

    Args:
        ra: Right ascension, degrees, shape (N,); NaN where it is not known.
        dec: Declination, degrees, shape (N,).
        separation: Arcseconds.

    Returns:
        Indices of each pair, the smaller first, shape (P, 2).
    """
    from astropy import units
    from astropy.coordinates import SkyCoord

    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(known) < 2:
        return np.zeros((0, 2), np.int64)
    places = SkyCoord(ra[known], dec[known], unit="deg")
    one, other, _, _ = places.search_around_sky(places, separation * units.arcsec)
    return np.stack([known[one[one < other]], known[other[one < other]]], axis=1)


def joined(count: int, pairs: np.ndarray) -> np.ndarray:
    """Groups of objects that pairs connect, directly or through others; (P, 2) -> a number an object, (count,)."""
    ones = np.ones(len(pairs), np.int8)
    return connected_components(coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), (count, count)), directed=False)[1]


def equal_pairs(numbers: np.ndarray) -> np.ndarray:
    """Pairs that connect all objects with equal numbers, (N,) -> (P, 2)."""
    order = np.argsort(numbers, kind="stable")
    same = numbers[order][1:] == numbers[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def told(catalog: pd.DataFrame, pairs: np.ndarray, what: str) -> list[str]:
    """What a user should know about objects that occur twice, in sentences.

    Args:
        catalog: With `id` and `split`, before objects are dealt into folds.
        pairs: Indices, shape (P, 2).
        what: What is the same, such as `pictures`.
    """
    ids, split = catalog["id"].to_numpy(), catalog["split"].to_numpy()
    group = joined(len(catalog), pairs)
    leaked: list[str] = []
    inside: list[str] = []
    members = pd.Series(np.arange(len(catalog))).groupby(group)
    for number in np.unique(group[pairs.ravel()]):
        rows = members.get_group(number).to_numpy()
        names = " = ".join(map(str, ids[rows]))
        (leaked if len(set(split[rows])) > 1 else inside).append(names)
    notes = []
    if leaked:
        notes.append(f"{what} that are in training and in test at once ({len(leaked)}): {shorten(leaked)}.")
    if inside:
        notes.append(
            f"{what} under several ids ({len(inside)}): {shorten(inside)}; each stays within one part of the split."
        )
    return notes
