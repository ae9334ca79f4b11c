"""Images that files, folders, patterns and tables of paths name."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py

from galaxyml.data.images.decode import HDF5, KEY, SUFFIXES, address, has_suffix
from galaxyml.data.tables.reading import read_csv
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten

PATH_COLUMNS = ("path", "image", "file", "filename")


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
            is_images = isinstance(pixels, h5py.Dataset) and pixels.ndim == 4 and pixels.shape[-1] == 3
            if not is_images or pixels.dtype != "u1":
                raise DataError(
                    f"{path} has no {KEY} of shape (N, H, W, 3) and type uint8; it has {shorten(sorted(file))}."
                )
            return len(pixels)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({str(error).splitlines()[0]}).") from None


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """Images of a CSV; relative paths begin in its own folder."""
    if not path.is_file():
        raise UsageError(f"{path} is missing.")
    table = read_csv(path, dtype=str)
    column = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if column is None:
        raise UserError(f"{path} has no column {' or '.join(PATH_COLUMNS)}; it has {shorten(list(table.columns))}.")
    if table[column].isna().any():
        row = int(table[column].isna().to_numpy().argmax())
        raise UserError(f"{path}, line {row + 2}: {column} is empty. Give a path or take the row out.")
    if table.empty:
        raise UserError(f"{path} has a header and no rows.")
    yield from ((str(path.parent / Path(name).expanduser()), name) for name in table[column])
