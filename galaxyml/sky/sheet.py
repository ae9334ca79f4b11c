"""Galaxies of every kind, or light curves of every class, in one image: to see whether they look like that."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from galaxyml.runs.errors import UsageError
from galaxyml.runs.files import atomic_write
from galaxyml.sky.galaxy10 import CLASSES, members
from galaxyml.sky.light_curves.photometry import NAMES
from galaxyml.sky.light_curves.population import KINDS, Member, member
from galaxyml.sky.population import population
from galaxyml.sky.render import render
from galaxyml.sky.survey import DECALS, GZD, SDSS, UKIDSS, Survey, one_thing_changed

CROP = {"SDSS": 212, "DECaLS": 180}  # central pixels that are shown
TILE = 128
COLUMNS = 8
LABEL = 104
CURVES = 3  # of each class
COLORS = ("#6a3d9a", "#1f78b4", "#33a02c", "#e6a800", "#e31a1c", "#7f4a1e")  # of ugrizy
BEFORE, AFTER = 60.0, 200.0  # days shown around the peak of explosions
NOISY = 4.0  # times the median error of its band: not shown
# Row of the sheet: its kind, the condition for a galaxy to be in it, and the column that it is ordered by.
ROWS = {
    "smooth, round": ("smooth", "axis_ratio > 0.88", "r90"),
    "smooth,\nin between": ("smooth", "0.5 < axis_ratio < 0.75", "r90"),
    "smooth, cigar": ("smooth", "axis_ratio < 0.36", "r90"),
    "disk, by bulge": ("disk", "bar == 0 and inclination < 68", "bulge"),
    "barred": ("spiral", "bar > 0.14 and inclination < 52 and arms == 2 and contrast > 0.4", "pitch_angle"),
    "one arm": ("spiral", "arms == 1 and inclination < 55 and contrast > 0.6", "pitch_angle"),
    "two arms,\ntight to loose": (
        "spiral",
        "arms == 2 and inclination < 50 and contrast > 0.6 and bar == 0",
        "pitch_angle",
    ),
    "three arms": ("spiral", "arms == 3 and inclination < 50 and contrast > 0.6", "pitch_angle"),
    "four arms": ("spiral", "arms == 4 and inclination < 50 and contrast > 0.6", "pitch_angle"),
    "more arms": ("spiral", "arms > 4 and inclination < 50 and contrast > 0.6", "pitch_angle"),
    "edge-on,\nrounded bulge": ("edge-on", "bulge > 0.15 and boxiness == 2", "dust"),
    "edge-on,\nboxy bulge": ("edge-on", "boxiness > 2", "dust"),
    "edge-on,\nno bulge": ("edge-on", "bulge == 0", "dust"),
    "ring": ("ring", "inclination < 60", "r90"),
    "merger": ("merger", "companion > 0", "tails"),
    "disturbed": ("disturbed", "inclination < 60", "shells"),
    "irregular": ("irregular", "r90 > 0", "r90"),
    "dust lane": ("dust lane", "r90 > 0", "dust"),
    "lensed arc": ("lensed arc", "r90 > 0", "arc_angle"),
    "star, trail,\nbad frame": ("artifact", "r90 > 0", "blemish"),
}


def contact_sheet(path: Path, seed: int = 0, survey: str = "sdss") -> None:
    """Writes an image with rows of galaxies, resolved well enough to tell what they are.

    Args:
        path: Ends in .jpg or .png.
        seed: Of the galaxies.
        survey: `sdss` for a row of each kind; `decals` for a row of each class of Galaxy10, as DECaLS sees them;
            `surveys` for the same galaxies in each row, seen by a survey, or by SDSS with one thing of UKIDSS's.

    Raises:
        UserError: If the file is to be of another format.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise UsageError(f"A contact sheet is a .jpg or a .png, not '{path.name}'.")
    shown = SHEETS[survey](seed)
    sheet = Image.new("RGB", (LABEL + COLUMNS * TILE, len(shown) * TILE), (16, 16, 20))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (label, (galaxies, camera)) in enumerate(shown.items()):
        pen.multiline_text((6, row * TILE + TILE // 2), label, (225, 225, 225), font, anchor="lm")
        side = CROP.get(camera.name, camera.cutout // 2)
        for column, pixels in enumerate(render(galaxies, camera.cutout, seed, camera).numpy()):
            edge = (pixels.shape[0] - side) // 2
            tile = Image.fromarray(pixels[edge : edge + side, edge : edge + side]).resize(
                (TILE, TILE), Image.Resampling.LANCZOS
            )
            sheet.paste(tile, (LABEL + column * TILE, row * TILE))
    with atomic_write(path) as draft:
        sheet.save(draft, quality=88)


Rows = dict[str, tuple[pd.DataFrame, Survey]]


def _by_kind(seed: int) -> Rows:
    """Of each kind the first galaxies that meet its condition and are not small, in order."""
    shown = {}
    for row, (label, (kind, condition, order)) in enumerate(ROWS.items()):
        drawn = population(600, seed + row, kind).assign(pitch_angle=lambda table: np.abs(table.pitch))
        fitting = drawn.query(f"({condition}) and 8 < r90 < 22").head(COLUMNS)
        shown[label] = fitting.sort_values(order, kind="stable"), SDSS
    return shown


def _by_class(seed: int) -> Rows:
    return {name.replace(" ", "\n", 1): (members(name, COLUMNS, seed), DECALS) for name in CLASSES}


def _by_survey(seed: int) -> Rows:
    kinds = ("smooth", "disk", "spiral", "spiral", "edge-on", "ring", "merger", "irregular")
    fitting = "8 < r90 < 22 and inclination < 60"
    galaxies = pd.concat(
        population(600, seed + number, kind).query(fitting if kind != "edge-on" else "8 < r90 < 22").head(1)
        for number, kind in enumerate(kinds)
    )
    changed = {
        f"SDSS with\nUKIDSS's {name.replace('psf', 'PSF')}": survey
        for name, survey in one_thing_changed(SDSS, UKIDSS).items()
    }
    cameras = {"SDSS": SDSS, "DECaLS": GZD, "UKIDSS": UKIDSS, **changed}
    return {label: (galaxies, camera) for label, camera in cameras.items()}


SHEETS = {"sdss": _by_kind, "decals": _by_class, "surveys": _by_survey}


def light_curve_sheet(seed: int = 0) -> Figure:
    """Draws a row for each class: three light curves with error bars, a color a band.

    Explosions are shown around their peaks, all others through the whole survey.
    """
    figure = Figure(figsize=(5 * CURVES, 1.7 * len(KINDS)), layout="constrained")
    for number, axes in zip(KINDS, figure.subplots(len(KINDS), CURVES), strict=True):
        for column, axis in enumerate(axes):
            _draw_curve(axis, number, member(number, np.random.default_rng([seed, number, column])))
    figure.axes[0].legend(fontsize=6, ncols=6, loc="upper right")
    return figure


def _draw_curve(axis: Axes, number: int, shown: Member) -> None:
    curve, p = shown.curve, shown.parameters
    near = np.ones(len(curve.mjd), dtype=bool)
    if KINDS[number].redshift is not None and "peak" in p:
        phase = (curve.mjd - p["peak"]) / (1 + p["redshift"])
        near = (phase > -BEFORE) & (phase < AFTER)
    for band, (name, color) in enumerate(zip(NAMES, COLORS, strict=True)):
        own = near & (curve.band == band)
        if not own.any():
            continue
        own &= curve.flux_err < NOISY * np.median(curve.flux_err[own])
        axis.errorbar(
            curve.mjd[own], curve.flux[own], curve.flux_err[own], fmt="o", ms=2, lw=0.6, color=color, label=name
        )
    field = "deep" if shown.deep else "wide"
    axis.set_title(f"{number} {KINDS[number].name}, z = {p['redshift']:.3f}, {field}", fontsize=7, pad=2)
    axis.axhline(0, color="0.7", lw=0.5)
    axis.tick_params(labelsize=6)
