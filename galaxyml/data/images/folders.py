"""Images below some folders, by their names without suffix."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from galaxyml.data.images.decode import SUFFIXES
from galaxyml.runs.errors import DataError


@dataclass(frozen=True)
class ImageFolders:
    """The images below some folders.

    Attributes:
        by_path: Their paths in the task's folder, by their paths in their own folder such as
            `J081/J081412.47+220853.0`; of several of one name the first in the order of folders and paths.
        by_name: The same, by their name alone, at any depth.
    """

    by_path: dict[str, str]
    by_name: dict[str, str]

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
        by_path: dict[str, str] = {}
        by_name: dict[str, str] = {}
        for folder in dict.fromkeys(folders):
            for above, inside, names in os.walk(root / folder):
                inside.sort()
                inner = os.path.relpath(above, root / folder).replace(os.sep, "/")
                prefix = "" if inner == "." else f"{inner}/"
                for name in sorted(names):
                    if (stem := without_suffix(name)) != name:
                        by_path.setdefault(prefix + stem, f"{folder}/{prefix}{name}")
                        by_name.setdefault(stem, f"{folder}/{prefix}{name}")
        return cls(by_path, by_name)


def without_suffix(name: str) -> str:
    """An image's name without its suffix; what does not end like an image stays as it is.

    >>> without_suffix("J081412.47+220853.0.png"), without_suffix("7.fits.gz"), without_suffix("J081412.47+220853.0")
    ('J081412.47+220853.0', '7', 'J081412.47+220853.0')
    """
    lower = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    return name[: len(name) - len(suffix)]
