"""From a folder of pictures and tables to batches: what all image tasks share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from galaxyml.data import duplicates
from galaxyml.data.batches import FeatureBatches, ImageBatches, rows_of_all
from galaxyml.data.catalog import CatalogData, as_text
from galaxyml.data.images.store import Framing, open_store
from galaxyml.data.images.views import Augment, plain
from galaxyml.data.splits import TEST
from galaxyml.evaluation.out_of_distribution import MOST
from galaxyml.runs.seeds import derive

SHOWN = 12  # targets that people colour objects by


class ImageData(CatalogData):
    """Pictures with targets, split. A task says how its tables are read (`load_tables`).

    Args:
        framing: What is kept of each picture.
        augment: Random views for training; None for plain ones.
        separation: Objects closer to each other on the sky, in arcseconds, come into one part of the split, where the
            catalog has `ra` and `dec` (degrees); None to compare pictures alone.
        **options: As for CatalogData.

    Attributes:
        catalog: Has also `image` (path in the folder) and the targets.
        targets: Names of the target columns.
        outputs: Names of what is predicted.
        pictures: Batches of pictures.
        shown: Batches of pictures, or of their features.
        gatherers: Processes that gather batches of pictures.
    """

    things = "galaxies"
    targets: list[str]
    outputs: list[str]

    def __init__(
        self, framing: Framing, augment: Augment | None = None, separation: float | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.framing = framing
        self.augment = augment
        self.separation = separation

    def load_tables(self, root: Path) -> pd.DataFrame:
        """Reads and checks a task's tables: `id`, `image`, `split` (train or test) and the targets, one row an object.

        Raises:
            DataError: If a table cannot be used.
        """
        raise NotImplementedError  # each task has its own tables

    def caption(self, said: np.ndarray, true: np.ndarray) -> str:
        """A few lines about one object, from its outputs (K,) and its targets."""
        raise NotImplementedError  # each task has its own words

    def shown_of(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """What is known of some objects, one row each, as text: their id, and what a person would colour them by."""
        return as_text(catalog, ["id", "survey", *self.targets[:SHOWN]])

    def screen(self, catalog: pd.DataFrame, objects: np.ndarray) -> pd.DataFrame:
        """The catalog without what must not be learnt from, known once its pictures are decoded.

        Args:
            catalog: With `id` and `split`; rows stay where they are.
            objects: A number an object, the same for rows that are one object, shape (N,).
        """
        return catalog

    def alike(self, catalog: pd.DataFrame) -> np.ndarray:
        """Numbers in which all parts of the split should look alike, shape (N, K)."""
        return catalog[self.targets].to_numpy(np.float64)

    def trivial(self) -> Tensor:
        """What a net would say that sees no picture: the means over the training objects, shape (K,)."""
        return self.targets_of_rows[self.rows("train")].nanmean(dim=0)

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """What a loss compares outputs with, row by row."""
        return torch.tensor(catalog[self.targets].to_numpy(np.float32))

    def setup(self, stage: str | None = None) -> None:
        if self.catalog is not None:
            return
        root = self.source.folder()
        catalog = self.limited(self.load_tables(root))
        self.store = open_store(root, catalog["image"].tolist(), self.framing, self.cache)
        objects = self._objects(catalog)
        catalog = self.screen(catalog, objects)
        labelled = (catalog["split"] == "train").to_numpy()
        fold = np.full(len(catalog), TEST)
        fold[labelled] = self.split(self.alike(catalog[labelled]), derive(self.seed, "folds"), objects[labelled])
        catalog.insert(3, "fold", fold)
        catalog.loc[labelled & (fold == TEST), "split"] = "test"
        catalog.loc[fold == self.fold, "split"] = "val"
        self.catalog = catalog
        self.targets_of_rows = self.target_tensor(catalog)
        self.pictures = ImageBatches(self.store, self.targets_of_rows)
        self.gatherers = self.workers
        self.use_pictures()

    def use_pictures(self) -> None:
        """Trains and predicts on pictures."""
        self.shown = {True: self.pictures, False: self.pictures}
        self.workers = self.gatherers

    @contextmanager
    def pictures_shown(self) -> Iterator[None]:
        """Predicts on pictures meanwhile, whatever is trained on."""
        before = self.shown, self.workers
        self.use_pictures()
        yield
        self.shown, self.workers = before

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

    def predict_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """Validation objects, training objects (to know what they look like to the net), and test objects if any."""
        found = [self.plain_loader("val"), self.plain_loader("train", limit=MOST)]
        return [*found, self.plain_loader("test")] if len(self.rows("test")) else found

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        if "features" in batch:
            return batch
        training = self.trainer is not None and self.trainer.training
        if training and self.augment is not None:
            image = self.augment(batch["image"], self.framing.size, rows_of_all(batch))
        else:
            image = plain(batch["image"], self.framing.size)
        seen = {**batch, "image": image}
        predicting = self.trainer is not None and self.trainer.predicting
        return {**seen, "pixels": batch["image"]} if predicting else seen

    def _objects(self, catalog: pd.DataFrame) -> np.ndarray:
        """A number an object, the same for those that are one object under several names; notes what it finds."""
        same = duplicates.equal_pairs(self.store.digests)
        self.notes += duplicates.told(catalog, same, "pictures")
        if self.separation is None or not {"ra", "dec"} <= set(catalog.columns):
            return duplicates.joined(len(catalog), same)
        near = duplicates.near_pairs(catalog["ra"].to_numpy(float), catalog["dec"].to_numpy(float), self.separation)
        self.notes += duplicates.told(catalog, near, f"positions within {self.separation:g} arcsec")
        return duplicates.joined(len(catalog), np.concatenate([same, near]))
