"""Which galaxies there are: kinds, sizes, brightness, colours and the anatomy of each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.sky import anatomy
from galaxyml.sky.random_columns import Column, RandomColumns
from galaxyml.sky.survey import SDSS

# A row of a population, its columns as attributes.
Galaxy = Any

# Share of each kind: about that of Galaxy Zoo 2 (Willett et al. 2013), the odd ones more frequent.
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

# Columns in arcsec that belong to the galaxy, not to the telescope.
LENGTHS = ("r90", "pixel", "scale", "bulge_radius", "bar_length", "ring_radius", "separation", "arc_radius")


def population(n: int, seed: int, kind: str | None = None) -> pd.DataFrame:
    """Draws galaxies.

    The first m rows of `population(n, seed)` are `population(m, seed)`. Parameters that a kind does not have are 0.
    Columns: `kind`; `texture` (seed of what is random in its image); `r90` (radius of 90 percent of the light,
    arcsec); `pixel` (of its cutout in SDSS, arcsec); `magnitude` (r); `color`
    and `young_color` (g - r of old and young stars); `angle` (degrees); `axis_ratio`; `sersic`; `inclination`
    (degrees); `thickness`; `scale` (of the disk, arcsec); `bulge` (share of the light), `bulge_radius` (arcsec),
    `bulge_ratio`, `boxiness` (exponent, 2 is round); `bar` (share), `bar_length` (arcsec), `bar_angle` (degrees in
    the disk); `arms`, `pitch` (degrees, signed), `contrast` (share of the disk's light in arms), `sharpness`,
    `patchiness`, `knots` (number); `lopsided`; `ring` (share), `ring_radius` (arcsec); `dust` (optical depth);
    `companion` (share), `separation` (arcsec), `separation_angle` (degrees); `tails` (number), `tail_light`
    (brightness over the body's); `shells`; `arc` (share), `arc_radius` (arcsec), `arc_angle` (degrees of half its
    extent); `blemish` (star, trail or bad frame); `crowding`; `seeing` (arcsec); `shift_g_x` to `shift_i_y`
    (registration against r, arcsec); `depth` (noise of the sky over the usual).

    Args:
        n: Number of galaxies.
        seed: Of all of it.
        kind: Draws galaxies of this kind alone.

    Raises:
        UserError: If there is no such kind.
    """
    if kind is not None and kind not in MIX:
        raise UserError(f"No kind of galaxy '{kind}'. {did_you_mean(kind, MIX)}")
    draws = RandomColumns(n, seed)
    drawn = np.array(list(MIX))[draws.choice(list(MIX.values()))]
    kinds = drawn if kind is None else np.full(n, kind)
    table: dict[str, Column] = {"kind": kinds, "texture": draws.whole(2**31 - 1)}
    _appearance(table, draws)
    anatomy.shape_spheroids(table, draws)
    anatomy.shape_disks(table, draws)
    anatomy.shape_encounters(table, draws)
    _observation(table, draws)
    return pd.DataFrame(table)


def farther(galaxies: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The same galaxies at `factor` times the distance: smaller and fainter, and as bright a square arcsec."""
    changed = {name: galaxies[name] / factor for name in LENGTHS}
    return galaxies.assign(**changed, magnitude=galaxies.magnitude + 5 * np.log10(factor))


def rows(galaxies: pd.DataFrame) -> Iterator[Galaxy]:
    """The galaxies of a table, one by one, columns as attributes."""
    return galaxies.itertuples(index=False, name="Galaxy")


def _appearance(table: dict[str, Column], draws: RandomColumns) -> None:
    size, size_scatter, bright, bright_scatter, old, young = (
        np.array([LOOKS[kind] for kind in table["kind"]]).reshape(-1, 6).T
    )
    r90 = np.clip(size * np.exp(size_scatter * draws.normal()), 3.2, 40)
    # Larger galaxies of a sample limited in brightness are fainter a square arcsec.
    within = bright - 0.35 + bright_scatter * draws.normal() + 0.8 * np.log10(r90 / 8)
    redder = 0.07 * draws.normal()
    table["r90"], table["pixel"] = r90, SDSS.pixel_per_r90 * r90
    table["magnitude"] = within - 2.5 * np.log10(np.pi * r90**2 / 0.9)
    table["color"] = old + redder
    table["young_color"] = np.clip(young + redder + 0.09 * draws.normal(), 0.05, 1.2)
    table["angle"] = draws.uniform(0, 180)


def _observation(table: dict[str, Column], draws: RandomColumns) -> None:
    table["crowding"] = draws.lognormal(1.0, 0.5)
    table["seeing"] = np.clip(draws.lognormal(1.25, 0.11), 0.95, 1.8)
    for band in "gi":
        for axis in "xy":
            table[f"shift_{band}_{axis}"] = draws.normal(0, 0.10)
    table["depth"] = draws.lognormal(1.0, 0.12)
