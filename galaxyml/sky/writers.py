"""What the writers of all tasks' files share: the check of their numbers, and pictures on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.runs.errors import UserError
from galaxyml.runs.progress import track
from galaxyml.sky.population import Galaxy
from galaxyml.sky.render import in_threads, picture
from galaxyml.sky.survey import SDSS, Survey


def check(**numbers: tuple[int, int]) -> None:
    """Refuses numbers that are too small.

    Args:
        numbers: By its name, each number and the least that it may be.

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
        weights: One a part.
        least: That each part gets, where the total allows it; the largest parts give it.

    Returns:
        Whole numbers that sum to the total, in the order of the weights.
    """
    exact = total * np.asarray(weights) / np.sum(weights)
    parts = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - parts.sum()]] += 1
    while total >= least * len(parts) and parts.min() < least:
        parts[parts.argmin()] += 1
        parts[parts.argmax()] -= 1
    return parts


def write_pictures(galaxies: pd.DataFrame, paths: Sequence[Path], seed: int, size: int, survey: Survey = SDSS) -> None:
    """Draws galaxies as a survey sees them and writes each to its path, a JPEG of the survey's quality or a PNG.

    Args:
        galaxies: Rows of a population.
        paths: Of the files, in the order of the rows.
        seed: As for `render`.
        size: Side of the pictures, pixels.
        survey: That sees them.
    """

    def write(galaxy: Galaxy, path: Path) -> None:
        drawn = picture(galaxy, size, seed, survey)
        if path.suffix == ".jpg":
            drawn.save(path, quality=survey.quality)
        else:
            drawn.save(path, compress_level=1)  # a quarter of the time for 15 percent more bytes

    title = "Drawing galaxies" if survey is SDSS else f"Drawing galaxies, {survey.name}"
    for _ in track(in_threads(write, galaxies, paths), title, len(galaxies)):
        pass
