"""Images and a table of one's own: a class, numbers, or fractions of a decision tree, read and checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.decode import file_of
from galaxyml.data.source import Real
from galaxyml.data.splits import Folds, Split
from galaxyml.data.tables.labels import (
    EMPTY,
    IDS,
    PATHS,
    RGB,
    SKY,
    SPLIT,
    WANTED,
    first_channels,
    path_column,
    table_contents,
    table_path,
)
from galaxyml.data.tables.reading import Rows, check_columns, degrees, more, read_csv
from galaxyml.kinds.classes import Classes
from galaxyml.kinds.fractions import Fractions
from galaxyml.kinds.kind import Kind
from galaxyml.kinds.numbers import Numbers
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.files import known_digest

SPLITS = ("train", "test")
RESERVED = ("id", "image", "split", "fold", "label")  # columns of a catalog
SIMULATED_CLASSES = ("disk", "edge-on", "merger", "smooth", "spiral")  # of the simulated sky's table
FEWEST = 10  # images that can be learnt from and judged


class Images(ImageData):
    """Images that a table of one's own names, with what it holds of them: a class, numbers, or vote fractions.

    The table has `path` (from the folder on, or absolute) and the columns that are to be predicted; where it has them
    also `id` (else the path is it), `ra` and `dec` (degrees, or hours and degrees), so that one galaxy does not come
    into two parts, and `split` (train or test). Rows that lack something that is to be predicted are left out, and so
    are rows whose image is not there; both are counted.

    Args:
        source: The folder of images; see CatalogData.
        labels: The table, in the folder of images, or a path.
        columns: What of it is to be predicted; None for all but id, path, position and split.
        classes: Names of the classes, in the order of the labels; None for all values of the column.
        tree: Of vote fractions: the decision tree whose answers the columns are.
        kind: The kind of target; None for what the table holds.
        properties: Numbers that performance is shown against, where the table has them.
        channels: As for ImageData; None for as many as the first image has, or as there are `bands`.
        hdu: As for ImageData.
        bands: As for ImageData.
        crop: As for ImageData.
        margin: As for ImageData.
        split: As for CatalogData; None for folds where the table says which rows are to test on.
        **options: As for ImageData and CatalogData.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and line.

    Example:
        Two numbers of each image of a folder, as its `labels.csv` has them::

            data = Images("mine", columns=["r90", "axis_ratio"], size=64)
            trainer.fit(SupervisedModule.for_data(data, net="tiny"), datamodule=data)
    """

    task = "images"
    simulated: ClassVar = {"count": 2000}

    def __init__(
        self,
        source: Any = None,
        *,
        labels: str = "labels.csv",
        columns: str | Sequence[str] | None = None,
        classes: Sequence[Any] | None = None,
        tree: str | None = None,
        kind: Kind | None = None,
        properties: Sequence[str] = ("redshift",),
        channels: int | None = None,
        hdu: str | int | None = None,
        bands: str | int | Sequence[str | int] | None = None,
        crop: float = 0.8,
        margin: float = 1.25,
        split: Split | None = None,
        **options: Any,
    ) -> None:
        columns = [columns] if isinstance(columns, str) else columns
        self.labels, self.properties = labels, list(properties)
        if kind is None:
            kind, columns, own = _kind_of(source, labels, columns, classes, tree)
            split = split if split is not None else own
        if channels is None:
            channels = _channels_of(source, labels, hdu, bands)
        options |= {"channels": channels, "hdu": hdu, "bands": bands}
        super().__init__(source, kind=kind, crop=crop, margin=margin, split=split, **options)
        renamed = kind.target_columns != kind.outputs  # as that of a class, which becomes `label`
        self.wanted = list(columns) if renamed and columns is not None else list(kind.outputs)
        _check_names("properties", self.properties)
        if not renamed:
            _check_names("columns", self.wanted)

    def digests(self) -> dict[str, str]:
        path = table_path(self.source.path, self.labels)
        return {path.name: known_digest(path, self.cache)} if path.is_file() else {}

    def check_folder(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. Give that of your images by data_dir=…")

    def load_tables(self, root: Path) -> pd.DataFrame:
        self.check_folder(root)
        path = table_path(root, self.labels)
        table = _read(path, self.wanted, self.properties)
        self.log_step(f"rows of {path.name}", len(table), len(table))
        complete = table[(table[self.wanted] != "").all(axis=1)]
        self.log_step(f"{shorten(self.wanted)} given", len(table), len(complete))
        present = self._with_images(root, path, complete)
        if len(present) < FEWEST:
            raise DataError(
                f"{path}: {len(present)} rows are left, of {len(table)}; at least {FEWEST} are needed to learn from "
                "and to judge by."
            )
        rows = Rows(path, "id", present)
        catalog = present[["id", "image"]].assign(split=_splits(rows))
        targets = self.kind.read_targets(rows, self.wanted, self.notes)
        catalog = pd.concat([catalog, targets], axis=1)
        if set(SKY) <= set(table.columns):
            catalog["ra"], catalog["dec"] = degrees(rows, *SKY)
        for name in self.properties:
            if name in present and name not in catalog:
                catalog[name] = pd.to_numeric(present[name], errors="coerce")
        return catalog.reset_index(drop=True)

    def _with_images(self, root: Path, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """Rows whose image is there."""
        exists = np.array([(root / file_of(image)).is_file() for image in table["image"]], bool)
        missing = table["image"][~exists].tolist()
        if len(missing) == len(table) and missing:
            raise DataError(
                f"{Rows(path, 'id', table).place(0)}: there is no image {root / missing[0]}, and none of the other "
                f"{len(table) - 1:,} rows' either. Paths begin in data_dir={root}: correct them, or give another "
                "data_dir=…"
            )
        if missing:
            self.notes.append(f"{path.name}: images that are not there ({len(missing):,}): {shorten(missing)}.")
        self.log_step("its image is there", len(table), int(exists.sum()))
        return table[exists]


def _kind_of(
    source: Any, labels: str, columns: Sequence[str] | None, classes: Sequence[Any] | None, tree: str | None
) -> tuple[Kind, Sequence[str] | None, Split | None]:
    """The kind of target of a table, its columns, and how it is split where it says so itself."""
    if tree is not None:
        return Fractions(tree), None, None
    folder = _folder_of(source)
    if folder is None:  # the simulated sky, which is drawn later
        names = list(columns or ["kind"])
        if names == ["kind"]:
            return Classes([str(name) for name in classes or SIMULATED_CLASSES]), names, None
        return Numbers(names), names, None
    contents = table_contents(table_path(folder, labels), columns, None, classes is not None)
    split = Folds() if contents.has_test else None
    if contents.kind == "classes":
        return Classes([str(name) for name in classes or contents.classes or ()]), contents.columns, split
    return Numbers(contents.columns), contents.columns, split


def _folder_of(source: Any) -> Path | None:
    """The folder of images; None of the simulated sky that is not drawn yet."""
    folder = Path(source if isinstance(source, str | Path) else getattr(source, "path", "data/images")).expanduser()
    return folder if isinstance(source, str | Path | Real) or folder.is_dir() else None


def _channels_of(source: Any, labels: str, hdu: str | int | None, bands: str | int | Sequence[str | int] | None) -> int:
    """Channels that are read: as many as there are bands, or as the first image has."""
    if bands is not None:
        return 1 if isinstance(bands, str | int) else len(bands)
    folder = _folder_of(source)
    if folder is None:
        write = getattr(getattr(source, "chosen", source), "write", None)
        return int(write.keywords.get("bands", RGB)) if write is not None else RGB
    path = table_path(folder, labels)
    return first_channels(folder, path, hdu) if path.is_file() else RGB  # what is missing is told in `setup`


def _check_names(key: str, names: Sequence[str]) -> None:
    """Refuses columns that a catalog has under the same name for something else."""
    if taken := [name for name in names if name in RESERVED]:
        raise UserError(
            f"{key}=[…]: the name {taken[0]} stands for something else in a catalog. Rename that column of the table."
        )


def _read(path: Path, wanted: Sequence[str], properties: Sequence[str]) -> pd.DataFrame:
    """Columns of the table that are needed, as text, with `id` and `image`; the index counts lines after the header.

    Raises:
        DataError: If a column is missing, an id or a path is empty, or one occurs twice.
    """
    names = [name.strip() for name in read_csv(path, WANTED, nrows=0, skip_blank_lines=False).columns]
    check_columns(path, names, wanted, "columns=[…] says what is to be predicted, tree=FILE.yaml of which tree.")
    paths = path_column(names, path)
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
    ids = next((name for name in IDS if name in table.columns), paths)
    table = table.assign(id=table[ids], image=table[paths])
    for name, shown in (("id", ids), ("image", paths)):
        if (empty := np.flatnonzero(table[name] == "")).size:
            raise DataError(f"{path}, line {table.index[empty[0]] + 2}: {shown} is empty. Fill it or take the row out.")
        if (twice := np.flatnonzero(table[name].duplicated())).size:
            raise DataError(
                f"{path}, line {table.index[twice[0]] + 2}: {shown} {table[name].iloc[twice[0]]} occurs a second time"
                f"{more(len(twice))}. Each image has one row; take one out."
            )
    return table


def _splits(rows: Rows) -> pd.Series | str:
    """Part of the split of each row, where the table says so."""
    if SPLIT not in rows.frame:
        return "train"
    split = rows.frame[SPLIT].str.lower()
    rows.refuse_cells(
        ~split.isin(SPLITS).to_numpy()[:, None],
        [SPLIT],
        f"it must be {' or '.join(SPLITS)}",
        "Validation galaxies are drawn from the training ones, a fold at a time.",
    )
    return split
