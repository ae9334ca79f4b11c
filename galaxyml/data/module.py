"""From a folder of pictures and tables to batches: what all image tasks share."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from galaxyml.data import twins
from galaxyml.data.batches import FeatureBatches, ImageBatches, RowSampler, loader
from galaxyml.data.images import Framing, open_store
from galaxyml.data.splits import TEST, Split
from galaxyml.data.views import Augment, plain
from galaxyml.errors import UserError
from galaxyml.files import known_digest
from galaxyml.novelty import MOST
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


@dataclass(frozen=True)
class Step:
    """One step from a catalogue to the sample: what it asked for, and how many rows were there before and after.

    Attributes:
        what: Such as `has a picture`.
        before: Rows before.
        after: Rows after.
    """

    what: str
    before: int
    after: int


class ImageData(lightning.LightningDataModule):
    """Pictures with targets, split. A task says how its tables are read (`load_tables`).

    Args:
        source: Where the files come from.
        cache_dir: Folder of decoded pictures; `~` is the home folder.
        fold: Fold that is held out for validation.
        split: Deals labelled objects into folds, and a test part where the task's files have none.
        seed: Decides folds and the order of batches.
        framing: What is kept of each picture.
        batch_size: Pictures a step.
        augment: Random views for training; None for plain ones.
        workers: Processes that gather batches; None for 0 without a GPU and 2 with one.
        limit: Largest number of labelled, and of test, objects; None for all.
        separation: Objects closer to each other on the sky, in arcseconds, come into one part of the split, where the
            catalog has `ra` and `dec` (degrees); None to compare pictures alone.

    Attributes:
        catalog: After `setup`: `id`, `image` (path in the folder), `split`, `fold` (-1 in the test split), the targets
            and whatever else the task's tables tell; one row an object.
        targets: Names of the target columns.
        outputs: Names of what is predicted.
        steps: How the catalog came about, from the tables to the sample.
        notes: What a user should know about these files, in sentences.
        made: Tables that a run keeps as CSV, by name.
        pictures: Batches of pictures.
        shown: Batches for training, and for validation and predictions: of pictures, or of their features.
    """

    targets: list[str]
    outputs: list[str]
    tables: tuple[str, ...] = ()  # files whose digests are kept with a run
    shown: dict[bool, Dataset[dict[str, Tensor]]]  # by whether they are for training

    def __init__(
        self,
        source: Source,
        cache_dir: str,
        fold: int,
        split: Split,
        seed: int,
        framing: Framing,
        batch_size: int,
        augment: Augment | None = None,
        workers: int | None = None,
        limit: int | None = None,
        separation: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < split.folds:
            raise UserError(
                f"fold={fold}: with folds={split.folds} it must be a whole number from 0 to {split.folds - 1}. "
                "folds=… changes how many there are."
            )
        self.source = source
        self.cache = Path(cache_dir).expanduser()
        self.fold, self.split, self.seed = fold, split, seed
        self.framing = framing
        self.batch_size = batch_size
        self.augment = augment
        self.workers = workers if workers is not None else 2 * torch.cuda.is_available()
        self.limit = limit
        self.separation = separation
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.made: dict[str, pd.DataFrame] = {}
        self.catalog: pd.DataFrame | None = None

    def load_tables(self, root: Path) -> pd.DataFrame:
        """Reads and checks a task's tables: `id`, `image`, `split` (train or test) and the targets, one row an object.

        Raises:
            DataError: If a table cannot be used.
        """
        raise NotImplementedError  # each task has its own tables

    def caption(self, said: np.ndarray, true: np.ndarray) -> str:
        """A few lines about one object, from its outputs (K,) and its targets."""
        raise NotImplementedError  # each task has its own words

    def alike(self, catalog: pd.DataFrame) -> np.ndarray:
        """Numbers in which all parts of the split should look alike, shape (N, K)."""
        return catalog[self.targets].to_numpy(np.float64)

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """What a loss compares outputs with, row by row."""
        return torch.tensor(catalog[self.targets].to_numpy(np.float32))

    def row_weights(self, rows: Tensor) -> Tensor | None:
        """How often rows are drawn for training; None for once an epoch each."""
        return None

    def setup(self, stage: str | None = None) -> None:
        if self.catalog is not None:
            return
        self.root = self.source.folder()
        catalog = self._limited(self.load_tables(self.root))
        self.store = open_store(self.root, catalog["image"].tolist(), self.framing, self.cache)
        objects = self._objects(catalog)
        labelled = (catalog["split"] == "train").to_numpy()
        fold = np.full(len(catalog), TEST)
        fold[labelled] = self.split(self.alike(catalog[labelled]), derive(self.seed, "folds"), objects[labelled])
        catalog.insert(3, "fold", fold)
        catalog.loc[fold == TEST, "split"] = "test"
        catalog.loc[fold == self.fold, "split"] = "val"
        self.catalog = catalog
        self.targets_of_rows = self.target_tensor(catalog)
        self.pictures = ImageBatches(self.store, self.targets_of_rows)
        self.shown = {True: self.pictures, False: self.pictures}
        for note in self.notes:
            log.info("note: %s", note)

    def kept(self, what: str, before: int, after: int) -> None:
        """Counts a step from the tables to the sample, and tells it at once."""
        self.steps.append(Step(what, before, after))
        log.info("%s: %s of %s kept", what, f"{after:,}", f"{before:,}")

    def use_features(self, features: Tensor, predict_views: int) -> None:
        """Trains and predicts on features of the pictures in their place.

        Args:
            features: Shape (N, views, F), the plain view first.
            predict_views: How many views predictions are averaged over.
        """
        self.shown = {
            training: FeatureBatches(features, self.targets_of_rows, None if training else predict_views)
            for training in (True, False)
        }
        self.workers = 0  # a gather of so little is done faster than it is handed on

    def rows(self, split: str) -> Tensor:
        """Rows of the catalog in one split."""
        assert self.catalog is not None
        return torch.from_numpy(np.flatnonzero(self.catalog["split"] == split))

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        rows = self.rows("train")
        seed = derive(self.seed, "batches", self.fold)
        return loader(self.shown[True], RowSampler(rows, self.batch_size, seed, self.row_weights(rows)), self.workers)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self.plain_loader("val")

    def predict_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """Validation objects, training objects (to know what they look like to the net), and test objects if any."""
        found = [self.plain_loader("val"), self.plain_loader("train", limit=MOST)]
        return [*found, self.plain_loader("test")] if len(self.rows("test")) else found

    def plain_loader(self, split: str, limit: int | None = None) -> DataLoader[dict[str, Tensor]]:
        """Objects of a split in the catalog's order; of more than `limit` some that are drawn by the seed."""
        rows = self.rows(split)
        if limit is not None and len(rows) > limit:
            drawing = torch.Generator().manual_seed(derive(self.seed, "some rows"))
            rows = rows[torch.randperm(len(rows), generator=drawing)[:limit]].sort().values
        return loader(self.shown[False], RowSampler(rows, self.batch_size), self.workers)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        if "features" in batch:
            return batch
        training = self.trainer is not None and self.trainer.training
        view = self.augment if training and self.augment is not None else plain
        return {**batch, "image": view(batch["image"], self.framing.size)}

    def digests(self) -> dict[str, str]:
        """SHA-256 of each of the task's tables that is there."""
        paths = {name: self.source.path / name for name in self.tables}
        return {name: known_digest(path, self.cache) for name, path in paths.items() if path.is_file()}

    def provenance(self) -> dict[str, Any]:
        """What a run must know of its data to be repeated."""
        assert self.catalog is not None
        counts = {split: int((self.catalog["split"] == split).sum()) for split in SPLITS}
        files = {"source": self.source.name, "folder": str(self.root.resolve())}
        steps = [asdict(step) for step in self.steps]
        told = {"steps": steps, "notes": self.notes, "made": list(self.made)}
        return {**files, "sha256": self.digests(), "objects": counts, **told}

    def _limited(self, catalog: pd.DataFrame) -> pd.DataFrame:
        if self.limit is None:
            return catalog
        shuffled = catalog.sample(frac=1, random_state=derive(self.seed, "limit"))
        kept = shuffled.groupby("split").head(self.limit).sort_index()
        if len(kept) < len(catalog):
            self.notes.append(f"limit={self.limit}: {len(kept):,} of {len(catalog):,} objects are used.")
        return kept.reset_index(drop=True)

    def _objects(self, catalog: pd.DataFrame) -> np.ndarray:
        """A number an object, the same for those that are one object under several names; notes what it finds."""
        same = twins.equal_pairs(self.store.digests)
        self.notes += twins.told(catalog, same, "pictures")
        if self.separation is None or not {"ra", "dec"} <= set(catalog.columns):
            return twins.joined(len(catalog), same)
        near = twins.near_pairs(catalog["ra"].to_numpy(float), catalog["dec"].to_numpy(float), self.separation)
        self.notes += twins.told(catalog, near, f"positions within {self.separation:g} arcsec")
        return twins.joined(len(catalog), np.concatenate([same, near]))
