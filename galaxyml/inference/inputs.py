"""Images that files, folders, patterns and tables of paths name, or that are given as they are."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from galaxyml.data.images.decode import HDF5, KEY, SUFFIXES, address, from_array, from_image, has_suffix
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.tables.reading import read_csv
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten

PATH_COLUMNS = ("path", "image", "file", "filename")
FORMS = (
    "files, folders, patterns or a DataFrame with a column path; or the images themselves: arrays (H, W) or (H, W, C), "
    "many of them as (N, H, W, C) or in a list, or Pillow's"
)


def several(inputs: Any, channels: Sequence[int] = (3,)) -> list[Any]:
    """What a caller gave, one by one: paths, or images.

    Args:
        inputs: See `FORMS`.
        channels: How many channels an image may have.

    Raises:
        UserError: If it is something else, or nothing.
    """
    if isinstance(inputs, pd.DataFrame):
        return _paths_of(inputs, "The DataFrame")
    if isinstance(inputs, str | Path | Image.Image):
        return [inputs]
    if (shape := getattr(inputs, "shape", None)) is not None:  # an array's, a tensor's or a column's
        inputs = np.asarray(inputs)
        is_one = inputs.dtype.kind in "uif" and (
            len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4, *channels))
        )
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


def image_of(item: Any, number: int, decoding: Decoding) -> np.ndarray:
    """One of the images that are given as they are, uint8 of shape (H, W, C).

    Raises:
        DataError: If it is none; the message has its number, from 0.
    """
    try:
        return from_image(item, decoding) if isinstance(item, Image.Image) else from_array(np.asarray(item), decoding)
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
    elif path.name.lower().endswith(".csv"):
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
            if not isinstance(pixels, h5py.Dataset) or pixels.ndim not in (3, 4) or pixels.dtype.kind not in "uif":
                raise DataError(
                    f"{path} has no {KEY} of shape (N, H, W, C), of numbers; it has {shorten(sorted(file))}."
                )
            return len(pixels)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({str(error).splitlines()[0]}).") from None


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """Images of a CSV; relative paths begin in its own folder."""
    if not path.is_file():
        raise UsageError(f"{path} is missing.")
    table = read_csv(path, dtype=str)
    yield from ((str(path.parent / Path(name).expanduser()), name) for name in _paths_of(table, str(path), header=1))


def _paths_of(table: pd.DataFrame, where: str, header: int = 0) -> list[str]:
    """Paths that a table has in one of `PATH_COLUMNS`.

    Args:
        table: The table.
        where: What it is called in messages.
        header: Lines above its first row.
    """
    column = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if column is None:
        raise UserError(f"{where} has no column {' or '.join(PATH_COLUMNS)}; it has {shorten(list(table.columns))}.")
    if table[column].isna().any():
        row = int(table[column].isna().to_numpy().argmax()) + header
        place = f", line {row + 1}" if header else f", row {row}"
        raise UserError(f"{where}{place}: {column} is empty. Give a path or take the row out.")
    if table.empty:
        raise UserError(f"{where} has a header and no rows.")
    return [str(path) for path in table[column]]
