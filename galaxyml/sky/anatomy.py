"""How galaxies of each kind are built: the columns of a population beyond size, brightness and colour."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from galaxyml.sky.random_columns import Column, RandomColumns

DISKS = ("disk", "spiral", "edge-on", "ring", "disturbed")
BULGES = (0.0, 0.09, 0.24, 0.50)  # share of light: no bulge, just noticeable, obvious, dominant


def is_kind(table: dict[str, Column], *kinds: str) -> NDArray[np.bool_]:
    """Where a galaxy is of one of the kinds, shape (N,)."""
    return np.isin(table["kind"], kinds)


def shape_spheroids(table: dict[str, Column], draws: RandomColumns) -> None:
    """Adds the columns of ellipticals: `axis_ratio`, `sersic`."""
    # From round to E7; the cigars of Galaxy Zoo are mostly lenticulars seen from their side.
    flat = draws.choice([0.38, 0.41, 0.21])
    ratio = np.choose(flat, [draws.uniform(0.82, 1.0), draws.uniform(0.5, 0.85), draws.uniform(0.22, 0.5)])
    index = np.clip(draws.lognormal(2.6, 0.35), 0.8, 6.0)
    index = np.where(ratio < 0.5, np.clip(index, 1.0, 3.0), index)
    thick = is_kind(table, "irregular", "dust lane", "merger")
    own = thick | is_kind(table, "smooth", "lensed arc", "artifact")
    table["axis_ratio"] = np.where(own, np.where(thick, np.clip(ratio, 0.5, 0.95), ratio), 0.0)
    table["sersic"] = np.where(own & ~is_kind(table, "irregular"), index, 0.0)
    table["sersic"] = np.where(is_kind(table, "merger"), np.clip(index, 1.2, 2.8), table["sersic"])


def shape_disks(table: dict[str, Column], draws: RandomColumns) -> None:
    """Adds the columns of disks, from `inclination` to `dust`."""
    disk, edge, ring = is_kind(table, *DISKS), is_kind(table, "edge-on"), is_kind(table, "ring")
    spiral, plain = is_kind(table, "spiral", "disturbed"), is_kind(table, "disk")
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
    table["knots"] = np.where(spiral | ring | is_kind(table, "irregular"), np.round(draws.lognormal(26, 0.6)), 0)
    table["lopsided"] = np.where(spiral, np.abs(draws.normal(0, 0.10)), 0.0)
    table["lopsided"] += np.where(is_kind(table, "disturbed"), draws.uniform(0.25, 0.55), 0.0)
    table["ring"] = np.where(ring, draws.uniform(0.45, 0.75), 0.0)
    table["ring_radius"] = np.where(ring, table["r90"] * draws.uniform(0.55, 0.8), 0.0)
    dusty = np.where(edge, np.where(draws.uniform() < 0.55, draws.uniform(0.8, 3.0), 0.0), 0.0)
    table["dust"] = np.where(is_kind(table, "dust lane"), draws.uniform(0.8, 2.2), dusty)


def _scale_length(table: dict[str, Column]) -> Column:
    """Scale length of a disk such that it has, with its bulge, the R90 that the survey measures in circles."""
    # Two Petrosian radii hold 99.3 percent of an exponential; the bulge lies inside R90.
    inside = (0.9 * 0.993 - table["bulge"]) / (1 - table["bulge"])
    square = np.cos(np.radians(table["inclination"])) ** 2
    flat = square + (1 - square) * table["thickness"] ** 2
    return np.asarray(table["r90"] / gammaincinv(2, np.clip(inside, 0.5, 0.9)) / np.sqrt((1 + flat) / 2))


def shape_encounters(table: dict[str, Column], draws: RandomColumns) -> None:
    """Adds the columns of mergers, lenses and artifacts, from `companion` to `blemish`."""
    merger, disturbed, lens = is_kind(table, "merger"), is_kind(table, "disturbed"), is_kind(table, "lensed arc")
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
    table["blemish"] = np.where(is_kind(table, "artifact"), blemish, "")
    table["axis_ratio"] = np.where(table["blemish"] == "star", 1.0, table["axis_ratio"])
