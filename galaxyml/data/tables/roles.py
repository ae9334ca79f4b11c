"""What the columns of a table of labels are: its paths, ids and positions, what numbers its rows, and what is left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.data.images.decode import HDF5, SUFFIXES
from galaxyml.data.tables.table_file import TextTable
from galaxyml.runs.errors import UserError, shorten

SPLIT, FOLD = "split", "fold"
PATHS = ("path", "image", "file", "filename")  # names that are asked for
# Names are compared in lower case without anything but letters and digits.
_PATHS = (*PATHS, "fileloc", "filepath", "imagepath", "imgpath", "imagefile", "imgfile", "localpath", "pngloc")
_PATHS += ("jpegloc", "jpgloc", "imagename", "imgname", "img", "relativefileloc", "localfile")
_IDS = ("id", "idstr", "iauname", "objid", "objectid", "dr7objid", "dr8objid", "dr8id", "specobjid", "galaxyid")
_IDS += ("sourceid", "targetid", "subjectid", "assetid", "subjectids")
_NAMING = ("name", "designation", "galaxyname", "objname", "url", "thumbnail", "subfolder")
_SKY = (("ra", "dec"), ("radeg", "decdeg"), ("radeg", "dedeg"), ("ra", "de"), ("ra", "decl"), ("radeg", "dec"))
_SKY += (("raj2000", "dej2000"), ("raj2000", "decj2000"), ("raicrs", "deicrs"), ("raicrs", "decicrs"))
_SKY += (("alphaj2000", "deltaj2000"), ("rightascension", "declination"), ("targetra", "targetdec"))
_SKY += (("objra", "objdec"), ("meanra", "meandec"), ("ramean", "decmean"), ("galra", "galdec"))
_POSITIONS = {name for pair in _SKY for name in pair}
_POSITIONS |= {"rastring", "decstring", "gall", "galb", "glon", "glat", "elon", "elat", "healpix", "htmid"}
_NUMBERING = {"index", "idx", "row", "rownum", "rownumber", "recno", "level0", "indexlevel0"}
# Names in "id" that stand for an object whatever their values are; of others, such as `spheroid`, the values tell.
_KIND_OF_ID = re.compile(
    r"(^|.*[_\-. ])id$|.*[a-z](ID|Id)$|.*(obj|object|source|src|target|subject|galaxy|gal|spec|cat|brick|asset|plate|"
    r"fiber|star|host|image|img|file|photo|run|tile|field|match|group|cluster)ids?$"
)
_CLASS = re.compile(r"class|label|type|kind|categor|morph", re.IGNORECASE)  # such as class_id, which is to be learnt
_IMAGE = re.compile(rf".*({'|'.join(map(re.escape, (*SUFFIXES, *HDF5)))})(#\d+)?", re.IGNORECASE)
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
    ids = [of_name[key] for key in _IDS if aside.get(of_name.get(key, "")) == "names the rows"]
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
    """The column that holds paths of images: by its name, or because all of its cells end as images do.

    Raises:
        UserError: If none does.
    """
    for key in _PATHS:
        for name in table.columns:
            if _plain(name) == key:
                return name
    if len(by_content := [name for name in table.columns if _holds_paths(table.frame[name])]) == 1:
        return by_content[0]
    images = [name for name in table.nested if _plain(name) in ("image", "images", "img")]
    inside = f" Its column {images[0]} holds images themselves: write them as files first." if images else ""
    several = f" ({' and '.join(by_content)} hold paths: call the one that counts path)" if by_content else ""
    raise UserError(
        f"{table.path} has no column {', '.join(PATHS[:-1])} or {PATHS[-1]}{several}; it has "
        f"{shorten(table.columns, shown=12)}.{inside} {advice}".rstrip()
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _reason(name: str, key: str, cells: pd.Series) -> str | None:
    """Why a column is no target; None if it may be one."""
    if key in (SPLIT, FOLD):
        return key
    if not key or key in _NUMBERING or re.fullmatch(r"Unnamed: \d+(_level_\d+)?", name):
        return "numbers the rows"
    if key in _POSITIONS:
        return "position"
    if key in _PATHS or _holds_paths(cells):
        return "path"
    is_id = _KIND_OF_ID.fullmatch(name) or _KIND_OF_ID.fullmatch(name.lower())
    if key in _IDS or key in _NAMING or (is_id and not _CLASS.search(name)):
        return "names the rows"
    if len(cells) < FEWEST:
        return None
    if _is_consecutive(cells):
        return "numbers the rows"
    if key.endswith("id") and _is_key(cells):
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
