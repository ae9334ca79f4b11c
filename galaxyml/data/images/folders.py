"""Images below some folders, by their names without suffix."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from galaxyml.data.images.file_types import HDF5, SUFFIXES, file_type
from galaxyml.runs.errors import DataError

# Suffixes of files that are not even looked into: a folder of images may have a text beside each.
_NO_IMAGES = (
    *(".asc", ".cat", ".cfg", ".csv", ".dat", ".db", ".ecsv", ".feather", ".html", ".ini", ".ipynb", ".json", ".jsonl"),
    *(".log", ".md", ".parquet", ".pdf", ".pkl", ".pt", ".pth", ".py", ".reg", ".rst", ".sh", ".svg", ".tar", ".tbl"),
    *(".toml", ".tsv", ".txt", ".vot", ".xml", ".yaml", ".yml", ".zip", *HDF5),
)
LOCK = ".lock"  # ends hidden files that commands leave, of which nobody needs to know
_HIDDEN, _WITHOUT = "hidden", "without a suffix"
_LONGEST_SUFFIX = 8


@dataclass(frozen=True)
class ImageFolders:
    """The images below some folders.

    Attributes:
        by_path: Their paths in the task's folder, by their paths in their own folder such as
            `J081/J081412.47+220853.0`; of several of one name the first in the order of folders and paths.
        by_name: The same, by their name alone, at any depth.
        passed_over: How many files are no images, by kind.
    """

    by_path: dict[str, str]
    by_name: dict[str, str]
    passed_over: Counter[str] = field(default_factory=Counter)

    @classmethod
    def below(cls, root: Path, images: Sequence[str], where: str = "") -> "ImageFolders":
        """Looks through folders.

        Args:
            root: The task's folder.
            images: Folders in it, or patterns of their names such as `part*`.
            where: Where they can be had, for error messages.

        Raises:
            DataError: If there is none of these folders.
        """
        folders: list[str] = []
        for pattern in images:
            matches = [pattern] if (root / pattern).is_dir() else sorted(glob.glob(pattern, root_dir=root))
            folders += [match for match in matches if (root / match).is_dir()]
        if not folders:
            sought = " and no ".join(str(root / name) for name in images)
            raise DataError(f"There is no folder {sought}. {where}".rstrip())
        found = cls({}, {})
        for folder in dict.fromkeys(folders):
            for path in images_below(root / folder, found.passed_over):
                above, slash, name = path.rpartition("/")
                stem = without_suffix(name)
                found.by_path.setdefault(above + slash + stem, f"{folder}/{path}")
                found.by_name.setdefault(stem, f"{folder}/{path}")
        return found


def images_below(folder: Path, passed_over: Counter[str], deep: bool = True) -> Iterator[str]:
    """The images in a folder, in the order of their names, those of a folder before those below it.

    Names that end like an image's are taken at their word; of others that may be one a few bytes are read.

    Args:
        folder: The folder.
        passed_over: Counts files that are no images, by kind.
        deep: Whether to look through the folders in it, too.

    Yields:
        Paths in the folder, parts joined by a slash.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as inside:
            entries = sorted(inside, key=lambda entry: entry.name)
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            if entry.name.startswith(".") and entry.is_file():
                if not entry.name.endswith(LOCK):
                    passed_over[_HIDDEN] += 1
            elif entry.is_file():
                if (kind := _no_image(Path(entry.path))) is None:
                    yield prefix + entry.name
                else:
                    passed_over[kind] += 1
        if deep:
            waiting += [f"{prefix}{entry.name}/" for entry in reversed(folders) if not entry.name.startswith(".")]


def passed_over_notes(where: object, kinds: Mapping[str, int]) -> list[str]:
    """A sentence on files that are no images, if there are any.

    >>> passed_over_notes("mine", {".txt": 3, "without a suffix": 1})
    ['mine: files that are no images are passed over: 3 .txt, 1 without a suffix.']
    """
    if not kinds:
        return []
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    return [f"{where}: files that are no images are passed over: {listed}."]


def without_suffix(name: str) -> str:
    """An image's name without its suffix; what does not end like an image stays as it is.

    >>> without_suffix("J081412.47+220853.0.png"), without_suffix("7.fits.gz"), without_suffix("J081412.47+220853.0")
    ('J081412.47+220853.0', '7', 'J081412.47+220853.0')
    """
    lower = name.lower()
    suffix = max((suffix for suffix in SUFFIXES if lower.endswith(suffix)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _no_image(path: Path) -> str | None:
    """The kind of a file that is no image; None of an image."""
    name = path.name.lower()
    if name.endswith(SUFFIXES):
        return None
    suffix = path.suffix.lower()
    if suffix not in _NO_IMAGES:
        kind = file_type(path)
        if kind is not None and kind != "HDF5":
            return None
        if kind == "HDF5":
            return kind
    is_suffix = 1 < len(suffix) <= _LONGEST_SUFFIX and suffix[1:].isalnum() and not suffix[1:].isdigit()
    return suffix if is_suffix else _WITHOUT
