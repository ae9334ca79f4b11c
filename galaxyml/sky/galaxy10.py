"""Writes simulated galaxies in the file of Galaxy10 DECaLS."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from galaxyml.runs.files import atomic_write
from galaxyml.runs.progress import track
from galaxyml.sky import visibility
from galaxyml.sky.population import Galaxy, farther, population
from galaxyml.sky.positions import positions, redshifts
from galaxyml.sky.render import draw_image, in_threads
from galaxyml.sky.survey import DECALS
from galaxyml.sky.writers import allot, begin, check

FILE = "Galaxy10_DECals.h5"
RECIPES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
CLASSES = {name: int(recipe["count"]) for name, recipe in RECIPES.items()}  # in the order of their labels
WRONG = 0.04  # share of labels that are mistaken
REPEATED = 0.005  # share of rows that show a galaxy of another row once more
DIMMER = 0.6  # magnitudes a square arcsec
NO_REDSHIFT = 0.03  # share of redshifts that are not known
FAINTEST = 17.77  # magnitude in r of the galaxies that SDSS has spectra of (Strauss et al. 2002, AJ 124, 1810)
SOUTH, NORTH = -18.0, 34.0  # declinations of DECaLS, degrees


def write_galaxy10(folder: Path | str, count: int, seed: int, size: int = DECALS.cutout) -> None:
    """Writes `Galaxy10_DECals.h5` as the original is, and `truth.csv`.

    Datasets: `images` (N, size, size, 3) uint8; `ans` (N,) uint8, labels in the order of `CLASSES`; `ra` and `dec`
    (degrees), `redshift` (NaN where unknown) and `pxscale` (arcsec a pixel), float64. Objects are in no order;
    some labels are wrong, and a few objects are there twice, as in the original. `truth.csv` has of each row the label
    that it should have, the row that it repeats, and the parameters of its galaxy.

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: How many rows.
        seed: Of all of it.
        size: Side of the images, pixels; the field of view is the same for all sizes.

    Raises:
        UserError: If a number is too small.
    """
    check(count=(count, 1), seed=(seed, 0), size=(size, 8))
    drawn = objects(count, seed)
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        drawn.to_csv(draft / "truth.csv", index=False)
        with h5py.File(draft / FILE, "w") as file:
            for name, kind in (("ans", "u1"), ("ra", "f8"), ("dec", "f8"), ("redshift", "f8")):
                file.create_dataset(name, data=drawn[name].to_numpy(kind))
            file.create_dataset("pxscale", data=np.full(count, DECALS.pixel * DECALS.cutout / size))
            _write_images(file, drawn, seed, size)


def objects(n: int, seed: int) -> pd.DataFrame:
    """The n objects of a file: a population with `row`, `ans`, `label`, `repeat_of`, `ra`, `dec` and `redshift`.

    `ans` is what volunteers say, with the frequencies of `CLASSES` and all classes there if n is 10 or more; `label` is
    what they should say; `repeat_of` is the row whose galaxy this is once more, or NA.
    """
    rng = np.random.default_rng([seed, 10])
    names = list(CLASSES)
    ans = rng.permutation(np.repeat(np.arange(len(names)), allot(n, list(CLASSES.values()), least=1)))
    mistaken_for = [RECIPES[names[right]]["mistaken_for"] for right in ans]
    label = np.where(rng.random(n) < WRONG, [names.index(rng.choice(others)) for others in mistaken_for], ans)
    rows = [np.flatnonzero(label == number) for number in range(len(names))]
    drawn = [members(name, len(index), seed).set_index(index) for name, index in zip(names, rows, strict=True)]
    galaxies = pd.concat(drawn).sort_index().assign(pixel=DECALS.pixel)
    ra, dec = positions(n, SOUTH, NORTH, rng)
    measured = np.where(rng.random(n) < NO_REDSHIFT, np.nan, 1.0)
    labels = {"row": np.arange(n), "ans": ans, "label": label, "repeat_of": pd.array([pd.NA] * n, dtype="Int64")}
    sky = {"ra": ra, "dec": dec, "redshift": measured * redshifts(galaxies.r90.to_numpy(), rng)}
    return _repeat(pd.DataFrame({**labels, **sky}).join(galaxies), rng)


def members(name: str, n: int, seed: int) -> pd.DataFrame:
    """N galaxies of one class, in random order; those of a seed differ from class to class."""
    fitting = []
    recipe = RECIPES[name]
    shares = allot(n, [share for share, _, _ in recipe["made_of"]])
    for index, ((_, kind, condition), wanted) in enumerate(zip(recipe["made_of"], shares, strict=True)):
        own = np.random.SeedSequence([seed, list(CLASSES).index(name), index]).generate_state(1)[0]
        fitting.append(_fitting(kind, f"({condition}) and magnitude < {FAINTEST}", recipe["away"], wanted, int(own)))
    return pd.concat(fitting).iloc[np.random.default_rng([seed, 11]).permutation(n)]


def perceived(galaxies: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Properties that volunteers decide by, with the errors by which they differ about borders; one row a galaxy.

    Columns `flat` (axis ratio), `winding` (pitch angle, degrees), `bulge_seen` (share of the light), `arms_seen` and
    `bar_seen` (contrast).
    """
    rng = np.random.default_rng([seed, 12])
    # Drawn row by row, so that more galaxies do not change the first ones.
    errors = rng.standard_normal((len(galaxies), 5)).T
    return pd.DataFrame(
        {
            "flat": visibility.apparent_axis_ratio(galaxies) + 0.035 * errors[0],
            "winding": np.abs(galaxies.pitch) * np.exp(0.15 * errors[1]),
            "bulge_seen": galaxies.bulge * np.exp(0.2 * errors[2]),
            "arms_seen": visibility.arms(galaxies) + 0.05 * errors[3],
            "bar_seen": visibility.bar(galaxies) + 0.05 * errors[4],
        }
    )


def deeper(galaxies: pd.DataFrame) -> pd.DataFrame:
    """The galaxies of a survey deeper than SDSS: dimmer a square arcsec, of more various colours and exposure."""
    # Most are redder than the nearby ones, as their light is redshifted; the texture picks a few that are young.
    color = galaxies.color - 0.4 * (galaxies.texture / 2**31) ** 3
    young = galaxies.young_color + 0.4 * (galaxies.color - galaxies.young_color)
    return galaxies.assign(
        magnitude=galaxies.magnitude + DIMMER,
        color=color,
        young_color=np.minimum(young, color),
        depth=galaxies.depth**1.5,
        crowding=0.8 * galaxies.crowding,
    )


def _fitting(kind: str, condition: str, away: float, n: int, seed: int) -> pd.DataFrame:
    """The first n galaxies of a kind that meet a condition on their parameters and on how they are perceived."""
    tried = 40 + 4 * n
    while True:
        drawn = deeper(farther(population(tried, seed, kind), away))
        fitting = drawn.join(perceived(drawn, seed)).query(condition).index
        if len(fitting) >= n:
            return drawn.loc[fitting[:n]]
        tried *= 2


def _repeat(drawn: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Puts objects in the place of a few others of their label, at most half an arcsec away."""
    wanted = max(round(REPEATED * len(drawn)), 1 if len(drawn) >= 100 else 0)
    same_label = drawn.sample(frac=1, random_state=rng).groupby(["ans", "label"])["row"]
    # Every second row of one label can repeat the one before it, so that no row is in two pairs.
    pairs = same_label.shift()[same_label.cumcount() % 2 == 1].head(wanted).astype(np.int64)
    copies, sources = pairs.index.to_numpy(), pairs.to_numpy()
    shown = np.arange(len(drawn))
    shown[copies] = sources
    table = drawn.iloc[shown].reset_index(drop=True).assign(row=drawn["row"])
    table.loc[copies, "repeat_of"] = sources
    table.loc[copies, "dec"] += rng.uniform(-0.5, 0.5, len(copies)) / 3600
    # Half of the pairs are the same image; the others differ a little in their noise.
    table.loc[copies[::2], "depth"] *= 1.06
    return table


def _write_images(file: h5py.File, drawn: pd.DataFrame, seed: int, size: int) -> None:
    """Draws the images and writes them in slabs of whole chunks: a chunk is then written once."""
    images = file.create_dataset("images", (len(drawn), size, size, 3), "u1", chunks=True)
    slab: list[NDArray[np.uint8]] = []
    length = images.chunks[0] * max(1, 256 // images.chunks[0])

    def draw(galaxy: Galaxy) -> NDArray[np.uint8]:
        return np.asarray(draw_image(galaxy, size, seed, DECALS))

    for number, pixels in enumerate(track(in_threads(draw, drawn), "Drawing galaxies", len(drawn)), start=1):
        slab.append(pixels)
        if len(slab) == length or number == len(drawn):
            images[number - len(slab) : number] = np.stack(slab)
            slab.clear()
