"""Helpers of the writers of all tasks: the check of their numbers, shares of a total, and images on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.runs.errors import UserError
from galaxyml.runs.progress import track
from galaxyml.runs.provenance import SIMULATED
from galaxyml.sky.bands import FiveBands, write_cube
from galaxyml.sky.population import Galaxy
from galaxyml.sky.render import draw_image, in_threads
from galaxyml.sky.survey import SDSS, Survey

FINE = 95


def check(**numbers: tuple[int, int]) -> None:
    """Refuses numbers that are too small: by its name, each number comes with the least that it may be.

    Raises:
        UserError: At the first that is less.
    """
    for name, (value, lowest) in numbers.items():
        if value < lowest:
            raise UserError(f"simulate.{name}={value}: it must be a whole number, {lowest} or more.")


def allot(total: int, weights: Sequence[float], least: int = 0) -> NDArray[np.int64]:
    """Splits a number in proportion to weights, by largest remainders.

    Args:
        total: What is split.
        weights: One a share.
        least: That each share gets, where the total allows it; the largest shares give it.

    Returns:
        Whole numbers that sum to the total, in the order of the weights.
    """
    exact = total * np.asarray(weights) / np.sum(weights)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    while total >= least * len(shares) and shares.min() < least:
        shares[shares.argmin()] += 1
        shares[shares.argmax()] -= 1
    return shares


def begin(folder: Path) -> None:
    """Makes the folder that files are written to, and marks it as the simulated sky's."""
    folder.mkdir(parents=True)
    text = "Drawn by the simulated sky of galaxyml: nothing in this folder was observed.\n"
    (folder / SIMULATED).write_text(text, encoding="utf-8")


def draw_to_files(galaxies: pd.DataFrame, paths: Sequence[Path], seed: int, size: int, survey: Survey = SDSS) -> None:
    """Draws galaxies as a survey sees them and writes each to its path, a JPEG of the survey's quality or a PNG.

    Of a survey that hands out no JPEG it has a quality of `FINE`.

    Paths are in the order of the rows, and folders appear where they are missing; seed and size are those of `render`.
    A path that ends in .fits gets a cube of the survey's bands.
    """

    def write(galaxy: Galaxy, path: Path) -> None:
        if path.suffix == ".fits":
            assert isinstance(survey, FiveBands)
            write_cube(galaxy, path, seed, size, survey)
            return
        drawn = draw_image(galaxy, size, seed, survey)
        if path.suffix == ".jpg":
            drawn.save(path, quality=survey.quality or FINE)
        else:
            drawn.save(path, compress_level=1)  # a quarter of the time for 15 percent more bytes

    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    title = "Drawing galaxies" if survey is SDSS else f"Drawing galaxies, {survey.name}"
    for _ in track(in_threads(write, galaxies, paths), title, len(galaxies)):
        pass
