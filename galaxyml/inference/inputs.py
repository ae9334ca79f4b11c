"""Images that files, folders, patterns and tables of paths name, or that are given as they are."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from galaxyml.data.images.decode import FITS, HDF5, KEY, SUFFIXES, address, from_array, has_suffix, rgb
from galaxyml.data.tables.roles import PATHS, path_column
from galaxyml.data.tables.table_file import holds_fits_table, read_table_file
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten

TABLES = (".csv", ".csv.gz", ".tsv", ".parquet", ".ecsv", ".vot", ".votable")
FORMS = (
    "files, folders, patterns or a DataFrame with a column path; or the images themselves: arrays (H, W) or (H, W, 3), "
    "many of them as (N, H, W, 3) or in a list, or Pillow's"
)


def several(inputs: Any) -> list[Any]:
    """What a caller gave, one by one: paths, or images.

    Args:
        inputs: See `FORMS`.

    Raises:
        UserError: If it is something else, or nothing.
    """
    if isinstance(inputs, pd.DataFrame):
        return _paths_of(inputs)
    if isinstance(inputs, str | Path | Image.Image):
        return [inputs]
    if (shape := getattr(inputs, "shape", None)) is not None:  # an array's, a tensor's or a column's
        inputs = np.asarray(inputs)
        is_one = inputs.dtype.kind in "uif" and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))
        inputs = [inputs] if is_one else inputs
    try:
        given = list(inputs)
    except TypeError:
        raise UserError(f"{type(inputs).__name__} is nothing to predict. Give {FORMS}.") from None
    if not given:
        raise UserError(f"There is nothing to predict. Give {FORMS}.")
    return given


def are_paths(given: Sequence[Any]) -> bool:
    """Whether things to predict are paths, not images.

    Raises:
        UserError: If some are, and others are not.
    """
    paths = [isinstance(item, str | Path) for item in given]
    if any(paths) != all(paths):
        raise UserError("Some of what is to be predicted are paths, and some images. Predict them one after the other.")
    return paths[0]


def image_of(item: Any, number: int) -> Image.Image:
    """One of the images that are given as they are, RGB.

    Raises:
        DataError: If it is none; the message has its number, from 0.
    """
    try:
        return rgb(item) if isinstance(item, Image.Image) else from_array(np.asarray(item))
    except DataError as error:
        raise DataError(f"Image {number} cannot be used: {error}.") from None


def find(paths: Sequence[Path | str]) -> dict[str, str]:
    """All images that files, folders, patterns and tables of paths name; each once, in the order given.

    Returns:
        What the user called each image, by where it is.

    Raises:
        UserError: If something is not there, or holds no images.
    """
    return dict(image for path in paths for image in _images_of(str(path)))


def _images_of(given: str) -> Iterator[tuple[str, str]]:
    path = Path(given).expanduser()
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if has_suffix(file, SUFFIXES) and file.is_file())
        if not inside:
            raise UsageError(f"{path}: the folder holds no images ({', '.join(SUFFIXES)}).")
        yield from ((str(file), str(file)) for file in inside)
    elif not path.exists() and glob.has_magic(given):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UsageError(f"No file matches '{given}'.")
        for match in matches:
            yield from _images_of(match)
    elif has_suffix(path, TABLES) or (has_suffix(path, FITS) and holds_fits_table(path)):
        yield from _listed(path)
    elif has_suffix(path, HDF5):
        yield from ((name := address(str(path), row), name) for row in range(_count(path)))
    else:
        yield str(path), given  # what is missing or no image is told like any other bad image


def _count(path: Path) -> int:
    """Number of images in an HDF5 file."""
    try:
        with h5py.File(path) as file:
            pixels = file.get(KEY)
            is_images = isinstance(pixels, h5py.Dataset) and pixels.ndim == 4 and pixels.shape[-1] == 3
            if not is_images or pixels.dtype != "u1":
                raise DataError(
                    f"{path} has no {KEY} of shape (N, H, W, 3) and type uint8; it has {shorten(sorted(file))}."
                )
            return len(pixels)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({str(error).splitlines()[0]}).") from None


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """Images of a table; relative paths begin in its own folder."""
    if not path.is_file():
        raise UsageError(f"{path} is missing.")
    table = read_table_file(path)
    cells = table.frame[path_column(table)]
    filled = table.frame[(table.frame != "").any(axis=1)].index
    if not len(filled):
        raise UserError(f"{path} has a header and no rows.")
    for label in filled:
        if not (name := cells[label]):
            raise UserError(f"{table.place(int(label))}: {cells.name} is empty. Give a path or take the row out.")
        yield str(path.parent / Path(name).expanduser()), name


def _paths_of(table: pd.DataFrame) -> list[str]:
    """Paths that a DataFrame has in one of `PATHS`."""
    column = next((name for name in PATHS if name in table.columns), None)
    if column is None:
        raise UserError(f"The DataFrame has no column {' or '.join(PATHS)}; it has {shorten(list(table.columns))}.")
    if table[column].isna().any():
        row = int(table[column].isna().to_numpy().argmax())
        raise UserError(f"The DataFrame, row {row}: {column} is empty. Give a path or take the row out.")
    if table.empty:
        raise UserError("The DataFrame has a header and no rows.")
    return [str(path) for path in table[column]]
