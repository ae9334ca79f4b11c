"""What a table of labels of one's own is about: the settings that a command leaves to it.

The command asks before anything else is done.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from galaxyml.data.tables.label_column import LabelColumn, class_names
from galaxyml.data.tables.labels import LABELS, MISSING, WANTED, LabelTable, table_path
from galaxyml.data.tables.roles import FEWEST
from galaxyml.runs.errors import DataError, UserError, shorten

SIMULATED_CLASS, SIMULATED_NUMBERS = "kind", ("r90", "axis_ratio", "redshift")  # of the simulated sky's table
MOST_CLASSES = 200
RGB = 3  # channels of images that say nothing else
MOST_TRIED = 20  # images that are opened to find how many channels they have
FEW_WORDS = 0.1  # share of cells below which words among numbers are mistakes
FOLDER = Path("data/images")  # where no other is given


def settings(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Settings that a command leaves to the table: `kind`, `columns`, `classes`, `tree`, `split` and `channels`.

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
    if folder.is_file():
        raise UserError(f"data_dir={folder} is a file: give its folder, data_dir={folder.parent} labels={folder.name}.")
    if "tree" in given and "columns" in given:
        chosen = ",".join(_names(given["columns"]))
        raise UserError(
            f"columns=[{chosen}] tree={given['tree']}: a tree has its own columns, which are all learnt. Leave "
            "columns=… out; for a part of a tree's questions write these into a tree of your own (tree=FILE.yaml)."
        )
    path = table_path(folder, given.get("labels", LABELS))
    contents = table_contents(
        path,
        _names(given["columns"]) if "columns" in given else None,
        "fractions" if "tree" in given else given.get("kind"),
        _names(given["classes"]) if "classes" in given else None,
        tree=given.get("tree"),
        missing=_names(given.get("missing", [])),
        join_spellings=given.get("join_spellings", "").lower() in ("true", "yes", "on", "1"),
        properties=_names(given.get("properties", ["redshift"])),
        root=folder,
    )
    settings: dict[str, str | list[str]] = {}
    if contents.has_test and "split" not in given:
        settings["split"] = "folds"
    settings |= _open(given, contents.kind, contents.columns if contents.kind != "fractions" else None)
    if contents.tree is not None and "tree" not in given:
        settings["tree"] = contents.tree
    if contents.classes is not None and "classes" not in given:
        settings["classes"] = contents.classes
    return settings | _channels(given, lambda: first_channels(folder, path, given.get("hdu")))


@dataclass(frozen=True)
class TableContents:
    """Contents of a table of labels.

    Attributes:
        kind: `classes`, `numbers` or `fractions`.
        columns: That are to be predicted; none for fractions, whose tree has them.
        classes: Names of the classes; None where there are none, or they are known.
        has_test: Whether the table says which rows are to test on.
        tree: Of fractions: the decision tree.
    """

    kind: str
    columns: list[str]
    classes: list[str] | None
    has_test: bool
    tree: str | None = None


def table_contents(
    path: Path,
    chosen: Sequence[str] | None = None,
    kind: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    tree: str | None = None,
    missing: Sequence[Any] = (),
    join_spellings: bool = False,
    properties: Sequence[str] = (),
    root: Path | None = None,
) -> TableContents:
    """Reads from a table what it is about.

    Args:
        path: The table.
        chosen: Columns that are to be predicted; None for all that neither number nor name the rows nor tell where
            they are.
        kind: `classes`, `numbers` or `fractions`; None to see by the columns and values.
        classes: Names of the classes; None for all values.
        tree: The decision tree; None for the one whose columns the table has.
        missing: Further cells that say nothing.
        join_spellings: As for `class_names`.
        properties: Numbers that are no targets beside a class.
        root: As for `LabelTable.read`.

    Raises:
        UserError: If there is no such table, or it does not tell what is to be predicted.
    """
    labels = LabelTable.read(path, root, missing, chosen or ())
    header, split = labels.table.columns, labels.roles.split
    has_test = split is not None and bool((labels.table.frame[split].str.lower() == "test").any())
    if kind == "fractions" or (kind is None and chosen is None and classes is None):
        tree = tree if tree is not None else _ready_tree(header)
        if tree is not None:
            return TableContents("fractions", [], None, has_test, tree)
        if kind == "fractions":
            raise UserError(
                f"{path} has the columns of no decision tree that is known here; it has {shorten(header, shown=12)}. "
                "tree=NAME names one, tree=FILE.yaml one of your own."
            )
    if chosen is not None:
        if absent := [name for name in chosen if name not in header]:
            raise UserError(
                f"{path} has no column {absent[0]}, which columns=… names. It has {shorten(header, shown=12)}."
            )
        columns = {name: labels.column(name, classes or ()) for name in chosen}
    else:
        columns, _ = labels.candidates()
        columns = {name: labels.column(name, classes) for name in columns} if classes else columns
        columns = _without_properties(columns, properties, kind)
    if not columns:
        aside = described(labels.roles.aside)
        raise UserError(
            f"{path} has nothing to predict: {aside}. columns=[…] chooses one of these all the same. {WANTED}."
        )
    names = list(columns)
    if empty := [name for name in names if not columns[name].filled]:
        raise UserError(
            f"{path}: the column {empty[0]} is empty. Fill it, or choose others by columns=[…]; what stands for no "
            f"value are empty cells and {', '.join(MISSING)}."
        )
    kind = kind or _kind(path, columns)
    if kind == "numbers":
        for name in names:
            columns[name].check_numbers()
    found = _classes(path, columns, classes, join_spellings) if kind == "classes" else None
    return TableContents(kind, names, found if classes is None else None, has_test)


def described(aside: Mapping[str, str]) -> str:
    """Columns that are left aside, by the reason.

    >>> described({"ra": "position", "dec": "position", "": "numbers the rows"})
    "ra, dec (position), '' (numbers the rows)"
    """
    reasons: dict[str, list[str]] = {}
    for name, reason in aside.items():
        reasons.setdefault(reason, []).append(name or "''")
    return ", ".join(f"{shorten(names)} ({reason})" for reason, names in reasons.items())


def _ready_tree(header: Sequence[str]) -> str | None:
    """The tree whose columns a table has; torch, which the rules of trees need, is loaded for a likely one alone."""
    if sum(("_" in name or "." in name) for name in header) < FEWEST:
        return None
    from galaxyml.data.tables.vote_columns import matching_trees

    return next(iter(matching_trees(header)), None)


def _without_properties(
    columns: dict[str, LabelColumn], properties: Sequence[str], kind: str | None
) -> dict[str, LabelColumn]:
    """Columns without numbers that performance is shown against, where they stand beside one class."""
    words = [name for name, column in columns.items() if not column.numeric]
    others = [name for name in columns if name not in words]
    shown = [name for name in others if name in properties]
    if kind in (None, "classes") and len(words) == 1 and shown == others:
        return {name: columns[name] for name in words}
    return columns


def _of_simulated(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The same of the simulated sky's table, which is drawn later."""
    if "tree" in given or given.get("kind") == "fractions":
        return _open(given, "fractions")
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
    return _open(given, "classes" if names == [SIMULATED_CLASS] else "numbers", names)


def _open(given: Mapping[str, Any], kind: str, names: list[str] | None = None) -> dict[str, str | list[str]]:
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
    from galaxyml.data.images.decode import file_of  # here, as it takes a while

    images = (folder / name for name in LabelTable.read(path, folder).images(folder))
    return channels_of_first((image for image in images if Path(file_of(str(image))).is_file()), hdu)


def channels_of_first(images: Iterable[Path], hdu: Any = None) -> int:
    """Channels that the first image holds which can be read; 3 where none of the first few can.

    Args:
        images: Where they are.
        hdu: As for `first_channels`.
    """
    from galaxyml.data.images.decode import channels_of  # here, as it takes a while
    from galaxyml.data.images.decoding import Decoding

    decoding = Decoding(hdu=int(hdu) if str(hdu).isdecimal() else hdu)
    for image in islice(images, MOST_TRIED):
        try:
            return channels_of(image, decoding)
        except DataError:
            continue
    return RGB


def _kind(path: Path, columns: Mapping[str, LabelColumn]) -> str:
    """Kind of the columns: `classes` or `numbers`."""
    for column in columns.values():
        if 0 < len(column.words) < FEW_WORDS * column.filled:  # a number that went wrong rather than a class
            column.check_numbers()
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


def _classes(
    path: Path, columns: Mapping[str, LabelColumn], classes: Sequence[str] | None, join_spellings: bool
) -> list[str]:
    """Names of the classes, numbers in their order."""
    if len(columns) > 1:
        raise UserError(
            f"kind=classes: a run learns one class, but there are {shorten(list(columns))}. Give "
            f"columns=[{next(iter(columns))}]."
        )
    ((name, column),) = columns.items()
    if classes is not None:
        return list(classes)
    if len(column.values) > MOST_CLASSES or 2 * len(column.values) > max(column.filled, 4):
        least = "more than " if len(column.values) > MOST_CLASSES else ""
        raise UserError(
            f"{path}: {name} has {least}{min(len(column.values), MOST_CLASSES)} different values in "
            f"{column.filled:,} rows, too many for a class. Choose another column by columns=[…]"
            f"{', or kind=numbers' if column.numeric else ''}."
        )
    _, names = class_names(column, None, join_spellings)
    if len(names) < 2:
        raise UserError(f"{path}: {name} is {names[0]} in all rows; a class needs two values or more.")
    return names
