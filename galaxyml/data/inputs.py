"""Images that files, folders, patterns, tables of paths and data sets name, or that are given as they are."""

import glob
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from PIL.ImageFile import ImageFile

from galaxyml.data.images.decode import address, from_array, from_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.file_types import FITS, HDF5, READ, TAR, has_suffix
from galaxyml.data.images.folders import images_below, passed_over_notes
from galaxyml.data.images.inside import KEY, count_in_tar, images_in
from galaxyml.data.tables.data_set import find_data_set
from galaxyml.data.tables.images_by_id import images_by_name, with_paths
from galaxyml.data.tables.roles import PATHS, Roles, find_roles
from galaxyml.data.tables.table_file import TABLES, holds_fits_table, table_blocks
from galaxyml.data.tables.table_formats import AT_ONCE
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten

log = logging.getLogger(__name__)

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
        ids = _distinct(pd.Series(self.ids, dtype=object), pd.Series(self.paths, dtype=object))
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


def names_of(given: Sequence[Any]) -> tuple[list[str | int], pd.DataFrame]:
    """What images that are given as they are are called, and what goes beside their predictions: `id`.

    Returns:
        Of an image that Pillow has opened the path of its file, whose id is the file's name, or the path where several
        have that name; of any other its number, from 0, which is its id, too.
    """
    files = [item.filename if isinstance(item, ImageFile) and isinstance(item.filename, str) else "" for item in given]
    names = [file or number for number, file in enumerate(files)]
    ids = pd.Series([Path(name).name if isinstance(name, str) else name for name in names], dtype=object)
    return names, pd.DataFrame({"id": _distinct(ids, pd.Series(names, dtype=object)).to_numpy()})


def _distinct(ids: pd.Series, paths: pd.Series) -> pd.Series:
    """Ids, but paths in the place of those that several have."""
    return ids.where(~ids.duplicated(keep=False), paths).infer_objects()


@dataclass
class Block:
    """Some images that were found, one after the other.

    Attributes:
        locations: Where each is.
        paths: What the user called each.
        ids: A name of each that does not depend on where the command is run.
        table: What a table says of them, as text, one row an image; None where no table names them.
    """

    locations: list[str]
    paths: list[str]
    ids: list[str]
    table: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.locations)


def find(paths: Sequence[Path | str]) -> Listing:
    """All images that files, folders, patterns and tables of paths name; each once, in the order given.

    Raises:
        UserError: If something is not there, or holds no images.
    """
    listing = Listing()
    tables: dict[str, list[pd.DataFrame]] = {}  # of each table its blocks, whose columns are the same
    for path, block in find_blocks(paths):
        for image in zip(block.locations, block.paths, block.ids, strict=True):
            listing.add(*image)
        if block.table is not None:
            tables.setdefault(path, []).append(block.table.set_axis(block.locations))
    listing.tables = [typed(pd.concat(blocks)) for blocks in tables.values()]
    return listing


def find_blocks(paths: Sequence[Path | str]) -> Iterator[tuple[str, Block]]:
    """As `find`, at most some 50,000 images at a time, with what named them; an image that is named twice comes twice.

    Errors come when they are met; those of the lines of a CSV file behind its last block.
    """
    for path in paths:
        yield from _blocks_of(str(path))


def _blocks_of(given: str) -> Iterator[tuple[str, Block]]:
    path = Path(given).expanduser()
    if path.is_dir():
        yield from ((given, block) for block in _of_folder(path))
    elif not path.exists() and glob.has_magic(given):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UsageError(f"No file matches '{given}'.")
        files: list[str] = []
        for match in matches:
            if _holds_many(Path(match)):
                yield from _files(given, files)
                files = []
                yield from _blocks_of(match)
            else:
                files.append(match)
        yield from _files(given, files)
    elif has_suffix(path, TABLES) or (has_suffix(path, FITS) and holds_fits_table(path)):
        yield from ((given, block) for block in _of_table(path))
    elif has_suffix(path, (*HDF5, *TAR)):
        rows = count_in_tar(path) if has_suffix(path, TAR) else _count(path)
        for start in range(0, rows, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, rows))
            names = [address(str(path), row) for row in numbers]
            yield given, Block(names, names, [address(path.name, row) for row in numbers])
    else:  # what is missing or no image is told like any other bad image
        yield given, Block([str(path)], [given], [path.name])


def _holds_many(path: Path) -> bool:
    """Whether a path is no file of one image."""
    return (
        path.is_dir() or has_suffix(path, (*TABLES, *HDF5, *TAR)) or (has_suffix(path, FITS) and holds_fits_table(path))
    )


def _files(given: str, files: Sequence[str]) -> Iterator[tuple[str, Block]]:
    for some in batched(files, AT_ONCE):
        yield given, Block(some, some, [Path(file).name for file in some])


def _of_folder(path: Path) -> Iterator[Block]:
    """Images in a folder, by the order of their paths; or inside the parts of a data set there."""
    passed_over: Counter[str] = Counter()
    none = True
    for names in batched(images_below(path, passed_over), AT_ONCE):
        none = False
        inside = [str(path / name) for name in names]
        yield Block(inside, inside, names)
    notes = passed_over_notes(path, passed_over)
    if none and find_data_set(path) is not None:
        yield from _of_table(path)
        return
    if none:
        raise UsageError(" ".join([f"{path}: the folder holds no images ({READ}).", *notes]))
    for note in notes:
        log.info("%s", note)


def batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Items, at most `size` at a time."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def _count(path: Path) -> int:
    """Number of images in an HDF5 file."""
    try:
        with h5py.File(path) as file:
            with suppress(KeyError):
                pixels = images_in(file)
                if isinstance(pixels, h5py.Dataset) and pixels.ndim in (3, 4) and pixels.dtype.kind in "uif":
                    return len(pixels)
            raise DataError(f"{path} has no {KEY} of shape (N, H, W, C), of numbers; it has {shorten(sorted(file))}.")
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({str(error).splitlines()[0]}).") from None


def _of_table(path: Path) -> Iterator[Block]:
    """Images of a table, or inside one; relative paths begin in its own folder."""
    if not path.exists() and find_data_set(path) is None:
        raise UsageError(f"{path} is missing.")
    roles: Roles | None = None
    said: set[str] = set()
    none = True
    by_name = cache(lambda: images_by_name(path.parent))
    for plain in table_blocks(path):
        table = with_paths(plain, by_name)
        for note in table.notes if table.images is not None else table.notes[len(plain.notes) :]:
            if note not in said:
                log.info("%s", note)
                said.add(note)
        if roles is None:
            roles = find_roles(table, "")
        elif lost := {roles.path, roles.id} - {*table.columns, None}:
            raise DataError(f"{table.path}: it has no column {lost.pop()}, which the rows before have. Add it.")
        frame = table.frame[(table.frame != "").any(axis=1)]
        if frame.empty:
            continue
        paths = frame[roles.path]
        if (empty := (paths == "").to_numpy()).any():
            place = table.place(int(frame.index[int(empty.argmax())]))
            raise UserError(f"{place}: {roles.path} is empty. Give a path or take the row out.")
        folder = table.folder or path.parent
        locations = [str(folder / Path(name).expanduser()) for name in paths]
        called = locations if table.images is not None else list(paths)
        ids = list(frame[roles.id]) if roles.id is not None else list(paths)
        yield Block(locations, called, ids, frame.drop(columns=roles.path))
        none = False
    if none:
        raise UserError(f"{path} has a header and no rows.")


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of text as numbers where all of their cells are; ids such as 007 stay as they are."""
    return pd.DataFrame({name: _numbers(frame[name]) for name in frame}, index=frame.index)


def _numbers(cells: pd.Series) -> pd.Series:
    filled = cells[cells != ""]
    if filled.empty:
        return cells
    if filled.str.fullmatch(_WHOLE).all():
        whole = pd.array(
            [int(cell) if cell else None for cell in cells], dtype="Int64"
        )  # not by floats, which lose digits
        return pd.Series(whole, cells.index).astype("int64" if len(filled) == len(cells) else "Int64")
    if filled.str.fullmatch(_NUMBER, case=False).all():
        return pd.Series([float(cell) if cell else float("nan") for cell in cells], cells.index, dtype="float64")
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
