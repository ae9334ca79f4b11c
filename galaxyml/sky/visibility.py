"""Visibility of what a galaxy has: each measure is a smooth function of its parameters, about 0 to 1."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.sky.survey import SDSS

Values = NDArray[np.float64]


def rises(value: Values, middle: float = 0.0, width: float | Values = 1.0) -> Values:
    """0 well below `middle`, one half there, 1 well above it: a logistic function of the given width."""
    return np.asarray(0.5 * (1 + np.tanh((value - middle) / (2 * width))))


def transfer(galaxies: pd.DataFrame, spacing: Values) -> Values:
    """Share of the contrast of a pattern that the seeing leaves, in [0, 1].

    It is the transfer function of a Gaussian at the wavelength `spacing`, from ridge to ridge, arcsec.
    """
    sigma = galaxies.seeing.to_numpy() / 2.355
    return np.asarray(np.exp(-2 * (np.pi * sigma / np.maximum(spacing, 1e-3)) ** 2))


def signal(galaxies: pd.DataFrame) -> Values:
    """Height of a galaxy above the noise: one half where a resolved patch of it is 12 times the noise."""
    within = galaxies.magnitude + 2.5 * np.log10(np.pi * galaxies.r90**2)
    patch = 4 * (galaxies.seeing / 2.355) ** 2 * np.pi
    flux = 10 ** (0.4 * (22.5 - within)) * patch
    noise = SDSS.sky_noise[1] * galaxies.depth * np.sqrt(patch / SDSS.camera_pixel**2)
    ratio = (flux / noise).to_numpy()
    return np.asarray(ratio / (ratio + 12))


def apparent_axis_ratio(galaxies: pd.DataFrame) -> Values:
    """Axis ratio of the whole galaxy, rounder where the seeing is as large as the galaxy."""
    cos = np.cos(np.radians(galaxies.inclination))
    disk = np.sqrt(cos**2 + (1 - cos**2) * galaxies.thickness**2)
    # A bulge makes the middle of an inclined disk rounder.
    disk = disk + 0.45 * galaxies.bulge * (1 - disk)
    ratio = np.where(galaxies.axis_ratio > 0, galaxies.axis_ratio, disk)
    # Two galaxies side by side look as flat as they are far apart.
    spread = galaxies.companion * (1 - galaxies.companion) * (galaxies.separation / galaxies.r90 / 0.42) ** 2
    ratio = ratio / np.sqrt(1 + spread)
    extent, blur = (0.42 * galaxies.r90) ** 2, (galaxies.seeing / 2.355) ** 2
    return np.asarray(np.sqrt((ratio**2 * extent + blur) / (extent + blur)))


def edge_on(galaxies: pd.DataFrame) -> Values:
    """Share of those who look at a disk that take it as edge-on."""
    seen = rises(galaxies.inclination.to_numpy(), 76.0, 2.8)
    flat = rises(-apparent_axis_ratio(galaxies), -0.36, 0.045)
    return np.where(galaxies.inclination > 0, seen * (0.4 + 0.6 * flat), 0.75 * flat)


def arms(galaxies: pd.DataFrame) -> Values:
    """Contrast of the spiral arms as it is left by inclination, seeing and noise."""
    number = np.maximum(galaxies.arms.to_numpy(), 1)
    pitch = np.radians(np.abs(galaxies.pitch.to_numpy()))
    flat = np.cos(np.radians(galaxies.inclination.to_numpy()))
    spacing = 2 * np.pi * 0.6 * galaxies.r90.to_numpy() * np.sin(pitch) / number * np.sqrt(flat)
    sharp = 1 - 0.25 * galaxies.patchiness.to_numpy()
    left = galaxies.contrast.to_numpy() * sharp * transfer(galaxies, spacing) * signal(galaxies) ** 0.5
    return np.where(galaxies.arms > 0, left * rises(flat, 0.25, 0.05), 0.0)


def bar(galaxies: pd.DataFrame) -> Values:
    """Contrast of a bar as it is left by inclination, seeing and noise."""
    flat = np.cos(np.radians(galaxies.inclination.to_numpy()))
    left = transfer(galaxies, 2.2 * 0.6 * galaxies.bar_length.to_numpy() * np.sqrt(flat))
    strength = galaxies.bar.to_numpy() / 0.2 * (1 - 0.7 * galaxies.bulge.to_numpy())
    # A bar along the major axis of an inclined disk hides in it; one across it stands out.
    across = np.abs(np.sin(np.radians(galaxies.bar_angle.to_numpy())))
    return strength * left * (flat + (1 - flat) * 0.6 * across) * signal(galaxies) ** 0.5


def ring(galaxies: pd.DataFrame) -> Values:
    """Contrast of a ring as it is left by inclination, seeing and noise."""
    flat = np.cos(np.radians(galaxies.inclination.to_numpy()))
    return (
        galaxies.ring.to_numpy()
        * transfer(galaxies, 1.3 * galaxies.ring_radius.to_numpy() * np.sqrt(flat))
        * signal(galaxies) ** 0.5
    )


def seen_clearly(galaxies: pd.DataFrame) -> pd.DataFrame:
    """The same galaxies through a telescope with sharp images and little noise."""
    return galaxies.assign(seeing=0.3 * galaxies.seeing, depth=0.3 * galaxies.depth)
