"""From a folder of images and tables to batches: what all image tasks share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils.data import DataLoader

from galaxyml.data import duplicates
from galaxyml.data.batches import FeatureBatches, ImageBatches, rows_of_all
from galaxyml.data.catalog import CatalogData
from galaxyml.data.images.decode import choice
from galaxyml.data.images.decoding import as_decoding
from galaxyml.data.images.store import Framing, by_reason, open_store
from galaxyml.data.images.views import Augment, RandomViews, plain
from galaxyml.runs.errors import DataError, shorten

VIEWS = Augment(zoom=1.1, shift=0.04, colour=0.1)  # random views that suit most surveys
RGB = 3  # channels that need no word
MOST_TRAINING = 10_000  # training objects that are predicted, too, to know what they look like to a model


class ImageData(CatalogData):
    """Images with targets, split. A task says how its tables are read (`load_tables`).

    Args:
        source: As for CatalogData.
        size: Side in pixels of what a model sees.
        crop: Central part of each image that is seen, as a fraction of its side.
        margin: What is stored around it, relative to `size`, so that turned views show true sky.
        augment: Random views for training: an `Augment`, or a function as it is; None or False for plain ones.
        separation: Objects closer to each other on the sky, in arcseconds, come into one part of the split, where the
            catalog has `ra` and `dec` (degrees); None to compare images alone.
        channels: Channels of an image, C: 1 is grey, 3 is RGB, any other number bands in their order.
        stretch: How brightness that is no colour of 8 bits becomes one: `asinh`, `linear`, `zscale`, `percentile` or
            `none`.
        hdu: Name or number (from 0) of the HDU of a FITS file that holds the image; None to find it.
        bands: Names or numbers (from 0) of the bands that are read, from blue to red; None for all.
        **options: As for CatalogData.

    Attributes:
        catalog: Has also `image` (path in the folder) and the targets.
        images: Batches of images.
        shown: Batches of images, or of their features.
        gatherers: Processes that gather batches of images.
    """

    noun = "galaxies"
    needs_all_tests: ClassVar[bool] = False  # whether predictions are wanted for each test object

    def __init__(
        self,
        source: Any = None,
        *,
        size: int = 128,
        crop: float = 1.0,
        margin: float = 1.0,
        augment: RandomViews = VIEWS,
        separation: float | None = 3.0,
        channels: int = 3,
        stretch: str = "asinh",
        hdu: str | int | None = None,
        bands: str | int | Sequence[str | int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, **options)
        self.framing = Framing(size, crop, margin, as_decoding(channels, stretch, hdu, bands))
        self.augment = augment or None
        self.separation = separation

    def load_tables(self, root: Path) -> pd.DataFrame:
        """Reads and checks a task's tables: `id`, `image`, `split` (train or test) and the targets, one row an object.

        Raises:
            DataError: If a table cannot be used.
        """
        raise NotImplementedError  # each task has its own tables

    def drop_leaks(self, catalog: pd.DataFrame, objects: np.ndarray) -> pd.DataFrame:
        """The catalog without what must not be learnt from, known once its images are decoded.

        Args:
            catalog: With `id` and `split`; rows stay where they are.
            objects: A number an object, the same for rows that are one object, shape (N,).
        """
        return catalog

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """Targets that a loss compares outputs with, row by row."""
        return self.kind.target_tensor(catalog)

    @property
    def targets(self) -> Tensor:
        return self._targets

    def setup(self, stage: str | None = None) -> None:
        if self.catalog is not None:
            return
        root = self.source.folder()
        catalog = self.limited(self.load_tables(root))
        self.store = open_store(root, catalog["image"].tolist(), self.framing, self.cache)
        catalog = self._readable(catalog)
        if read_as := choice(root / catalog["image"].iloc[0], self.framing.decoding):
            self.notes.append(f"Of its first image: {read_as}")
        if (channels := self.framing.decoding.channels) != RGB:
            self.notes.append(f"images have {channels} channel{'s' * (channels > 1)} (channels={channels}).")
        objects = self._objects(catalog)
        catalog = self.drop_leaks(duplicates.marked(catalog, objects), objects)
        self.assign_folds(catalog, 3, objects)
        self.catalog = catalog
        self._targets = self.target_tensor(catalog)
        self.images = ImageBatches(self.store, self._targets)
        self.gatherers = self.workers
        self.use_images()

    def use_images(self) -> None:
        """Trains and predicts on images."""
        self.shown = {True: self.images, False: self.images}
        self.workers = self.gatherers

    @contextmanager
    def images_shown(self) -> Iterator[None]:
        """Predicts on images meanwhile, whatever is trained on."""
        before = self.shown, self.workers
        self.use_images()
        yield
        self.shown, self.workers = before

    def use_features(self, features: Tensor, predict_views: int) -> None:
        """Trains and predicts on features of the images in their place.

        Args:
            features: Shape (N, views, F), the plain view first.
            predict_views: How many views predictions are averaged over.
        """
        self.shown = {
            training: FeatureBatches(features, self._targets, None if training else predict_views)
            for training in (True, False)
        }
        self.workers = 0  # a gather of so little is done faster than it is handed on

    def predict_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """Validation objects, training objects (to know what they look like to a model), and test objects if any."""
        loaders = [self.plain_loader("val"), self.plain_loader("train", limit=MOST_TRAINING)]
        return [*loaders, self.plain_loader("test")] if len(self.rows("test")) else loaders

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

    def _readable(self, catalog: pd.DataFrame) -> pd.DataFrame:
        """The catalog without objects whose images cannot be read, which are named.

        Raises:
            DataError: If one of them must not be missing.
        """
        bad = self.store.bad
        if not bad:
            return catalog
        images, rows = catalog["image"].tolist(), sorted(bad)
        if self.needs_all_tests and (needed := [row for row in rows if catalog["split"].iloc[row] == "test"]):
            found = shorten(by_reason(images, [bad[row] for row in needed]), "; ")
            raise DataError(f"{self.source.path}: {found}. No test object may be left out: fetch the images again.")
        self.log_step("its image can be read", len(catalog), len(catalog) - len(bad))
        found = shorten(by_reason(images, [bad[row] for row in rows]), "; ")
        self.notes.append(f"{len(bad):,} of {len(catalog):,} left out, as their images cannot be read: {found}.")
        return catalog.drop(index=catalog.index[rows]).reset_index(drop=True)

    def _objects(self, catalog: pd.DataFrame) -> np.ndarray:
        """A number an object, the same for those that are one object under several names; notes what it finds."""
        same = duplicates.equal_pairs(self.store.digests)
        self.notes += duplicates.duplicate_notes(catalog, same, "images")
        if self.separation is None or not {"ra", "dec"} <= set(catalog.columns):
            return duplicates.connected(len(catalog), same)
        near = duplicates.near_pairs(catalog["ra"].to_numpy(float), catalog["dec"].to_numpy(float), self.separation)
        self.notes += duplicates.duplicate_notes(catalog, near, f"positions within {self.separation:g} arcsec")
        return duplicates.connected(len(catalog), np.concatenate([same, near]))
