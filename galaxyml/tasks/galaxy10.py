"""Galaxy10, DECaLS or SDSS: its HDF5 file, a data set of the hub, or a folder a class, read and checked."""

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
from galaxyml.data.images.decode import address
from galaxyml.data.images.folders import images_below, passed_over_notes
from galaxyml.data.images.inside import KEY
from galaxyml.data.source import Real, without_files
from galaxyml.data.splits import Folds, Split
from galaxyml.data.tables.galaxy10 import (
    DEFAULT,
    LABELS,
    PIXEL_SCALE,
    RELEASES,
    find_file,
    find_parts,
    named,
    release_of_file,
    release_of_folders,
)
from galaxyml.data.tables.reading import Rows, degrees
from galaxyml.data.tables.table_file import read_table_file
from galaxyml.kinds.classes import Classes
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import known_digest

DECALS = RELEASES[DEFAULT]
FILE = DECALS.file
PARTS_LABELS = ("label", LABELS, "gz10_label")
EXTRAS = ("ra", "dec", "redshift", PIXEL_SCALE)
WHERE = (
    f"The file is {FILE} of https://doi.org/10.5281/zenodo.10845026: `python -m galaxyml fetch galaxy10` fetches it "
    "(2.7 GB); or put it, or Galaxy10.h5 of Galaxy10 SDSS, into a folder galaxy10/ and give the folder above it as "
    "data_dir=… Parquet with images and labels (`fetch galaxy10_decals`) or a folder a class, such as 0_Disturbed/, "
    f"serves as well. {without_files('Galaxy10')}"
)


class Galaxy10(ImageData):
    """The ten classes of Galaxy10 DECaLS, or those of Galaxy10 SDSS.

    Args:
        source: The folder with the HDF5 file, parquet with images and labels, or a folder a class; see CatalogData.
        classes: Names of the classes, in the order of the labels; None for those of the release.
        release: `decals` or `sdss`; None to tell by the file.
        kind: The kind of target; None for these classes.
        crop: As for ImageData; None for what holds most galaxies of the release.
        margin: As for ImageData; None for what suits the release.
        split: As for CatalogData; None for folds where parts of a data set say which rows are to test on.
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
        split: Split | None = None,
        **options: Any,
    ) -> None:
        chosen = named(release or _release_in(source) or DEFAULT)
        classes = list(chosen.classes) if classes is None else [str(name) for name in classes]
        kind = kind if kind is not None else Classes(classes)
        crop, margin = chosen.crop if crop is None else crop, chosen.margin if margin is None else margin
        root = _root_of(source)
        parts = find_parts(root) if root is not None and find_file(root) is None else None
        if split is None and parts is not None and "test" in parts.parts.values():
            split = Folds()
        super().__init__(source, kind=kind, crop=crop, margin=margin, split=split, **options)
        self.classes, self.release = classes, release

    def digests(self) -> dict[str, str]:
        root = self.source.path
        path, parts = find_file(root), find_parts(root)
        names = [path.name] if path is not None else list(parts.parts) if parts is not None else []
        return {name: known_digest(root / name, self.cache) for name in names}

    def check_folder(self, root: Path) -> None:
        """Reads the labels, too, so that a file of other classes shows before a folder is made."""
        path = find_file(root)
        if path is None:
            parts = find_parts(root)
            class_folders(root, self.classes) if parts is None else read_parts(root, self.classes)
        else:
            self._check_classes(path)
            read_file(path, self.classes)

    def load_tables(self, root: Path) -> pd.DataFrame:
        """One row an image of the HDF5 file, or of the parts of a data set, in its order; or of the class folders."""
        path = find_file(root)
        if path is not None:
            self._check_classes(path)
            catalog = read_file(path, self.classes)
            self._note_release(path, len(catalog))
        elif (parts := find_parts(root)) is not None:
            catalog = read_parts(root, self.classes)
            self.notes += parts.notes
        else:
            catalog = read_folders(root, self.classes, self.notes)
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
            self.notes.append(f"{path.name} is {release.title}: its classes are {', '.join(map(repr, self.classes))}.")
        if count not in release.counts:
            self.notes.append(f"{path.name} holds {count:,} images; the published file holds {release.counts[0]:,}.")
        elif release.sha256 is not None and known_digest(path, self.cache) != release.sha256:
            self.notes.append(
                f"{path.name} has as many images as the published file (Zenodo 10845026) but another SHA-256: it was "
                "changed or cut; scores may not compare."
            )


def _release_in(source: Any) -> str | None:
    """The release of the files of a source; None if it is not known."""
    if (root := _root_of(source)) is None:
        return None
    path = find_file(root)
    return release_of_file(path) if path is not None else release_of_folders(_numbered(root))


def _root_of(source: Any) -> Path | None:
    """The folder of a source; None if it is not there, or is the simulated sky's."""
    given = getattr(source, "chosen", source) if source is not None else Path("data/galaxy10")
    root = (
        Path(given).expanduser() if isinstance(given, str | Path) else given.path if isinstance(given, Real) else None
    )
    return root if root is not None and root.is_dir() else None


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


def read_parts(root: Path, classes: list[str]) -> pd.DataFrame:
    """Reads all of the parts of a data set but their images: `id`, `image`, `split`, `label` and what else there is.

    Args:
        root: Folder of parquet files with images and `label` (or `ans`, `gz10_label`); `ra`, `dec` (degrees),
            `redshift` and `pxscale` (arcsec) where they have them.
        classes: Names of the classes; labels are 0 to K - 1.

    Raises:
        DataError: If a column is missing or a cell is out of range.
    """
    table = read_table_file(root)
    assert table.images is not None
    frame, column = table.frame, next((name for name in PARTS_LABELS if name in table.columns), None)
    if column is None:
        raise DataError(f"{root} has no column {' or '.join(PARTS_LABELS)}; it has {shorten(table.columns)}. {WHERE}")
    images = frame[table.images]
    rows = Rows(root, table.images, frame, "image", inside=images)
    allowed = f"labels are whole numbers from 0 to {len(classes) - 1}"
    labels = rows.numbers([column], 0, len(classes) - 1, allowed)[:, 0]
    rows.refuse_cells((labels % 1 != 0)[:, None], [column], allowed)
    catalog = pd.DataFrame({"id": images, "image": images, "split": frame.get("split", "train")})
    catalog["label"] = labels.astype(np.int64)
    if {"ra", "dec"} <= set(table.columns):
        catalog["ra"], catalog["dec"] = degrees(rows, "ra", "dec", empty=True)
    others = {name: pd.to_numeric(frame[name], errors="coerce") for name in EXTRAS[2:] if name in frame}
    return catalog.assign(**others)


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
