"""Pictures of galaxies as volunteers and nets see them."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from galaxyml.sky.galaxies import draw
from galaxyml.sky.population import Galaxy, rows
from galaxyml.sky.surroundings import add_surroundings
from galaxyml.sky.survey import CAMERA_PIXEL, CUTOUT, Frame, blur, expose, stretch

MOST_THREADS = 4
QUALITY = 75  # of the cutouts of the Kaggle challenge


def render(galaxies: pd.DataFrame, size: int = CUTOUT, seed: int = 0) -> torch.Tensor:
    """Pictures of galaxies, each the same whatever else is in the table.

    A galaxy is drawn on the camera's pixels and then resampled, as the survey's cutouts are, so that it costs less than
    its picture has pixels. Galaxies are drawn one by one, in threads: the camera's frames differ in size, and one fits
    the cache of a core where a batch of them does not.

    Args:
        galaxies: Rows of a `population`.
        size: Side of a picture, pixels; the field of view is the same for all sizes.
        seed: Of noise, surroundings and what a galaxy's parameters leave open.

    Returns:
        Red, green and blue, uint8, shape (N, size, size, 3).
    """
    pictures = np.empty((len(galaxies), size, size, 3), dtype=np.uint8)

    def fill(number: int, galaxy: Galaxy) -> None:
        pictures[number] = np.asarray(picture(galaxy, size, seed))

    with pool() as threads:
        list(threads.map(fill, range(len(galaxies)), rows(galaxies)))
    return torch.from_numpy(pictures)


@contextmanager
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that draw a galaxy each; torch's own threads rest meanwhile, as they would be in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
            yield threads
    finally:
        torch.set_num_threads(before)


def picture(galaxy: Galaxy, size: int = CUTOUT, seed: int = 0) -> Image.Image:
    """The picture of one galaxy.

    Args:
        galaxy: A row of a `population`.
        size: Side in pixels.
        seed: As for `render`.
    """
    rng = np.random.default_rng([seed, galaxy.texture])
    frame = scene(galaxy, rng)
    add_surroundings(frame, galaxy.crowding, rng)
    light = observe(galaxy, frame, rng)
    # SkyServer keeps its frames as JPEG and cuts out of these, so what volunteers see went through JPEG twice.
    kept = io.BytesIO()
    Image.fromarray(levels(light)).save(kept, "JPEG", quality=QUALITY)
    return Image.open(kept).resize((size, size), Image.Resampling.BICUBIC)


def scene(galaxy: Galaxy, rng: np.random.Generator) -> Frame:
    """The galaxy alone, before atmosphere and noise."""
    frame = Frame.of(CUTOUT * galaxy.pixel)
    draw(galaxy, frame, rng)
    return frame


def observe(galaxy: Galaxy, frame: Frame, rng: np.random.Generator) -> torch.Tensor:
    """What the camera records: nanomaggies a camera pixel in g, r, i, shape (3, side, side)."""
    shifts = np.array([[galaxy.shift_g_x, galaxy.shift_g_y], [0, 0], [galaxy.shift_i_x, galaxy.shift_i_y]])
    # Seeing is better in red light (Kolmogorov: wavelength to the power -1/5).
    widths = (1.06 * galaxy.seeing, galaxy.seeing, 0.96 * galaxy.seeing)
    blurred = blur(frame.light, frame.pixel, widths, shifts)
    edge = (blurred.shape[-1] - frame.side) // 2
    inner = slice(edge, edge + frame.side)
    binned = CAMERA_PIXEL / frame.pixel
    return expose(blurred[:, inner, inner] * binned**2, galaxy.depth * binned, rng)


def levels(light: torch.Tensor) -> NDArray[np.uint8]:
    """The stretched picture in 256 levels, shape (H, W, 3)."""
    return np.ascontiguousarray((stretch(light) * 255 + 0.5).to(torch.uint8).numpy())
