"""Images of any number of channels as people can see them."""

import numpy as np

MANY = 5  # bands, of which the outermost are not shown


def visible(pixels: np.ndarray) -> np.ndarray:
    """Red, green and blue of images: grey stays grey, and of bands the last, the middle and the first are shown.

    Of five and more the outermost are left out: in u and z a galaxy is faint, and r alone would colour it.

    Args:
        pixels: Shape (..., C); three channels are red, green and blue, any other number bands from blue to red.

    Returns:
        The same type, shape (..., 3); of two bands green is their mean.

    >>> visible(np.array([1, 2, 3, 4, 5])), visible(np.array([7]))
    (array([4, 3, 2]), array([7, 7, 7]))
    """
    count = pixels.shape[-1]
    if count == 3:
        return pixels
    if count == 2:
        between = pixels.mean(axis=-1).astype(pixels.dtype)
        return np.stack([pixels[..., 1], between, pixels[..., 0]], axis=-1)
    ends = 1 if count >= MANY else 0
    return pixels[..., [count - 1 - ends, count // 2, ends]]
