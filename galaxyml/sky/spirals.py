"""Writes simulated galaxies in the files of Galaxy Zoo 1's catalogue and Galaxy Zoo 2's images.

Galaxy Zoo 1 has six buttons. As in `volunteers`, the numbers of its votes are habits, chosen so that means and spreads
are near those of its release; they are the truth of the simulated sky, not a measurement.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.runs.files import atomic_write
from galaxyml.sky import visibility
from galaxyml.sky.population import farther, population
from galaxyml.sky.positions import degrees, hours, object_ids, place
from galaxyml.sky.survey import SDSS
from galaxyml.sky.visibility import rises, seen_clearly
from galaxyml.sky.volunteers import CLICKERS, answers
from galaxyml.sky.writers import allot, begin, check, draw_to_files

TABLE, MAPPING = "GalaxyZoo1_DR_table2.csv", "gz2_filename_mapping.csv"
SOUTH, NORTH = -11.0, 68.0  # declinations of SDSS, degrees
SAMPLES = {"original": 0.86, "extra": 0.09, "stripe82": 0.05}
ASSETS = 355_990  # the numbers of Galaxy Zoo 2's images; here more where they do not suffice
FEW = 0.01  # share of the images' objects with two images, with none on disk, or not in the table
FARTHER = 1.8  # distance of the table's objects without an image over that of the others
# The buttons: elliptical, spiral that turns clockwise or anticlockwise, edge-on or unclear, don't know, merger.
BUTTONS = ("P_EL", "P_CW", "P_ACW", "P_EDGE", "P_DK", "P_MG")
SPIRAL_BUTTONS = [1, 2, 3]
FEWEST, MOST = 12, 85  # volunteers a galaxy
WRONG_WAY = 0.05  # share of those who see arms turn that see them turn the other way
# How often a galaxy has a flag, against the debiased fraction (3,079 rows of the release).
SPIRAL_FLAG = (
    (0.25, 0.45, 0.65, 0.725, 0.775, 0.825, 0.875, 0.925, 0.975),
    (0, 0.05, 0.12, 0.29, 0.47, 0.73, 0.89, 0.99, 1),
)
ELLIPTICAL_FLAG = ((0.6, 0.65, 0.725, 0.775, 0.825, 0.875, 0.925, 0.975), (0, 0.01, 0.04, 0.15, 0.43, 0.70, 0.90, 1))
# What kind of row of the mapping an object has beyond the usual.
USUAL, TWICE, NOT_ON_DISK, NOT_IN_TABLE = "", "two images", "image missing", "not in the table"


def write_spirals(folder: Path | str, count: int, seed: int, size: int = SDSS.cutout) -> None:
    """Writes a folder with the table of Galaxy Zoo 1, images of Galaxy Zoo 2, and the mapping between the two.

    Files: `GalaxyZoo1_DR_table2.csv` (Lintott et al. 2011, MNRAS 410, 166), sorted by right ascension, with about as
    many objects again that have no image; `gz2_filename_mapping.csv`, where a few objects have two images, a few
    images are not on disk and a few objects are not in the table, as in the real one; `images/{asset_id}.jpg`; beyond
    these `properties.csv` (Petrosian R90 in arcsec, magnitude in r, redshift) and `truth.csv` (parameters of all
    galaxies and what is unusual about their rows).

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: How many images.
        seed: Of all of it.
        size: Side of the images, pixels.

    Raises:
        UserError: If a number is too small.
    """
    check(count=(count, 1), seed=(seed, 0), size=(size, 8))
    objects = catalogue(count, seed)
    mapping = assets(objects, seed)
    table = objects[objects.mapping != NOT_IN_TABLE].reset_index(drop=True)
    positioned = pd.DataFrame({"OBJID": table.OBJID, "RA": hours(table.ra), "DEC": degrees(table.dec)})
    shown = mapping[mapping.on_disk]
    shown_objects = objects.set_index("OBJID").loc[shown.objid].reset_index()
    # The second image of an object is another exposure.
    shown_objects["depth"] = np.where(shown.objid.duplicated(), 0.8, 1.0) * shown_objects.depth
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        paths = [draft / "images" / f"{number}.jpg" for number in shown.asset_id]
        draw_to_files(shown_objects, paths, seed, size)
        positioned.join(release(table, seed)).to_csv(draft / TABLE, index=False)
        mapping[["objid", "sample", "asset_id"]].to_csv(draft / MAPPING, index=False)
        properties(table, seed).to_csv(draft / "properties.csv", index=False, float_format="%.4f")
        objects.to_csv(draft / "truth.csv", index=False)


def catalogue(images: int, seed: int) -> pd.DataFrame:
    """All objects: a population with `OBJID`, `ra`, `dec`, `redshift`, `sample` (empty if not mapped) and `mapping`.

    One row an object, sorted by right ascension; about half of them are mapped to images.
    """
    rng = np.random.default_rng([seed, 20])
    few = min(max(round(FEW * images), 1), images // 4)
    # Each object in two images is one less; each whose image is missing is one more.
    drawn = population(2 * images, seed)
    drawn = pd.concat([drawn.head(images), farther(drawn.tail(images), FARTHER)], ignore_index=True)
    unusual = [TWICE] * few + [NOT_ON_DISK] * few + [NOT_IN_TABLE] * few
    mapping = rng.permutation(unusual + [USUAL] * (images - len(unusual)))
    sample = rng.permutation(np.repeat(list(SAMPLES), allot(images, list(SAMPLES.values()))))
    # What has two images has one in the deep stripe.
    sample = np.where(mapping == TWICE, "original", sample)
    drawn.insert(0, "OBJID", object_ids(len(drawn), seed))
    drawn = place(drawn, SOUTH, NORTH, rng)
    none = np.full(images, "")
    drawn = drawn.assign(sample=np.concatenate([sample, none]), mapping=np.concatenate([mapping, none]))
    return drawn.sort_values("ra", ignore_index=True)


def assets(objects: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The mapping from objects to images: `objid`, `sample`, `asset_id` and whether the image is `on_disk`.

    The numbers of images grow with the object's number within each sample.
    """
    mapped = objects[objects["sample"] != ""]
    again = mapped[mapped.mapping == TWICE].assign(sample="stripe82")
    mapping = pd.concat([mapped, again])[["OBJID", "sample", "mapping"]].rename(columns={"OBJID": "objid"})
    mapping["order"] = mapping["sample"].map(list(SAMPLES).index)
    mapping = mapping.sort_values(["order", "objid"], ignore_index=True)
    numbers = np.random.default_rng([seed, 22]).choice(max(ASSETS, 2 * len(mapping)), len(mapping), replace=False)
    return mapping.assign(asset_id=np.sort(numbers) + 1, on_disk=mapping.mapping != NOT_ON_DISK)


def properties(objects: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Measurements by the survey: `OBJID`, `petroR90_r`, `petroMag_r`, `redshift`.

    Radii err by 4 percent, magnitudes by 0.03.
    """
    errors = np.random.default_rng([seed, 23]).standard_normal((2, len(objects)))
    return pd.DataFrame(
        {
            "OBJID": objects.OBJID,
            "petroR90_r": objects.r90 * np.exp(0.04 * errors[0]),
            "petroMag_r": objects.magnitude + 0.03 * errors[1],
            "redshift": objects.redshift,
        }
    )


def expected_buttons(galaxies: pd.DataFrame) -> NDArray[np.float64]:
    """Shares of the buttons that infinitely many volunteers would press, made of their `answers`.

    The shape is (N, 6), in the order of `BUTTONS`; each row sums to 1.
    """
    shares_of = answers(galaxies)
    edge_on, spiral = shares_of["edge"], shares_of["spiral"]
    _, features, artifact = shares_of["features"].T
    clear = visibility.signal(galaxies)
    merger = (galaxies.kind == "merger").to_numpy(float)
    touching = merger * rises((galaxies.separation / galaxies.r90).to_numpy(), 0.55, 0.12) * clear
    merging = 0.012 + 0.85 * touching + 0.10 * (galaxies.kind == "disturbed").to_numpy(float) * clear
    unknown = np.clip(
        0.02 + 0.8 * artifact + 0.10 * (galaxies.kind == "irregular").to_numpy(float) + 0.10 * (1 - clear), 0, 1
    )
    left = (1 - merging) * (1 - unknown)
    is_disk = (galaxies.inclination > 0).to_numpy(float)
    edge = features * edge_on[:, 0]
    arms = features * (1 - edge_on[:, 0]) * spiral[:, 0]
    # A disk without arms is a lens to some, and a spiral whose arms are unclear to others.
    edge = edge + (0.2 + 0.4 * is_disk) * features * (1 - edge_on[:, 0]) * (1 - spiral[:, 0])
    turning = rises(visibility.arms(galaxies), 0.20, 0.05)
    # Where the image has y downwards, an arm of positive pitch turns clockwise outwards: the shape of an S, which a
    # galaxy with trailing arms has if it turns anticlockwise (Land et al. 2008, MNRAS 388, 1686).
    ahead = np.where(galaxies.pitch > 0, WRONG_WAY, np.where(galaxies.pitch < 0, 1 - WRONG_WAY, 0.5))
    shares = (1 - edge - arms, arms * turning * ahead, arms * turning * (1 - ahead), edge + arms * (1 - turning))
    looking = np.stack([*(left * share for share in shares), unknown * (1 - merging), merging], axis=1)
    return (1 - CLICKERS) * looking / looking.sum(1, keepdims=True) + CLICKERS / len(BUTTONS)


def release(galaxies: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The columns `NVOTE` to `UNCERTAIN` of table 2 (Lintott et al. 2011, MNRAS 410, 166), one row a galaxy.

    The debiased fractions move votes from elliptical to spiral by as much as volunteers would who saw all clearly, give
    or take a scatter; their sum stays. Exactly one of the flags is 1; they follow the debiased fractions as loosely as
    those of the release do. Fractions have three decimals.
    """
    rng = np.random.default_rng([seed, 21])
    expected, clear = expected_buttons(galaxies), expected_buttons(seen_clearly(galaxies))
    crowd = np.clip(np.round(36 * rng.lognormal(0, 0.35, len(galaxies))), FEWEST, MOST).astype(np.int64)
    fractions = rng.multinomial(crowd, expected) / crowd[:, None]
    elliptical, spiral = fractions[:, 0], fractions[:, SPIRAL_BUTTONS].sum(1)
    # The release corrects by size and brightness, so that a small elliptical loses votes like a small spiral.
    small = rises((-galaxies.r90 / galaxies.seeing).to_numpy(), -3.6, 0.6)
    missed = 0.8 * np.maximum(_odds(clear) - _odds(expected), 0) * rng.lognormal(0, 0.25, len(galaxies)) + 1.0 * small
    both = elliptical + spiral
    gained = spiral * np.exp(missed)
    debiased = both * gained / np.maximum(gained + elliptical, 1e-9)
    is_spiral = rng.random(len(galaxies)) < np.interp(debiased, *SPIRAL_FLAG)
    is_elliptical = (rng.random(len(galaxies)) < np.interp(both - debiased, *ELLIPTICAL_FLAG)) & ~is_spiral
    columns = {
        "NVOTE": crowd,
        **dict(zip(BUTTONS, fractions.T.round(3), strict=True)),
        "P_CS": spiral.round(3),
        "P_EL_DEBIASED": (both - debiased).round(3),
        "P_CS_DEBIASED": debiased.round(3),
        "SPIRAL": is_spiral.astype(np.int64),
        "ELLIPTICAL": is_elliptical.astype(np.int64),
        "UNCERTAIN": (~is_spiral & ~is_elliptical).astype(np.int64),
    }
    return pd.DataFrame(columns, index=galaxies.index)


def _odds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the odds of spiral against elliptical."""
    return np.asarray(np.log(shares[:, SPIRAL_BUTTONS].sum(1) / shares[:, 0]))
