"""The same galaxy in several surveys: by its id, and by its position on the sky."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def same_galaxies(galaxies: pd.DataFrame, others: pd.DataFrame, separation: float) -> pd.DataFrame:
    """Which galaxies of a table are in another one.

    Args:
        galaxies: `id` (a survey's name, a colon, the galaxy's own id), `ra` and `dec` (degrees, NaN where not known).
        others: Likewise.
        separation: Largest separation between two positions of one galaxy, arcseconds.

    Returns:
        One row for each galaxy of the first table that is found: `row` and `other` (positions in the tables, of several
        the nearest), `separation` (arcseconds; NaN where a position is not known) and `by` (`id` or `position`).
    """
    own, theirs = (table["id"].str.partition(":")[2].to_numpy() for table in (galaxies, others))
    of_id = pd.Series(np.arange(len(theirs)), theirs)
    of_id = of_id[~of_id.index.duplicated()]
    by_id = of_id.reindex(own).to_numpy()
    by_position, away = nearest(galaxies, others)
    near = away <= separation
    same_id = np.isfinite(by_id)
    found = same_id | near
    other = np.where(near, by_position, np.where(same_id, by_id, -1)).astype(np.int64)
    return pd.DataFrame(
        {
            "row": np.flatnonzero(found),
            "other": other[found],
            "separation": np.where(near, away, np.nan)[found],
            "by": np.where(near, "position", "id")[found],
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
    known, there = (np.flatnonzero(table[["ra", "dec"]].notna().all(axis=1).to_numpy()) for table in (galaxies, others))
    if not len(known) or not len(there):
        return row, away
    here, places = (
        SkyCoord(table["ra"].to_numpy(float)[rows], table["dec"].to_numpy(float)[rows], unit="deg")
        for table, rows in ((galaxies, known), (others, there))
    )
    index, found, _ = here.match_to_catalog_sky(places)
    row[known], away[known] = there[index], found.arcsec
    return row, away


def seen_by_all(tables: Sequence[pd.DataFrame], separation: float) -> list[np.ndarray]:
    """Which galaxies every table has.

    Args:
        tables: Each with `ra` and `dec`, degrees.
        separation: Largest separation between two positions of one galaxy, arcseconds.

    Returns:
        For each table a mask, shape (N,).
    """
    kept = []
    for number, table in enumerate(tables):
        seen = np.ones(len(table), bool)
        for other in (*tables[:number], *tables[number + 1 :]):
            seen &= nearest(table, other)[1] <= separation
        kept.append(seen)
    return kept
