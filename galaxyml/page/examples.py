"""Galaxies and light curves of the simulated sky, for people without an image of their own."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.images.decoding import Decoding
from galaxyml.reports import references
from galaxyml.sky import survey as surveys
from galaxyml.sky.bands import write_cube
from galaxyml.sky.galaxy10 import members
from galaxyml.sky.images import IN_BANDS, SIDES
from galaxyml.sky.light_curves.population import member
from galaxyml.sky.plasticc import METADATA, metadata
from galaxyml.sky.population import population, rows
from galaxyml.sky.render import draw_image

FOLDER = "examples"  # beside a bundle
COUNT = 8
SEED = 7
RGB = Decoding()
REDSHIFT = 0.08  # of galaxies in five bands
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
CURVES = {"SNIa": 90, "RR Lyrae": 92, "AGN": 88, "kilonova": 64, "pair instability, unknown": 994}  # and their classes


@dataclass(frozen=True)
class Example:
    """A file that can be tried: its name, what it shows, and what is in it."""

    name: str
    caption: str
    content: bytes


def galaxies(task: str, decoding: Decoding = RGB) -> list[Example]:
    """Simulated galaxies as the surveys of a task show them (see `references.yaml`), JPEG; or cubes of five bands.

    Args:
        task: Its name.
        decoding: How a run decodes images; there are none for one that the simulated sky has no bands for.
    """
    if decoding.channels not in (1, 3):
        return _cubes() if decoding == Decoding(IN_BANDS.bands, decoding.stretch) else []
    seen_by = [getattr(surveys, name) for name in references.surveys(task)]
    drawn = _of_classes() if seen_by == [surveys.DECALS] else _of_kinds()
    pairs = product(islice(drawn, -(-COUNT // len(seen_by))), seen_by)
    examples = []
    for number, ((caption, galaxy), survey) in enumerate(pairs, start=1):
        image = draw_image(next(iter(rows(galaxy))), survey.cutout, SEED, survey)
        caption = f"{caption}, {survey.name}" if len(seen_by) > 1 else caption
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
        examples.append(Example(_file_name(number, caption, "jpg"), caption, file.getvalue()))
    return examples


def _cubes() -> list[Example]:
    """Simulated galaxies in five bands, FITS."""
    examples = []
    for number, (caption, galaxy) in enumerate(islice(_of_kinds(), COUNT), start=1):
        file = io.BytesIO()
        seen = galaxy.assign(pixel=IN_BANDS.pixel, redshift=REDSHIFT)
        write_cube(next(iter(rows(seen))), file, SEED, SIDES[IN_BANDS.bands], IN_BANDS)
        examples.append(Example(_file_name(number, caption, "fits"), caption, file.getvalue()))
    return examples


def light_curves() -> list[Example]:
    """Simulated light curves, CSV: an observation a row, with what else is known of the object beside it."""
    drawn = [member(target, np.random.default_rng([SEED, target])) for target in CURVES.values()]
    plan = pd.DataFrame({"object_id": range(1, len(CURVES) + 1), "true_target": CURVES.values(), "file": "test"})
    parameters = [
        {"ra": each.ra, "decl": each.decl, "ddf": int(each.deep), "mwebv": each.mwebv, **each.parameters}
        for each in drawn
    ]
    table = metadata(plan, pd.DataFrame(parameters), SEED)[list(METADATA)]
    examples = []
    for number, (caption, curve) in enumerate(zip(CURVES, (each.curve for each in drawn), strict=True), start=1):
        observed = {
            "object_id": number,
            "mjd": curve.mjd.round(4),
            "passband": curve.band,
            "flux": curve.flux.round(4),
            "flux_err": curve.flux_err.round(4),
            "detected": curve.detected.astype(int),
        }
        known = table.iloc[number - 1].round(4).drop("object_id")
        content = pd.DataFrame(observed | {str(name): value for name, value in known.items()}).to_csv(index=False)
        examples.append(Example(_file_name(number, caption, "csv"), caption, content.encode()))
    return examples


def read(folder: Path) -> list[Example]:
    """The examples that were written into a folder."""
    return [
        Example(path.name, path.stem.partition("_")[2].replace("_", " ") or path.stem, path.read_bytes())
        for path in sorted(folder.iterdir())
    ]


def _of_classes() -> Iterator[tuple[str, pd.DataFrame]]:
    for name in CLASSES:
        yield name.lower(), members(name, 1, SEED).assign(pixel=surveys.DECALS.pixel)


def _of_kinds() -> Iterator[tuple[str, pd.DataFrame]]:
    for number, (caption, (kind, condition)) in enumerate(KINDS.items()):
        yield caption, population(400, SEED + number, kind).query(f"({condition}) and {RESOLVED}").head(1)


def _file_name(number: int, caption: str, suffix: str) -> str:
    return f"{number}_{caption.replace(',', '').replace(' ', '_')}.{suffix}"
