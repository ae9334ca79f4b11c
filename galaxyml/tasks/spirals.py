"""Spiral or elliptical: the Galaxy Zoo 1 table joined to pictures, by votes, and read with its checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from galaxyml.data.classes import UNKNOWN, check_counts
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.decode import SUFFIXES, has_suffix
from galaxyml.data.tables.reading import check_range, degrees, header, place, read_table
from galaxyml.data.tables.survey_catalogues import SAMPLES
from galaxyml.kinds import classes as kind_of_classes
from galaxyml.runs.errors import DataError, UserError, shorten

ID = "OBJID"
PROPERTIES = "properties.csv"
ELLIPTICAL, SPIRAL = 0, 1
WHERE = (
    "The files are GalaxyZoo1_DR_table2.csv of https://data.galaxyzoo.org (Lintott et al. 2011), and "
    "gz2_filename_mapping.csv and images_gz2.zip (unpacked as images/) of https://doi.org/10.5281/zenodo.3565489: "
    "`python -m galaxyml fetch spirals` fetches them (3.4 GB); or put them into a folder spirals/ and give the folder "
    "above it as data_dir=… Without them, source=simulated runs on the simulated sky."
)


LABELS_FROM = "Or take labels from elsewhere: labels_from=flags, debiased, votes or classes."


class Labels(Protocol):
    """Says what a galaxy is, from its row in the table."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are needed."""

    @property
    def what(self) -> str:
        """Where labels come from, in words."""

    def __call__(self, path: Path, table: pd.DataFrame) -> np.ndarray:
        """0 elliptical, 1 spiral, -1 neither; shape (N,). Raises DataError for values that cannot be."""


@dataclass(frozen=True)
class Flags:
    """The release's own flags, of which exactly one is 1 (Lintott et al. 2011)."""

    columns: tuple[str, ...] = ("SPIRAL", "ELLIPTICAL", "UNCERTAIN")
    what: str = "flagged spiral or elliptical"

    def __call__(self, path: Path, table: pd.DataFrame) -> np.ndarray:
        """0 elliptical, 1 spiral, -1 uncertain."""
        flags = table[list(self.columns)].to_numpy()
        if (bad := np.flatnonzero(~(np.isin(flags, (0, 1)).all(1) & (flags.sum(1) == 1)))).size:
            row = int(bad[0])
            found = ", ".join(f"{name}={value:g}" for name, value in zip(self.columns, flags[row], strict=True))
            raise DataError(
                f"{path}, {place(table, row, ID)}: {found}; exactly one of the flags is 1 and the others 0. "
                "Correct the row, or classify by votes with labels_from=debiased or labels_from=votes."
            )
        return np.select([flags[:, 0] == 1, flags[:, 1] == 1], [SPIRAL, ELLIPTICAL], UNKNOWN)


@dataclass(frozen=True)
class Fractions:
    """Vote fractions at or above a cut; a galaxy that reaches it for both or for neither is uncertain.

    Attributes:
        spiral: Column of the fraction for spirals.
        elliptical: Column of the fraction for ellipticals.
        cut: Smallest fraction that counts, in (0, 1].
    """

    spiral: str
    elliptical: str
    cut: float

    def __post_init__(self) -> None:
        if not 0 < self.cut <= 1:
            raise UserError(f"labels_from.cut={self.cut}: it must be a vote fraction in (0, 1], such as 0.8.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are needed."""
        return self.spiral, self.elliptical

    @property
    def what(self) -> str:
        """Where labels come from, in words."""
        return f"{self.spiral} or {self.elliptical} at least {self.cut:g}"

    def __call__(self, path: Path, table: pd.DataFrame) -> np.ndarray:
        """0 elliptical, 1 spiral, -1 neither or both."""
        check_range(path, table, ID, self.columns)
        spiral, elliptical = table[self.spiral] >= self.cut, table[self.elliptical] >= self.cut
        return np.select([spiral & ~elliptical, elliptical & ~spiral], [SPIRAL, ELLIPTICAL], UNKNOWN)


@dataclass(frozen=True)
class Classes:
    """A column of class numbers, such as the largest raw vote.

    Attributes:
        column: Its name.
        spiral: Numbers that count as spiral.
        elliptical: Numbers that count as elliptical.
    """

    column: str
    spiral: Sequence[int]
    elliptical: Sequence[int]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are needed."""
        return (self.column,)

    @property
    def what(self) -> str:
        """Where labels come from, in words."""
        spiral, elliptical = (", ".join(map(str, numbers)) for numbers in (self.spiral, self.elliptical))
        return f"{self.column} is {spiral} (spiral) or {elliptical} (elliptical)"

    def __call__(self, path: Path, table: pd.DataFrame) -> np.ndarray:
        """0 elliptical, 1 spiral, -1 any other number."""
        numbers = table[self.column]
        return np.select(
            [numbers.isin(list(self.spiral)), numbers.isin(list(self.elliptical))], [SPIRAL, ELLIPTICAL], UNKNOWN
        )


class Spirals(ImageData):
    """Galaxies that volunteers of Galaxy Zoo called spiral or elliptical.

    Args:
        source: The folder with tables and images; see CatalogData.
        labels: What makes a galaxy a spiral or an elliptical.
        table: Name of the table with votes, one row an OBJID.
        mapping: Name of the table from `objid` to `asset_id`, the names of pictures; None where pictures are named by
            OBJID.
        images: Name of the folder of images.
        classes: Names of the two classes, ellipticals first.
        kind: The kind of target; None for these classes.
        crop: SDSS cutouts hold the galaxy in the central 212 of 424 px.
        margin: As for ImageData.
        **options: As for ImageData and CatalogData.
    """

    task = "spirals"

    def __init__(
        self,
        source: Any = None,
        *,
        labels: Labels | None = None,
        table: str = "GalaxyZoo1_DR_table2.csv",
        mapping: str | None = "gz2_filename_mapping.csv",
        images: str = "images",
        classes: Sequence[str] = ("elliptical", "spiral"),
        kind: "kind_of_classes.Classes | None" = None,
        crop: float = 0.5,
        margin: float = 1.42,
        **options: Any,
    ) -> None:
        kind = kind if kind is not None else kind_of_classes.Classes(list(classes))
        super().__init__(source, kind=kind, crop=crop, margin=margin, **options)
        self.labels = labels if labels is not None else Flags()
        self.classes = list(classes)
        self.table, self.mapping, self.folder = table, mapping, images
        self.tables = (table, *([mapping] if mapping else []), PROPERTIES)

    @staticmethod
    def simulate() -> "partial[None]":
        from galaxyml.sky import write_spirals

        return partial(write_spirals, count=3000, seed=0, size=424)

    def load_tables(self, root: Path) -> pd.DataFrame:
        """One row a galaxy that is spiral or elliptical and has a picture; each step is counted."""
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. {WHERE}")
        path = root / self.table
        table = read_table(
            path, ID, self.labels.columns, optional=("RA", "DEC"), where=WHERE, span=None, otherwise=LABELS_FROM
        )
        table["label"] = self.labels(path, table)
        if {"RA", "DEC"} <= set(table.columns):
            table["ra"], table["dec"] = degrees(path, table, ID, "RA", "DEC")
        self.log_step(f"rows of {self.table}", len(table), len(table))
        found = self._with_pictures(root, table)
        certain = found[found["label"] != UNKNOWN]
        self.log_step(self.labels.what, len(found), len(certain))
        found = certain
        self.notes += check_counts(
            found["label"],
            self.classes,
            str(path),
            "Lower labels_from.cut, choose labels_from=flags, debiased or votes, or give "
            "a table and pictures that belong together.",
        )
        found = found.sort_values(ID, ignore_index=True)
        self.artifacts["joined"] = found.assign(label=np.array(self.classes)[found["label"]])
        catalog = found.rename(columns={ID: "id"}).assign(split="train")
        known = [name for name in ("ra", "dec") if name in catalog]
        return self._with_properties(root, catalog[["id", "image", "split", "label", *known]])

    def _with_pictures(self, root: Path, table: pd.DataFrame) -> pd.DataFrame:
        """Those that have a picture, with its path as `image`; of several the first of `SAMPLES` that is there."""
        named = self._named(root, table)
        folder = root / self.folder
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}. {WHERE}")
        files = (path.name for path in folder.iterdir() if has_suffix(path, SUFFIXES))
        there = {name.partition(".")[0]: f"{self.folder}/{name}" for name in files}
        named["image"] = named["picture"].map(there)
        if missing := named.loc[named["image"].isna(), "picture"].tolist():
            self.notes.append(f"{self.folder}: pictures that are not there ({len(missing):,}): {shorten(missing)}.")
        pictured = named[named["image"].notna()]
        one = pictured.drop_duplicates(ID).drop(columns="picture")
        if len(one) < len(pictured):
            self.notes.append(
                f"{len(pictured) - len(one):,} second pictures of a galaxy are left out (original before others)."
            )
        self.log_step(f"its picture is in {self.folder}/", named[ID].nunique(), len(one))
        return one

    def _named(self, root: Path, table: pd.DataFrame) -> pd.DataFrame:
        """One row a picture, with its name as `picture`, the preferred ones first; the join by object id."""
        if self.mapping is None:
            return table.assign(picture=table[ID].astype(str))
        path = root / self.mapping
        mapping = read_table(path, "objid", texts=["asset_id"], optional=["sample"], where=WHERE, repeats=True)
        if (bad := np.flatnonzero(~mapping["asset_id"].fillna("").str.fullmatch(r"\w+").to_numpy())).size:
            row = int(bad[0])
            raise DataError(
                f"{path}, {place(mapping, row, 'objid')}: asset_id is '{mapping['asset_id'].iloc[row]}'; it must be "
                "the name of a picture without its suffix. Correct it or take the row out."
            )
        if without := int((~mapping["objid"].isin(table[ID])).sum()):
            self.notes.append(
                f"{self.mapping}: {without:,} of {len(mapping):,} rows are of galaxies not in {self.table}."
            )
        self.log_step(f"OBJID is in {self.mapping}", len(table), int(table[ID].isin(mapping["objid"]).sum()))
        both = table.merge(mapping, left_on=ID, right_on="objid", how="inner").drop(columns="objid")
        rank = both["sample"].map({name: at for at, name in enumerate(SAMPLES)}) if "sample" in both else 0
        order = both.assign(rank=rank).sort_values([ID, "rank", "asset_id"], na_position="last")
        return order.drop(columns="rank").rename(columns={"asset_id": "picture"})

    def _with_properties(self, root: Path, catalog: pd.DataFrame) -> pd.DataFrame:
        """Adds the numbers of `properties.csv` (OBJID and any columns, such as redshift), where it is there."""
        path = root / PROPERTIES
        if not path.is_file():
            return catalog
        names = [name for name in header(path) if name != ID]
        numbers = read_table(path, ID, texts=names).set_index(ID).apply(pd.to_numeric, errors="coerce")
        return catalog.join(numbers[[name for name in names if name not in catalog]], on="id")
