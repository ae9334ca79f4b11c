"""Writes simulated galaxies as images with a table of labels, as a person might have them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.sky import visibility
from galaxyml.sky.bands import UGRIZ
from galaxyml.sky.population import population
from galaxyml.sky.positions import place
from galaxyml.sky.spirals import NORTH, SOUTH
from galaxyml.sky.survey import SDSS
from galaxyml.sky.volunteers import vote
from galaxyml.sky.writers import begin, check, draw_to_files

KINDS = ("disk", "edge-on", "merger", "smooth", "spiral")
COLUMNS = ["id", "path", "ra", "dec", "redshift", "kind", "r90", "axis_ratio"]
# SDSS through cutouts of one size, in which a galaxy with an R90 of 8 arcsec is as large as in those of Galaxy Zoo.
SURVEY = replace(SDSS, pixel=8.0 * SDSS.pixel_per_r90, pixel_per_r90=0.0)
IN_BANDS = replace(UGRIZ, pixel=SURVEY.pixel, pixel_per_r90=0.0)
SIDES = {3: 212, 5: 86}  # side of an image in pixels by its bands; that of cubes is the camera's own
SPARE = 1.3  # galaxies that are drawn for one of these kinds


def write_images(folder: Path | str, count: int, seed: int, size: int | None = None, bands: int = 3) -> None:
    """Writes `images/{id}.jpg` and `labels.csv`, with a class, numbers and vote fractions of each galaxy.

    The table has `id`, `path`, `ra` and `dec` (degrees), `redshift`, `kind` (one of `KINDS`), `r90` (radius of 90 % of
    the light, arcsec), `axis_ratio` (as it appears, in (0, 1]), and the 37 fractions of the Kaggle challenge's tree.
    All images have the same field of view. In five bands they are `images/{id}.fits`, cubes of u, g, r, i and z, in
    which a galaxy's spectrum is seen at its redshift.

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: How many galaxies.
        seed: Of all of it.
        size: Side of the images, pixels; None for 212, or 86 of cubes.
        bands: 3 for JPEGs, 5 for FITS cubes.

    Raises:
        UserError: If a number is too small, or there are no images of so many bands.
    """
    if bands not in SIDES:
        raise UserError(
            f"simulate.bands={bands}: the simulated sky has images of 3 bands (JPEG) and of 5 (FITS cubes)."
        )
    size = SIDES[bands] if size is None else size
    check(count=(count, 1), seed=(seed, 0), size=(size, 8))
    suffix, survey = ("jpg", SURVEY) if bands == SURVEY.bands else ("fits", IN_BANDS)
    drawn = galaxies(count, seed, suffix)
    table = labels(drawn, seed)
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        seen = drawn.assign(redshift=table.redshift)
        draw_to_files(seen, [draft / path for path in drawn.path], seed, size, survey)
        table.to_csv(draft / "labels.csv", index=False, float_format="%.9f")


def galaxies(n: int, seed: int, suffix: str = "jpg") -> pd.DataFrame:
    """Galaxies of `KINDS`, seen through pixels of one size: a population with `id` and `path`, which has a suffix."""
    drawn = population(round(SPARE * n) + 40, seed)
    drawn = drawn[drawn.kind.isin(KINDS)].head(n).reset_index(drop=True)
    ids = [f"G{number:05d}" for number in drawn.index]
    return drawn.assign(pixel=SURVEY.pixel, id=ids, path=[f"images/{name}.{suffix}" for name in ids])


def labels(drawn: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table of galaxies; columns as for `write_images`."""
    table = place(drawn, SOUTH, NORTH, np.random.default_rng([seed, 30]))
    table = table.assign(axis_ratio=visibility.apparent_axis_ratio(drawn))[COLUMNS]
    return table.join(vote(drawn, seed))
