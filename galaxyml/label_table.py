"""What a table of labels of one's own is about, by its header and values, before a run is configured.

Imports nothing heavy: the command reads the table before anything else is done.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from galaxyml.errors import UserError, some

IDS, PATHS = ("id",), ("path", "image", "file", "filename")  # names of these columns
SKY, SPLIT = ("ra", "dec"), "split"
ABOUT = (*IDS, *PATHS, *SKY, SPLIT)  # columns that are never predicted unless they are asked for
MOST_NUMBERED = 20  # different whole numbers that are taken for classes
MOST_CLASSES = 200
FOLDER = Path("data/images")  # where no other is given
WANTED = (
    "task=images reads a CSV table with the columns id (optional), path (of the picture, from data_dir=… on), and what "
    "is to be predicted: a class, numbers, or fractions of a decision tree (tree=FILE.yaml)"
)


@dataclass
class Column:
    """A column of the table.

    Attributes:
        values: Its different values, as text, the empty one left out, up to one more than can be classes.
        numeric: Whether all of them are finite numbers.
        whole: Whether all of them are whole numbers.
        filled: In how many rows it is not empty.
    """

    values: set[str]
    numeric: bool = True
    whole: bool = True
    filled: int = 0

    def add(self, value: str) -> None:
        """Takes in a value, with what it tells."""
        if not value:
            return
        self.filled += 1
        if len(self.values) <= MOST_CLASSES:
            self.values.add(value)
        if self.numeric:
            number = _number(value)
            self.numeric = number is not None
            self.whole = self.whole and number is not None and number.is_integer()

    @property
    def is_class(self) -> bool:
        """Whether it reads as a class: words, or a few whole numbers."""
        return not self.numeric or (self.whole and len(self.values) <= MOST_NUMBERED)


def settings(given: Mapping[str, str]) -> list[str]:
    """What a command with `task=images` leaves to its table: overrides for `targets`, `columns`, `classes` and `split`.

    Args:
        given: The user's overrides, by key, as typed.

    Returns:
        None for other tasks, and for the simulated sky, whose table the configuration knows.

    Raises:
        UserError: If there is no such table, or it does not tell what is to be predicted.
    """
    if given.get("task") != "images" or given.get("source") == "simulated":
        return []
    if "data_dir" not in given and not FOLDER.is_dir() and given.get("source") != "real":
        if "labels" in given:
            raise UserError(f"labels={given['labels']} needs data_dir=…, the folder that its paths begin in.")
        return []
    folder = Path(_value(given.get("data_dir")) or FOLDER).expanduser()
    path = place(folder, str(_value(given.get("labels")) or "labels.csv"))
    header, columns = _read(path)
    found = []
    if SPLIT in header and "split" not in given and columns[SPLIT].values & {"test"}:
        found.append("split=folds")  # the table has its own test objects
    if "tree" in given:
        return [*found, *([] if "targets" in given else ["targets=fractions"])]
    asked = _value(given.get("columns")) or [name for name in header if name not in ABOUT]
    names = [asked] if isinstance(asked, str) else [str(name) for name in asked]
    if missing := [name for name in names if name not in header]:
        raise UserError(f"{path} has no column {missing[0]}, which columns=… names. It has {some(header, shown=12)}.")
    if not names:
        raise UserError(f"{path} has nothing to predict: only {', '.join(header)}. {WANTED}.")
    if empty := [name for name in names if not columns[name].filled]:
        raise UserError(f"{path}: the column {empty[0]} is empty. Fill it, or choose others by columns=[…].")
    kind = _value(given.get("targets")) or _kind(path, {name: columns[name] for name in names})
    if "targets" not in given:
        found.append(f"targets={kind}")
    if kind == "numbers" and (words := [name for name in names if not columns[name].numeric]):
        raise UserError(f"{path}: {words[0]} holds words, such as {min(columns[words[0]].values)}; it is no number.")
    if "columns" not in given or isinstance(asked, str):
        found.append(f"columns=[{','.join(map(_quoted, names))}]")
    if kind == "class" and "classes" not in given:
        found.append(f"classes=[{','.join(map(_quoted, _classes(path, names, columns)))}]")
    return found


def place(folder: Path, labels: str) -> Path:
    """Where a table is: in the folder of the pictures, or else where its name says.

    Args:
        folder: The folder.
        labels: Its name, or a path.
    """
    inside, beside = folder / labels, Path(labels).expanduser()
    return beside if not inside.is_file() and beside.is_file() else inside


def path_column(header: Sequence[str], path: Path) -> str:
    """Which column holds the paths of pictures.

    Raises:
        UserError: If none does.
    """
    for name in PATHS:
        if name in header:
            return name
    raise UserError(f"{path} has no column {', '.join(PATHS[:-1])} or {PATHS[-1]}; it has {some(header)}. {WANTED}.")


def _read(path: Path) -> tuple[list[str], dict[str, Column]]:
    """The header, and what each column holds."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            path_column(header, path)
            if twice := [name for name in header if header.count(name) > 1]:
                raise UserError(f"{path} has two columns '{twice[0]}'. Rename one of them.")
            columns = {name: Column(set()) for name in header}
            count = 0
            for row in rows:
                if not row:
                    continue
                count += 1
                if len(row) != len(header):
                    raise UserError(
                        f"{path}, line {rows.line_num}: {len(row)} values, but the header has {len(header)} columns. "
                        "Put values that hold a comma between quotation marks."
                    )
                for name, value in zip(header, row, strict=True):
                    columns[name].add(value.strip())
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {WANTED}. labels=… names another table.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. It must be a CSV file that you may read.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV table in UTF-8: {error}. Save it as such.") from None
    if not count:
        raise UserError(f"{path} has a header and no rows. {WANTED}.")
    return header, columns


def _kind(path: Path, columns: Mapping[str, Column]) -> str:
    """What the columns are: `class` or `numbers`."""
    if len(columns) == 1:
        return "class" if next(iter(columns.values())).is_class else "numbers"
    words = [name for name, column in columns.items() if not column.numeric]
    if not words:
        return "numbers"
    others = [name for name in columns if name not in words]
    numbers = f", or columns=[{','.join(others)}] for numbers" if others else ""
    raise UserError(
        f"{path} holds words in {some(words)}: a run learns one class, or numbers. Say which: columns=[{words[0]}] for "
        f"a class{numbers}; tree=FILE.yaml for fractions of a decision tree."
    )


def _classes(path: Path, names: Sequence[str], columns: Mapping[str, Column]) -> list[str]:
    """Names of the classes, numbers in their order."""
    if len(names) > 1:
        raise UserError(
            f"targets=class: a run learns one class, but there are {some(names)}. Give columns=[{names[0]}]."
        )
    column = columns[names[0]]
    if len(column.values) > MOST_CLASSES or 2 * len(column.values) > max(column.filled, 4):
        least = "more than " if len(column.values) > MOST_CLASSES else ""
        raise UserError(
            f"{path}: {names[0]} has {least}{min(len(column.values), MOST_CLASSES)} different values in "
            f"{column.filled:,} rows, too many for a class. Choose another column by columns=[…]"
            f"{', or targets=numbers' if column.numeric else ''}."
        )
    if len(column.values) < 2:
        raise UserError(
            f"{path}: {names[0]} is {next(iter(column.values))} in all rows; a class needs two values or more."
        )
    return sorted(column.values, key=(lambda value: (float(value), value)) if column.numeric else str.lower)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _value(typed: str | None) -> Any:
    """What a value is that was typed as Hydra takes it: a list, or text."""
    if not typed or typed == "null":
        return None
    try:
        read = yaml.safe_load(typed)
    except yaml.YAMLError:
        return typed
    return read if isinstance(read, list) else str(read) if typed[0] in "'\"" else typed


def _quoted(text: str) -> str:
    """Text as Hydra takes it literally."""
    return "'" + text.replace("'", "\\'") + "'"
