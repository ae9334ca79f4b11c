"""Arrays on disk as tensors whose pages all processes of a machine share, however large they are."""

import mmap
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from galaxyml.runs.errors import DataError

LARGE = 0.25  # share of the memory
_CAN_ADVISE = hasattr(mmap, "MADV_RANDOM") and hasattr(mmap, "MADV_WILLNEED")  # not on Windows


def map_file(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[mmap.mmap, Tensor]:
    """A file of numbers, mapped into memory to be read only, which may be larger than the memory.

    A mapping that could be written to, as of `torch.from_file(shared=False)`, counts as memory that may be asked for:
    Linux refuses one that exceeds memory and swap together (vm.overcommit_memory=0, the default).

    Args:
        path: The file.
        shape: Of the array.
        dtype: Of its numbers.

    Returns:
        The mapping, and the array as a tensor. To write to it ends the process.

    Raises:
        DataError: If the file is shorter than that.
    """
    needed = torch.Size(shape).numel() * dtype.itemsize
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < needed:
            raise DataError(
                f"{path} is cut off: it has {size:,} bytes of {needed:,}. Delete {path.parent}, then run the same "
                "command, which makes it again."
            )
        mapping = mmap.mmap(file.fileno(), needed, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return mapping, torch.frombuffer(mapping, dtype=dtype).view(shape)


class MappedRows:
    """Rows of an array on disk in any order.

    Of an array that takes more than a quarter of the memory each row is read by itself: what lies around it would be
    gone before its turn comes. A smaller one is soon in memory whole, by what the disk reads ahead.

    Args:
        path: The file.
        shape: Of the array, whose rows are along its first axis.
        dtype: Of its numbers.

    Attributes:
        values: The array, mapped from disk.

    Raises:
        DataError: If the file is shorter than that.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self._mapping, self.values = map_file(path, shape, dtype)
        self._row_bytes = len(self._mapping) // shape[0]
        self._is_large = _CAN_ADVISE and len(self._mapping) > LARGE * _memory()
        if self._is_large:
            self._mapping.madvise(mmap.MADV_RANDOM)

    def gather(self, rows: Tensor) -> Tensor:
        """Some rows, one copy; of a large array all are asked of the disk before the first is waited for.

        Args:
            rows: Shape (B,).

        Returns:
            Shape (B, ...).
        """
        if self._is_large:
            for row in rows.tolist():
                start = row * self._row_bytes
                page = start - start % mmap.PAGESIZE
                self._mapping.madvise(mmap.MADV_WILLNEED, page, start + self._row_bytes - page)
        return self.values.index_select(0, rows)


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
