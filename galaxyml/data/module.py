"""From a folder of pictures and tables to batches: what all image tasks share."""

import logging
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from galaxyml.data.batches import ImageBatches, RowSampler, loader
from galaxyml.data.folds import assign_folds
from galaxyml.data.images import Framing, open_store
from galaxyml.data.views import Augment, plain
from galaxyml.errors import UserError, some
from galaxyml.files import file_digest
from galaxyml.seeds import derive

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


class Source(Protocol):
    """Where the files of a task come from: a folder of real ones, or the simulated sky."""

    @property
    def name(self) -> str:
        """What the files are, in words."""

    @property
    def path(self) -> Path:
        """Their folder, which a simulated sky may still have to be drawn into."""

    def folder(self) -> Path:
        """The folder that holds the task's files; a simulated sky is drawn first if it is not there."""


class ImageData(lightning.LightningDataModule):
    """Pictures with targets, in folds. A task says how its tables are read (`load_tables`).

    Args:
        source: Where the files come from.
        cache_dir: Folder of decoded pictures; `~` is the home folder.
        fold: Fold that is held out for validation, 0 to `folds` - 1.
        folds: Number of folds.
        seed: Decides folds and the order of batches.
        framing: What is kept of each picture.
        batch_size: Pictures a step.
        augment: Random views for training; None for plain ones.
        workers: Processes that gather batches; None for 0 without a GPU and 2 with one.
        limit: Largest number of labelled, and of test, objects; None for all.

    Attributes:
        catalog: After `setup`: `id`, `image` (path in the folder), `split`, `fold` (-1 in the test split) and the
            targets; one row an object.
        targets: Names of the target columns.
        notes: What a user should know about these files, in sentences.
    """

    targets: list[str]
    tables: tuple[str, ...] = ()  # files whose digests are kept with a run

    def __init__(
        self,
        source: Source,
        cache_dir: str,
        fold: int,
        folds: int,
        seed: int,
        framing: Framing,
        batch_size: int,
        augment: Augment | None = None,
        workers: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < folds:
            raise UserError(
                f"fold={fold}: with folds={folds} it must be a whole number from 0 to {folds - 1}. "
                "folds=… changes how many there are."
            )
        self.source = source
        self.cache = Path(cache_dir).expanduser()
        self.fold, self.folds, self.seed = fold, folds, seed
        self.framing = framing
        self.batch_size = batch_size
        self.augment = augment
        self.workers = workers if workers is not None else 2 * torch.cuda.is_available()
        self.limit = limit
        self.notes: list[str] = []
        self.catalog: pd.DataFrame | None = None

    def load_tables(self, root: Path) -> pd.DataFrame:
        """Reads and checks a task's tables: `id`, `image`, `split` (train or test) and the targets, one row an object.

        Raises:
            DataError: If a table cannot be used.
        """
        raise NotImplementedError  # each task has its own tables

    def caption(self, said: np.ndarray, true: np.ndarray) -> str:
        """A few lines about one object, from its outputs and targets, each of shape (K,)."""
        raise NotImplementedError  # each task has its own words

    def setup(self, stage: str | None = None) -> None:
        if self.catalog is not None:
            return
        self.root = self.source.folder()
        catalog = self._limited(self.load_tables(self.root))
        self.store = open_store(self.root, catalog["image"].tolist(), self.framing, self.cache)
        pictures = np.unique(self.store.digests, return_inverse=True)[1]
        self._report_twins(catalog, pictures)
        labelled = (catalog["split"] == "train").to_numpy()
        fold = np.full(len(catalog), -1)
        fold[labelled] = assign_folds(
            catalog.loc[labelled, self.targets].to_numpy(), self.folds, derive(self.seed, "folds"), pictures[labelled]
        )
        catalog.insert(3, "fold", fold)
        catalog.loc[fold == self.fold, "split"] = "val"
        self.catalog = catalog
        targets = torch.tensor(catalog[self.targets].to_numpy(np.float32))
        self.batches = ImageBatches(self.store, targets)
        for note in self.notes:
            log.info("note: %s", note)

    def rows(self, split: str) -> Tensor:
        """Rows of the catalog in one split."""
        assert self.catalog is not None
        return torch.from_numpy(np.flatnonzero(self.catalog["split"] == split))

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        sampler = RowSampler(self.rows("train"), self.batch_size, seed=derive(self.seed, "batches", self.fold))
        return loader(self.batches, sampler, self.workers)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._plain("val")

    def predict_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._plain("val", "test")

    def _plain(self, *splits: str) -> DataLoader[dict[str, Tensor]]:
        """Objects of some splits in the catalog's order."""
        rows = torch.cat([self.rows(split) for split in splits]).sort().values
        return loader(self.batches, RowSampler(rows, self.batch_size), self.workers)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        training = self.trainer is not None and self.trainer.training
        view = self.augment if training and self.augment is not None else plain
        return {**batch, "image": view(batch["image"], self.framing.size)}

    def digests(self) -> dict[str, str]:
        """SHA-256 of each of the task's tables that is there."""
        paths = {name: self.source.path / name for name in self.tables}
        return {name: file_digest(path) for name, path in paths.items() if path.is_file()}

    def provenance(self) -> dict[str, Any]:
        """What a run must know of its data to be repeated."""
        assert self.catalog is not None
        counts = {split: int((self.catalog["split"] == split).sum()) for split in SPLITS}
        files = {"source": self.source.name, "folder": str(self.root.resolve())}
        return {**files, "sha256": self.digests(), "objects": counts, "notes": self.notes}

    def _limited(self, catalog: pd.DataFrame) -> pd.DataFrame:
        if self.limit is None:
            return catalog
        shuffled = catalog.sample(frac=1, random_state=derive(self.seed, "limit"))
        kept = shuffled.groupby("split").head(self.limit).sort_index()
        if len(kept) < len(catalog):
            self.notes.append(f"limit={self.limit}: {len(kept):,} of {len(catalog):,} objects are used.")
        return kept.reset_index(drop=True)

    def _report_twins(self, catalog: pd.DataFrame, pictures: np.ndarray) -> None:
        """Notes pictures that occur twice: folds keep them together, but the test split is given."""
        twins = catalog.assign(picture=pictures)[pd.Series(pictures).duplicated(keep=False).to_numpy()]
        pairs = twins.groupby("picture")
        leaked = [part["id"].tolist() for _, part in pairs if len(set(part["split"])) > 1]
        inside = [part["id"].tolist() for _, part in pairs if len(set(part["split"])) == 1]
        if leaked:
            shown = some([" = ".join(map(str, ids)) for ids in leaked])
            self.notes.append(f"pictures that are in training and in test at once ({len(leaked)}): {shown}.")
        if inside:
            shown = some([" = ".join(map(str, ids)) for ids in inside])
            self.notes.append(f"pictures under several ids ({len(inside)}): {shown}; each stays within one fold.")
