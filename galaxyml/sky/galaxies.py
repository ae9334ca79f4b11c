"""Draws a galaxy of any kind into a frame."""

from collections.abc import Callable

import numpy as np

from galaxyml.sky import odd_galaxies
from galaxyml.sky.camera import Frame
from galaxyml.sky.disk_galaxies import draw_disk, draw_edge_on
from galaxyml.sky.population import Galaxy
from galaxyml.sky.spheroids import draw_smooth


def draw(galaxy: Galaxy, frame: Frame, rng: np.random.Generator) -> None:
    """Adds a galaxy in the middle of the frame.

    Args:
        galaxy: A row of the population.
        frame: Field to add to.
        rng: Source of what its parameters leave open: knots, patches, places of tails.
    """
    flux = 10 ** (0.4 * (22.5 - galaxy.magnitude))
    _DRAW[galaxy.kind](galaxy, frame, flux, rng)


_DRAW: dict[str, Callable[[Galaxy, Frame, float, np.random.Generator], None]] = {
    "smooth": draw_smooth,
    "disk": draw_disk,
    "spiral": draw_disk,
    "ring": draw_disk,
    "edge-on": draw_edge_on,
    "merger": odd_galaxies.draw_merger,
    "disturbed": odd_galaxies.draw_disturbed,
    "irregular": odd_galaxies.draw_irregular,
    "dust lane": odd_galaxies.draw_dust_lane,
    "lensed arc": odd_galaxies.draw_lensed_arc,
    "artifact": odd_galaxies.draw_artifact,
}
