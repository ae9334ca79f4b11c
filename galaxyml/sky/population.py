"""Populations of galaxies: kinds, sizes, brightness, colours and the anatomy of each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.sky.survey import SDSS

Column = NDArray[Any]
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
DISKS = ("disk", "spiral", "edge-on", "ring", "disturbed")
BULGES = (0.0, 0.09, 0.24, 0.50)  # share of light: no bulge, just noticeable, obvious, dominant


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
    _shape_spheroids(table, draws)
    _shape_disks(table, draws)
    _shape_encounters(table, draws)
    _observation(table, draws)
    return pd.DataFrame(table)


def farther(galaxies: pd.DataFrame, factor: float | Column) -> pd.DataFrame:
    """The same galaxies at `factor` times the distance: smaller and fainter, and as bright a square arcsec."""
    changed = {name: galaxies[name] / factor for name in LENGTHS}
    return galaxies.assign(**changed, magnitude=galaxies.magnitude + 5 * np.log10(factor))


def rows(galaxies: pd.DataFrame) -> Iterator[Galaxy]:
    """The galaxies of a table, one by one, columns as attributes."""
    return galaxies.itertuples(index=False, name="Galaxy")


class RandomColumns:
    """Columns of n random numbers, one number a galaxy, each column from a stream of its own.

    The first m numbers of a column do not depend on n; the k-th call of any method has the k-th stream of the seed.
    """

    def __init__(self, n: int, seed: int | Sequence[int]) -> None:
        self.n = n
        self._source = np.random.SeedSequence(seed)

    def uniform(self, low: float | Column = 0.0, high: float | Column = 1.0) -> Column:
        """Evenly distributed in [low, high)."""
        numbers = np.random.default_rng(self._source.spawn(1)[0]).random(self.n)
        return np.asarray(low + (np.asarray(high) - low) * numbers)

    def normal(self, mean: float | Column = 0.0, spread: float | Column = 1.0) -> Column:
        """Normally distributed, by the inverse of the cumulative distribution, cut at 3.5 standard deviations."""
        return np.asarray(mean + spread * np.clip(ndtri(self.uniform()), -3.5, 3.5))

    def lognormal(self, median: float | Column, spread: float) -> Column:
        """Positive, with normally distributed natural logarithm of standard deviation `spread`."""
        return np.asarray(median * np.exp(self.normal(0.0, spread)))

    def choice(self, probabilities: list[float]) -> NDArray[np.int64]:
        """Indices drawn with the given probabilities, which need not sum to 1."""
        edges = np.cumsum(probabilities) / np.sum(probabilities)
        return np.minimum(np.searchsorted(edges, self.uniform(), side="right"), len(probabilities) - 1)

    def whole(self, high: int) -> NDArray[np.int64]:
        """Whole numbers in [0, high)."""
        return (self.uniform() * high).astype(np.int64)


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


def _is_kind(table: dict[str, Column], *kinds: str) -> NDArray[np.bool_]:
    """Whether each galaxy is of one of the kinds, shape (N,)."""
    return np.isin(table["kind"], kinds)


def _shape_spheroids(table: dict[str, Column], draws: RandomColumns) -> None:
    """Adds the columns of ellipticals: `axis_ratio`, `sersic`."""
    # From round to E7; the cigars of Galaxy Zoo are mostly lenticulars seen from their side.
    flat = draws.choice([0.38, 0.41, 0.21])
    ratio = np.choose(flat, [draws.uniform(0.82, 1.0), draws.uniform(0.5, 0.85), draws.uniform(0.22, 0.5)])
    index = np.clip(draws.lognormal(2.6, 0.35), 0.8, 6.0)
    index = np.where(ratio < 0.5, np.clip(index, 1.0, 3.0), index)
    thick = _is_kind(table, "irregular", "dust lane", "merger")
    own = thick | _is_kind(table, "smooth", "lensed arc", "artifact")
    table["axis_ratio"] = np.where(own, np.where(thick, np.clip(ratio, 0.5, 0.95), ratio), 0.0)
    table["sersic"] = np.where(own & ~_is_kind(table, "irregular"), index, 0.0)
    table["sersic"] = np.where(_is_kind(table, "merger"), np.clip(index, 1.2, 2.8), table["sersic"])


def _shape_disks(table: dict[str, Column], draws: RandomColumns) -> None:
    """Adds the columns of disks, from `inclination` to `dust`."""
    disk, edge, ring = _is_kind(table, *DISKS), _is_kind(table, "edge-on"), _is_kind(table, "ring")
    spiral, plain = _is_kind(table, "spiral", "disturbed"), _is_kind(table, "disk")
    # Random directions: the cosine is uniform; edge-on is what is beyond about 80 degrees.
    inclined = np.degrees(np.arccos(draws.uniform(np.where(ring | spiral, 0.38, 0.28), 1.0)))
    table["inclination"] = np.where(disk, np.where(edge, 90 - np.abs(draws.normal(0, 3.0)), inclined), 0.0)
    table["thickness"] = np.where(disk, np.clip(draws.lognormal(np.where(edge, 0.16, 0.2), 0.22), 0.07, 0.32), 0.0)

    size = np.where(plain, draws.choice([0.06, 0.24, 0.42, 0.28]), draws.choice([0.10, 0.42, 0.38, 0.10]))
    shape = draws.choice([0.55, 0.15, 0.30])  # of an edge-on disk's bulge: rounded, boxy, none
    size = np.where(edge, np.where(shape == 2, 0, np.maximum(size, 2)), np.where(ring, 2, size))
    share = np.array(BULGES)[size] * np.exp(0.18 * draws.normal()) * np.where(edge, 1.25, 1.0)
    table["bulge"] = np.where(disk, share, 0.0)
    table["scale"] = np.where(disk, _scale_length(table), 0.0)
    reach = np.clip(0.22 + 0.75 * share, 0.2, 0.6) * draws.lognormal(1.0, 0.15)
    table["bulge_radius"] = np.where(disk, table["scale"] * reach, 0.0)
    table["bulge_ratio"] = np.where(disk, draws.uniform(0.65, 0.9), 0.0)
    table["boxiness"] = np.where(disk, np.where(edge & (shape == 1), draws.uniform(3.6, 5.0), 2.0), 0.0)

    barred = draws.uniform() < np.select([spiral, plain, ring], [0.36, 0.24, 0.30], 0.0)
    table["bar"] = np.where(barred, draws.uniform(0.10, 0.28), 0.0)
    table["bar_length"] = np.where(barred, table["r90"] * draws.uniform(0.26, 0.48), 0.0)
    table["bar_angle"] = np.where(barred, draws.uniform(0, 180), 0.0)

    arms = np.choose(draws.choice([0.05, 0.56, 0.15, 0.08, 0.16]), [1, 2, 3, 4, 5 + draws.whole(3)])
    table["arms"] = np.where(spiral, arms, 0)
    wound = draws.choice([0.38, 0.38, 0.24])  # tight, medium, loose
    pitch = np.clip(np.choose(wound, [draws.normal(10, 1.8), draws.normal(18, 3), draws.normal(31, 5)]), 6.5, 45)
    # Many arms are never wound so tightly that they could be told apart only by a computer.
    pitch = np.maximum(pitch, np.where(arms > 2, 8 + 1.5 * arms, 0))
    table["pitch"] = np.where(spiral, pitch * np.where(draws.uniform() < 0.5, 1, -1), 0.0)
    table["contrast"] = np.where(spiral, np.clip(draws.normal(0.62, 0.17), 0.2, 0.95), 0.0)
    table["sharpness"] = np.where(spiral, draws.lognormal(2.2, 0.35) * np.where(arms > 2, 0.8, 1.0), 0.0)
    table["patchiness"] = np.where(spiral, np.where(arms > 4, draws.uniform(0.5, 0.9), draws.uniform(0.1, 0.55)), 0.0)
    table["knots"] = np.where(spiral | ring | _is_kind(table, "irregular"), np.round(draws.lognormal(26, 0.6)), 0)
    table["lopsided"] = np.where(spiral, np.abs(draws.normal(0, 0.10)), 0.0)
    table["lopsided"] += np.where(_is_kind(table, "disturbed"), draws.uniform(0.25, 0.55), 0.0)
    table["ring"] = np.where(ring, draws.uniform(0.45, 0.75), 0.0)
    table["ring_radius"] = np.where(ring, table["r90"] * draws.uniform(0.55, 0.8), 0.0)
    dusty = np.where(edge, np.where(draws.uniform() < 0.55, draws.uniform(0.8, 3.0), 0.0), 0.0)
    table["dust"] = np.where(_is_kind(table, "dust lane"), draws.uniform(0.8, 2.2), dusty)


def _scale_length(table: dict[str, Column]) -> Column:
    """Scale length of a disk such that it has, with its bulge, the R90 that the survey measures in circles."""
    # Two Petrosian radii hold 99.3 percent of an exponential; the bulge lies inside R90.
    inside = (0.9 * 0.993 - table["bulge"]) / (1 - table["bulge"])
    square = np.cos(np.radians(table["inclination"])) ** 2
    flat = square + (1 - square) * table["thickness"] ** 2
    return np.asarray(table["r90"] / gammaincinv(2, np.clip(inside, 0.5, 0.9)) / np.sqrt((1 + flat) / 2))


def _shape_encounters(table: dict[str, Column], draws: RandomColumns) -> None:
    """Adds the columns of mergers, lenses and artifacts, from `companion` to `blemish`."""
    merger, disturbed, lens = _is_kind(table, "merger"), _is_kind(table, "disturbed"), _is_kind(table, "lensed arc")
    table["companion"] = np.where(merger, draws.uniform(0.22, 0.5), 0.0)
    table["separation"] = np.where(merger, table["r90"] * draws.uniform(0.45, 1.25), 0.0)
    table["separation_angle"] = np.where(merger, draws.uniform(0, 360), 0.0)
    of_two, of_one = draws.choice([0.35, 0.3, 0.35]), 1 + draws.choice([0.6, 0.4])
    table["tails"] = np.select([merger, disturbed], [of_two, of_one], 0)
    table["tail_light"] = np.where(table["tails"] > 0, draws.uniform(0.35, 0.9), 0.0)
    table["shells"] = np.where(disturbed, draws.choice([0.5, 0.2, 0.3]), 0)
    table["arc"] = np.where(lens, draws.uniform(0.05, 0.12), 0.0)
    table["arc_radius"] = np.where(lens, table["r90"] * draws.uniform(0.55, 0.85), 0.0)
    table["arc_angle"] = np.where(lens, draws.uniform(30, 75), 0.0)
    blemish = np.array(["star", "trail", "bad frame"])[draws.choice([0.5, 0.2, 0.3])]
    table["blemish"] = np.where(_is_kind(table, "artifact"), blemish, "")
    table["axis_ratio"] = np.where(table["blemish"] == "star", 1.0, table["axis_ratio"])


def _observation(table: dict[str, Column], draws: RandomColumns) -> None:
    table["crowding"] = draws.lognormal(1.0, 0.5)
    table["seeing"] = np.clip(draws.lognormal(1.25, 0.11), 0.95, 1.8)
    for band in "gi":
        for axis in "xy":
            table[f"shift_{band}_{axis}"] = draws.normal(0, 0.10)
    table["depth"] = draws.lognormal(1.0, 0.12)
