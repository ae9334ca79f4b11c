"""Random numbers that depend on the seed and the purpose alone, so that one purpose can change without the others."""

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *purpose: object) -> int:
    """A seed for one purpose, such as `derive(0, "epoch", 3)`; 0 to 2**32 - 1, as NumPy takes it.

    >>> derive(0, "epoch", 3) == derive(0, "epoch", 3) != derive(0, "epoch", 4)
    True
    """
    return int.from_bytes(hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=4).digest())


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Torch's random numbers for one purpose, on the CPU."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def seed_all(seed: int, *purpose: object) -> None:
    """Starts the global random numbers of Python, NumPy and torch (all devices) anew."""
    number = derive(seed, *purpose)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - libraries draw from the global one
    torch.manual_seed(number)
