"""Images that files, folders, patterns and tables of paths name, or that are given as they are."""

import glob
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from galaxyml.data.images.decode import KEY, address, from_array, from_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.file_types import FITS, HDF5, READ, has_suffix
from galaxyml.data.images.folders import images_below, passed_over_notes
from galaxyml.data.tables.roles import PATHS, find_roles
from galaxyml.data.tables.table_file import holds_fits_table, read_table_file
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten

log = logging.getLogger(__name__)

TABLES = (".csv", ".csv.gz", ".tsv", ".parquet", ".ecsv", ".vot", ".votable")
FORMS = (
    "files, folders, patterns or a DataFrame with a column path; or the images themselves: arrays (H, W) or (H, W, C), "
    "many of them as (N, H, W, C) or in a list, or Pillow's"
)


GIVEN = "_given"  # ends the name of a column of the user's table that a prediction has, too
_WHOLE = r"[+-]?(0|[1-9]\d{0,17})"
_NUMBER = r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|nan"


@dataclass
class Listing:
    """Images that were found, in order.

    Attributes:
        paths: What the user called each, by where it is.
        ids: A name of each that does not depend on where the command is run, by where it is: its id in a table, its
            path in a folder, or its file's name.
        tables: What tables of paths say of their images, by where these are.
    """

    paths: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    tables: list[pd.DataFrame] = field(default_factory=list)

    def add(self, location: str, path: str, name: str) -> None:
        """Adds an image, unless it is there."""
        if location not in self.paths:
            self.paths[location], self.ids[location] = path, name

    def beside(self) -> pd.DataFrame:
        """What goes beside the predictions of all images: `id`, and the columns of their tables.

        Ids that several images have are replaced by their paths.
        """
        ids = pd.Series(self.ids, dtype=object)
        twice = ids.duplicated(keep=False)
        ids = ids.where(~twice, pd.Series(self.paths, dtype=object)).infer_objects()
        if not self.tables:
            return pd.DataFrame({"id": ids.to_numpy()})
        table = pd.concat(self.tables)
        table = table[~table.index.duplicated()].reindex(ids.index)
        others = table.drop(columns="id", errors="ignore")
        return pd.DataFrame({"id": ids.to_numpy(), **{name: others[name].to_numpy() for name in others}})


def several(inputs: Any, channels: Sequence[int] = (3,)) -> list[Any]:
    """What a caller gave, one by one: paths, or images.

    Args:
        inputs: See `FORMS`.
        channels: How many channels an image may have.

    Raises:
        UserError: If it is something else, or nothing.
    """
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


def find(paths: Sequence[Path | str]) -> Listing:
    """All images that files, folders, patterns and tables of paths name; each once, in the order given.

    Raises:
        UserError: If something is not there, or holds no images.
    """
    listing = Listing()
    for path in paths:
        for image in _images_of(str(path), listing.tables):
            listing.add(*image)
    return listing


def _images_of(given: str, tables: list[pd.DataFrame]) -> Iterator[tuple[str, str, str]]:
    """Where each image is, what the user called it, and its id; what tables say is added to `tables`."""
    path = Path(given).expanduser()
    if path.is_dir():
        passed_over: Counter[str] = Counter()
        inside = sorted(path / name for name in images_below(path, passed_over))
        notes = passed_over_notes(path, passed_over)
        if not inside:
            raise UsageError(" ".join([f"{path}: the folder holds no images ({READ}).", *notes]))
        for note in notes:
            log.info("%s", note)
        yield from ((str(file), str(file), file.relative_to(path).as_posix()) for file in inside)
    elif not path.exists() and glob.has_magic(given):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UsageError(f"No file matches '{given}'.")
        for match in matches:
            yield from _images_of(match, tables)
    elif has_suffix(path, TABLES) or (has_suffix(path, FITS) and holds_fits_table(path)):
        yield from _listed(path, tables)
    elif has_suffix(path, HDF5):
        for row in range(_count(path)):
            name = address(str(path), row)
            yield name, name, address(path.name, row)
    else:
        yield str(path), given, path.name  # what is missing or no image is told like any other bad image


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


def _listed(path: Path, tables: list[pd.DataFrame]) -> Iterator[tuple[str, str, str]]:
    """Images of a table; relative paths begin in its own folder."""
    if not path.is_file():
        raise UsageError(f"{path} is missing.")
    table = read_table_file(path)
    roles = find_roles(table, "")
    frame = table.frame[(table.frame != "").any(axis=1)]
    if frame.empty:
        raise UserError(f"{path} has a header and no rows.")
    paths = frame[roles.path]
    if (empty := (paths == "").to_numpy()).any():
        place = table.place(int(frame.index[int(empty.argmax())]))
        raise UserError(f"{place}: {roles.path} is empty. Give a path or take the row out.")
    locations = [str(path.parent / Path(name).expanduser()) for name in paths]
    tables.append(_typed(frame.drop(columns=roles.path)).set_axis(locations))
    yield from zip(locations, paths, frame[roles.id] if roles.id is not None else paths, strict=True)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of text as numbers where all of their cells are; ids such as 007 stay as they are."""
    return pd.DataFrame({name: _numbers(frame[name]) for name in frame}, index=frame.index)


def _numbers(cells: pd.Series) -> pd.Series:
    filled = cells[cells != ""]
    if filled.empty:
        return cells
    if filled.str.fullmatch(_WHOLE).all():
        whole = cells.where(cells != "", None)
        return pd.to_numeric(whole).astype("int64") if len(filled) == len(cells) else whole.astype("Int64")
    if filled.str.fullmatch(_NUMBER, case=False).all():
        return pd.to_numeric(cells.where(cells != "", "nan")).astype("float64")
    return cells


def with_given(table: pd.DataFrame, beside: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the columns of the user's own table behind their names, `id` and `path`.

    Args:
        table: Predictions, `path` first.
        beside: As `Listing.beside` has them, of the same images.
    """
    given = beside.reset_index(drop=True).rename(columns=lambda name: f"{name}{GIVEN}" if name in table else name)
    parts = [given[["id"]], table[["path"]], given.drop(columns="id"), table.drop(columns="path")]
    return pd.concat(parts, axis=1)


def listed(table: pd.DataFrame) -> Listing:
    """Images that a DataFrame names in one of the columns `PATHS`; its other columns go beside their predictions.

    Raises:
        UserError: If it has no such column, or an empty cell in it.
    """
    column = next((name for name in PATHS if name in table.columns), None)
    if column is None:
        raise UserError(f"The DataFrame has no column {' or '.join(PATHS)}; it has {shorten(list(table.columns))}.")
    if table[column].isna().any():
        row = int(table[column].isna().to_numpy().argmax())
        raise UserError(f"The DataFrame, row {row}: {column} is empty. Give a path or take the row out.")
    if table.empty:
        raise UserError("The DataFrame has a header and no rows.")
    paths = [str(path) for path in table[column]]
    locations = [str(Path(path).expanduser()) for path in paths]
    listing = Listing(tables=[table.drop(columns=column).set_axis(locations)])
    for image in zip(locations, paths, table.get("id", paths), strict=True):
        listing.add(*image)
    return listing
