"""What the columns of a table of labels are: its paths, ids and positions, what numbers its rows, and what is left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from galaxyml.data.images.file_types import HDF5, SUFFIXES
from galaxyml.data.images.inside import PARQUET
from galaxyml.data.tables.text_table import TextTable
from galaxyml.runs.errors import UserError, shorten

SPLIT, FOLD = "split", "fold"
PATHS = ("path", "image", "file", "filename")  # names that are asked for
_NAMES: dict[str, list[Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_SKY = [(ra, dec) for ra, dec in _NAMES["sky"]]
_POSITIONS = {name for pair in _SKY for name in pair} | {*_NAMES["positions"]}
# Names in "id" that stand for an object whatever their values are; of others, such as `spheroid`, the values tell.
_KIND_OF_ID = re.compile(
    r"(^|.*[_\-. ])id$|.*[a-z](ID|Id)$|.*(obj|object|source|src|target|subject|galaxy|gal|spec|cat|brick|asset|plate|"
    r"fiber|star|host|image|img|file|photo|run|tile|field|match|group|cluster)ids?$"
)
_CLASS = re.compile(r"class|label|type|kind|categor|morph", re.IGNORECASE)  # such as class_id, which is to be learnt
_IMAGE = re.compile(rf".*({'|'.join(map(re.escape, (*SUFFIXES, *HDF5, *PARQUET)))})(#\d+)?", re.IGNORECASE)
_LOOKED_AT = 200  # cells that show whether a column holds paths
FEWEST = 3  # rows from which on values may show that a column numbers or names them


@dataclass(frozen=True)
class Roles:
    """Columns of a table by what they are for.

    Attributes:
        path: The paths of images.
        id: What each object is called; None if only by its path.
        sky: Right ascension and declination; None if not both are there.
        split: Which part of the split each object is in; None if not told.
        aside: All columns that are no targets unless they are asked for, with the reason; those above are among them.
    """

    path: str
    id: str | None
    sky: tuple[str, str] | None
    split: str | None
    aside: dict[str, str]


def find_roles(table: TextTable, advice: str, targets: Sequence[str] = ()) -> Roles:
    """What each column is for.

    Args:
        table: The table.
        advice: What a table must have, for error messages.
        targets: Columns that are asked for, which are nothing else.

    Raises:
        UserError: If none holds paths.
    """
    path = path_column(table, advice)
    plain = {name: _plain(name) for name in table.columns}
    of_name: dict[str, str] = {}  # the first column of each plain name
    for name, key in plain.items():
        of_name.setdefault(key, name)
    aside = {path: "path"}
    for name, key in plain.items():
        reason = _reason(name, key, table.frame[name]) if name != path and name not in targets else None
        if reason is not None:
            aside[name] = reason
    ids = [of_name[key] for key in _NAMES["ids"] if aside.get(of_name.get(key, "")) == "names the rows"]
    named = next((name for name in ids if plain[name] == "id" or _is_key(table.frame[name])), None)
    sky = next(
        (
            (of_name[ra], of_name[dec])
            for ra, dec in _SKY
            if aside.get(of_name.get(ra, "")) == aside.get(of_name.get(dec, "")) == "position"
        ),
        None,
    )
    split = of_name.get(SPLIT)
    return Roles(path, named, sky, split if aside.get(split or "") == "split" else None, aside)


def path_column(table: TextTable, advice: str = "") -> str:
    """The column of images that are inside, or of paths: by its name, or because all of its cells end as images do.

    Raises:
        UserError: If none does.
    """
    found = columns_of_paths(table)
    if len(found) == 1:
        return found[0]
    several = f" ({' and '.join(found)} hold paths: call the one that counts path)" if found else ""
    raise UserError(
        f"{table.path} has no column {', '.join(PATHS[:-1])} or {PATHS[-1]}{several}; it has "
        f"{shorten(table.columns, shown=12)}. {advice}".rstrip()
    )


def columns_of_paths(table: TextTable) -> list[str]:
    """The column of images or paths; several where no name tells which it is, none where there is none."""
    if table.images is not None:
        return [table.images]
    for key in _NAMES["paths"]:
        for name in table.columns:
            if _plain(name) == key:
                return [name]
    return [name for name in table.columns if _holds_paths(table.frame[name])]


def columns_of_ids(table: TextTable) -> list[str]:
    """Columns that name the rows."""
    return [name for name in table.columns if _reason(name, _plain(name), table.frame[name]) == "names the rows"]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _reason(name: str, key: str, cells: pd.Series) -> str | None:
    """Why a column is no target; None if it may be one."""
    if key in (SPLIT, FOLD):
        return key
    if key in _NAMES["numbers"] or re.fullmatch(r"Unnamed: \d+(_level_\d+)?", name):
        return "numbers the rows"
    if key in _POSITIONS:
        return "position"
    if key in _NAMES["labelling"]:
        return "how it was labelled"
    if key in _NAMES["paths"] or _holds_paths(cells):
        return "path"
    is_id = _KIND_OF_ID.fullmatch(name) or _KIND_OF_ID.fullmatch(name.lower())
    if key in _NAMES["ids"] or key in _NAMES["names"] or (is_id and not _CLASS.search(name)):
        return "names the rows"
    if len(cells) < FEWEST:
        return None
    if _is_consecutive(cells):
        return "numbers the rows"
    if (key.endswith("id") or key == "name") and _is_key(cells):
        return "names the rows"
    return None


def _is_key(cells: pd.Series) -> bool:
    """Whether each row has a value of its own."""
    return bool((cells != "").all() and cells.is_unique)


def _is_consecutive(cells: pd.Series) -> bool:
    """Whether cells are whole numbers that follow each other, by one."""
    if not cells.head(_LOOKED_AT).str.fullmatch(r"\d{1,18}(\.0*)?").all():
        return False
    if not cells.str.fullmatch(r"\d{1,18}(\.0*)?").all():
        return False
    numbers = cells.str.replace(r"\.0*$", "", regex=True).astype(np.int64).to_numpy()
    return bool((np.diff(numbers) == 1).all())


def _holds_paths(cells: pd.Series) -> bool:
    """Whether cells are names of images; some may be empty."""
    filled = cells[cells != ""].head(_LOOKED_AT)
    return bool(len(filled) and filled.str.fullmatch(_IMAGE).all())
