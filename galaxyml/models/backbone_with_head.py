"""Nets in two parts: `features` makes numbers of images, `head` makes scores of those."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PART = 32


class BackboneWithHead(nn.Module):
    """A net whose scores are `head(features(images))`.

    Attributes:
        features: Images in [0, 1], shape (N, 3, H, W) -> features (N, F).
        head: Features (N, F) -> scores (N, K).
    """

    features: Any
    head: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], shape (N, 3, H, W) -> scores (N, K)."""
        return self.head(self.features(images))


def in_parts(function: Callable[[Tensor], Tensor], inputs: Tensor, size: int = PART) -> Tensor:
    """Applies a function to parts of equal size, the last one padded with zeros.

    Libraries choose how they add up by the shape of a batch. With one shape, what is said of an object does not depend
    on which others are asked about at the same time, to the last bit.

    Args:
        function: (size, …) -> (size, …), each row by itself.
        inputs: Shape (N, …).
        size: Rows a part.

    Returns:
        What the function says of each row, shape (N, …).
    """
    found = []
    for part in inputs.split(size):
        padded = torch.cat([part, part.new_zeros(size - len(part), *part.shape[1:])])
        if padded.ndim == 4:
            padded = padded.contiguous(memory_format=torch.channels_last)
        found.append(function(padded)[: len(part)])
    return torch.cat(found)
