"""Writes simulated galaxies in the files of Galaxy Zoo 1's catalogue and Galaxy Zoo 2's images."""

from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.runs.files import atomic_write
from galaxyml.sky.galaxyzoo1 import release
from galaxyml.sky.population import farther, population
from galaxyml.sky.positions import degrees, hours, object_ids, place
from galaxyml.sky.survey import SDSS
from galaxyml.sky.writers import allot, check, draw_to_files

TABLE, MAPPING = "GalaxyZoo1_DR_table2.csv", "gz2_filename_mapping.csv"
SOUTH, NORTH = -11.0, 68.0  # declinations of SDSS, degrees
SAMPLES = {"original": 0.86, "extra": 0.09, "stripe82": 0.05}
ASSETS = 355_990  # the numbers of Galaxy Zoo 2's images; here more where they do not suffice
FEW = 0.01  # share of the images' objects with two images, with none on disk, or not in the table
FARTHER = 1.8  # distance of the table's objects without an image over that of the others
# What kind of row of the mapping an object has beyond the usual.
USUAL, TWICE, NOT_ON_DISK, NOT_IN_TABLE = "", "two pictures", "picture missing", "not in the table"


def write_spirals(folder: Path, count: int, seed: int, size: int = SDSS.cutout) -> None:
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
    with atomic_write(folder) as draft:
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
