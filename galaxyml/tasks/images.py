"""Images and a table of one's own: a class, numbers, or votes of a decision tree, read and checked."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from galaxyml.data.catalog import Step
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.decode import file_of
from galaxyml.data.source import Real
from galaxyml.data.splits import Folds, Split
from galaxyml.data.tables.contents import RGB, described, first_channels, table_contents
from galaxyml.data.tables.data_set import find_data_set
from galaxyml.data.tables.label_column import LabelColumn, class_names
from galaxyml.data.tables.labels import (
    LabelTable,
    missing_note,
    no_folder,
    rare_notes,
    refuse_repeats,
    sentinel_note,
    table_path,
)
from galaxyml.data.tables.reading import Rows, check_columns, degrees
from galaxyml.data.tables.shares import shares_note
from galaxyml.data.tables.vote_columns import find_votes, matching_trees, refuse_part
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

    The table (CSV, parquet, FITS, VOTable or ECSV) has `path` (from the folder on, or absolute) and the columns that
    are to be predicted; where it has them also `id` (else the path is it), `ra` and `dec` (degrees, or hours and
    degrees), so that one galaxy does not come into two parts, and `split` (train or test). Other usual names of these
    are known, too. Parquet and HDF5 may hold the images themselves, in one file or in the parts of a data set's folder.
    Rows that lack something that is to be predicted are left out, and so are rows whose image is not there; both are
    counted.

    Args:
        source: The folder of images; see CatalogData.
        labels: The table, in the folder of images, or a path; or a configuration of a data set, such as `tiny`.
        columns: What of it is to be predicted; None for all but what numbers or names rows or tells where they are.
        classes: Names of the classes, in the order of the labels; None for all values of the column.
        tree: Of votes: the decision tree whose answers the columns are; None for the one that they fit.
        missing: Cells that say nothing, besides empty ones and the usual words (NA, null, --): such as -999.
        join_spellings: Whether names of classes that differ in case or spaces alone are one class.
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
        missing: Any = (),
        join_spellings: bool = False,
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
        missing = [missing] if isinstance(missing, str | int | float) else list(missing or ())
        self.missing, self.join_spellings = missing, join_spellings
        if kind is None:
            options_of_table = {"missing": missing, "join_spellings": join_spellings, "properties": properties}
            kind, columns, own = _kind_of(source, labels, columns, classes, tree, options_of_table)
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
        if (data_set := find_data_set(path)) is not None:
            return {part: known_digest(data_set.root / part, self.cache) for part in data_set.parts}
        return {path.name: known_digest(path, self.cache)} if path.is_file() else {}

    def check_folder(self, root: Path) -> None:
        """Reads the table too, whose last state is remembered, so that a bad cell shows before a folder is made."""
        if not root.is_dir():
            raise no_folder(root)
        catalog, _, _ = self._read(root)
        self._check_some_image(root, catalog)

    def load_tables(self, root: Path) -> pd.DataFrame:
        if not root.is_dir():
            raise no_folder(root)
        catalog, steps, notes = self._read(root)
        for step in steps:
            self.log_step(step.what, step.before, step.after)
        self.notes += notes
        return self._with_images(root, catalog).reset_index(drop=True)

    def _read(self, root: Path) -> tuple[pd.DataFrame, list[Step], list[str]]:
        """The catalog whether its images are there or not, how it came about, and what a user should know."""
        path = table_path(root, self.labels)
        labels = LabelTable.read(path, root, self.missing, self.wanted)
        classes = self.kind.classes if isinstance(self.kind, Classes) else ()
        header, frame, roles = labels.table.columns, labels.table.frame, labels.roles
        needed = self.kind.source_columns(self.wanted, header)
        if isinstance(self.kind, Fractions):
            refuse_part(path, self.kind.tree_name, header)
        check_columns(path, header, needed, "columns=[…] says what is to be predicted, tree=FILE.yaml of which tree.")
        refuse_repeats(labels)
        counts = self._class_counts(labels, needed)
        notes = [*labels.table.notes, self._learnt(labels, counts), *rare_notes(path, self.wanted[0], counts)]
        notes += [note] if (note := missing_note(labels, needed, classes)) else []
        if isinstance(self.kind, Numbers):
            notes += [note for name in needed if (note := sentinel_note(labels.column(name)))]
            numbers = pd.DataFrame({name: labels.column(name).numbers for name in needed}).dropna()
            notes += [note] if (note := shares_note(path, numbers)) else []
        used = {*needed, *self.properties, *(roles.sky or ()), *self._votes(header)} & set(header)
        frame = frame.assign(**{name: labels.cells(name, classes) for name in used})
        frame = frame.assign(id=frame[roles.id or roles.path], image=labels.images(root))
        complete = frame[(frame[needed] != "").all(axis=1)]
        steps = [Step(f"rows of {path.name}", len(frame), len(frame))]
        steps.append(Step(f"{shorten(needed or self.wanted)} given", len(frame), len(complete)))
        if isinstance(self.kind, Classes):
            (name,) = needed
            cells, _ = class_names(LabelColumn(name, labels.table, complete[name]), classes, self.join_spellings)
            complete = complete.assign(**{name: cells})
        self._check_enough(path, complete, len(frame))
        inside = complete["image"] if labels.table.images is not None else None
        rows = Rows(path, "id", complete, lines=labels.table.has_lines, inside=inside)
        targets = self.kind.read_targets(rows, self.wanted, notes)
        known = targets.notna().any(axis=1).to_numpy()
        if not known.all():
            steps.append(Step("votes given", len(complete), int(known.sum())))
            self._check_enough(path, complete[known], len(frame))
        split = _splits(rows, roles.split)
        catalog = pd.concat([complete[["id", "image"]].assign(split=split), targets], axis=1)
        if roles.sky is not None:
            catalog["ra"], catalog["dec"] = degrees(rows, *roles.sky, empty=True)
        for name in self.properties:
            if name in complete and name not in catalog:
                catalog[name] = pd.to_numeric(complete[name], errors="coerce")
        return catalog[known], steps, notes

    def _votes(self, header: Sequence[str]) -> list[str]:
        """Columns of votes, whose cells may be missing."""
        votes = find_votes(self.kind.tree, header) if isinstance(self.kind, Fractions) else None
        return votes.names + [name for names in votes.totals for name in names] if votes is not None else []

    def _class_counts(self, labels: LabelTable, needed: Sequence[str]) -> dict[str, int]:
        """Rows of each class that the table has, in the order of the classes; none where no class is predicted."""
        if not isinstance(self.kind, Classes):
            return {}
        cells, _ = class_names(labels.column(needed[0], self.kind.classes), self.kind.classes, self.join_spellings)
        counts = cells.value_counts()
        return {name: int(counts[name]) for name in self.kind.classes if name in counts}

    def _learnt(self, labels: LabelTable, counts: Mapping[str, int]) -> str:
        """A sentence on what is learnt, and on what is left aside and why."""
        if isinstance(self.kind, Fractions):
            what = f"{len(self.wanted)} answers of tree={self.kind.tree_name}"
            fitting = [name for name in matching_trees(labels.table.columns) if name != self.kind.tree_name]
            what += f" (its columns fit tree={' and tree='.join(fitting)}, too)" if fitting else ""
        elif isinstance(self.kind, Classes):
            rows = [f"{name}: {counts.get(name, 0):,}" for name in self.kind.classes]
            what = f"{self.wanted[0]}, a class ({shorten(rows)})"
        else:
            what = f"{shorten(self.wanted)} ({'a number' if len(self.wanted) == 1 else 'numbers'})"
        roles, reasons = labels.roles, {**labels.roles.aside}
        if not isinstance(self.kind, Fractions):
            reasons |= labels.candidates()[1]
        sky = f", at {' and '.join(roles.sky)}" if roles.sky else ""
        used = {*self.wanted, *self._votes(labels.table.columns), roles.path, roles.id, roles.split, *(roles.sky or ())}
        reasons |= dict.fromkeys(self.properties, "shown beside performance")
        aside = {name: reasons.get(name, "not asked for") for name in labels.table.columns if name not in used}
        aside |= dict.fromkeys(labels.table.nested, "several values a row")
        left = f"; left aside: {described(aside)}" if aside else ""
        called = f"called by {roles.id or roles.path}"
        return f"{labels.path.name}: learns {what} from the images in {roles.path}, {called}{sky}{left}."

    def _check_enough(self, path: Path, rows: pd.DataFrame, of: int) -> None:
        if len(rows) < FEWEST:
            raise DataError(
                f"{path}: {len(rows)} rows are left, of {of}; at least {FEWEST} are needed to learn from and to judge "
                "by."
            )

    def _check_some_image(self, root: Path, catalog: pd.DataFrame) -> None:
        """Makes sure that an image is there; usually the first is."""
        images = catalog["image"].tolist()
        if not any(_is_there(root, image) for image in images):
            labels = LabelTable.read(table_path(root, self.labels), root, self.missing, self.wanted)
            place = labels.table.place(int(catalog.index[0]))
            raise DataError(
                f"{place}: there is no image {root / images[0]}, and none of the other {len(images) - 1:,} rows' "
                f"either. Paths begin in data_dir={root}: correct them, or give another data_dir=…"
            )

    def _with_images(self, root: Path, catalog: pd.DataFrame) -> pd.DataFrame:
        """Rows whose image is there."""
        self._check_some_image(root, catalog)
        is_there = lru_cache(maxsize=1)(partial(_is_there, root))  # many images may lie in one file
        exists = np.array([is_there(file_of(image)) for image in catalog["image"]], bool)
        path = table_path(root, self.labels)
        if missing := catalog["image"][~exists].tolist():
            self.notes.append(f"{path.name}: images that are not there ({len(missing):,}): {shorten(missing)}.")
        self.log_step("its image is there", len(catalog), int(exists.sum()))
        self._check_enough(path, catalog[exists], len(catalog))
        return catalog[exists]


def _is_there(root: Path, image: str) -> bool:
    """Whether an image's file is there; a name that no file can have is not."""
    try:
        return (root / file_of(image)).is_file()
    except (OSError, ValueError):
        return False


def _kind_of(
    source: Any,
    labels: str,
    columns: Sequence[str] | None,
    classes: Sequence[Any] | None,
    tree: str | None,
    options: dict[str, Any],
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
    given = [str(name) for name in classes] if classes is not None else None
    contents = table_contents(table_path(folder, labels), columns, None, given, root=folder, **options)
    split = Folds() if contents.has_test else None
    if contents.tree is not None:
        return Fractions(contents.tree), None, split
    if contents.kind == "classes":
        return Classes(given or contents.classes or ()), contents.columns, split
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
    is_there = path.is_file() or find_data_set(path) is not None
    return first_channels(folder, path, hdu) if is_there else RGB  # what is missing is told in `setup`


def _check_names(key: str, names: Sequence[str]) -> None:
    """Refuses columns that a catalog has under the same name for something else."""
    if taken := [name for name in names if name in RESERVED]:
        raise UserError(
            f"{key}=[…]: the name {taken[0]} stands for something else in a catalog. Rename that column of the table."
        )


def _splits(rows: Rows, column: str | None) -> pd.Series | str:
    """Part of the split of each row, where the table says so."""
    if column is None:
        return "train"
    split = rows.frame[column].str.lower()
    rows.refuse_cells(
        ~split.isin(SPLITS).to_numpy()[:, None],
        [column],
        f"it must be {' or '.join(SPLITS)}",
        "Validation galaxies are drawn from the training ones, a fold at a time.",
    )
    return split
