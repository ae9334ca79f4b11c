"""Contents of a table of labels of one's own, by its header and values, before a run is configured.

Imports nothing heavy: the command reads the table before anything else is done.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galaxyml.runs.errors import DataError, UserError, shorten

IDS, PATHS = ("id",), ("path", "image", "file", "filename")  # names of these columns
SKY, SPLIT = ("ra", "dec"), "split"
ABOUT = (*IDS, *PATHS, *SKY, SPLIT, "fold")  # columns that are never predicted unless they are asked for
SIMULATED_CLASS, SIMULATED_NUMBERS = "kind", ("r90", "axis_ratio", "redshift")  # of the simulated sky's table
MOST_NUMBERED = 20  # different whole numbers that are taken for classes
MOST_CLASSES = 200
RGB = 3  # channels of images that say nothing else
MOST_TRIED = 20  # images that are opened to find how many channels they have
EMPTY = ("", "nan")  # cells that say nothing: programs write the latter for no number
FEW_WORDS = 0.1  # share of cells below which words among numbers are mistakes
FOLDER = Path("data/images")  # where no other is given
WANTED = (
    "task=images reads a CSV table with the columns id (optional), path (of the image, from data_dir=… on), and what "
    "is to be predicted: a class, numbers, or fractions of a decision tree (tree=FILE.yaml)"
)


@dataclass
class Column:
    """A column of the table.

    Attributes:
        values: Its different values, as text, empty ones left out, up to one more than can be classes.
        filled: In how many rows it is not empty.
        words: In how many of them it is no finite number.
        word: The first that is none, and its line.
        whole: Whether all that are numbers are whole ones.
    """

    values: set[str]
    filled: int = 0
    words: int = 0
    word: tuple[str, int] = ("", 0)
    whole: bool = True

    def add(self, value: str, line: int) -> None:
        """Takes in a value, with what it tells."""
        if value.lower() in EMPTY:
            return
        self.filled += 1
        if len(self.values) <= MOST_CLASSES:
            self.values.add(value)
        number = _number(value)
        if number is not None:
            self.whole = self.whole and number.is_integer()
        else:
            self.word = self.word if self.words else (value, line)
            self.words += 1

    @property
    def numeric(self) -> bool:
        """Whether all of its values are finite numbers."""
        return not self.words

    @property
    def is_class(self) -> bool:
        """Whether it reads as a class: words, or a few whole numbers."""
        return not self.numeric or (self.whole and len(self.values) <= MOST_NUMBERED)


def settings(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Settings that a command leaves to the table: values for `kind`, `columns`, `classes`, `split` and `channels`.

    Args:
        given: The user's values, by key: text, lists of texts, None where something is left open.

    Raises:
        UserError: If there is no such table, or it does not tell what is to be predicted.
    """
    given = {key: value for key, value in given.items() if value is not None}
    simulated, real = (given.get("source") == name for name in ("simulated", "real"))
    if simulated or not (real or "data_dir" in given or FOLDER.is_dir()):
        if "labels" in given and not simulated:
            raise UserError(f"labels={given['labels']} needs data_dir=…, the folder that its paths begin in.")
        return _of_simulated(given) | _channels(given, lambda: given.get("simulate.bands", RGB))
    folder = Path(given.get("data_dir", FOLDER)).expanduser()
    path = table_path(folder, given.get("labels", "labels.csv"))
    kind = "fractions" if "tree" in given else given.get("kind")
    chosen = _names(given["columns"]) if "columns" in given else None
    table = table_contents(path, chosen, kind, "classes" in given)
    settings: dict[str, str | list[str]] = {}
    if table.has_test and "split" not in given:
        settings["split"] = "folds"
    settings |= _missing(given, table.kind, table.columns if table.kind != "fractions" else None)
    if table.classes is not None:
        settings["classes"] = table.classes
    return settings | _channels(given, lambda: first_channels(folder, path, given.get("hdu")))


@dataclass(frozen=True)
class TableContents:
    """Contents of a table of labels.

    Attributes:
        kind: `classes`, `numbers` or `fractions`.
        columns: That are to be predicted; none for fractions, whose tree has them.
        classes: Names of the classes; None where there are none, or they are known.
        has_test: Whether the table says which rows are to test on.
    """

    kind: str
    columns: list[str]
    classes: list[str] | None
    has_test: bool


def table_contents(
    path: Path, chosen: Sequence[str] | None = None, kind: str | None = None, classes_known: bool = False
) -> TableContents:
    """Reads from a table what it is about.

    Args:
        path: The table.
        chosen: Columns that are to be predicted; None for all but id, path, position and split.
        kind: `classes`, `numbers` or `fractions`; None to see by the values.
        classes_known: Whether the names of the classes are known already.

    Raises:
        UserError: If there is no such table, or it does not tell what is to be predicted.
    """
    votes = kind == "fractions"
    header, columns = _read(path, [SPLIT] if votes else None if chosen is None else [SPLIT, *chosen])
    has_test = SPLIT in header and "test" in {value.lower() for value in columns[SPLIT].values}
    if votes:
        return TableContents("fractions", [], None, has_test)
    names = list(chosen) if chosen is not None else [name for name in header if name not in ABOUT]
    if missing := [name for name in names if name not in header]:
        raise UserError(
            f"{path} has no column {missing[0]}, which columns=… names. It has {shorten(header, shown=12)}."
        )
    if not names:
        raise UserError(f"{path} has nothing to predict: only {', '.join(header)}. {WANTED}.")
    if empty := [name for name in names if not columns[name].filled]:
        raise UserError(f"{path}: the column {empty[0]} is empty. Fill it, or choose others by columns=[…].")
    kind = kind or _kind(path, {name: columns[name] for name in names})
    if kind == "numbers":
        for name in names:
            _check_numbers(path, name, columns[name])
    classes = _classes(path, names, columns) if kind == "classes" and not classes_known else None
    return TableContents(kind, names, classes, has_test)


def _of_simulated(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The same of the simulated sky's table, which is drawn later."""
    if "tree" in given or given.get("kind") == "fractions":
        return _missing(given, "fractions")
    if "columns" not in given:
        return {}
    names = _names(given["columns"])
    if unknown := [name for name in names if name not in (SIMULATED_CLASS, *SIMULATED_NUMBERS)]:
        raise UserError(
            f"The simulated sky's table has no column {unknown[0]}; it has {SIMULATED_CLASS} (a class) and "
            f"{', '.join(SIMULATED_NUMBERS)} (numbers)."
        )
    if len(names) > 1 and SIMULATED_CLASS in names:
        raise UserError(
            f"columns=…: a run learns one class, or numbers. Give columns=[{SIMULATED_CLASS}], or the others."
        )
    return _missing(given, "classes" if names == [SIMULATED_CLASS] else "numbers", names)


def _missing(given: Mapping[str, Any], kind: str, names: list[str] | None = None) -> dict[str, str | list[str]]:
    """Kind and columns, where the user has not given them."""
    settings: dict[str, str | list[str]] = {} if "kind" in given else {"kind": kind}
    if names is not None and not isinstance(given.get("columns"), list):
        settings["columns"] = names
    return settings


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else [str(value)]


def _channels(given: Mapping[str, Any], find: Callable[[], Any]) -> dict[str, str | list[str]]:
    """The number of channels, where the user has not given it: that of the bands, or what is found."""
    if "channels" in given:
        return {}
    if "bands" in given:
        return {"channels": str(len(_names(given["bands"])))}
    return {"channels": str(find())}


def first_channels(folder: Path, path: Path, hdu: Any = None) -> int:
    """Channels that the first image of a table holds; 3 where none of the first few can be read, which is told later.

    Args:
        folder: Of the images.
        path: The table.
        hdu: Of FITS files: name or number of the HDU with the image; None to find it.
    """
    from galaxyml.data.images.decode import channels_of, file_of  # here, as it takes a while
    from galaxyml.data.images.decoding import Decoding

    decoding = Decoding(hdu=int(hdu) if str(hdu).isdecimal() else hdu)
    tried = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        column = path_column(rows.fieldnames, path)
        for row in rows:
            image = folder / str(row[column]).strip()
            if not Path(file_of(str(image))).is_file():
                continue
            try:
                return channels_of(image, decoding)
            except DataError:
                tried += 1
            if tried == MOST_TRIED:
                break
    return RGB


def table_path(folder: Path, labels: str) -> Path:
    """Path of a table: in the folder of the images, or else where its name says.

    Args:
        folder: The folder.
        labels: Its name, or a path.
    """
    inside, beside = folder / labels, Path(labels).expanduser()
    return beside if not inside.is_file() and beside.is_file() else inside


def path_column(header: Sequence[str], path: Path) -> str:
    """Name of the column that holds the paths of images.

    Raises:
        UserError: If none does.
    """
    for name in PATHS:
        if name in header:
            return name
    raise UserError(f"{path} has no column {', '.join(PATHS[:-1])} or {PATHS[-1]}; it has {shorten(header)}. {WANTED}.")


def _read(path: Path, wanted: Sequence[str] | None) -> tuple[list[str], dict[str, Column]]:
    """The header, and what each of the wanted columns holds that is there; None for all of them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            path_column(header, path)
            if twice := [name for name in header if header.count(name) > 1]:
                raise UserError(f"{path} has two columns '{twice[0]}'. Rename one of them.")
            columns = {name: Column(set()) for name in header if wanted is None or name in wanted}
            wanted_columns = [(index, columns[name]) for index, name in enumerate(header) if name in columns]
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
                for index, column in wanted_columns:
                    column.add(row[index].strip(), rows.line_num)
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
    """Kind of the columns: `classes` or `numbers`."""
    for name, column in columns.items():
        if 0 < column.words < FEW_WORDS * column.filled:  # a number that went wrong rather than a class
            _check_numbers(path, name, column)
    if len(columns) == 1:
        return "classes" if next(iter(columns.values())).is_class else "numbers"
    words = [name for name, column in columns.items() if not column.numeric]
    if not words:
        return "numbers"
    others = [name for name in columns if name not in words]
    numbers = f", or columns=[{','.join(others)}] for numbers" if others else ""
    raise UserError(
        f"{path} holds words in {shorten(words)}: a run learns one class, or numbers. Say which: "
        f"columns=[{words[0]}] for "
        f"a class{numbers}; tree=FILE.yaml for fractions of a decision tree."
    )


def _check_numbers(path: Path, name: str, column: Column) -> None:
    if column.words:
        word, line = column.word
        more = f" ({column.words:,} such cells of {column.filled:,})" if column.words > 1 else ""
        raise UserError(
            f"{path}, line {line}: {name} is '{word}', which is no finite number{more}. Correct the cell or leave it "
            "empty; kind=classes takes the column for a class."
        )


def _classes(path: Path, names: Sequence[str], columns: Mapping[str, Column]) -> list[str]:
    """Names of the classes, numbers in their order."""
    if len(names) > 1:
        raise UserError(
            f"kind=classes: a run learns one class, but there are {shorten(names)}. Give columns=[{names[0]}]."
        )
    column = columns[names[0]]
    if len(column.values) > MOST_CLASSES or 2 * len(column.values) > max(column.filled, 4):
        least = "more than " if len(column.values) > MOST_CLASSES else ""
        raise UserError(
            f"{path}: {names[0]} has {least}{min(len(column.values), MOST_CLASSES)} different values in "
            f"{column.filled:,} rows, too many for a class. Choose another column by columns=[…]"
            f"{', or kind=numbers' if column.numeric else ''}."
        )
    if len(column.values) < 2:
        raise UserError(
            f"{path}: {names[0]} is {next(iter(column.values))} in all rows; a class needs two values or more."
        )
    return sorted(column.values, key=lambda value: (_number(value) if column.numeric else value.lower(), value))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
