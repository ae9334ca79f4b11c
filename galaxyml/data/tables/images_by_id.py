"""Images of a table that has ids and no paths: those that are called by its ids, such as `images/123.jpg` by 123."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from galaxyml.data.images.file_types import SUFFIXES, has_suffix
from galaxyml.data.images.folders import without_suffix
from galaxyml.data.tables.roles import columns_of_ids, columns_of_paths
from galaxyml.data.tables.text_table import TextTable
from galaxyml.runs.errors import DataError

_FLOAT = re.compile(r"\d+(\.\d*([eE]\+?\d+)?|[eE]\+?\d+)")  # as 5.877e17 or 123.0, which was an id before


def images_by_name(folder: Path) -> dict[str, str]:
    """Paths of the images in a folder, or in folders in it, by their names without suffix; of several the first."""
    images: dict[str, str] = {}
    for path in (*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))):
        if has_suffix(path, SUFFIXES):
            images.setdefault(without_suffix(path.name), path.relative_to(folder).as_posix())
    return images


def with_paths(table: TextTable, by_name: Callable[[], Mapping[str, str]], targets: Sequence[str] = ()) -> TextTable:
    """A table with a column `path`, found by an id where it has none; as it was where there are no images or ids.

    Args:
        table: The table; rows without an image keep their id for a path, which is then reported as missing.
        by_name: Gives the images, as `images_by_name`; it is called if they are needed.
        targets: Columns that are asked for, which are no ids.

    Raises:
        DataError: If no image is called by an id.
    """
    ids = [name for name in columns_of_ids(table) if name not in targets]
    if not ids or columns_of_paths(table):
        return table
    images = by_name()
    if not images:
        return table
    for name in ids:
        paths = table.frame[name].map(images)
        if paths.notna().any():
            note = f"{table.path.name}: images are found by {name}: {paths.dropna().iloc[0]}."
            return replace(
                table, frame=table.frame.assign(path=paths.fillna(table.frame[name])), notes=[*table.notes, note]
            )
    first = next((cell for cell in table.frame[ids[0]] if cell), "")
    advice = "give a column path, or ids that images are called by"
    if _FLOAT.fullmatch(first):
        advice = "such floats have lost the last digits of long ids: make it again with ids as text (pandas: dtype=str)"
    raise DataError(
        f"{table.path} has no column of paths, and no image is called by its {ids[0]}: the first is '{first}', an "
        f"image is {next(iter(images.values()))}; {advice}."
    )
