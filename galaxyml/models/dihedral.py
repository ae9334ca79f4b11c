"""A net whose scores do not change when the image is mirrored or turned by quarter turns.

A galaxy's class does not depend on how it happens to lie on the sky. Here this holds by construction: each filter
exists in all 8 orientations of the square (Cohen & Welling 2016, "Group equivariant convolutional networks",
arXiv:1602.07576, the group p4m). Scaife & Porter 2021 (doi:10.1093/mnras/stab530) classify radio galaxies by such nets,
Pandya et al. 2023 (arXiv:2311.01500) the images of Galaxy10.

Orientation g = 4 m + r mirrors m times (0 or 1), then turns by r quarter turns. Maps of C channels in all orientations
are stored as (N, 8 C, H, W), all channels of orientation 0 first. Turning the image by h turns the maps and moves what
orientation g held to orientation hg.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galaxyml.models.backbone_with_head import BackboneWithHead, hidden_layer

ORIENTATIONS = 8


def turned(maps: Tensor, orientation: int) -> Tensor:
    """Maps mirrored and turned into one of the 8 orientations, shape (..., H, W) -> (..., H, W) or (..., W, H)."""
    mirrored, turns = divmod(orientation, 4)
    return (maps.flip(-1) if mirrored else maps).rot90(turns, (-2, -1))


def relative(first: int, second: int) -> int:
    """The orientation that leads from the first to the second: first⁻¹ second.

    >>> relative(3, 3), relative(0, 5), relative(4, 5)
    (0, 5, 3)
    """
    (mirrored, turns), (other_mirrored, other_turns) = divmod(first, 4), divmod(second, 4)
    between = turns - other_turns if mirrored else other_turns - turns  # a mirror image turns the other way
    return 4 * (mirrored ^ other_mirrored) + between % 4


# Where each point of a filter's 8 copies is stored; shape (orientation, orientation of the input, row, column).
_FILTER = torch.arange(9 * ORIENTATIONS).view(ORIENTATIONS, 3, 3)
FROM_IMAGES = torch.stack([turned(_FILTER[:1], own) for own in range(ORIENTATIONS)])
FROM_MAPS = torch.stack(
    [turned(_FILTER[[relative(own, other) for other in range(ORIENTATIONS)]], own) for own in range(ORIENTATIONS)]
)


class GroupConvolution(nn.Module):
    """A 3x3 convolution by each filter in all 8 orientations.

    A filter sees each orientation of its input relative to its own; all copies together are one ordinary convolution.

    Args:
        before: Channels of the input, in each orientation.
        after: Channels of the output in each orientation, C.
        points: `FROM_IMAGES` or `FROM_MAPS`, after what the input is.
    """

    points: Tensor

    def __init__(self, before: int, after: int, points: Tensor) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.register_buffer("points", points, persistent=False)
        self.weight = nn.Parameter(torch.empty(after, points.shape[1] * before, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def filters(self) -> Tensor:
        """All copies, as an ordinary convolution has them: (8 C, channels of the input, 3, 3)."""
        stored = self.weight.unflatten(1, (-1, self.before)).permute(1, 3, 4, 0, 2).flatten(0, 2)
        copies = stored[self.points]  # whole rows at a time, which is fast both ways
        return copies.permute(0, 4, 1, 5, 2, 3).flatten(0, 1).flatten(1, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Images (N, before, H, W) or maps (N, 8 before, H, W) -> maps (N, 8 C, H, W)."""
        return F.conv2d(maps, self.filters(), padding=1)


class GroupBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics and scales are shared by the 8 orientations."""

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (N, 8 C, H, W) -> the same."""
        count, channels, height, width = maps.shape
        # Orientations side by side along the rows of pixels: a view, not a copy, where channels are stored last.
        beside = maps.permute(0, 2, 3, 1).reshape(count, height, width * ORIENTATIONS, self.num_features)
        normalised = super().forward(beside.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return normalised.reshape(count, height, width, channels).permute(0, 3, 1, 2)


class SymmetricPool(nn.Module):
    """Max pool that halves each side, rounding down, and treats both ends alike: windows of an odd side overlap."""

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (N, C, H, W), H and W at least 2 -> (N, C, H // 2, W // 2)."""
        height, width = maps.shape[-2:]
        return F.max_pool2d(maps, (2 + height % 2, 2 + width % 2), stride=2)


class OrientationPool(nn.Module):
    """Largest value over the 8 orientations, after which a turned image gives turned maps and no more."""

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (N, 8 C, H, W) -> (N, C, H, W)."""
        return maps.unflatten(1, (ORIENTATIONS, -1)).amax(1)


class DihedralCNN(BackboneWithHead):
    """A convolutional net whose scores are the same for all 8 quarter turns and mirror images of an image.

    3x3 group convolutions with a max pool, batch norm and ReLU between them; then the largest value over the
    orientations, the average over the image and a hidden layer. The input's size is free, from 16 px up.

    Args:
        outputs: Number of outputs, K.
        channels: Channels of each convolution in each of 8 orientations, so that 8 times as many are computed.
        hidden: Units of the hidden layer.
        dropout: Probability of leaving a hidden unit out.
        in_chans: Channels of the images.
    """

    def __init__(
        self,
        outputs: int = 10,
        channels: tuple[int, ...] = (8, 16, 32, 48, 64),
        hidden: int = 128,
        dropout: float = 0.5,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [GroupConvolution(in_chans, channels[0], FROM_IMAGES)]
        for before, after in pairwise(channels):
            # Pooled first, as all that follows then costs a quarter.
            layers += [SymmetricPool(), GroupBatchNorm(before), nn.ReLU(inplace=True)]
            layers += [GroupConvolution(before, after, FROM_MAPS)]
        layers += [GroupBatchNorm(channels[-1]), nn.ReLU(inplace=True), OrientationPool()]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = hidden_layer(channels[-1], hidden, dropout, outputs)
