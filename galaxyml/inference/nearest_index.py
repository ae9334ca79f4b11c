"""An index of features on disk, by FAISS, for more objects than are compared one by one."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from galaxyml.evaluation.nearest import Blocks, Standardisation, check_queries
from galaxyml.runs.errors import UsageError
from galaxyml.runs.files import atomic_write, file_lock
from galaxyml.runs.progress import say

VERSION = 1  # of the files; raise it when the same features would get another index
EACH = 64  # rows a list that the lists are found by
SEARCHED = 8  # one in so many lists is searched
FEWEST = 16  # lists that are searched at least
SUFFIX, ABOUT = ".faiss", ".npz"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class NearestIndex:
    """Finds rows that are like others by an index: nearly all of the nearest, without a look at most rows.

    An inverted file (Sivic & Zisserman 2003): standardised rows are dealt into lists by k-means, and the lists whose
    centres are most like the query are searched. Rows are kept there in half precision.

    Attributes:
        file: The index.
        standard: Mean and spread of the rows that it was made of.
    """

    file: Path
    standard: Standardisation

    @classmethod
    def open(cls, folder: Path, state: str, blocks: Blocks) -> Self:
        """Opens the index in a folder; makes it anew if it is not there, or of features that have changed.

        Args:
            folder: Where it is kept; what was kept there of another state is removed.
            state: A name for the features as they are now.
            blocks: Gives the features, as of `galaxyml.evaluation.nearest.Nearest`; it goes to another process.

        Raises:
            UsageError: If FAISS is not installed.
            DataError: If a feature is not finite, or the folder cannot be written.
        """
        check_installed()
        file = folder / f"{state}-{VERSION}{SUFFIX}"
        if not file.is_file():
            with file_lock(file):
                if not file.is_file():
                    say(f"Making an index of the features, once: {file}")
                    for other in [*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*{ABOUT}")]:
                        other.unlink(missing_ok=True)
                    _apart(_build, file, blocks)
        with np.load(file.with_suffix(ABOUT)) as about:
            return cls(file, Standardisation(int(about["count"]), about["mean"], about["spread"]))

    def query(self, features: np.ndarray, count: int) -> np.ndarray:
        """Rows that are nearest to each of Q queries, nearly always.

        Args:
            features: Of the queries, shape (Q, F).
            count: How many are wanted, k; all N rows where there are no more.

        Returns:
            Int64 of shape (Q, k), by similarities in half precision, the most alike first.

        Raises:
            UserError: If `count` is less than 1, or queries have another number of features.
        """
        queries = check_queries(features, count, len(self.standard.mean))
        wanted = self.standard.unit(queries)
        return _apart(_search, self.file, wanted, min(count, self.standard.count))


def check_installed() -> None:
    """Raises UsageError if FAISS is not installed."""
    if find_spec("faiss") is None:
        raise UsageError(
            "More than a million objects are searched by an index, which needs FAISS: pip install 'galaxyml[index]'. "
            "--exact compares all of them without one."
        )


def lists(count: int) -> int:
    """Number of lists of an index of so many rows: a power of two near twice their root.

    >>> lists(1_000_000), lists(100)
    (2048, 16)
    """
    return max(2 ** round(np.log2(2 * max(count, 1) ** 0.5)), 1)


def _apart(work: Callable[..., Answer], *arguments: Any) -> Answer:
    """Calls a function in a process of its own.

    FAISS and torch bring an OpenMP each, and crash within one process on macOS (faiss-wheels/faiss-wheels#73).
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _build(file: Path, blocks: Blocks) -> None:
    """Writes an index."""
    import faiss

    standard = Standardisation.fit(blocks())
    number = lists(standard.count)
    width = len(standard.mean)
    index = faiss.index_factory(width, f"IVF{number},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # which it warns of, where rows are few
    step = max(standard.count // (number * EACH), 1)
    start, some = 0, []
    for block in blocks():
        some.append(standard.unit(block[-start % step :: step]))
        start += len(block)
    index.train(np.concatenate(some))
    for block in blocks():
        index.add(standard.unit(block))
    with atomic_write(file.with_suffix(ABOUT)) as draft, draft.open("wb") as stream:
        np.savez(stream, count=standard.count, mean=standard.mean, spread=standard.spread)
    with atomic_write(file) as draft:
        faiss.write_index(index, str(draft))


def _search(file: Path, wanted: np.ndarray, count: int) -> np.ndarray:
    """Rows of an index that are most like standardised queries; of the lists only what is searched is read."""
    import faiss

    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    index.nprobe = min(max(index.nlist // SEARCHED, FEWEST), index.nlist)
    _, rows = index.search(wanted, count)
    while (rows < 0).any() and index.nprobe < index.nlist:  # the lists hold fewer rows than that
        index.nprobe = min(4 * index.nprobe, index.nlist)
        _, rows = index.search(wanted, count)
    return rows
