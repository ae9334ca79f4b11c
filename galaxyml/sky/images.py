"""Writes simulated galaxies as images with a table of labels, as a person might have them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.runs.files import atomic_write
from galaxyml.sky import visibility
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
SPARE = 1.3  # galaxies that are drawn for one of these kinds


def write_images(folder: Path, count: int, seed: int, size: int = 212) -> None:
    """Writes `images/{id}.jpg` and `labels.csv`, with a class, numbers and vote fractions of each galaxy.

    The table has `id`, `path`, `ra` and `dec` (degrees), `redshift`, `kind` (one of `KINDS`), `r90` (radius of 90 % of
    the light, arcsec), `axis_ratio` (as it appears, in (0, 1]), and the 37 fractions of the Kaggle challenge's tree.
    All images have the same field of view.

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: How many galaxies.
        seed: Of all of it.
        size: Side of the images, pixels.

    Raises:
        UserError: If a number is too small.
    """
    check(count=(count, 1), seed=(seed, 0), size=(size, 8))
    drawn = galaxies(count, seed)
    with atomic_write(folder) as draft:
        begin(draft)
        draw_to_files(drawn, [draft / path for path in drawn.path], seed, size, SURVEY)
        labels(drawn, seed).to_csv(draft / "labels.csv", index=False, float_format="%.9f")


def galaxies(n: int, seed: int) -> pd.DataFrame:
    """Galaxies of `KINDS`, seen through pixels of one size: a population with `id` and `path`."""
    drawn = population(round(SPARE * n) + 40, seed)
    drawn = drawn[drawn.kind.isin(KINDS)].head(n).reset_index(drop=True)
    ids = [f"G{number:05d}" for number in drawn.index]
    return drawn.assign(pixel=SURVEY.pixel, id=ids, path=[f"images/{name}.jpg" for name in ids])


def labels(drawn: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table of galaxies; columns as for `write_images`."""
    table = place(drawn, SOUTH, NORTH, np.random.default_rng([seed, 30]))
    table = table.assign(axis_ratio=visibility.apparent_axis_ratio(drawn))[COLUMNS]
    return table.join(vote(drawn, seed))
