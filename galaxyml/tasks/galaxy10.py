"""Galaxy10 DECaLS: its HDF5 file, or a folder a class, read and checked."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pandas as pd

from galaxyml.data.catalog import check_counts
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.decode import KEY, address
from galaxyml.data.images.folders import images_below, passed_over_notes
from galaxyml.kinds.classes import Classes
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import known_digest

FILE = "Galaxy10_DECals.h5"
COUNT = 17736
SHA256 = "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571"  # Zenodo 10845026
LABELS = "ans"
EXTRAS = ("ra", "dec", "redshift", "pxscale")
WHERE = (
    f"The file is {FILE} of https://doi.org/10.5281/zenodo.10845026: `python -m galaxyml fetch galaxy10` fetches it "
    "(2.7 GB); or put it into a folder galaxy10/ and give the folder above it as data_dir=… A folder a class, such as "
    "0_Disturbed/, serves as well. Without them, source=simulated runs on the simulated sky."
)


CLASSES = (
    "Disturbed",
    "Merging",
    "Round Smooth",
    "In-between Round Smooth",
    "Cigar Shaped Smooth",
    "Barred Spiral",
    "Unbarred Tight Spiral",
    "Unbarred Loose Spiral",
    "Edge-on without Bulge",
    "Edge-on with Bulge",
)


class Galaxy10(ImageData):
    """The ten classes of Galaxy10 DECaLS.

    Args:
        source: The folder with the HDF5 file, or a folder a class; see CatalogData.
        classes: Names of the classes, in the order of the labels.
        kind: The kind of target; None for these classes.
        crop: Most galaxies lie well within the central 192 of 256 px.
        margin: As for ImageData.
        **options: As for ImageData and CatalogData.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and line.

    Example:
        Rare classes drawn more often than they come::

            data = Galaxy10("data/galaxy10", balance=0.5, batch_size=32)
            trainer.fit(SupervisedModule.for_data(data, net="astrocnn"), datamodule=data)
    """

    task = "galaxy10"
    simulated: ClassVar = {"count": 3000, "size": 256}
    tables = (FILE,)

    def __init__(
        self,
        source: Any = None,
        *,
        classes: Sequence[str] = CLASSES,
        kind: Classes | None = None,
        crop: float = 0.75,
        margin: float = 1.34,
        **options: Any,
    ) -> None:
        kind = kind if kind is not None else Classes(list(classes))
        super().__init__(source, kind=kind, crop=crop, margin=margin, **options)
        self.classes = list(classes)

    def check_folder(self, root: Path) -> None:
        if not (root / FILE).is_file():
            class_folders(root, self.classes)

    def load_tables(self, root: Path) -> pd.DataFrame:
        """One row an image of the HDF5 file, in its order; or of the class folders."""
        if (root / FILE).is_file():
            catalog = read_file(root / FILE, self.classes)
            self._check_release(root / FILE, len(catalog))
        else:
            catalog = read_folders(root, self.classes, self.notes)
        self.notes += check_counts(catalog["label"], self.classes, str(root), "Fetch the files again.")
        return catalog

    def _check_release(self, path: Path, count: int) -> None:
        """Notes a file that is not the published one."""
        if count != COUNT:
            self.notes.append(f"{path.name} holds {count:,} images; the published file holds {COUNT:,}.")
        elif known_digest(path, self.cache) != SHA256:
            self.notes.append(
                f"{path.name} has as many images as the published file (Zenodo 10845026) but another SHA-256: it was "
                "changed or cut; scores may not compare."
            )


def read_file(path: Path, classes: list[str]) -> pd.DataFrame:
    """Reads all of the HDF5 file but its pixels: `id` (the row), `image`, `split`, `label` and what else there is.

    Args:
        path: With `images` (N, H, W, 3) uint8 and `ans` (N,); `ra`, `dec` (degrees), `redshift` and `pxscale`
            (arcsec) where it has them.
        classes: Names of the classes; labels are 0 to K - 1.

    Raises:
        DataError: If the file is cut off, lacks a key, or a key has another shape, type or range.
    """
    try:
        with h5py.File(path) as file:
            if missing := [key for key in (KEY, LABELS) if key not in file]:
                raise DataError(f"{path}: missing keys: {shorten(missing)}. It has {shorten(sorted(file))}. {WHERE}")
            images = file[KEY]
            if groups := [name for name in (KEY, LABELS, *EXTRAS) if isinstance(file.get(name), h5py.Group)]:
                raise DataError(f"{path}: {shorten(groups)}: groups, where there must be arrays. {WHERE}")
            if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
                raise DataError(
                    f"{path}: {KEY} is {images.dtype} of shape {images.shape}; it must be uint8 of shape (N, H, W, 3), "
                    f"one image or more. {WHERE}"
                )
            count = len(images)
            columns = {name: file[name][()] for name in (LABELS, *EXTRAS) if name in file}
    except OSError as error:
        raise DataError(
            f"{path} cannot be read as HDF5 ({str(error).splitlines()[0]}); the download may have been cut off. {WHERE}"
        ) from None
    for name, values in columns.items():
        if np.shape(values) != (count,):
            raise DataError(f"{path}: {name} has the shape {np.shape(values)}, but there are {count:,} images. {WHERE}")
        if values.dtype.kind not in "iuf":
            raise DataError(f"{path}: {name} is {values.dtype}; it must be numbers. {WHERE}")
    labels = columns.pop(LABELS)
    if (bad := np.flatnonzero(~np.isin(labels, np.arange(len(classes))))).size:
        raise DataError(
            f"{path}, row {bad[0]}: {LABELS} is {labels[bad[0]]}; labels are whole numbers from 0 to "
            f"{len(classes) - 1} ({bad.size:,} such rows in all). {WHERE}"
        )
    for name, lowest, highest in (("ra", 0.0, 360.0), ("dec", -90.0, 90.0)):
        values = columns.get(name, np.zeros(0))
        if (bad := np.flatnonzero((values < lowest) | (values > highest))).size:
            raise DataError(
                f"{path}, row {bad[0]}: {name} is {values[bad[0]]:g}; it must be degrees from {lowest:g} to "
                f"{highest:g} ({bad.size:,} such rows in all). {WHERE}"
            )
    catalog = pd.DataFrame({"id": np.arange(count), "image": [address(path.name, row) for row in range(count)]})
    return catalog.assign(split="train", label=labels.astype(np.int64), **columns)


def class_folders(root: Path, classes: list[str]) -> dict[Path, int]:
    """Folders `0_Name`, `1_Name`, …, and their numbers.

    Raises:
        DataError: If there is none.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. {WHERE}")
    numbered = {path: match for path in sorted(root.iterdir()) if (match := re.match(r"(\d+)(_|$)", path.name))}
    folders = {path: int(match.group(1)) for path, match in numbered.items() if path.is_dir()}
    if not folders:
        raise DataError(f"{root} has neither {FILE} nor folders such as 0_{classes[0].replace(' ', '_')}/. {WHERE}")
    return folders


def read_folders(root: Path, classes: list[str], notes: list[str]) -> pd.DataFrame:
    """Lists the images of the `class_folders`: `id` (path), `image`, `split`, `label`; notes what else is there.

    Raises:
        DataError: If there is no such folder, a number is no class, or none holds an image.
    """
    folders = class_folders(root, classes)
    rows = []
    passed_over: Counter[str] = Counter()
    for folder, label in folders.items():
        if label >= len(classes):
            raise DataError(
                f"{folder}: {label} is no class; folders begin with 0 to {len(classes) - 1}. Rename it or move it away."
            )
        rows += [(f"{folder.name}/{name}", label) for name in images_below(folder, passed_over, deep=False)]
    notes += passed_over_notes(root, passed_over)
    if not rows:
        raise DataError(f"{root}: the class folders ({len(folders)}) hold no images. {WHERE}")
    images, labels = zip(*rows, strict=True)
    return pd.DataFrame({"id": images, "image": images, "split": "train", "label": np.array(labels, np.int64)})
