"""The net that won Kaggle's Galaxy Zoo challenge: many views of one galaxy, seen by one small net.

A galaxy looks no different turned or mirrored, and its centre matters most. So each image is seen upright and turned,
plain and mirrored, and each such view is cut into four overlapping corners, which are turned until the galaxy's centre
lies at the lower right of all. One net sees all of these parts, and dense layers the features of all together
(Dieleman, Willett & Dambre 2015, MNRAS 450, 1441, arXiv:1503.07077).
"""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galaxyml.data.images.views import symmetric
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import UserError, shorten

CORNERS = 4
SAME = 1e-3  # difference of pixels in [0, 1] that two cuts of the same part may have


def view_side(size: int, angles: Sequence[float]) -> int:
    """Side of the largest square about an image's centre that stays within the image at all angles.

    Args:
        size: Side of the image in pixels.
        angles: In degrees.

    Returns:
        Pixels; odd where the size is odd, so that the upright square is made of whole pixels.
    """
    widest = max(abs(math.cos(angle)) + abs(math.sin(angle)) for angle in map(math.radians, angles))
    side = math.floor(size / widest + 1e-9)
    return side - (size - side) % 2


def part_side(size: int, angles: Sequence[float], part: float) -> int:
    """Side in pixels of a part, given the image's, the angles of the views and the fraction of a view's side."""
    return max(1, round(part * view_side(size, angles)))


def turned_grid(size: int, side: int, angle: float) -> Tensor:
    """Pixels of a turned square in an image, as `grid_sample` takes it without aligned corners.

    Args:
        size: Side of the image in pixels.
        side: Side of the square in pixels.
        angle: By which the square shows the image turned anticlockwise, in degrees.

    Returns:
        Column and row of each pixel, from -1 to 1 between the image's outer edges, shape (side, side, 2).
    """
    steps = torch.arange(side, dtype=torch.double) - (side - 1) / 2
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return (torch.stack([cos * right - sin * down, sin * right + cos * down], dim=-1) * 2 / size).float()


class Parts(nn.Module):
    """Cuts images into overlapping corners of turned and mirrored views.

    Args:
        size: Side of the images in pixels.
        angles: By which views are turned, in degrees from 0 up to below 90; the corners give the quarter turns.
        mirrored: Whether each view is seen mirrored, too.
        part: Side of a part as a fraction of the view's; above 0.5 the parts overlap.

    Attributes:
        count: Parts of an image, V.
        side: Side of a part in pixels, P.

    Raises:
        UserError: If the angles or the fraction are none of these.
    """

    def __init__(self, size: int, angles: Sequence[float], mirrored: bool, part: float) -> None:
        super().__init__()
        self.angles = [float(angle) for angle in angles]
        if (
            not self.angles
            or len({*self.angles}) < len(self.angles)
            or not 0 <= min(self.angles) <= max(self.angles) < 90
        ):
            raise UserError(
                f"model.angles={self.angles}: give angles from 0 up to below 90, each once; quarter turns come besides."
            )
        if not 0 < part <= 1:
            raise UserError(f"model.part={part:g}: a part's side is a fraction of the view's, above 0 and up to 1.")
        self.size = size
        self.mirrored = mirrored
        self.view_side = view_side(size, self.angles)
        self.side = part_side(size, self.angles, part)
        self.count = CORNERS * len(self.angles) * (2 if mirrored else 1)
        for number, angle in enumerate(self.angles):
            grid = turned_grid(size, self.view_side, angle)
            self.register_buffer(f"grid_{number}", grid, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (N, C, size, size) -> parts (N, V, C, P, P), those of one view together.

        Raises:
            UserError: If the images have another size.
        """
        if images.shape[-2:] != (self.size, self.size):
            height, width = images.shape[-2:]
            raise UserError(
                f"This net sees images of {self.size}x{self.size} px; found {height}x{width}. "
                f"Give it images of that size, or train one with size={height}."
            )
        parts = []
        for number in range(len(self.angles)):
            view = self._view(images, number)
            for seen in (view, view.flip(-1)) if self.mirrored else (view,):
                parts += [seen.rot90(turns, (-2, -1))[..., : self.side, : self.side] for turns in range(CORNERS)]
        return torch.stack(parts, dim=1)

    @cached_property
    def orders(self) -> list[list[int]]:
        """Which parts of an image are those of the image under a symmetry of the square, V numbers.

        Of the first of the 8 symmetries, as far as all parts are.
        """
        grid = self.get_buffer("grid_0")  # whose device and type images have
        noise = torch.rand(1, 1, self.size, self.size, generator=torch.Generator().manual_seed(0), device="cpu")
        orders: list[list[int]] = []
        with torch.no_grad(), torch.autocast(grid.device.type, enabled=False):
            parts = self(noise.to(grid))[0].flatten(1)
            for symmetry in range(8):
                seen = self(symmetric(noise, symmetry).to(grid))[0].flatten(1)
                away = torch.cdist(seen, parts, p=math.inf).min(1)
                if away.values.max() > SAME:
                    break
                orders.append(away.indices.tolist())
        return orders

    def _view(self, images: Tensor, number: int) -> Tensor:
        """The square about the centre, turned by one of the angles; shape (N, C, view_side, view_side)."""
        if self.angles[number] == 0:
            rim = (self.size - self.view_side) // 2
            return images[..., rim : self.size - rim, rim : self.size - rim]
        grid = self.get_buffer(f"grid_{number}").expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class Maxout(nn.Module):
    """A dense layer whose units are the largest of several linear pieces (Goodfellow et al. 2013, arXiv:1302.4389)."""

    def __init__(self, before: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, units * pieces)
        self.pieces = pieces
        # The larger of two normal numbers has the mean square of either, so nothing grows or fades from layer to layer.
        nn.init.normal_(self.linear.weight, std=before**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (N, F) -> (N, U)."""
        return self.linear(inputs).unflatten(1, (-1, self.pieces)).amax(2)


class DielemanNet(BackboneWithHead):
    """The winner of Kaggle's Galaxy Zoo challenge, at any size.

    Of each image, which is square, the parts of the turned and mirrored views (see `Parts`); of each part the
    features that convolutions with ReLU and max pools find; of all of these, dense layers of maxout units with dropout
    before each. A convolution's biases are the same at all places, where the original's differed (0.07 million more).

    Args:
        outputs: Number of outputs, K.
        size: Side of the images in pixels.
        angles: By which views are turned, in degrees. What is seen of an image is the square that stays within it at
            all of these, for 45 degrees size / sqrt(2).
        mirrored: Whether each view is seen mirrored, too.
        part: Side of a part as a fraction of the view's.
        channels: Channels of the convolutions.
        kernels: Side of each convolution's filters in pixels.
        pools: By what each convolution's result is shrunk; 1 for not at all.
        padding: Whether convolutions see zeros around a part, so that they shrink nothing.
        batch_norm: Whether to normalise after each convolution.
        hidden: Units of the dense layers.
        pieces: Linear pieces of each of these units, at least 2.
        dropout: Probability of leaving out an input of a dense layer, the last one's included.
        in_chans: Channels of the images.

    Raises:
        UserError: If the lists differ in length, or a number in them is too small, or the size too small for the
            layers.
    """

    def __init__(
        self,
        outputs: int = 37,
        size: int = 99,
        angles: Sequence[float] = (0, 45),
        mirrored: bool = True,
        part: float = 0.652,
        channels: Sequence[int] = (32, 64, 128, 128),
        kernels: Sequence[int] = (6, 5, 3, 3),
        pools: Sequence[int] = (2, 2, 1, 2),
        padding: bool = False,
        batch_norm: bool = False,
        hidden: Sequence[int] = (2048, 2048),
        pieces: int = 2,
        dropout: float = 0.5,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        if not len(channels) == len(kernels) == len(pools) >= 1:
            raise UserError(
                f"model.channels, kernels and pools have {len(channels)}, {len(kernels)} and {len(pools)} numbers; "
                "give each convolution one in each."
            )
        if low := [number for number in (*channels, *kernels, *pools, *hidden) if number < 1]:
            raise UserError(f"model.channels, kernels, pools and hidden count from 1; found {shorten(low)}.")
        if pieces < 2:
            raise UserError(f"model.pieces={pieces}: a maxout unit is the largest of 2 or more pieces.")
        parts = Parts(size, angles, mirrored, part)

        def side_left(size: int) -> int:
            """Side in pixels of what the layers leave of a part; 0 or less where they leave nothing."""
            side = part_side(size, angles, part)
            for kernel, pool in zip(kernels, pools, strict=True):
                side = (side + 1 - kernel + (kernel // 2 * 2 if padding else 0)) // pool
            return side

        if side_left(size) < 1:
            # Views have odd sides where images have, so that a size may do and the next one not.
            enough = next(
                larger for larger in itertools.count(size) if min(side_left(larger), side_left(larger + 1)) >= 1
            )
            raise UserError(
                f"size={size}: the parts of an image have a side of {parts.side} px, of which the convolutions and "
                f"pools leave nothing. Choose size={enough} or more, or fewer or smaller model.kernels and model.pools."
            )
        layers: list[nn.Module] = []
        for before, after, kernel, pool in zip((in_chans, *channels), channels, kernels, pools, strict=False):
            around = kernel // 2 if padding else 0
            convolution = nn.Conv2d(before, after, kernel, padding=around, bias=not batch_norm)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            # Pooled before the ReLU, which gives the same and costs less.
            layers += [convolution, *([nn.MaxPool2d(pool)] if pool > 1 else [])]
            layers += [*([nn.BatchNorm2d(after)] if batch_norm else []), nn.ReLU(inplace=True)]
        # All parts go through the layers as images of their own; an image's features then stand side by side.
        side_by_side = nn.Unflatten(0, (-1, parts.count)), nn.Flatten()
        self.features = nn.Sequential(parts, nn.Flatten(0, 1), *layers, nn.Flatten(), *side_by_side)
        dense: list[nn.Module] = []
        width = parts.count * channels[-1] * side_left(size) ** 2
        for units in hidden:
            dense += [nn.Dropout(dropout), Maxout(width, units, pieces)]
            width = units
        last = nn.Linear(width, outputs)
        # Scores near 0.1, as the original's: for a softmax as good as 0, and where rectified scores share equally.
        nn.init.normal_(last.weight, std=0.02 * width**-0.5)
        nn.init.constant_(last.bias, 0.1)
        self.head = nn.Sequential(*dense, nn.Dropout(dropout), last)

    @property
    def known_symmetries(self) -> int:  # type: ignore[override]  # read-only, as it follows from the parts
        """How many of the 8 symmetries only exchange the parts."""
        return len(self.features[0].orders)

    def symmetric_features(self, features: Tensor, symmetry: int) -> Tensor:
        order = self.features[0].orders[symmetry]
        return features.unflatten(1, (len(order), -1))[:, order].flatten(1)
