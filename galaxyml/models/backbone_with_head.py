"""The contract of nets that can be tuned in phases: `features` of images, and a `head` on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PART = 32  # images that are computed at once, at most
FEWEST = 8  # at least, of however large ones
CACHED = 20_000_000  # bytes of a layer's output that a CPU's caches hold about


class BackboneWithHead(nn.Module):
    """A net whose scores are `head(features(images))`.

    Any other net can be trained as a whole. One of these can also be tuned by its head alone, with features that are
    computed once (`tune=head`), by low-rank matrices beside its backbone (`tune=lora`), with a learning rate of its own
    for each layer, and by features averaged over views (`Symmetric`); distances between features tell which images are
    out of distribution. A subclass sets both attributes in its constructor and needs no `forward`.

    Attributes:
        features: A module, or a method, that takes images in [0, 1], shape (N, C, H, W), to features (N, F), each row
            by itself. Its parameters are all of the net's but the head's.
        head: A module that takes features (N, F) to scores (N, K) before any activation.
        known_symmetries: How many of the 8 symmetries of the square the net need not see, as it tells their features
            from those of the image itself (`symmetric_features`); of most nets only the first, the image.

    >>> net = BackboneWithHead()
    >>> net.features = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    >>> net.head = nn.Linear(12, 5)
    >>> net(torch.rand(4, 3, 32, 32)).shape
    torch.Size([4, 5])
    """

    features: Any
    head: nn.Module
    known_symmetries: int = 1

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], shape (N, C, H, W) -> scores (N, K)."""
        return self.head(self.features(images))

    def symmetric_features(self, features: Tensor, symmetry: int) -> Tensor:
        """Features of images under one of the first `known_symmetries` of the square, from those of the images.

        Args:
            features: Of the images, shape (N, F).
            symmetry: Numbered as in `galaxyml.data.images.views.symmetric`.

        Returns:
            Shape (N, F), what the net would find in these views, to rounding.
        """
        return features


def hidden_layer(features: int, hidden: int, dropout: float, outputs: int) -> nn.Sequential:
    """A head with one hidden layer: features (N, F) -> scores (N, K); dropout leaves hidden units out."""
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, makes torch compute in one thread while the block runs.

    Libraries split the sums of a product of few rows between threads, so that its last digits depend on how many there
    are. Convolutions, and products of many rows, do not.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def rows_at_once(net: nn.Module, images: Tensor) -> int:
    """How many images a net computes fastest at once on a CPU: as many as let a layer's output stay in its caches.

    Args:
        net: In evaluation; it sees one image, by which its largest layer is found.
        images: Shape (N, C, H, W).

    Returns:
        A power of two from `FEWEST` to `PART`, which depends on the net and on the shape of an image alone; `PART` on
        other devices.
    """
    if images.device.type != "cpu" or not len(images):
        return PART
    largest = 1

    def measure(_: nn.Module, __: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, 4 * output.numel())

    hooks = [module.register_forward_hook(measure) for module in net.modules() if not list(module.children())]
    try:
        with torch.inference_mode():
            net(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return min(max(1 << (CACHED // largest).bit_length() - 1, FEWEST), PART)


def in_parts(function: Callable[[Tensor], Tensor], inputs: Tensor, rows: int = PART) -> Tensor:
    """Applies a function to chunks of so many rows, the last one padded with zeros.

    Libraries choose how they add up by the shape of a batch. With one shape, an object's output does not depend on
    which others are in the batch, to the last bit.

    Args:
        function: (rows, …) -> (rows, …), each row by itself.
        inputs: Shape (N, …).
        rows: Of a chunk.

    Returns:
        The function's value of each row, shape (N, …).
    """
    outputs = []
    for chunk in inputs.split(rows):
        missing = rows - len(chunk)
        padded = torch.cat([chunk, chunk.new_zeros(missing, *chunk.shape[1:])]) if missing else chunk
        if padded.ndim == 4:
            padded = padded.contiguous(memory_format=torch.channels_last)
        outputs.append(function(padded)[: len(chunk)])
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]
