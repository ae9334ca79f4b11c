"""Images of any number of channels as people can see them."""

import numpy as np


def visible(pixels: np.ndarray) -> np.ndarray:
    """Red, green and blue of images: grey stays grey, and of bands the last, the middle and the first are shown.

    Args:
        pixels: Shape (..., C); three channels are red, green and blue, any other number bands from blue to red.

    Returns:
        The same type, shape (..., 3); of two bands green is their mean.

    >>> visible(np.array([1, 2, 3, 4, 5])), visible(np.array([7]))
    (array([5, 3, 1]), array([7, 7, 7]))
    """
    count = pixels.shape[-1]
    if count == 3:
        return pixels
    if count == 2:
        between = pixels.mean(axis=-1).astype(pixels.dtype)
        return np.stack([pixels[..., 1], between, pixels[..., 0]], axis=-1)
    return pixels[..., [count - 1, count // 2, 0]]
