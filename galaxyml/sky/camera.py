"""A survey's camera: pixels, seeing, noise and the colours of its images."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from galaxyml.sky.survey import SDSS, Survey


@dataclass
class Frame:
    """A field of the sky on camera pixels, before the atmosphere.

    Attributes:
        pixel: Side of a pixel, arcsec.
        side: Pixels across the image.
        x: Arcsec from the centre, shape (P, P); P is larger than the side, so that light from outside comes in.
        y: Likewise, downwards.
        light: Nanomaggies a pixel in the survey's bands, shape (B, P, P).
        survey: Whose bands these are.
    """

    pixel: float
    side: int
    x: Tensor
    y: Tensor
    light: Tensor
    survey: Survey = SDSS

    @classmethod
    def of(cls, field: float, survey: Survey = SDSS) -> "Frame":
        """An empty frame.

        Args:
            field: Side of the image, arcsec. No image has more pixels than a cutout.
            survey: That sees it.
        """
        side = min(survey.cutout, math.ceil(field / survey.camera_pixel))
        pixel = field / side
        padded = next_fast_len(side + 12, real=True)
        line = (torch.arange(padded, dtype=torch.float32) - (padded - 1) / 2) * pixel
        y, x = torch.meshgrid(line, line, indexing="ij")
        return cls(pixel, side, x, y, torch.zeros(survey.bands, padded, padded), survey)

    def add(self, brightness: Tensor, flux: float, color: float) -> None:
        """Adds light of one colour.

        Args:
            brightness: Surface brightness per square arcsec for a flux of 1, shape (P, P).
            flux: Flux in r, nanomaggies.
            color: g - r, magnitudes.
        """
        for band, band_flux in enumerate(self.survey.fluxes(flux, color)):
            self.light[band].add_(brightness, alpha=band_flux * self.pixel**2)

    def add_points(self, x: NDArray, y: NDArray, fluxes: NDArray) -> None:
        """Adds points, each shared by the four pixels about it.

        Args:
            x: Arcsec from the centre, shape (K,).
            y: Likewise, shape (K,).
            fluxes: Nanomaggies in the survey's bands, shape (B, K).
        """
        across = self.x.shape[0]
        column, row = (np.asarray(line) / self.pixel + (across - 1) / 2 for line in (x, y))
        inside = (column > 0) & (row > 0) & (column < across - 1) & (row < across - 1)
        column, row, fluxes = column[inside], row[inside], fluxes[:, inside]
        left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
        right, low = column - left, row - top
        flat = self.light.view(len(self.light), -1)
        for dx, dy, share in (
            (0, 0, (1 - right) * (1 - low)),
            (1, 0, right * (1 - low)),
            (0, 1, (1 - right) * low),
            (1, 1, right * low),
        ):
            indices = torch.from_numpy((top + dy) * across + left + dx)
            flat.index_add_(1, indices, torch.from_numpy((fluxes * share).astype(np.float32)))

    def obscure(self, depth: Tensor) -> None:
        """Puts dust before all light so far; its optical depth in r is `depth`, shape (P, P)."""
        for band, ratio in enumerate(self.survey.extinction):
            self.light[band].mul_(torch.exp(-ratio * depth))


def blur(light: Tensor, pixel: float, widths: tuple[float, ...], shifts: NDArray) -> Tensor:
    """Blurs as the seeing does, and moves each band by its error of registration.

    The PSF is two Gaussians, as the survey's is fitted (Stoughton et al. 2002, AJ 123, 485); here the second has
    10 percent of the light and 2.8 times the width.

    Args:
        light: Nanomaggies a pixel in each band, shape (B, P, P).
        pixel: Arcsec.
        widths: Full width at half maximum in each band, arcsec.
        shifts: Displacement (x, y) of each band, arcsec, shape (B, 2).

    Returns:
        The same flux, shape (B, P, P).
    """
    across = light.shape[-1]
    down = torch.fft.fftfreq(across)[:, None]
    right = torch.fft.rfftfreq(across)[None]
    square = down.square() + right.square()
    spectrum = torch.fft.rfft2(light)
    for band, width in enumerate(widths):
        spread = 2 * (math.pi * width / 2.355 / pixel) ** 2
        transfer = 0.9 * torch.exp(-spread * square) + 0.1 * torch.exp(-(spread * 2.8**2) * square)
        move = -2 * math.pi / pixel * (shifts[band, 0] * right + shifts[band, 1] * down)
        spectrum[band] *= torch.polar(transfer, move.to(torch.float32))
    return torch.fft.irfft2(spectrum, s=(across, across))


def expose(light: Tensor, depth: float, rng: np.random.Generator, survey: Survey = SDSS) -> Tensor:
    """Adds the noise of the sky and of the light itself; both of shape (B, P, P), `depth` scales the sky's noise."""
    sky = torch.tensor(survey.sky_noise).view(-1, 1, 1) * depth
    noise = torch.from_numpy(rng.standard_normal(tuple(light.shape), dtype=np.float32))
    if share := survey.noise_mixed:
        for axis in (1, 2):
            noise = ((1 - share) * noise + share * noise.roll(1, axis)) / math.hypot(1 - share, share)
    return light + noise * (sky.square() + survey.photon_noise * light.clamp_min(0)).sqrt()


def stretch(light: Tensor, survey: Survey = SDSS) -> Tensor:
    """The image: brightness by an asinh of the mean of the bands (Lupton et al. 2004, PASP 116, 133).

    Args:
        light: Nanomaggies a camera pixel in the survey's bands, shape (3, H, W).
        survey: Whose colours they get.

    Returns:
        Red, green and blue in [0, 1], shape (H, W, 3).
    """
    pedestal, weights = (torch.tensor(values).view(3, 1, 1) for values in (survey.pedestal, survey.weights))
    colors = ((light.flip(0) - pedestal) * weights).clamp_min_(0)
    mean = colors.mean(0).clamp_min_(1e-6)
    if survey.saturation != 1:
        colors = mean + survey.saturation * (colors - mean)
    colors *= torch.asinh(mean / survey.softening) / (survey.range * mean)
    if survey.keeps_hue:
        colors /= colors.amax(0).clamp_min_(1.0)
    return colors.clamp_max_(1.0).permute(1, 2, 0)
