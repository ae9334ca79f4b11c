"""Which galaxies there are: kinds, sizes, brightness, colours and the anatomy of each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.errors import UserError, near
from galaxyml.sky.dice import Column, Dice
from galaxyml.sky.survey import PIXEL_PER_R90

# A row of a population, its columns as attributes.
Galaxy = Any

# Share of each kind: about that of Galaxy Zoo 2 (Willett et al. 2013, table 4), the odd ones more frequent.
MIX = {
    "smooth": 0.335,
    "disk": 0.13,
    "spiral": 0.275,
    "edge-on": 0.12,
    "ring": 0.022,
    "merger": 0.035,
    "disturbed": 0.025,
    "irregular": 0.025,
    "dust lane": 0.010,
    "lensed arc": 0.008,
    "artifact": 0.015,
}
# Median and scatter (in ln) of R90 in arcsec; mean and scatter of the brightness within it, mag a square arcsec in r;
# median g - r of the old and of the young stars.
LOOKS: dict[str, tuple[float, float, float, float, float, float]] = {
    "smooth": (6.8, 0.42, 21.45, 0.42, 0.91, 0.80),
    "disk": (7.2, 0.40, 21.75, 0.40, 0.88, 0.54),
    "spiral": (8.8, 0.45, 21.95, 0.38, 0.84, 0.34),
    "edge-on": (8.5, 0.42, 22.15, 0.42, 0.88, 0.46),
    "ring": (8.5, 0.35, 21.85, 0.35, 0.86, 0.32),
    "merger": (7.8, 0.38, 21.70, 0.40, 0.80, 0.48),
    "disturbed": (8.5, 0.38, 21.75, 0.40, 0.80, 0.42),
    "irregular": (9.0, 0.40, 22.35, 0.40, 0.40, 0.20),
    "dust lane": (9.0, 0.40, 21.30, 0.35, 0.90, 0.75),
    "lensed arc": (7.0, 0.20, 21.60, 0.30, 1.10, 0.15),
    "artifact": (6.5, 0.40, 21.90, 0.60, 0.80, 0.60),
}
DISKS = ("disk", "spiral", "edge-on", "ring", "disturbed")
BULGES = (0.0, 0.09, 0.24, 0.50)  # share of light: no bulge, just noticeable, obvious, dominant


def population(n: int, seed: int, kind: str | None = None) -> pd.DataFrame:
    """Draws galaxies.

    The first m rows of `population(n, seed)` are `population(m, seed)`. Parameters that a kind does not have are 0.
    Columns: `kind`; `texture` (seed of what is random in its picture); `r90` (radius of 90 percent of the light, arcsec);
    `pixel` (of its cutout, arcsec: Galaxy Zoo 2 scales every cutout to the galaxy); `magnitude` (r); `color` and
    `young_color` (g - r of old and young stars); `angle` (degrees); `axis_ratio`; `sersic`; `inclination` (degrees);
    `thickness`; `scale` (of the disk, arcsec); `bulge` (share of the light), `bulge_radius` (arcsec), `bulge_ratio`,
    `boxiness` (exponent, 2 is round); `bar` (share), `bar_length` (arcsec), `bar_angle` (degrees in the disk); `arms`,
    `pitch` (degrees, signed), `contrast` (share of the disk's light in arms), `sharpness`, `patchiness`, `knots` (number);
    `lopsided`; `ring` (share), `ring_radius` (arcsec); `dust` (optical depth); `companion` (share),
    `separation` (arcsec), `separation_angle` (degrees); `tails` (number), `tail_light` (brightness over the body's);
    `shells`; `arc` (share), `arc_radius` (arcsec), `arc_angle` (degrees of half its extent); `blemish` (star, trail or
    bad frame); `crowding`; `seeing` (arcsec); `shift_g_x` to `shift_i_y` (registration against r, arcsec);
    `depth` (noise of the sky over the usual).

    Args:
        n: Number of galaxies.
        seed: Of all of it.
        kind: Draws galaxies of this kind alone.

    Raises:
        UserError: If there is no such kind.
    """
    if kind is not None and kind not in MIX:
        raise UserError(f"No kind of galaxy '{kind}'. {near(kind, MIX)}")
    dice = Dice(n, seed)
    drawn = np.array(list(MIX))[dice.choice(list(MIX.values()))]
    kinds = drawn if kind is None else np.full(n, kind)
    table: dict[str, Column] = {"kind": kinds, "texture": dice.whole(2**31 - 1)}
    _appearance(table, dice)
    _spheroid(table, dice)
    _disk(table, dice)
    _encounter(table, dice)
    _observation(table, dice)
    return pd.DataFrame(table)


def rows(galaxies: pd.DataFrame) -> Iterator[Galaxy]:
    """The galaxies of a table, one by one, columns as attributes."""
    return galaxies.itertuples(index=False, name="Galaxy")


def _is(table: dict[str, Column], *kinds: str) -> np.ndarray:
    return np.isin(table["kind"], kinds)


def _appearance(table: dict[str, Column], dice: Dice) -> None:
    size, size_scatter, bright, bright_scatter, old, young = (
        np.array([LOOKS[kind] for kind in table["kind"]]).reshape(-1, 6).T
    )
    r90 = np.clip(size * np.exp(size_scatter * dice.normal()), 3.2, 40)
    # Larger galaxies of a sample limited in brightness are fainter a square arcsec.
    within = bright - 0.15 + bright_scatter * dice.normal() + 0.8 * np.log10(r90 / 8)
    redder = 0.07 * dice.normal()
    table["r90"], table["pixel"] = r90, PIXEL_PER_R90 * r90
    table["magnitude"] = within - 2.5 * np.log10(np.pi * r90**2 / 0.9)
    table["color"] = old + redder
    table["young_color"] = np.clip(young + redder + 0.09 * dice.normal(), 0.05, 1.2)
    table["angle"] = dice.uniform(0, 180)


def _spheroid(table: dict[str, Column], dice: Dice) -> None:
    # Ellipticals from round to E7; the cigars of Galaxy Zoo are mostly lenticulars seen from their side.
    flat = dice.choice([0.38, 0.41, 0.21])
    ratio = np.choose(flat, [dice.uniform(0.82, 1.0), dice.uniform(0.5, 0.85), dice.uniform(0.22, 0.5)])
    own = _is(table, "smooth", "dust lane", "lensed arc", "artifact", "merger", "irregular", "disturbed")
    table["axis_ratio"] = np.where(own, ratio, 0.0)
    table["axis_ratio"] = np.where(
        _is(table, "irregular", "dust lane", "merger"), np.clip(ratio, 0.5, 0.95), table["axis_ratio"]
    )
    index = np.clip(dice.lognormal(2.6, 0.35), 0.8, 6.0)
    table["sersic"] = np.where(own, np.where(ratio < 0.5, np.clip(index, 1.0, 3.0), index), 0.0)


def _disk(table: dict[str, Column], dice: Dice) -> None:
    disk, spiral, edge, ring = (
        _is(table, *DISKS),
        _is(table, "spiral", "disturbed"),
        _is(table, "edge-on"),
        _is(table, "ring"),
    )
    # Random directions: the cosine is uniform; edge-on is what is beyond about 80 degrees.
    inclined = np.degrees(np.arccos(dice.uniform(np.where(ring | spiral, 0.38, 0.28), 1.0)))
    table["inclination"] = np.where(disk, np.where(edge, 90 - np.abs(dice.normal(0, 3.0)), inclined), 0.0)
    table["thickness"] = np.where(disk, np.clip(dice.lognormal(np.where(edge, 0.13, 0.2), 0.22), 0.07, 0.32), 0.0)
    table["scale"] = np.where(
        disk,
        table["r90"]
        / np.clip(dice.normal(3.1, 0.2), 2.7, 3.6)
        * (1.2 - 0.2 * np.cos(np.radians(table["inclination"]))),
        0.0,
    )

    size = np.where(_is(table, "disk"), dice.choice([0.06, 0.24, 0.42, 0.28]), dice.choice([0.10, 0.42, 0.38, 0.10]))
    shape = dice.choice([0.55, 0.15, 0.30])  # of an edge-on disk's bulge: rounded, boxy, none
    size = np.where(edge, np.where(shape == 2, 0, np.maximum(size, 2)), np.where(ring, 2, size))
    share = np.array(BULGES)[size] * np.exp(0.18 * dice.normal())
    table["bulge"] = np.where(disk, share, 0.0)
    table["bulge_radius"] = np.where(
        disk, table["scale"] * np.clip(0.22 + 0.75 * share, 0.2, 0.6) * dice.lognormal(1.0, 0.15), 0.0
    )
    table["bulge_ratio"] = np.where(disk, dice.uniform(0.65, 0.9), 0.0)
    table["boxiness"] = np.where(disk, np.where(edge & (shape == 1), dice.uniform(3.6, 5.0), 2.0), 0.0)

    barred = (
        (spiral & (dice.uniform() < 0.36))
        | (_is(table, "disk") & (dice.uniform() < 0.24))
        | (ring & (dice.uniform() < 0.3))
    )
    table["bar"] = np.where(barred, dice.uniform(0.10, 0.28), 0.0)
    table["bar_length"] = np.where(barred, table["r90"] * dice.uniform(0.26, 0.48), 0.0)
    table["bar_angle"] = np.where(barred, dice.uniform(0, 180), 0.0)

    arms = np.choose(dice.choice([0.05, 0.56, 0.15, 0.08, 0.16]), [1, 2, 3, 4, 5 + dice.whole(3)])
    table["arms"] = np.where(spiral, arms, 0)
    pitch = np.clip(
        np.choose(dice.choice([0.38, 0.38, 0.24]), [dice.normal(10, 1.8), dice.normal(18, 3), dice.normal(31, 5)]),
        6.5,
        45,
    )
    # Many arms are never wound so tightly that they could be told apart only by a computer.
    pitch = np.maximum(pitch, np.where(arms > 2, 8 + 1.5 * arms, 0))
    table["pitch"] = np.where(spiral, pitch * np.where(dice.uniform() < 0.5, 1, -1), 0.0)
    table["contrast"] = np.where(spiral, np.clip(dice.normal(0.62, 0.17), 0.2, 0.95), 0.0)
    table["sharpness"] = np.where(spiral, dice.lognormal(2.2, 0.35) * np.where(arms > 2, 0.8, 1.0), 0.0)
    table["patchiness"] = np.where(spiral, np.where(arms > 4, dice.uniform(0.5, 0.9), dice.uniform(0.1, 0.55)), 0.0)
    table["knots"] = np.where(spiral | ring | _is(table, "irregular"), np.round(dice.lognormal(26, 0.6)), 0)
    table["lopsided"] = np.where(spiral, np.abs(dice.normal(0, 0.10)), 0.0)
    table["lopsided"] += np.where(_is(table, "disturbed"), dice.uniform(0.25, 0.55), 0.0)
    table["ring"] = np.where(ring, dice.uniform(0.45, 0.75), 0.0)
    table["ring_radius"] = np.where(ring, table["r90"] * dice.uniform(0.55, 0.8), 0.0)
    dusty = np.where(edge, np.where(dice.uniform() < 0.55, dice.uniform(0.8, 3.0), 0.0), 0.0)
    table["dust"] = np.where(_is(table, "dust lane"), dice.uniform(0.8, 2.2), dusty)


def _encounter(table: dict[str, Column], dice: Dice) -> None:
    merger, disturbed, lens = _is(table, "merger"), _is(table, "disturbed"), _is(table, "lensed arc")
    table["companion"] = np.where(merger, dice.uniform(0.22, 0.5), 0.0)
    table["separation"] = np.where(merger, table["r90"] * dice.uniform(0.45, 1.25), 0.0)
    table["separation_angle"] = np.where(merger, dice.uniform(0, 360), 0.0)
    table["tails"] = np.where(
        merger, dice.choice([0.35, 0.3, 0.35]), np.where(disturbed, 1 + dice.choice([0.6, 0.4]), 0)
    )
    table["tail_light"] = np.where(table["tails"] > 0, dice.uniform(0.35, 0.9), 0.0)
    table["shells"] = np.where(disturbed, dice.choice([0.5, 0.2, 0.3]), 0)
    table["arc"] = np.where(lens, dice.uniform(0.05, 0.12), 0.0)
    table["arc_radius"] = np.where(lens, table["r90"] * dice.uniform(0.55, 0.85), 0.0)
    table["arc_angle"] = np.where(lens, dice.uniform(30, 75), 0.0)
    blemish = np.array(["star", "trail", "bad frame"])[dice.choice([0.5, 0.2, 0.3])]
    table["blemish"] = np.where(_is(table, "artifact"), blemish, "")


def _observation(table: dict[str, Column], dice: Dice) -> None:
    table["crowding"] = dice.lognormal(1.0, 0.5)
    table["seeing"] = np.clip(dice.lognormal(1.25, 0.11), 0.95, 1.8)
    for band in "gi":
        for axis in "xy":
            table[f"shift_{band}_{axis}"] = dice.normal(0, 0.10)
    table["depth"] = dice.lognormal(1.0, 0.12)
