"""Galaxy10, DECaLS or SDSS: its HDF5 file, or a folder a class, read and checked."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pandas as pd

from galaxyml.data.catalog import check_counts
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.decode import KEY, SUFFIXES, address, has_suffix
from galaxyml.data.source import Real
from galaxyml.data.tables.galaxy10 import (
    DEFAULT,
    LABELS,
    PIXEL_SCALE,
    RELEASES,
    find_file,
    named,
    release_of_file,
    release_of_folders,
)
from galaxyml.kinds.classes import Classes
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import known_digest

DECALS = RELEASES[DEFAULT]
FILE = DECALS.file
EXTRAS = ("ra", "dec", "redshift", PIXEL_SCALE)
WHERE = (
    f"The file is {FILE} of https://doi.org/10.5281/zenodo.10845026: `python -m galaxyml fetch galaxy10` fetches it "
    "(2.7 GB); or put it, or Galaxy10.h5 of Galaxy10 SDSS, into a folder galaxy10/ and give the folder above it as "
    "data_dir=… A folder a class, such as 0_Disturbed/, serves as well. Without them, source=simulated runs on the "
    "simulated sky."
)


class Galaxy10(ImageData):
    """The ten classes of Galaxy10 DECaLS, or those of Galaxy10 SDSS.

    Args:
        source: The folder with the HDF5 file, or a folder a class; see CatalogData.
        classes: Names of the classes, in the order of the labels; None for those of the release.
        release: `decals` or `sdss`; None to tell by the file.
        kind: The kind of target; None for these classes.
        crop: As for ImageData; None for what holds most galaxies of the release.
        margin: As for ImageData; None for what suits the release.
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

    def __init__(
        self,
        source: Any = None,
        *,
        classes: Sequence[str] | None = None,
        release: str | None = None,
        kind: Classes | None = None,
        crop: float | None = None,
        margin: float | None = None,
        **options: Any,
    ) -> None:
        chosen = named(release or _release_in(source) or DEFAULT)
        classes = list(chosen.classes) if classes is None else [str(name) for name in classes]
        kind = kind if kind is not None else Classes(classes)
        crop, margin = chosen.crop if crop is None else crop, chosen.margin if margin is None else margin
        super().__init__(source, kind=kind, crop=crop, margin=margin, **options)
        self.classes, self.release = classes, release

    def digests(self) -> dict[str, str]:
        path = find_file(self.source.path)
        return {path.name: known_digest(path, self.cache)} if path is not None else {}

    def check_folder(self, root: Path) -> None:
        """Reads the labels, too, so that a file of other classes shows before a folder is made."""
        path = find_file(root)
        if path is None:
            class_folders(root, self.classes)
        else:
            self._check_classes(path)
            read_file(path, self.classes)

    def load_tables(self, root: Path) -> pd.DataFrame:
        """One row an image of the HDF5 file, in its order; or of the class folders."""
        path = find_file(root)
        if path is not None:
            self._check_classes(path)
            catalog = read_file(path, self.classes)
            self._note_release(path, len(catalog))
        else:
            catalog = read_folders(root, self.classes)
        self.notes += check_counts(catalog["label"], self.classes, str(root), "Fetch the files again.")
        return catalog

    def _check_classes(self, path: Path) -> None:
        """Refuses a file of one release under the names of the other's classes, and one of neither under either's."""
        own = next((name for name, release in RELEASES.items() if list(release.classes) == self.classes), None)
        found = self.release or release_of_file(path)
        if own is None or found == own or not _holds_images(path):
            return
        if found is not None:
            raise DataError(
                f"{path} is {RELEASES[found]}, but the classes of this run are those of {RELEASES[own].title}. Leave "
                f"classes= out, or give release={found}."
            )
        with h5py.File(path) as file:
            count, height, width = file[KEY].shape[:3]
        raise DataError(
            f"{path} holds {count:,} images of {height} x {width} px: it is neither "
            f"{' nor '.join(map(str, RELEASES.values()))}. release={' or release='.join(RELEASES)} says whose classes "
            "its labels are; classes=[…] names others."
        )

    def _note_release(self, path: Path, count: int) -> None:
        """Notes a file that is not the published one."""
        release = RELEASES[self.release or release_of_file(path) or DEFAULT]
        if list(release.classes) != self.classes:
            return
        if release is not DECALS:
            self.notes.append(
                f"{path.name} is {release.title}: its ten classes are {', '.join(map(repr, self.classes))}."
            )
        if count not in release.counts:
            self.notes.append(f"{path.name} holds {count:,} images; the published file holds {release.counts[0]:,}.")
        elif release.sha256 is not None and known_digest(path, self.cache) != release.sha256:
            self.notes.append(
                f"{path.name} has as many images as the published file (Zenodo 10845026) but another SHA-256: it was "
                "changed or cut; scores may not compare."
            )


def _release_in(source: Any) -> str | None:
    """The release of the files of a source; None if it is not known."""
    given = getattr(source, "chosen", source) if source is not None else Path("data/galaxy10")
    root = (
        Path(given).expanduser() if isinstance(given, str | Path) else given.path if isinstance(given, Real) else None
    )
    if root is None or not root.is_dir():
        return None
    path = find_file(root)
    return release_of_file(path) if path is not None else release_of_folders(_numbered(root))


def _holds_images(path: Path) -> bool:
    """Whether a file has images at all; `read_file` tells what is wrong with another."""
    try:
        with h5py.File(path) as file:
            return isinstance(file.get(KEY), h5py.Dataset) and file[KEY].ndim == 4
    except OSError:
        return False


def _numbered(root: Path) -> dict[Path, int]:
    """Folders `0_Name`, `1_Name`, …, and their numbers."""
    matches = {path: re.match(r"(\d+)(_|$)", path.name) for path in sorted(root.iterdir()) if path.is_dir()}
    return {path: int(match[1]) for path, match in matches.items() if match}


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
    if not (folders := _numbered(root)):
        raise DataError(f"{root} has neither {FILE} nor folders such as 0_{classes[0].replace(' ', '_')}/. {WHERE}")
    return folders


def read_folders(root: Path, classes: list[str]) -> pd.DataFrame:
    """Lists the images of the `class_folders`: `id` (path), `image`, `split`, `label`.

    Raises:
        DataError: If there is no such folder, a number is no class, or none holds an image.
    """
    folders = class_folders(root, classes)
    rows = []
    for folder, label in folders.items():
        if label >= len(classes):
            raise DataError(
                f"{folder}: {label} is no class; folders begin with 0 to {len(classes) - 1}. Rename it or move it away."
            )
        names = sorted(path.name for path in folder.iterdir() if has_suffix(path, SUFFIXES))
        rows += [(f"{folder.name}/{name}", label) for name in names]
    if not rows:
        raise DataError(f"{root}: the class folders ({len(folders)}) hold no images. {WHERE}")
    images, labels = zip(*rows, strict=True)
    return pd.DataFrame({"id": images, "image": images, "split": "train", "label": np.array(labels, np.int64)})
