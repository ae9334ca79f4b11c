"""How often each value of a byte is in images, by a compiled loop: what sorting says, in a fraction of its time.

numba compiles it when this module is imported the first time on a machine, which takes a second, and keeps it.
"""

from contextlib import suppress

import numba
import numpy as np

VALUES = 256


@numba.njit(nogil=True)
def count_bytes(images, rim):
    """Counts the values of pixels, of their differences from their neighbours, and of the rim.

    Args:
        images: uint8 of shape (N, H, W, C).
        rim: How many rows at the upper and at the lower edge are the rim; together at most H.

    Returns:
        Counts, int32 of shape (4, N, C, 256): of the values, of how they differ (without sign) from those one and two
        to their left, and of the rim's values; and sums of the products of the channels, two by two, int64 (N, C, C).
    """
    count, height, width, channels = images.shape
    counts = np.zeros((4, count, channels, VALUES), np.int32)
    products = np.zeros((count, channels, channels), np.int64)
    for image in range(count):
        for channel in range(channels):
            every, next_to, two_away, of_rim = counts[:, image, channel]
            for y in range(height):
                row = images[image, y]
                in_rim = y < rim or y >= height - rim
                before = two_before = 0
                for x in range(width):
                    value = int(row[x, channel])
                    every[value] += 1
                    if x >= 1:
                        next_to[abs(value - before)] += 1
                    if x >= 2:
                        two_away[abs(value - two_before)] += 1
                    two_before, before = before, value
                    if in_rim:
                        of_rim[value] += 1
            for other in range(channel):
                total = 0
                for y in range(height):
                    row = images[image, y]
                    for x in range(width):
                        total += int(row[x, channel]) * int(row[x, other])
                products[image, channel, other] = products[image, other, channel] = total
            total = 0
            for value in range(VALUES):
                total += int(every[value]) * value * value
            products[image, channel, channel] = total
    return counts, products


@numba.njit(nogil=True)
def values_at(counts, places):
    """Values at some places of their order.

    Args:
        counts: Of each value, shape (N, C, 256).
        places: From 0 on, the lowest first, shape (P,).

    Returns:
        Shape (N, C, P).
    """
    images, channels, _ = counts.shape
    found = np.empty((images, channels, len(places)), np.int64)
    for image in range(images):
        for channel in range(channels):
            value = 0
            up_to = counts[image, channel, 0]
            for number, place in enumerate(places):
                while up_to <= place:
                    value += 1
                    up_to += counts[image, channel, value]
                found[image, channel, number] = value
    return found


for compiled in (count_bytes, values_at):
    with suppress(RuntimeError):  # there is no folder that numba may keep it in
        compiled.enable_caching()
values_at(count_bytes(np.zeros((1, 1, 1, 1), np.uint8), 0)[0][0], np.zeros(1, np.int64))
