"""The same object under several names: equal images or ids, or positions on the sky that are next to each other."""

from collections.abc import Sequence

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

    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(rows) < 2:
        return np.zeros((0, 2), np.int64)
    positions = SkyCoord(ra[rows], dec[rows], unit="deg")
    first, second, _, _ = positions.search_around_sky(positions, separation * units.arcsec)
    once = first < second
    return np.stack([rows[first[once]], rows[second[once]]], axis=1)


def connected(count: int, pairs: np.ndarray) -> np.ndarray:
    """Groups of objects that pairs connect, directly or through others, numbered by their first objects.

    Args:
        count: Number of objects, N.
        pairs: Their indices, shape (P, 2).

    Returns:
        Each object's group, shape (N,).

    >>> connected(5, np.array([[0, 3], [3, 4]])).tolist()
    [0, 1, 2, 0, 0]
    """
    ones = np.ones(len(pairs), np.int8)
    return connected_components(coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), (count, count)), directed=False)[1]


def equal_pairs(numbers: np.ndarray) -> np.ndarray:
    """Pairs that connect all objects with equal numbers, (N,) -> (P, 2).

    >>> equal_pairs(np.array([7, 5, 7, 7])).tolist()
    [[0, 2], [2, 3]]
    """
    order = np.argsort(numbers, kind="stable")
    same = numbers[order][1:] == numbers[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def marked(catalog: pd.DataFrame, objects: np.ndarray) -> pd.DataFrame:
    """The catalog, in which later rows of an object have the id of its first one as `duplicate_of`, if there are any.

    Args:
        catalog: With `id`.
        objects: A number an object, the same for rows that are one object, shape (N,).

    >>> marked(pd.DataFrame({"id": [7, 8, 9]}), np.array([0, 1, 0]))["duplicate_of"].tolist()
    ['', '', '7']
    """
    _, first, number = np.unique(objects, return_index=True, return_inverse=True)
    if len(first) == len(catalog):
        return catalog
    ids = catalog["id"].astype(str).to_numpy()
    again = first[number] != np.arange(len(catalog))
    return catalog.assign(duplicate_of=np.where(again, ids[first[number]], ""))


def duplicate_notes(catalog: pd.DataFrame, pairs: np.ndarray, what: str) -> list[str]:
    """Notes for a user on objects that occur twice, in sentences.

    Args:
        catalog: With `id` and `split`, before objects are split into folds.
        pairs: Indices, shape (P, 2).
        what: What is the same, such as `images`.
    """
    ids, split = catalog["id"].to_numpy(), catalog["split"].to_numpy()
    group = connected(len(catalog), pairs)
    in_both: list[str] = []
    in_one: list[str] = []
    members = pd.Series(np.arange(len(catalog))).groupby(group)
    for number in np.unique(group[pairs.ravel()]):
        rows = members.get_group(number).to_numpy()
        (in_both if len(set(split[rows])) > 1 else in_one).append(" = ".join(map(str, ids[rows])))
    notes = []
    if in_both:
        notes.append(f"{what} that are in training and in test at once ({len(in_both)}): {shorten(in_both)}.")
    if in_one:
        notes.append(
            f"{what} under several ids ({len(in_one)}): {shorten(in_one)}; duplicates of a galaxy stay in one part."
        )
    return notes


def same_galaxies(galaxies: pd.DataFrame, others: pd.DataFrame, separation: float) -> pd.DataFrame:
    """Galaxies of a table that are in another one.

    Args:
        galaxies: `id` (a survey's name, a colon, the galaxy's own id), `ra` and `dec` (degrees, NaN where not known).
        others: Likewise.
        separation: Largest separation between two positions of one galaxy, arcseconds.

    Returns:
        One row for each galaxy of the first table that is found: `row` and `other` (positions in the tables, of several
        the nearest), `separation` (arcseconds; NaN where a position is not known) and `by` (`id` or `position`).
    """
    own, theirs = (table["id"].str.partition(":")[2].to_numpy() for table in (galaxies, others))
    row_of_id = pd.Series(np.arange(len(theirs)), theirs)
    by_id = row_of_id[~row_of_id.index.duplicated()].reindex(own).to_numpy()
    by_position, away = nearest(galaxies, others)
    near = away <= separation
    matched = np.isfinite(by_id) | near
    other = np.where(near, by_position, np.where(np.isfinite(by_id), by_id, -1)).astype(np.int64)
    return pd.DataFrame(
        {
            "row": np.flatnonzero(matched),
            "other": other[matched],
            "separation": np.where(near, away, np.nan)[matched],
            "by": np.where(near, "position", "id")[matched],
        }
    )


def nearest(galaxies: pd.DataFrame, others: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other galaxy on the sky of each.

    Args:
        galaxies: `ra` and `dec`, degrees; NaN where not known.
        others: Likewise.

    Returns:
        Its row in `others` (-1 where there is none) and the separation in arcseconds (infinite), shape (N,) each.
    """
    from astropy.coordinates import SkyCoord

    row, away = np.full(len(galaxies), -1), np.full(len(galaxies), np.inf)
    with_position = [np.flatnonzero(table[["ra", "dec"]].notna().all(axis=1)) for table in (galaxies, others)]
    if not all(map(len, with_position)):
        return row, away
    positions = [
        SkyCoord(table["ra"].to_numpy(float)[rows], table["dec"].to_numpy(float)[rows], unit="deg")
        for table, rows in zip((galaxies, others), with_position, strict=True)
    ]
    index, separation, _ = positions[0].match_to_catalog_sky(positions[1])
    row[with_position[0]], away[with_position[0]] = with_position[1][index], separation.arcsec
    return row, away


def seen_by_all(tables: Sequence[pd.DataFrame], separation: float) -> list[np.ndarray]:
    """Galaxies that every table has.

    Args:
        tables: Each with `ra` and `dec`, degrees.
        separation: Largest separation between two positions of one galaxy, arcseconds.

    Returns:
        For each table a mask, shape (N,).
    """
    return [
        np.all([nearest(table, other)[1] <= separation for other in tables if other is not table], axis=0)
        if len(tables) > 1
        else np.ones(len(table), bool)
        for table in tables
    ]
