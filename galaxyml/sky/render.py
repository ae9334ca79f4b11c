"""Images of galaxies as volunteers and nets see them."""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import Image

from galaxyml.sky import odd_galaxies
from galaxyml.sky.camera import Frame, blur, expose, stretch
from galaxyml.sky.galaxies import draw_disk, draw_edge_on, draw_smooth
from galaxyml.sky.population import Galaxy, rows
from galaxyml.sky.surroundings import add_surroundings
from galaxyml.sky.survey import SDSS, Survey

Result = TypeVar("Result")
MOST_THREADS = 4
# By kind: adds a galaxy of a flux (nanomaggies) in the middle of a frame; the generator gives what its parameters leave
# open, such as knots, patches and places of tails.
DRAW: dict[str, Callable[[Galaxy, Frame, float, np.random.Generator], None]] = {
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


def render(galaxies: pd.DataFrame, size: int = SDSS.cutout, seed: int = 0, survey: Survey = SDSS) -> torch.Tensor:
    """Images of galaxies, each the same whatever else is in the table.

    A galaxy is drawn on the camera's pixels and then resampled, as the survey's cutouts are, so that it costs less than
    its image has pixels. Galaxies are drawn one by one, in threads: the camera's frames differ in size, and one fits
    the cache of a core where a batch of them does not.

    Args:
        galaxies: Rows of a `population`.
        size: Side of an image, pixels; the field of view is the same for all sizes.
        seed: Of noise, surroundings and what a galaxy's parameters leave open.
        survey: That takes the images.

    Returns:
        Red, green and blue, uint8, shape (N, size, size, 3).
    """
    images = np.empty((len(galaxies), size, size, 3), dtype=np.uint8)

    def fill(galaxy: Galaxy, number: int) -> None:
        images[number] = np.asarray(draw_image(galaxy, size, seed, survey))

    for _ in in_threads(fill, galaxies, range(len(galaxies))):
        pass
    return torch.from_numpy(images)


def in_threads(draw: Callable[..., Result], galaxies: pd.DataFrame, *others: Iterable[Any]) -> Iterator[Result]:
    """The results of a function of each galaxy, and of a value of each of the others, in order.

    Torch's own threads rest meanwhile, lest they get in the way.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
            yield from threads.map(draw, rows(galaxies), *others)
    finally:
        torch.set_num_threads(before)


def draw_image(galaxy: Galaxy, size: int = SDSS.cutout, seed: int = 0, survey: Survey = SDSS) -> Image.Image:
    """The image of one row of a `population`, `size` pixels across; seed and survey as for `render`."""
    light = expose_galaxy(galaxy, seed, survey)
    image = Image.fromarray((stretch(light, survey) * 255 + 0.5).to(torch.uint8).contiguous().numpy())
    if survey.quality:
        # SkyServer keeps its frames as JPEG and cuts out of these, so what volunteers see went through JPEG twice; the
        # Legacy Survey viewer's cutouts are JPEG, which Galaxy10 has decoded.
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=survey.quality)
        image = Image.open(jpeg)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def expose_galaxy(galaxy: Galaxy, seed: int, survey: Survey) -> torch.Tensor:
    """The camera's record of one row of a `population` and what is around it; as for `observe`."""
    rng = np.random.default_rng([seed, galaxy.texture])
    frame = scene(galaxy, rng, survey)
    add_surroundings(frame, galaxy.crowding, rng)
    return observe(galaxy, frame, rng)


def scene(galaxy: Galaxy, rng: np.random.Generator, survey: Survey = SDSS) -> Frame:
    """The galaxy alone, before atmosphere and noise."""
    frame = Frame.of(survey.cutout * survey.cutout_pixel(galaxy.r90), survey)
    DRAW[galaxy.kind](galaxy, frame, 10 ** (0.4 * (22.5 - galaxy.magnitude)), rng)
    return frame


def observe(galaxy: Galaxy, frame: Frame, rng: np.random.Generator) -> torch.Tensor:
    """The camera's record: nanomaggies a camera pixel in each band, shape (B, side, side)."""
    middle = frame.survey.bands // 2
    bluer, redder = [galaxy.shift_g_x, galaxy.shift_g_y], [galaxy.shift_i_x, galaxy.shift_i_y]
    shifts = np.array([*[bluer] * middle, [0, 0], *[redder] * (frame.survey.bands - middle - 1)])
    widths = tuple(factor * galaxy.seeing for factor in frame.survey.seeing)
    blurred = blur(frame.light, frame.pixel, widths, frame.survey.registration * shifts)
    edge = (blurred.shape[-1] - frame.side) // 2
    inner = slice(edge, edge + frame.side)
    binned = frame.survey.camera_pixel / frame.pixel
    return expose(blurred[:, inner, inner] * binned**2, galaxy.depth * binned, rng, frame.survey)
