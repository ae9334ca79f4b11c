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
    """Which galaxies every table has.

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
