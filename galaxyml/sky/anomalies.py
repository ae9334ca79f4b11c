"""Writes simulated galaxies of which a few are odd, as images with a table that says which they are."""

from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.sky.population import population
from galaxyml.sky.writers import begin, check, draw_to_files

ODD = ("merger", "ring", "lensed arc", "artifact")
ORDINARY = ("smooth", "disk", "spiral", "edge-on")
SIDE = 212


def write_anomalies(folder: Path | str, count: int, seed: int, share: float = 0.01, size: int | None = None) -> None:
    """Writes `images/{id}.jpg` and `labels.csv`, which has `id`, `path`, `kind` and `odd` of each galaxy.

    `kind` is one of `ODD` and `ORDINARY`, in each as frequent as in a `population`; `odd` is true or false. Ids are in
    no order. Images are SDSS's cutouts as Galaxy Zoo 2 has them, whose field of view grows with the galaxy.

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: How many galaxies.
        seed: Of all of it.
        share: Of them that are odd, in [0, 1): rounded to whole galaxies, one at least unless it is 0.
        size: Side of the images, pixels; None for 212.

    Raises:
        UserError: If a number is too small, or the share is none.
    """
    size = SIDE if size is None else size
    check(count=(count, 1), seed=(seed, 0), size=(size, 8))
    if not 0 <= share < 1:
        raise UserError(f"simulate.share={share}: it must be a share in [0, 1).")
    drawn = galaxies(count, seed, share)
    table = drawn[["id", "path", "kind"]].assign(odd=np.where(drawn.kind.isin(ODD), "true", "false"))
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        draw_to_files(drawn, [draft / path for path in drawn.path], seed, size)
        table.to_csv(draft / "labels.csv", index=False)


def galaxies(n: int, seed: int, share: float) -> pd.DataFrame:
    """The galaxies of a folder: the first of a population that are ordinary, and odd, with `id` and `path`."""
    odd = max(round(share * n), 1) if share > 0 else 0
    tried = 2 * n
    while True:
        drawn = population(tried, seed)
        parts = [drawn[drawn.kind.isin(kinds)].head(wanted) for kinds, wanted in ((ODD, odd), (ORDINARY, n - odd))]
        if sum(map(len, parts)) == n:
            break
        tried *= 2
    # The odd ones come from the first rows of the population, which is why its order would tell them.
    order = np.random.default_rng([seed, 60]).permutation(n)
    ids = [f"G{number:05d}" for number in range(n)]
    chosen = pd.concat(parts).iloc[order].reset_index(drop=True)
    return chosen.assign(id=ids, path=[f"images/{name}.jpg" for name in ids])
