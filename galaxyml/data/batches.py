"""Batches by one gather: rows of a catalog in, a dict of tensors out."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from galaxyml.data.images.store import ImageStore
from galaxyml.runs import ranks
from galaxyml.runs.seeds import generator


class ImageBatches(Dataset[dict[str, Tensor]]):
    """A batch for a list of rows: `index` (B,), `image` (B, side, side, C) uint8 and `target` (B, K) or (B,).

    Args:
        store: Images, in the catalog's order.
        targets: What is known of each: numbers (N, K), rows of NaN where nothing is, or classes (N,), -1 where none is.
    """

    def __init__(self, store: ImageStore, targets: Tensor) -> None:
        self.store = store
        self.targets = targets

    def __getitem__(self, rows: Tensor) -> dict[str, Tensor]:
        return {"index": rows, "image": self.store.gather(rows), "target": self.targets[rows]}


class FeatureBatches(Dataset[dict[str, Tensor]]):
    """A batch for a list of rows: `index` (B,), `features` (B, V, F) and `target`, as ImageBatches has them.

    Args:
        features: What a frozen backbone says of several views of each image, shape (N, views, F).
        targets: As for ImageBatches.
        shown: How many views a batch has, V, the plain one first; None for one, drawn from torch's global random
            numbers.
    """

    def __init__(self, features: Tensor, targets: Tensor, shown: int | None) -> None:
        self.features = features
        self.targets = targets
        self.shown = shown

    def __getitem__(self, rows: Tensor) -> dict[str, Tensor]:
        count, views, width = self.features.shape
        if self.shown is None:
            chosen = torch.randint(views, (len(rows), 1))
        else:
            chosen = torch.arange(self.shown).expand(len(rows), -1)
        flat = self.features.view(count * views, width)  # only what is shown is read from disk
        found = flat.index_select(0, (rows[:, None] * views + chosen).flatten()).view(len(rows), -1, width)
        return {"index": rows, "features": found, "target": self.targets[rows]}


class ShardedBatches(Dataset[dict[str, Any]]):
    """Each process's share of the batches of a job that several work on; together they are the batches of one.

    A batch has also `of`, its rows in all processes. One of fewer rows than processes, an epoch's last, is given whole
    to each of them.

    Args:
        batches: Gives a batch for a tensor of rows.
    """

    def __init__(self, batches: Dataset[dict[str, Tensor]]) -> None:
        self.batches = batches

    def __getitem__(self, rows: Tensor) -> dict[str, Any]:
        mine = ranks.share(len(rows))
        if not isinstance(self.batches, FeatureBatches):
            return {**self.batches[rows[mine]], "of": len(rows)}
        with ranks.shared_rng():  # it draws views, for all of the rows
            whole = self.batches[rows]
        return {**{name: values[mine] for name, values in whole.items()}, "of": len(rows)}


def rows_of_all(batch: Mapping[str, Any]) -> int:
    """Rows of a batch, in all processes that it was dealt out to."""
    return batch.get("of", len(batch["index"]))


class RowSampler(Sampler[Tensor]):
    """Deals rows into batches; the order follows from the seed and the epoch alone, so a resumed run meets the same.

    Args:
        rows: Rows of the catalog, shape (N,).
        batch_size: Rows a batch; the last one may have fewer, or one more.
        seed: Seed of the order; None keeps the order as it is.
        weights: How often a row is drawn relative to others, shape (N,); an epoch then draws N rows with replacement.
            None deals each row once.

    Attributes:
        skip: Batches that the next epoch leaves out at its beginning, as they were dealt before a run was broken off.
    """

    def __init__(self, rows: Tensor, batch_size: int, seed: int | None = None, weights: Tensor | None = None) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.weights = weights
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        # A generator, as Lightning makes the iterator of a resumed run before it knows the epoch.
        rows = self.rows
        if self.seed is not None:
            drawing = generator(self.seed, "order", self.epoch)
            if self.weights is None:
                rows = rows[torch.randperm(len(rows), generator=drawing)]
            else:
                rows = rows[torch.multinomial(self.weights, len(rows), replacement=True, generator=drawing)]
        first, self.skip = self.skip, 0
        yield from rows.split(self._sizes())[first:]

    def __len__(self) -> int:
        return len(self._sizes())

    def _sizes(self) -> list[int]:
        """Rows of each batch. A single one at the end joins the batch before: batch norm cannot train on it."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        sizes = [self.batch_size] * whole + [rest] * (rest > 0)
        return [*sizes[:-2], sizes[-2] + 1] if rest == 1 and whole else sizes


class BatchLoader(DataLoader[dict[str, Tensor]]):
    """A DataLoader that knows how far it has come in an epoch, and can go on from there.

    Lightning makes the iterator of a resumed run before it knows the epoch; this one begins when the first batch is
    asked for, so that processes do not gather batches of another epoch.
    """

    sampler: RowSampler
    given = 0

    def __iter__(self) -> Any:
        self.given = self.sampler.skip
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of the current epoch were given."""
        return {"given": self.given % len(self)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on after so many batches of the next epoch that is begun."""
        self.sampler.skip = state_dict["given"]


def loader(batches: Dataset[dict[str, Tensor]], sampler: RowSampler, workers: int) -> BatchLoader:
    """A DataLoader whose items are whole batches, or this process's share of them.

    Args:
        batches: Gives a batch for a tensor of rows.
        sampler: Which rows, in which order.
        workers: Processes that gather ahead; 0 gathers in this one, which is fastest without a GPU.
    """
    return BatchLoader(
        batches if ranks.world_size() == 1 else ShardedBatches(batches),
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # of its own: a resumed run must not draw from the global one more often
    )
