"""Views of stored images for a model: a plain central one, or a random one, for a whole batch in one resampling."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from galaxyml.runs import ranks

# Stored images, side of the views, images of the batch in all processes -> views, as `Augment`; or none.
RandomViews = Callable[[Tensor, int, int], Tensor] | Literal[False] | None

_CHUNK = 4  # images worked on at a time on a CPU, so that what lies between stays in its cache


@dataclass(frozen=True)
class Augment:
    """How far random views may differ from the plain one.

    Attributes:
        flip: Whether to draw one of the 8 symmetries of the square (quarter turns and mirror images).
        rotate: Whether to turn by any angle; the sky has no up.
        zoom: Largest factor of enlargement and of reduction, at least 1.
        shift: Largest shift along each axis, as a fraction of the view's side.
        colour: Largest relative change of brightness, and, of images of several channels, half as much of each by
            itself.
    """

    flip: bool = True
    rotate: bool = True
    zoom: float = 1.0
    shift: float = 0.0
    colour: float = 0.0

    def __call__(self, pixels: Tensor, size: int, of: int | None = None) -> Tensor:
        """Draws one view of each image from torch's global random numbers.

        Args:
            pixels: Stored images, uint8 of shape (N, side, side, C).
            size: Side in pixels of the views, at most `side`.
            of: Images of the batch in all processes; each draws the views of all and takes its own.

        Returns:
            Views in [0, 1] (a little above where `colour` brightens), shape (N, C, size, size), channels last.
        """
        count = len(pixels) if of is None else of
        mine = ranks.share(count)
        gains = None
        with ranks.shared_rng():
            if self.colour:
                gains = self._draw_gains(count, pixels.shape[3])[mine].to(pixels.device)
            if self.rotate or self.zoom > 1 or self.shift:
                return resample(pixels, size, self._draw(count)[mine].to(pixels.device), gains)
            symmetries = torch.randint(8, (count,)) if self.flip else torch.zeros(count, dtype=torch.long)
            return dihedral(pixels, size, symmetries[mine], gains)

    def _draw_gains(self, count: int, channels: int) -> Tensor:
        """Factors of the channels, shape (N, C)."""
        own = channels if channels > 1 else 0  # grey has no colour that could change besides its brightness
        spread = torch.tensor([self.colour, *[self.colour / 2] * own])
        drawn = 1 + spread * (2 * torch.rand(count, 1 + own) - 1)
        return drawn[:, :1] * drawn[:, 1:] if own else drawn

    def _draw(self, count: int) -> Tensor:
        """Matrices that map a view's coordinates to the plain view's, both from -1 to 1; shape (N, 2, 3)."""
        angle = 2 * math.pi * torch.rand(count) if self.rotate else torch.zeros(count)
        mirror = 1 - 2 * torch.randint(2, (count,)) if self.flip else torch.ones(count)
        if self.flip and not self.rotate:
            angle = math.pi / 2 * torch.randint(4, (count,))
        scale = torch.exp(math.log(self.zoom) * (2 * torch.rand(count) - 1))
        shift = 2 * self.shift * (2 * torch.rand(count, 2) - 1)
        cos, sin = scale * angle.cos(), scale * angle.sin()
        return torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], dim=1).view(count, 2, 3)


def plain(pixels: Tensor, size: int) -> Tensor:
    """The central view: uint8 (N, side, side, C) -> [0, 1] (N, C, size, size), channels last."""
    return next(symmetries(pixels, size, 1))


def dihedral(pixels: Tensor, size: int, symmetries: Tensor, gains: Tensor | None = None) -> Tensor:
    """Central views under the symmetries of the square: a copy, without resampling.

    Args:
        pixels: Stored images, uint8 of shape (N, side, side, C).
        size: Side of the views in pixels.
        symmetries: For each image 0 to 7: bit 0 mirrors rows, bit 1 mirrors columns, then bit 2 exchanges the axes.
        gains: Factors of the channels, shape (N, C).

    Returns:
        Views, shape (N, C, size, size), channels last.
    """
    centre = central(pixels.permute(0, 3, 1, 2), size)
    views = _empty(pixels, size)
    one_by_one = pixels.device.type == "cpu"  # each stays in the cache; a GPU takes all of a symmetry at once
    rows_of: Iterable[tuple[Any, int]] = (
        ((slice(row, row + 1), symmetry) for row, symmetry in enumerate(symmetries.tolist()))
        if one_by_one
        else (((symmetries == symmetry).nonzero()[:, 0].to(pixels.device), symmetry) for symmetry in range(8))
    )
    for rows, symmetry in rows_of:
        turned = symmetric(centre[rows], symmetry)
        scale = 1 / 255 if gains is None else gains[rows, :, None, None] / 255
        if one_by_one:
            view = views[rows]
            if symmetry & 4:  # a channel at a time: copying in runs of three bytes takes twice as long
                for channel in range(view.shape[1]):
                    view[:, channel].copy_(turned[:, channel])
            else:
                view.copy_(turned)
            view.mul_(scale)
        else:
            views[rows] = turned.float() * scale
    return views


def symmetric(images: Tensor, symmetry: int) -> Tensor:
    """Images under one symmetry of the square, numbered as in `dihedral`; (N, C, H, H) -> the same."""
    axes = [axis for axis, bit in ((2, 1), (3, 2)) if symmetry & bit]
    turned = images.flip(axes) if axes else images
    return turned.transpose(2, 3) if symmetry & 4 else turned


def symmetries(pixels: Tensor, size: int, count: int = 8) -> Iterator[Tensor]:
    """The central view of all images under one symmetry of the square after another; the same as `dihedral` copies.

    Args:
        pixels: Stored images, uint8 of shape (N, side, side, C).
        size: Side of the views in pixels.
        count: How many of the 8 symmetries, numbered as in `dihedral`.

    Yields:
        Views in [0, 1], shape (N, C, size, size), channels last.
    """
    centre = central(pixels.permute(0, 3, 1, 2), size).contiguous(memory_format=torch.channels_last)
    exchanged = centre.transpose(2, 3).contiguous(memory_format=torch.channels_last) if count > 4 else centre
    for number in range(count):
        axes = [axis for axis, bit in ((2, 1), (3, 2)) if number & bit]
        # What mirrors rows, and then exchanges the axes, is what exchanges the axes, and then mirrors columns.
        seen, axes = (exchanged, [5 - axis for axis in axes]) if number & 4 else (centre, axes)
        yield (seen.flip(axes) if axes else seen).float().mul_(1 / 255)


def central_pixels(pixels: Tensor, size: int) -> Tensor:
    """Central squares of stored images, uint8; (N, S, S, C) -> (N, size, size, C), as `central`."""
    rim = (pixels.shape[1] - size) // 2
    return pixels[:, rim : rim + size, rim : rim + size]


def central(images: Tensor, size: int) -> Tensor:
    """Central squares of images; (N, C, S, S) -> (N, C, size, size), where S is larger by an even number or equal."""
    rim = (images.shape[-1] - size) // 2
    return images[:, :, rim : rim + size, rim : rim + size]


def scaled(pixels: Tensor) -> Tensor:
    """Stored images as a net takes them, with their rim: uint8 (N, S, S, C) -> [0, 1] (N, C, S, S), channels last."""
    return pixels.permute(0, 3, 1, 2).float() * (1 / 255)


def affine(images: Tensor, matrix: list[list[float]], size: int) -> Tensor:
    """One view of all images by the same affine map, by one bilinear resampling.

    Args:
        images: Shape (N, C, S, S).
        matrix: Map from a view's coordinates to those of the central square of its size, both from -1 to 1, 2 x 3.
        size: Side of the views in pixels, at most S.

    Returns:
        Views, shape (N, C, size, size); what lies beyond the images repeats their last pixel.
    """
    # Made for one image, so that an image's view does not depend on which others share a batch.
    mapped = torch.tensor([matrix], dtype=images.dtype, device=images.device) * (size / images.shape[-1])
    grid = F.affine_grid(mapped, [1, 1, size, size], align_corners=False)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False)


def resample(pixels: Tensor, size: int, matrices: Tensor, gains: Tensor | None = None) -> Tensor:
    """Views under any affine map, each by one bilinear resampling of the stored pixels.

    Args:
        pixels: Stored images, uint8 of shape (N, side, side, C).
        size: Side of the views in pixels.
        matrices: Map from a view's coordinates to the plain view's; -1 and 1 are the outer edges; shape (N, 2, 3).
        gains: Factors of the channels, shape (N, C).

    Returns:
        Views, shape (N, C, size, size), channels last; what lies beyond the stored rim repeats its last pixel.
    """
    # grid_sample's coordinates span what is stored, the matrices' the plain view.
    matrices = matrices * (size / pixels.shape[1])
    scale = torch.full((len(pixels), pixels.shape[3]), 1 / 255, device=pixels.device) if gains is None else gains / 255
    views = _empty(pixels, size)
    for rows in _chunks(pixels):
        images = pixels[rows].permute(0, 3, 1, 2).float()
        grid = _affine_grid(matrices[rows], size)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        torch.mul(images, scale[rows, :, None, None], out=views[rows])
    return views


def _affine_grid(matrices: Tensor, size: int) -> Tensor:
    """What `F.affine_grid` gives for matrices, (N, 2, 3) -> (N, size, size, 2), by centres of pixels that are kept."""
    centres = _pixel_centres(size, matrices.device).expand(len(matrices), -1, -1)
    return torch.bmm(centres, matrices.transpose(1, 2)).view(-1, size, size, 2)


@lru_cache(maxsize=8)
def _pixel_centres(size: int, device: torch.device) -> Tensor:
    """Coordinates x, y and 1 of a view's pixels, -1 and 1 the outer edges, shape (1, size * size, 3)."""
    line = torch.linspace(-1, 1, size, device=device) * (size - 1) / size
    x, y = torch.meshgrid(line, line, indexing="xy")
    return torch.stack([x, y, torch.ones_like(x)], dim=2).view(1, size * size, 3)


def _empty(pixels: Tensor, size: int) -> Tensor:
    """Memory for views of stored images, (N, S, S, C) -> (N, C, size, size), channels last."""
    shape = len(pixels), pixels.shape[3], size, size
    return torch.empty(shape, device=pixels.device, memory_format=torch.channels_last)


def _chunks(pixels: Tensor) -> Iterator[slice]:
    step = _CHUNK if pixels.device.type == "cpu" else max(len(pixels), 1)
    return (slice(start, start + step) for start in range(0, len(pixels), step))
