"""Writes simulated galaxies in the files of the Kaggle Galaxy Zoo challenge."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.sky.population import population
from galaxyml.sky.volunteers import turnout, vote
from galaxyml.sky.writers import begin, check, draw_to_files

LOWEST, HIGHEST = 100_000, 999_999  # GalaxyIDs


def write_galaxyzoo(folder: Path, count: int, seed: int, test_galaxies: int | None = None, size: int = 424) -> None:
    """Writes a folder as the Kaggle challenge has it, and what there is known besides: the test votes and the truth.

    Files: `images_training_rev1/{GalaxyID}.jpg`, `images_test_rev1/{GalaxyID}.jpg`, `training_solutions_rev1.csv`,
    `all_zeros_benchmark.csv`, and beyond Kaggle's `test_solutions_rev1.csv` and `truth.csv` (parameters of all
    galaxies, the number of `volunteers` and the `split`).

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: Galaxies in the training set.
        seed: Of all of it.
        test_galaxies: Galaxies in the test set; None for a fifth as many as in the training set.
        size: Side of the images, pixels.

    Raises:
        UserError: If a number is too small.
    """
    test_galaxies = max(count // 5, 1) if test_galaxies is None else test_galaxies
    check(count=(count, 1), test_galaxies=(test_galaxies, 1), seed=(seed, 0), size=(size, 8))
    drawn = population(count + test_galaxies, seed)
    drawn.insert(0, "GalaxyID", galaxy_ids(len(drawn), seed))
    drawn.insert(1, "split", np.where(np.arange(len(drawn)) < count, "training", "test"))
    drawn = drawn.sort_values("GalaxyID", ignore_index=True)
    fractions = vote(drawn, seed)
    zeros = dict.fromkeys(map(str, fractions), 0)
    fractions.insert(0, "GalaxyID", drawn.GalaxyID)
    training, test = (fractions[drawn.split == split] for split in ("training", "test"))
    with atomic_write(folder) as draft:
        begin(draft)
        rows = zip(drawn.split, drawn.GalaxyID, strict=True)
        draw_to_files(drawn, [draft / f"images_{split}_rev1" / f"{number}.jpg" for split, number in rows], seed, size)
        # Nine decimals keep each question within 1e-8 of the answer that leads there.
        training.to_csv(draft / "training_solutions_rev1.csv", index=False, float_format="%.9f")
        test.to_csv(draft / "test_solutions_rev1.csv", index=False, float_format="%.9f")
        test.assign(**zeros).to_csv(draft / "all_zeros_benchmark.csv", index=False)
        drawn.assign(volunteers=turnout(drawn, seed)).to_csv(draft / "truth.csv", index=False)


def galaxy_ids(n: int, seed: int) -> NDArray[np.int64]:
    """Distinct numbers of six digits, in random order, shape (n,).

    Raises:
        UserError: If there are not as many.
    """
    if n > HIGHEST + 1 - LOWEST:
        raise UserError(f"GalaxyIDs have six digits, so there are at most {HIGHEST + 1 - LOWEST} galaxies; found {n}.")
    return np.random.default_rng([seed, 2]).choice(np.arange(LOWEST, HIGHEST + 1), n, replace=False)
