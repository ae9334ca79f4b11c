"""Spiral or elliptical: the Galaxy Zoo 1 table joined to images, by votes, and read with its checks."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from galaxyml.data.catalog import UNKNOWN, check_counts
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.folders import images_below, passed_over_notes
from galaxyml.data.source import without_files
from galaxyml.data.tables.reading import Rows, check_range, degrees, header, read_table
from galaxyml.data.tables.survey_catalogues import SAMPLES
from galaxyml.kinds.classes import Classes
from galaxyml.runs.errors import DataError, UserError, shorten

ID = "OBJID"
PROPERTIES = "properties.csv"
ELLIPTICAL, SPIRAL = 0, 1
WHERE = (
    "The files are GalaxyZoo1_DR_table2.csv of https://data.galaxyzoo.org (Lintott et al. 2011), and "
    "gz2_filename_mapping.csv and images_gz2.zip (unpacked as images/) of https://doi.org/10.5281/zenodo.3565489: "
    "`python -m galaxyml fetch spirals` fetches them (3.4 GB); or put them into a folder spirals/ and give the folder "
    f"above it as data_dir=… {without_files('Spirals')}"
)


class FromFlags:
    """The release's own flags, of which exactly one is 1 (Lintott et al. 2011); -1 is uncertain.

    Attributes:
        columns: Columns that are needed.
        what: Where labels come from, in words.
    """

    columns = ("SPIRAL", "ELLIPTICAL", "UNCERTAIN")
    what = "flagged spiral or elliptical"

    def __call__(self, rows: Rows) -> np.ndarray:
        """0 elliptical, 1 spiral, -1 neither; shape (N,). Raises DataError for values that cannot be."""
        flags = rows.frame[list(self.columns)].to_numpy()
        rows.refuse(
            ~(np.isin(flags, (0, 1)).all(1) & (flags.sum(1) == 1)),
            lambda row: (
                f": {', '.join(f'{name}={value:g}' for name, value in zip(self.columns, flags[row], strict=True))}; "
                "exactly one of the flags is 1 and the others 0"
            ),
            "Correct the row, or classify by votes with labels_from=debiased or labels_from=votes.",
        )
        return np.select([flags[:, 0] == 1, flags[:, 1] == 1], [SPIRAL, ELLIPTICAL], UNKNOWN)


class FromFractions:
    """Vote fractions at or above a cut; a galaxy that reaches it for both or for neither is uncertain.

    Args:
        spiral: Column of the fraction for spirals.
        elliptical: Column of the fraction for ellipticals.
        cut: Smallest fraction that counts, in (0, 1].
    """

    def __init__(self, spiral: str, elliptical: str, cut: float) -> None:
        if not 0 < cut <= 1:
            raise UserError(f"labels_from.cut={cut}: it must be a vote fraction in (0, 1], such as 0.8.")
        self.columns, self.cut = (spiral, elliptical), cut
        self.what = f"{spiral} or {elliptical} at least {cut:g}"

    def __call__(self, rows: Rows) -> np.ndarray:
        check_range(rows, self.columns)
        spiral, elliptical = (rows.frame[name] >= self.cut for name in self.columns)
        return np.select([spiral & ~elliptical, elliptical & ~spiral], [SPIRAL, ELLIPTICAL], UNKNOWN)


class FromClasses:
    """A column of class numbers, such as the largest raw vote; -1 is any other number.

    Args:
        column: Its name.
        spiral: Numbers that count as spiral.
        elliptical: Numbers that count as elliptical.
    """

    def __init__(self, column: str, spiral: Sequence[int], elliptical: Sequence[int]) -> None:
        self.columns, self.spiral, self.elliptical = (column,), list(spiral), list(elliptical)
        named = [", ".join(map(str, numbers)) for numbers in (self.spiral, self.elliptical)]
        self.what = f"{column} is {named[0]} (spiral) or {named[1]} (elliptical)"

    def __call__(self, rows: Rows) -> np.ndarray:
        numbers = rows.frame[self.columns[0]]
        return np.select([numbers.isin(self.spiral), numbers.isin(self.elliptical)], [SPIRAL, ELLIPTICAL], UNKNOWN)


Labels = FromFlags | FromFractions | FromClasses


class Spirals(ImageData):
    """Galaxies that volunteers of Galaxy Zoo called spiral or elliptical.

    Args:
        source: The folder with tables and images; see CatalogData.
        labels: What makes a galaxy a spiral or an elliptical.
        table: Name of the table with votes, one row an OBJID.
        mapping: Name of the table from `objid` to `asset_id`, the names of images; None where images are named by
            OBJID.
        images: Name of the folder of images.
        classes: Names of the two classes, ellipticals first.
        kind: The kind of target; None for these classes.
        crop: SDSS cutouts hold the galaxy in the central 212 of 424 px.
        margin: As for ImageData.
        **options: As for ImageData and CatalogData.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and line.

    Example:
        The frozen features of a pretrained net, and a head that is learnt::

            data = Spirals("data/spirals", size=224)
            net = {"_target_": "galaxyml.models.backbones.timm_net", "name": "resnet50", "pretrained": True}
            model = SupervisedModule.for_data(data, net=net, tune="head")
    """

    task = "spirals"
    simulated: ClassVar = {"count": 3000, "size": 424}

    def __init__(
        self,
        source: Any = None,
        *,
        labels: Labels | None = None,
        table: str = "GalaxyZoo1_DR_table2.csv",
        mapping: str | None = "gz2_filename_mapping.csv",
        images: str = "images",
        classes: Sequence[str] = ("elliptical", "spiral"),
        kind: Classes | None = None,
        crop: float = 0.5,
        margin: float = 1.42,
        **options: Any,
    ) -> None:
        kind = kind if kind is not None else Classes(list(classes))
        super().__init__(source, kind=kind, crop=crop, margin=margin, **options)
        self.labels = labels if labels is not None else FromFlags()
        self.classes = list(classes)
        self.table, self.mapping, self.folder = table, mapping, images
        self.tables = (table, *([mapping] if mapping else []), PROPERTIES)

    def check_folder(self, root: Path) -> None:
        for folder in (root, root / self.folder):
            if not folder.is_dir():
                raise DataError(f"There is no folder {folder}. {WHERE}")
        header(root / self.table, WHERE)

    def load_tables(self, root: Path) -> pd.DataFrame:
        """One row a galaxy that is spiral or elliptical and has an image; each step is counted."""
        self.check_folder(root)
        path = root / self.table
        elsewhere = "Or take labels from elsewhere: labels_from=flags, debiased, votes or classes."
        rows = read_table(
            path, ID, self.labels.columns, optional=("RA", "DEC"), where=WHERE, span=None, otherwise=elsewhere
        )
        table = rows.frame.assign(label=self.labels(rows))
        if {"RA", "DEC"} <= set(table.columns):
            table["ra"], table["dec"] = degrees(rows, "RA", "DEC")
        self.log_step(f"rows of {self.table}", len(table), len(table))
        joined = self._with_images(root, table)
        galaxies = joined[joined["label"] != UNKNOWN].sort_values(ID, ignore_index=True)
        self.log_step(self.labels.what, len(joined), len(galaxies))
        self.notes += check_counts(
            galaxies["label"],
            self.classes,
            str(path),
            "Lower labels_from.cut, choose labels_from=flags, debiased or votes, or give "
            "a table and images that belong together.",
        )
        self.artifacts["joined"] = galaxies.assign(label=np.array(self.classes)[galaxies["label"]])
        catalog = galaxies.rename(columns={ID: "id"}).assign(split="train")
        position = [name for name in ("ra", "dec") if name in catalog]
        return self._with_properties(root, catalog[["id", "image", "split", "label", *position]])

    def _with_images(self, root: Path, table: pd.DataFrame) -> pd.DataFrame:
        """Those that have an image, with its path as `image`; of several the first of `SAMPLES` that is there."""
        named = self._named(root, table)
        passed_over: Counter[str] = Counter()
        files = list(images_below(root / self.folder, passed_over, deep=False))
        self.notes += passed_over_notes(self.folder, passed_over)
        named["image"] = named["name"].map({name.partition(".")[0]: f"{self.folder}/{name}" for name in files})
        if missing := named.loc[named["image"].isna(), "name"].tolist():
            self.notes.append(f"{self.folder}: images that are not there ({len(missing):,}): {shorten(missing)}.")
        present = named[named["image"].notna()]
        galaxies = present.drop_duplicates(ID).drop(columns="name")
        if second := len(present) - len(galaxies):
            self.notes.append(f"{second:,} second images of a galaxy are left out (original before others).")
        self.log_step(f"its image is in {self.folder}/", named[ID].nunique(), len(galaxies))
        return galaxies

    def _named(self, root: Path, table: pd.DataFrame) -> pd.DataFrame:
        """One row an image, with its name as `name`, the preferred ones first; the join by object id."""
        if self.mapping is None:
            return table.assign(name=table[ID].astype(str))
        path = root / self.mapping
        rows = read_table(path, "objid", texts=["asset_id"], optional=["sample"], where=WHERE, repeats=True)
        mapping = rows.frame
        rows.refuse_cells(
            ~mapping[["asset_id"]].fillna("").apply(lambda names: names.str.fullmatch(r"\w+")).to_numpy(bool),
            ["asset_id"],
            "it must be the name of an image without its suffix",
        )
        if without := int((~mapping["objid"].isin(table[ID])).sum()):
            self.notes.append(
                f"{self.mapping}: {without:,} of {len(mapping):,} rows are of galaxies not in {self.table}."
            )
        self.log_step(f"OBJID is in {self.mapping}", len(table), int(table[ID].isin(mapping["objid"]).sum()))
        joined = table.merge(mapping, left_on=ID, right_on="objid", how="inner").drop(columns="objid")
        rank = joined["sample"].map({name: rank for rank, name in enumerate(SAMPLES)}) if "sample" in joined else 0
        order = joined.assign(rank=rank).sort_values([ID, "rank", "asset_id"], na_position="last")
        return order.drop(columns="rank").rename(columns={"asset_id": "name"})

    def _with_properties(self, root: Path, catalog: pd.DataFrame) -> pd.DataFrame:
        """Adds the numbers of `properties.csv` (OBJID and any columns, such as redshift), where it is there."""
        path = root / PROPERTIES
        if not path.is_file():
            return catalog
        names = [name for name in header(path) if name != ID]
        numbers = read_table(path, ID, texts=names).frame.set_index(ID).apply(pd.to_numeric, errors="coerce")
        return catalog.join(numbers[[name for name in names if name not in catalog]], on="id")
