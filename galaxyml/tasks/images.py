"""Pictures and a table of one's own: a class, numbers, or fractions of a decision tree, read and checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from galaxyml.data.classes import UNKNOWN, ClassData
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.decode import file_of
from galaxyml.data.tables.fractions import check_fractions
from galaxyml.data.tables.labels import EMPTY, IDS, PATHS, SKY, SPLIT, WANTED, path_column
from galaxyml.data.tables.labels import place as place_of
from galaxyml.data.tables.reading import degrees, header, more, place, read_csv
from galaxyml.kinds.fractions.figures import caption
from galaxyml.runs.errors import DataError, UserError, did_you_mean, shorten
from galaxyml.runs.files import known_digest
from galaxyml.trees import DecisionTree

SPLITS = ("train", "test")
RESERVED = ("id", "image", "split", "fold", "label")  # columns of a catalog
FEWEST = 10  # pictures that can be learnt from and judged


class LabelledImages(ImageData):
    """Pictures that a table of one's own names, with what it says of them.

    The table has `path` (from the folder on, or absolute) and the columns that are to be predicted; where it has them
    also `id` (else the path is it), `ra` and `dec` (degrees, or hours and degrees), so that one galaxy does not come
    into two parts, and `split` (train or test). Rows that lack something that is to be predicted are left out, and so
    are rows whose picture is not there; both are counted.

    Args:
        labels: The table, in the folder of pictures, or a path.
        properties: Numbers that performance is shown against, where the table has them.
        **options: As for ImageData.
    """

    wanted: list[str]  # columns of the table that are to be predicted

    def __init__(self, labels: str, properties: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.labels, self.properties = labels, list(properties)
        _check_names("properties", self.properties)

    def digests(self) -> dict[str, str]:
        path = place_of(self.source.path, self.labels)
        return {path.name: known_digest(path, self.cache)} if path.is_file() else {}

    def known(self, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """What is known of the pictures: the target columns, from the table's own as text."""
        raise NotImplementedError  # classes, numbers and fractions are read differently

    def load_tables(self, root: Path) -> pd.DataFrame:
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. Give that of your pictures by data_dir=…")
        path = place_of(root, self.labels)
        table = _read(path, self.wanted, self.properties)
        self.kept(f"rows of {path.name}", len(table), len(table))
        whole = table[(table[self.wanted] != "").all(axis=1)]
        self.kept(f"{shorten(self.wanted)} given", len(table), len(whole))
        pictured = self._pictured(root, path, whole)
        if len(pictured) < FEWEST:
            raise DataError(
                f"{path}: {len(pictured)} rows are left, of {len(table)}; at least {FEWEST} are needed to learn from "
                "and to judge by."
            )
        catalog = pictured[["id", "image"]].assign(split=_splits(path, pictured))
        catalog = pd.concat([catalog, self.known(path, pictured)], axis=1)
        if set(SKY) <= set(table.columns):
            catalog["ra"], catalog["dec"] = degrees(path, pictured, "id", *SKY)
        for name in self.properties:
            if name in pictured and name not in catalog:
                catalog[name] = pd.to_numeric(pictured[name], errors="coerce")
        return catalog.reset_index(drop=True)

    def _pictured(self, root: Path, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """Rows whose picture is there."""
        there = np.array([(root / file_of(image)).is_file() for image in table["image"]], bool)
        missing = table["image"][~there].tolist()
        if len(missing) == len(table) and missing:
            raise DataError(
                f"{path}, {place(table, 0, 'id')}: there is no picture {root / missing[0]}, and none of the other "
                f"{len(table) - 1:,} rows' either. Paths begin in data_dir={root}: correct them, or give another "
                "data_dir=…"
            )
        if missing:
            self.notes.append(f"{path.name}: pictures that are not there ({len(missing):,}): {shorten(missing)}.")
        self.kept("its picture is there", len(table), int(there.sum()))
        return table[there]


class ClassImages(LabelledImages, ClassData):
    """Pictures with a class each.

    Args:
        columns: The column that holds it.
        classes: Names of the classes, in the order of the labels.
        **options: As for LabelledImages and ClassData.
    """

    def __init__(self, columns: Sequence[str], classes: Sequence[Any], **options: Any) -> None:
        super().__init__(classes=[str(name) for name in classes], **options)
        (self.column,) = self.wanted = list(columns)  # as `galaxyml.data.tables.labels` makes sure

    def known(self, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """The column `label`, 0 to K - 1."""
        label = table[self.column].map({name: at for at, name in enumerate(self.outputs)}).fillna(UNKNOWN)
        if (bad := np.flatnonzero(label == UNKNOWN)).size:
            row = int(bad[0])
            raise DataError(
                f"{path}, {place(table, row, 'id')}: {self.column} is '{table[self.column].iloc[row]}'"
                f"{more(len(bad))}; the classes are {shorten(self.outputs, shown=12)}. Correct the row, or give "
                "classes=[…] with it."
            )
        if all(name.lstrip("+-").isdecimal() for name in self.outputs):
            self.notes.append(f"{self.column}: its whole numbers are taken for classes; kind=numbers learns numbers.")
        found = pd.DataFrame({"label": label.astype(np.int64)})
        self.check_counts(found, str(path), "Give rows of two classes or more.")
        return found


class NumberImages(LabelledImages):
    """Pictures with numbers.

    Args:
        columns: The columns that hold them.
        **options: As for LabelledImages.
    """

    def __init__(self, columns: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.wanted = self.targets = self.outputs = list(columns)
        _check_names("columns", self.wanted)

    def caption(self, said: np.ndarray, true: np.ndarray) -> str:
        return "\n".join(
            f"{name}: true {right:.4g}, said {found:.4g}"
            for name, right, found in zip(self.outputs[:3], true, said, strict=False)
        )

    def known(self, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """The columns, as numbers."""
        values = _numbers(path, table, self.wanted)
        if constant := [name for name in self.wanted if values[name].nunique() < 2]:
            raise DataError(
                f"{path}: {constant[0]} is {values[constant[0]].iloc[0]:g} in all rows; there is nothing to learn. "
                "Choose others by columns=[…]."
            )
        return values


class FractionImages(LabelledImages):
    """Pictures with the fractions of a decision tree's answers.

    Args:
        tree: Name of the tree, or its `.yaml`.
        **options: As for LabelledImages.
    """

    def __init__(self, tree: str, **options: Any) -> None:
        super().__init__(**options)
        self.tree = DecisionTree.load(tree)
        self.wanted = self.targets = self.outputs = self.tree.columns

    def caption(self, said: np.ndarray, true: np.ndarray) -> str:
        return caption(said, true, self.tree)

    def known(self, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """The tree's columns, as fractions of paths."""
        values = _numbers(path, table, self.wanted)
        check_fractions(path, values.assign(id=table["id"]), "id", self.tree, self.notes)
        return values


def _check_names(key: str, names: Sequence[str]) -> None:
    """Refuses columns that a catalog has under the same name for something else."""
    if taken := [name for name in names if name in RESERVED]:
        raise UserError(
            f"{key}=[…]: the name {taken[0]} stands for something else in a catalog. Rename that column of the table."
        )


def _read(path: Path, wanted: Sequence[str], properties: Sequence[str]) -> pd.DataFrame:
    """What is needed of the table, as text, with `id` and `image`; the index counts the lines after the header.

    Raises:
        DataError: If a column is missing, an id or a path is empty, or one occurs twice.
    """
    used = {*IDS, *PATHS, *SKY, SPLIT, *wanted, *properties}
    table = read_csv(
        path,
        WANTED,
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
        index_col=False,
        usecols=lambda name: name.strip() in used,
    )
    table = table.rename(columns=str.strip).fillna("")
    table = table[(table != "").any(axis=1)].apply(lambda column: column.str.strip())
    table = table.mask(table.apply(lambda column: column.str.lower().isin(EMPTY)), "")
    if missing := [name for name in wanted if name not in table.columns]:
        there = [name.strip() for name in header(path)]
        close = did_you_mean(missing[0], there)
        raise DataError(
            f"{path}: missing columns ({len(missing)}): {shorten(missing)}. It has {shorten(there, shown=12)}. "
            f"{close + ' ' if close.startswith('Did') else ''}columns=[…] says what is to be predicted, tree=FILE.yaml "
            "of which tree."
        )
    paths = path_column([str(name) for name in table.columns] or header(path), path)
    ids = next((name for name in IDS if name in table.columns), paths)
    table = table.assign(id=table[ids], image=table[paths])
    for name, shown in (("id", ids), ("image", paths)):
        if (empty := np.flatnonzero(table[name] == "")).size:
            raise DataError(f"{path}, line {table.index[empty[0]] + 2}: {shown} is empty. Fill it or take the row out.")
        if (twice := np.flatnonzero(table[name].duplicated())).size:
            raise DataError(
                f"{path}, line {table.index[twice[0]] + 2}: {shown} {table[name].iloc[twice[0]]} occurs a second time"
                f"{more(len(twice))}. Each picture has one row; take one out."
            )
    return table


def _splits(path: Path, table: pd.DataFrame) -> pd.Series | str:
    """Which part of the split a row is in, where the table says so."""
    if SPLIT not in table:
        return "train"
    said = table[SPLIT].str.lower()
    if (bad := np.flatnonzero(~said.isin(SPLITS))).size:
        row = int(bad[0])
        raise DataError(
            f"{path}, {place(table, row, 'id')}: {SPLIT} is '{table[SPLIT].iloc[row]}'; it must be "
            f"{' or '.join(SPLITS)}{more(len(bad))}. Validation galaxies are drawn from the training ones, a fold at a "
            "time."
        )
    return said


def _numbers(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns as finite numbers."""
    values = table[list(columns)].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if (bad := np.argwhere(~np.isfinite(values.to_numpy()))).size:
        row, column = (int(at) for at in bad[0])
        raise DataError(
            f"{path}, {place(table, row, 'id')}: {columns[column]} is '{table[columns[column]].iloc[row]}'; it must be "
            f"a finite number{more(len(bad))}. Correct it, leave it empty, or take the row out."
        )
    return values
