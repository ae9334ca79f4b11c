"""Writes simulated galaxies in the files of the Kaggle Galaxy Zoo challenge."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.files import atomic_write
from galaxyml.sky.campaigns import through
from galaxyml.sky.population import population
from galaxyml.sky.randomisation import SURVEYS, assigned, randomise
from galaxyml.sky.volunteers import expected_votes, turnout, vote
from galaxyml.sky.writers import begin, check, draw_to_files

LOWEST, HIGHEST = 100_000, 999_999  # GalaxyIDs
VOTES = ("sampled", "expected")


def write_galaxyzoo(
    folder: Path | str,
    count: int,
    seed: int,
    test_galaxies: int | None = None,
    size: int = 424,
    surveys: Sequence[str] = ("sdss",),
    vary: Mapping[str, float] | None = None,
    votes: str = "sampled",
) -> None:
    """Writes a folder as the Kaggle challenge has it, and what there is known besides: the test votes and the truth.

    Files: `images_training_rev1/{GalaxyID}.jpg`, `images_test_rev1/{GalaxyID}.jpg`, `training_solutions_rev1.csv`,
    `all_zeros_benchmark.csv`, and beyond Kaggle's `test_solutions_rev1.csv` and `truth.csv` (parameters of all
    galaxies, the number of `volunteers`, the `survey` and the `split`).

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: Galaxies in the training set.
        seed: Of all of it.
        test_galaxies: Galaxies in the test set; None for a fifth as many as in the training set.
        size: Side of the images, pixels.
        surveys: That see the galaxies, each an equal share: of `sdss`, `decals` and `ukidss`.
        vary: Spreads of conditions, as `randomise` takes them; None for those of SDSS.
        votes: `sampled` for fractions of about 40 volunteers, `expected` for those of infinitely many.

    Raises:
        UserError: If a number is too small, or there is no such survey, spread or kind of votes.
    """
    test_galaxies = max(count // 5, 1) if test_galaxies is None else test_galaxies
    check(count=(count, 1), test_galaxies=(test_galaxies, 1), seed=(seed, 0), size=(size, 8))
    if votes not in VOTES:
        raise UserError(f"simulate.votes={votes}: {did_you_mean(votes, VOTES)}")
    drawn = randomise(population(count + test_galaxies, seed), seed, vary or {})
    drawn["survey"] = assigned(len(drawn), seed, tuple(surveys))
    drawn.insert(0, "GalaxyID", galaxy_ids(len(drawn), seed))
    drawn.insert(1, "split", np.where(np.arange(len(drawn)) < count, "training", "test"))
    drawn = drawn.sort_values("GalaxyID", ignore_index=True)
    parts = {str(name): part for name, part in drawn.groupby("survey")}
    seen = pd.concat([part if name == "sdss" else through(part, SURVEYS[name]) for name, part in parts.items()])
    seen = seen.sort_index()
    fractions = vote(seen, seed) if votes == "sampled" else expected_votes(seen)
    zeros = dict.fromkeys(map(str, fractions), 0)
    fractions.insert(0, "GalaxyID", drawn.GalaxyID)
    training, test = (fractions[drawn.split == split] for split in ("training", "test"))
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        for name, part in parts.items():
            rows = zip(part.split, part.GalaxyID, strict=True)
            paths = [draft / f"images_{split}_rev1" / f"{number}.jpg" for split, number in rows]
            draw_to_files(part, paths, seed, size, SURVEYS[name])
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
