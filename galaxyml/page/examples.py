"""Galaxies and light curves of the simulated sky, for people without a picture of their own."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.sky.galaxy10 import members
from galaxyml.sky.light_curves.population import member
from galaxyml.sky.plasticc import METADATA, metadata
from galaxyml.sky.population import population, rows
from galaxyml.sky.render import draw_image
from galaxyml.sky.survey import DECALS, GZD, SDSS, UKIDSS, Survey

FOLDER = "examples"  # beside a bundle
COUNT = 8
SEED = 7
# What is shown, by its caption: a kind of galaxy, and a condition on its parameters.
KINDS = {
    "spiral": ("spiral", "arms == 2 and inclination < 40 and contrast > 0.6 and bar == 0"),
    "edge-on disk": ("edge-on", "bulge > 0.15"),
    "smooth, round": ("smooth", "axis_ratio > 0.9"),
    "barred spiral": ("spiral", "bar > 0.14 and inclination < 45 and contrast > 0.5"),
    "smooth, cigar": ("smooth", "axis_ratio < 0.36"),
    "ring": ("ring", "inclination < 50"),
    "merger": ("merger", "companion > 0.3"),
    "star or artifact": ("artifact", "r90 > 0"),
}
RESOLVED = "8 < r90 < 20"
CLASSES = (
    "Barred Spiral",
    "Unbarred Tight Spiral",
    "Unbarred Loose Spiral",
    "Round Smooth",
    "Cigar Shaped Smooth",
    "Edge-on with Bulge",
    "Merging",
    "Disturbed",
)
# The surveys that the pictures of a task come from; those of others are SDSS's.
SURVEYS: dict[str, tuple[Survey, ...]] = {"galaxy10": (DECALS,), "surveys": (SDSS, GZD, UKIDSS)}
CURVES = {"SNIa": 90, "RR Lyrae": 92, "AGN": 88, "kilonova": 64, "pair instability, unknown": 994}  # and their classes


@dataclass(frozen=True)
class Example:
    """Something that can be tried.

    Attributes:
        name: Of its file.
        caption: What it is.
        content: The file.
    """

    name: str
    caption: str
    content: bytes


def galaxies(task: str) -> list[Example]:
    """Simulated galaxies as the surveys of a task show them, JPEG."""
    surveys = SURVEYS.get(task, (SDSS,))
    chosen = islice(_of_classes() if surveys == (DECALS,) else _of_kinds(), -(-COUNT // len(surveys)))
    found = []
    for number, ((caption, galaxy), survey) in enumerate(product(chosen, surveys), start=1):
        image = draw_image(next(iter(rows(galaxy))), survey.cutout, SEED, survey)
        told = f"{caption}, {survey.name}" if len(surveys) > 1 else caption
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
        found.append(Example(_file_name(number, told, "jpg"), told, file.getvalue()))
    return found


def light_curves() -> list[Example]:
    """Simulated light curves, CSV: an observation a row, with what else is known of the object beside it."""
    drawn = [member(target, np.random.default_rng([SEED, target])) for target in CURVES.values()]
    plan = pd.DataFrame({"object_id": range(1, len(CURVES) + 1), "true_target": CURVES.values(), "file": "test"})
    places = [
        {"ra": one.ra, "decl": one.decl, "ddf": int(one.deep), "mwebv": one.mwebv, **one.parameters} for one in drawn
    ]
    known = metadata(plan, pd.DataFrame(places), SEED)[list(METADATA)]
    found = []
    for number, (caption, one) in enumerate(zip(CURVES, drawn, strict=True)):
        curve = one.curve
        table = pd.DataFrame(
            {
                "mjd": curve.mjd.round(4),
                "passband": curve.band,
                "flux": curve.flux.round(4),
                "flux_err": curve.flux_err.round(4),
                "detected": curve.detected.astype(int),
            }
        ).assign(**{str(name): value for name, value in known.iloc[number].round(4).items()})
        table["object_id"] = number + 1
        content = table[["object_id", *(name for name in table if name != "object_id")]].to_csv(index=False)
        found.append(Example(_file_name(number + 1, caption, "csv"), caption, content.encode()))
    return found


def read(folder: Path) -> list[Example]:
    """The examples that were written into a folder."""
    found = []
    for path in sorted(folder.iterdir()):
        caption = path.stem.partition("_")[2].replace("_", " ")
        found.append(Example(path.name, caption or path.stem, path.read_bytes()))
    return found


def _of_classes() -> Iterator[tuple[str, pd.DataFrame]]:
    for name in CLASSES:
        yield name.lower(), members(name, 1, SEED).assign(pixel=DECALS.pixel)


def _of_kinds() -> Iterator[tuple[str, pd.DataFrame]]:
    for number, (caption, (kind, condition)) in enumerate(KINDS.items()):
        yield caption, population(400, SEED + number, kind).query(f"({condition}) and {RESOLVED}").head(1)


def _file_name(number: int, caption: str, suffix: str) -> str:
    return f"{number}_{caption.replace(',', '').replace(' ', '_')}.{suffix}"
