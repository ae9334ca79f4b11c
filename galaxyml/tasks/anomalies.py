"""Images without labels, to be ranked by how unusual they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.views import central_pixels, scaled
from galaxyml.data.inputs import find
from galaxyml.data.source import without_files
from galaxyml.data.splits import TEST, Folds
from galaxyml.data.tables.data_set import find_data_set
from galaxyml.data.tables.labels import LABELS, no_folder, table_path
from galaxyml.data.tables.truth import Truth
from galaxyml.evaluation.morphology import thumbnails
from galaxyml.kinds.image_anomalies import ImageAnomalies
from galaxyml.runs.errors import DataError, UsageError
from galaxyml.runs.files import known_digest

AT_ONCE = 256  # images of which small ones are made together
FEWEST = 25  # images of which one can be unusual: five for each part of a cross-fit


class UnlabelledImages(ImageData):
    """Images of a folder, a table, a stack or a data set, all of which are ranked; none has a label that is learnt.

    All are the split `survey`. A model learns from all but those of one fold, by which its loss is watched, and ranks
    all: nobody knows beforehand which are odd. What a table says of that (`truth`) judges the ranking, and decides what
    is kept out where `keep_out` asks for it.

    Args:
        source: The folder; or a file that holds images; see CatalogData.
        labels: A table that names the images, in the folder or a path; where there is none, all images below the folder
            are taken.
        truth: What the table says of odd images; a mapping of its arguments will do.
        keep_out: Whether nothing is learnt from images that are known to be odd, as if no survey had ever seen one.
        kind: The kind of target; None for the usual detectors.
        crop: As for ImageData; SDSS cutouts hold the galaxy in the central half.
        margin: As for ImageData.
        **options: As for ImageData and CatalogData.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and row.

    Example:
        All images of a folder, by what a net sees of them that knows simulated galaxies::

            data = UnlabelledImages("images", size=64)
            module = EncodingModule.for_data(data, net="winner_small", start="sky", tune="head")
            trainer.fit(module, datamodule=data)
            trainer.predict(module, datamodule=data)
    """

    task = "anomalies"
    noun = "images"
    simulated: ClassVar = {"count": 2000}
    own_split = Folds()

    def __init__(
        self,
        source: Any = None,
        *,
        labels: str = LABELS,
        truth: Truth | Mapping[str, Any] | None = None,
        keep_out: bool = False,
        kind: ImageAnomalies | None = None,
        crop: float = 0.5,
        margin: float = 1.42,
        **options: Any,
    ) -> None:
        kind = kind if kind is not None else ImageAnomalies()
        super().__init__(source, kind=kind, crop=crop, margin=margin, **options)
        self.labels, self.keep_out = labels, keep_out
        self.truth = truth if isinstance(truth, Truth) else Truth(**(truth or {}))

    def check_folder(self, root: Path) -> None:
        if not root.exists():
            raise no_folder(root)
        if root.is_dir() and not any(root.iterdir()):
            raise DataError(f"The folder {root} is empty. {without_files('UnlabelledImages')}")
        if self._table(root) is None and self.labels != LABELS:
            raise DataError(f"labels={self.labels}: there is no such table in {root}, nor elsewhere.")

    def load_tables(self, root: Path) -> pd.DataFrame:
        self.check_folder(root)
        named_by = self._table(root) or root
        try:
            listing = find([named_by])
        except UsageError as error:
            raise DataError(str(error)) from None
        beside = listing.beside()
        if len(beside) < FEWEST:
            raise DataError(
                f"{named_by}: {len(beside)} images are too few to say what is usual; give {FEWEST} or more."
            )
        images = [_below(root, path) for path in listing.paths]
        catalog = pd.DataFrame({"id": beside["id"].astype(str), "image": images})
        catalog["split"] = "train"
        if {"ra", "dec"} <= set(beside) and all(pd.api.types.is_float_dtype(beside[name]) for name in ("ra", "dec")):
            catalog[["ra", "dec"]] = beside[["ra", "dec"]]
        known = self.truth.of(beside, str(named_by))
        if self.keep_out and not known["unknown"].any():
            raise DataError(
                f"keep_out=true: {named_by} says of no image that it is odd, so that there is nothing to keep out. Say "
                "which are by truth.column=… and truth.odd=…."
            )
        catalog[known.columns] = known.to_numpy()
        catalog["learnt"] = ~(known["unknown"] & self.keep_out).to_numpy()
        return catalog.astype({"unknown": bool, "known": bool, "learnt": bool})

    def assign_folds(self, catalog: pd.DataFrame, column: int, objects: np.ndarray | None = None) -> None:
        """Deals what may be learnt from into folds; all images stay those that are ranked."""
        catalog.loc[~catalog["learnt"], "split"] = "test"
        super().assign_folds(catalog, column, objects)
        catalog.loc[~catalog["learnt"], "fold"] = TEST
        self._parts = catalog["split"].to_numpy(str)
        catalog["split"] = "survey"

    def rows(self, split: str) -> Tensor:
        if split == "survey":
            return super().rows(split)
        return torch.from_numpy(np.flatnonzero(self._parts == split))

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """What a decoder is to make of features: the small grey images of plain views, float16 of shape (N, P)."""
        rows = torch.arange(len(catalog)).split(AT_ONCE)
        stored = (central_pixels(self.store.gather(some), self.framing.size) for some in rows)
        return torch.cat([thumbnails(scaled(pixels)).half() for pixels in stored])

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {**batch, "target": thumbnails(batch["image"])} if "image" in batch else batch

    def groups(self) -> None:
        """None: there are no classes that could be drawn evenly."""

    def predict_dataloader(self) -> list[Any]:
        """All images."""
        return [self.plain_loader("survey")]

    def digests(self) -> dict[str, str]:
        path = self._table(self.source.path)
        if path is None:
            return {}
        if (data_set := find_data_set(path)) is not None:
            return {part: known_digest(data_set.root / part, self.cache) for part in data_set.parts}
        return {path.name: known_digest(path, self.cache)}

    def describe(self) -> dict[str, Any]:
        described = super().describe()
        learnt = {name: len(self.rows(name)) for name in ("train", "val")}
        return {**described, "objects": described["objects"] | learnt}

    def _table(self, root: Path) -> Path | None:
        """The table that names the images; None where there is none."""
        if root.is_file():
            return None
        path = table_path(root, self.labels)
        return path if path.is_file() or find_data_set(path) is not None else None


def _below(root: Path, path: str) -> str:
    """Where an image is, from the folder on if it is in it."""
    inside = root.is_dir() and Path(path).is_relative_to(root)
    return str(Path(path).relative_to(root)) if inside else str(Path(path).absolute())
