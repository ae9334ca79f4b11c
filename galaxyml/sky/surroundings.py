"""Surroundings of a galaxy: foreground stars, other galaxies, bright stars, trails and bad frames."""

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from galaxyml.sky.camera import Frame
from galaxyml.sky.survey import SDSS, Survey

# A square arcminute down to 22.5 mag in r, towards the poles of the Galaxy and outside clusters.
STARS, GALAXIES = 1.6, 3.5
STAR_SLOPE, GALAXY_SLOPE = 0.22, 0.33  # of the logarithm of their numbers against magnitude
STAMP = 23  # pixels across the stamp that a small galaxy is drawn on


def add_surroundings(frame: Frame, crowding: float, rng: np.random.Generator) -> None:
    """Adds stars and galaxies in numbers that a random field has, times `crowding`.

    They are drawn in g, r and i where the fluxes in the survey's bands follow from these.
    """
    if frame.survey.field_mix is not None:
        field = replace(frame, light=torch.zeros(SDSS.bands, *frame.light.shape[1:]), survey=SDSS)
        add_surroundings(field, crowding, rng)
        frame.light += torch.einsum("bc,cij->bij", torch.tensor(frame.survey.field_mix), field.light).clamp_min(0)
        return
    side = frame.pixel * frame.x.shape[0]
    area = (side / 60) ** 2
    deeper = frame.survey.deeper
    stars = rng.poisson(STARS * 10 ** (STAR_SLOPE * deeper) * crowding * area)
    galaxies = rng.poisson(GALAXIES * 10 ** (GALAXY_SLOPE * deeper) * crowding * area)
    x, y = rng.uniform(-side / 2, side / 2, (2, stars))
    frame.add_points(x, y, _star_fluxes(stars, frame.survey, rng))
    _add_galaxies(frame, galaxies, side, rng)


def _fluxes(magnitude: NDArray, first: NDArray, second: NDArray) -> NDArray:
    """Nanomaggies in the three bands from the magnitude in the middle one and the two colours, shape (3, K)."""
    return 10 ** (0.4 * (22.5 - np.stack([magnitude + first, magnitude, magnitude - second])))


def _star_fluxes(number: int, survey: Survey, rng: np.random.Generator) -> NDArray:
    # A third are M dwarfs, whose g - r is near 1.4 whatever their r - i
    # (Covey et al. 2007, AJ 134, 2398).
    magnitude = np.maximum(22.3 + survey.deeper + np.log10(rng.uniform(1e-9, 1, number)) / STAR_SLOPE, 15.5)
    dwarf = rng.random(number) < 0.33
    g_r = np.where(dwarf, rng.normal(1.4, 0.08, number), rng.uniform(0.2, 1.0, number))
    r_i = np.where(dwarf, survey.dwarf_color * rng.uniform(0.6, 1.6, number), survey.star_color * g_r)
    return _fluxes(magnitude, g_r, r_i)


def _add_galaxies(frame: Frame, number: int, side: float, rng: np.random.Generator) -> None:
    """Small exponential galaxies, drawn on stamps all at once."""
    if not number:
        return
    x, y = rng.uniform(-side / 2, side / 2, (2, number))
    magnitude = np.maximum(22.0 + frame.survey.deeper + np.log10(rng.uniform(1e-9, 1, number)) / GALAXY_SLOPE, 17.0)
    g_r = np.clip(rng.normal(0.95, 0.4, number), 0.2, 1.7)
    half = frame.pixel * (STAMP - 1) / 2
    scale = np.minimum(0.55 * rng.lognormal(0, 0.3, number) * 10 ** (0.12 * (21 - magnitude)), half / 4)
    angle, ratio = rng.uniform(0, math.pi, number), rng.uniform(0.3, 1, number)
    across = frame.x.shape[0]
    corner = np.floor(np.stack([x, y]) / frame.pixel + (across - 1) / 2).astype(np.int64) - STAMP // 2
    steps = np.arange(STAMP)
    dx = ((corner[0][:, None] + steps - (across - 1) / 2) * frame.pixel - x[:, None])[:, None, :]
    dy = ((corner[1][:, None] + steps - (across - 1) / 2) * frame.pixel - y[:, None])[:, :, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    radius = np.hypot(dx * cos + dy * sin, (dy * cos - dx * sin) / ratio[:, None, None])
    stamp = np.exp(-radius / scale[:, None, None])
    stamp /= stamp.sum((1, 2), keepdims=True)
    column, row = np.broadcast_arrays(
        (corner[0][:, None] + steps)[:, None, :], (corner[1][:, None] + steps)[:, :, None]
    )
    inside = (column >= 0) & (row >= 0) & (column < across) & (row < across)
    indices = torch.from_numpy((row * across + column)[inside])
    zero, slope = frame.survey.field_color
    for band, flux in enumerate(_fluxes(magnitude, g_r, zero + slope * g_r)):
        light = (stamp * flux[:, None, None])[inside].astype(np.float32)
        frame.light[band].view(-1).index_add_(0, indices, torch.from_numpy(light))


def add_bright_star(frame: Frame, x: float, y: float, magnitude: float, color: float, rng: np.random.Generator) -> None:
    """Adds a saturated star of a magnitude (r) and a color (g - r), x and y arcsec from the centre.

    It has a halo, and the four spikes of the secondary mirror's vanes.
    """
    dx, dy = frame.x - x, frame.y - y
    square = dx.square() + dy.square()
    halo = 0.012 * (1 + square / 4) ** -1.35
    turn = rng.uniform(-0.15, 0.15) + math.pi / 4
    u, v = dx * math.cos(turn) + dy * math.sin(turn), dy * math.cos(turn) - dx * math.sin(turn)
    for across, along in ((u, v), (v, u)):
        halo += 2.5e-3 * torch.exp(-0.5 * (across / 0.5) ** 2) / (1 + along.abs() / 3) ** 1.5
    halo += 0.55 * torch.exp(-0.5 * square / 0.8)
    frame.add(halo, 10 ** (0.4 * (22.5 - magnitude)), color)


def add_trail(frame: Frame, rng: np.random.Generator) -> None:
    """Adds the trail of a satellite or aeroplane, in one band alone: the bands are exposed one after the other."""
    turn, offset = rng.uniform(0, math.pi), rng.normal(0, 0.06) * frame.pixel * frame.side
    across = frame.x * math.sin(turn) - frame.y * math.cos(turn) - offset
    band = int(rng.integers(0, frame.survey.bands))
    frame.light[band] += float(rng.uniform(0.3, 1.5)) * torch.exp(-0.5 * (across / float(rng.uniform(0.6, 1.1))) ** 2)


def add_bad_frame(frame: Frame, rng: np.random.Generator) -> None:
    """Adds a frame gone wrong: scattered light or a ghost, with an edge, strong in one band."""
    turn, offset = rng.uniform(0, 2 * math.pi), rng.uniform(-0.2, 0.25) * frame.pixel * frame.side
    along = frame.x * math.cos(turn) + frame.y * math.sin(turn) - offset
    reach = 0.5 * frame.pixel * frame.side
    glow = torch.exp(-along.abs() / reach) * (along > 0)
    strong = int(rng.integers(0, frame.survey.bands))
    for band in range(frame.survey.bands):
        frame.light[band] += (0.2 if band == strong else 0.03) * float(rng.uniform(0.4, 1.6)) * glow
