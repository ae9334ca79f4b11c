"""Releases of Galaxy10: which one a folder holds, by the content of its file or the names of its class folders."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import yaml

from galaxyml.data.images.file_types import HDF5, has_suffix
from galaxyml.data.images.inside import KEY, PARQUET
from galaxyml.data.tables.data_set import DataSet, find_data_set
from galaxyml.runs.errors import DataError, UserError, did_you_mean, shorten

LABELS = "ans"
PIXEL_SCALE = "pxscale"  # of a file of DECaLS, which may have been resized


@dataclass(frozen=True)
class Release:
    """One release of Galaxy10.

    Attributes:
        title: What it is called.
        file: The published file.
        side: Of its images, pixels.
        counts: How many images its editions have.
        sha256: Digest of the published file, where it is known.
        crop: Central part of an image that holds the galaxy, a fraction of its side.
        margin: What is stored around it.
        classes: Names, in the order of the labels.
    """

    title: str
    file: str
    side: int
    counts: Sequence[int]
    sha256: str | None
    crop: float
    margin: float
    classes: Sequence[str]

    def __str__(self) -> str:
        return f"{self.title} ({self.side} px, {self.counts[0]:,} images)"


RELEASES: dict[str, Release] = {
    name: Release(**entry)
    for name, entry in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).items()
}
DEFAULT = "decals"


def named(release: str) -> Release:
    """A release by its name.

    Raises:
        UserError: If there is none of this name.
    """
    if release not in RELEASES:
        raise UserError(f"release={release}: no such release of Galaxy10. {did_you_mean(release, RELEASES)}")
    return RELEASES[release]


def find_file(root: Path) -> Path | None:
    """The HDF5 file of a folder: one with a published name, DECaLS' first, or else the only one; None if there is none.

    Raises:
        DataError: If there are several, none of them with a published name.
    """
    for release in RELEASES.values():
        if (root / release.file).is_file():
            return root / release.file
    others = sorted(path for path in root.glob("*") if has_suffix(path, HDF5)) if root.is_dir() else []
    if len(others) > 1:
        names = " or ".join(release.file for release in RELEASES.values())
        raise DataError(f"{root} has several HDF5 files: {shorten([path.name for path in others])}. Call one {names}.")
    return others[0] if others else None


def find_parts(root: Path) -> DataSet | None:
    """The parts of a data set of the hub in a folder, parquet with images and labels; None if there are none."""
    data_set = find_data_set(root)
    return data_set if data_set is not None and all(has_suffix(path, PARQUET) for path in data_set.paths()) else None


def release_of_file(path: Path) -> str | None:
    """The release that a file is of; None if it is of neither, or cannot be read, which reading it tells."""
    try:
        with h5py.File(path) as file:
            images = file.get(KEY)
            if not isinstance(images, h5py.Dataset) or images.ndim != 4:
                return None
            count, height, width = images.shape[:3]
            has_scale = PIXEL_SCALE in file
    except OSError:
        return None
    for name, release in RELEASES.items():
        if (height, width) == (release.side, release.side) and not (has_scale and name != DEFAULT):
            return name
    for name, release in RELEASES.items():
        if count in release.counts:
            return name
    return DEFAULT if has_scale else None


def release_of_folders(labels: Mapping[Path, int]) -> str:
    """The release whose classes folders are called after; DECaLS where that shows nothing."""

    def alike(name: str) -> int:
        classes = [_letters(title) for title in RELEASES[name].classes]
        return sum(label < len(classes) and classes[label] in _letters(path.name) for path, label in labels.items())

    return max(RELEASES, key=lambda name: (alike(name), name == DEFAULT))


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name).lower()


def settings(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Settings that a command leaves to the files.

    Of Galaxy10 SDSS these are the classes and the part of an image that is seen; of a data set with a part to test on
    the split.

    Args:
        given: The user's values, by key: text, lists of texts, None where something is left open.
    """
    release = given.get("release")
    answers: dict[str, str | list[str]] = {}
    if given.get("source") != "simulated":
        root = Path(given.get("data_dir") or "data").expanduser() / "galaxy10"
        path = find_file(root)
        if release is None and path is not None:
            release = release_of_file(path)
        parts = find_parts(root) if path is None and root.is_dir() else None
        if parts is not None and "test" in parts.parts.values():
            answers["split"] = "folds"
    chosen = named(release or DEFAULT)
    if chosen is not RELEASES[DEFAULT]:
        answers["classes"] = list(chosen.classes)
        answers |= {"crop": str(chosen.crop), "margin": str(chosen.margin)}
    return {key: value for key, value in answers.items() if given.get(key) is None}
