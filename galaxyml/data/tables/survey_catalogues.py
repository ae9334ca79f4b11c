"""Catalogues and images of three surveys, with the votes of volunteers of four campaigns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.images.folders import without_suffix
from galaxyml.data.source import without_files
from galaxyml.data.tables.reading import WHOLE, Rows
from galaxyml.data.tables.vote_catalogue import KINDS, Steps, SurveyTable, VoteCatalogue, counted, positions
from galaxyml.data.tables.wide import WideTable
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.trees import DecisionTree

SAMPLES = ("original", "extra")  # of an object with several images the first of these is taken
LEAST_ASKED = 0.5  # share of volunteers who would be asked a question, for a model's prediction of it to count
SAME = 0.01  # votes; sums of whole numbers differ by less
# Questions whose answers changed while the campaign went on: votes for the old ones are in the total and nowhere else.
# Of the galaxies shown first (upload_group pre_active) one has 32 votes on merging, and one of them for an answer left.
INCOMPLETE: Mapping[str, tuple[str, ...]] = {"gzd5": ("merging",)}
GZ2_TABLES = ("sdss/gz2_hart16.fits.gz", "sdss/gz2_hart16.fits", "sdss/gz2_hart16.csv.gz", "sdss/gz2_hart16.csv")
_LAST = f"and give the folder above surveys/ as data_dir=… {without_files('Surveys')}"
_DECALS = (
    "The tables gz_decals_volunteers_1_and_2.csv, gz_decals_volunteers_5.csv and gz_decals_auto_posteriors.csv and the "
    "images gz_decals_dr5_png_part1 to part4 (unpacked) are those of https://doi.org/10.5281/zenodo.4573248: "
    "`python -m galaxyml fetch surveys-decals` fetches them (104 GB; surveys-decals-1 a quarter of the images, "
    f"surveys-decals-auto the posteriors); or put them into a folder surveys/decals/ {_LAST}"
)


class GalaxyZoo2(VoteCatalogue):
    """Galaxies of SDSS in Galaxy Zoo 2, from the catalogue of Hart et al. 2016 or some of its columns.

    Without `_count` columns votes are estimated from `total_classifications` and the fractions.

    Args:
        table: The catalogue, or several names of which the first that is there is read.
        mapping: The table from `objid` to `asset_id`, the names of images; None where they are named by object id.
        images: As for VoteCatalogue.
    """

    id_column = "dr7objid"
    id_pattern = WHOLE
    kinds = KINDS
    endings = ("_count", "_weight", "_fraction", "_weighted_fraction", "_debiased", "_flag")
    count_ending = "_count"
    where = (
        "The table is https://gz2hart.s3.amazonaws.com/gz2_hart16.fits.gz (Hart et al. 2016); gz2_filename_mapping.csv "
        "and images_gz2.zip (unpacked as images/) are those of https://doi.org/10.5281/zenodo.3565489: "
        "`python -m galaxyml fetch surveys-sdss` fetches them (3.4 GB); or put them into a folder surveys/sdss/ "
        f"{_LAST}"
    )

    def __init__(self, table: str | Sequence[str], mapping: str | None, images: str | Sequence[str]) -> None:
        super().__init__("gz2", table, images)
        self.other_table = mapping

    def vote_columns(self, table: WideTable) -> list[str]:
        counts = self.count_columns
        wanted = counts if set(counts) & set(table.columns) else ["total_classifications"]
        table.check(wanted, self.column_names())
        return wanted

    def path_kind(self, table: WideTable) -> list[str]:
        return [] if self.count_columns[0] in table.columns else self._complete(table)[:1]

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        if not (kinds := self.path_kind(table)):
            return self._sums(self._counts(rows))
        (kind,) = kinds
        notes.append(
            f"{table.path.name} has no counts of votes: those of a question are estimated, as total_classifications "
            f"times the {kind} of the answers that lead to it."
        )
        fractions, total = np.nan_to_num(values[kind]), counted(rows, ["total_classifications"])
        votes = np.empty((len(total), len(self.tree.questions)))
        for question, leads in enumerate(self.tree.leads):
            parts = votes[:, self._question_of[leads]] * fractions[:, leads] if leads else total
            votes[:, question] = parts.sum(1)
        # Fractions that are not all 0 had a vote at least, even where rounding or weights made a 0 further up.
        return np.where(self._sums(fractions) > 0, np.maximum(votes, 1.0), np.nan)

    def image_names(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.DataFrame:
        if self.other_table is None:
            return super().image_names(root, rows, notes, steps)
        table = WideTable(root / self.other_table, self.where)
        sample = ["sample"] if "sample" in table.columns else []
        mapping = table.read("objid", ["asset_id", *sample], repeats=True).frame
        galaxies = pd.DataFrame({"objid": rows.ids.to_numpy(object), "row": np.arange(len(rows.frame))})
        both = galaxies.merge(mapping, on="objid").rename(columns={"asset_id": "name"})
        steps(f"{self.id_column} is in {self.other_table}", len(galaxies), both["row"].nunique())
        ranks = {name: rank for rank, name in enumerate(SAMPLES)}
        both["rank"] = both["sample"].map(ranks).fillna(len(ranks)) if sample else 0
        return both.sort_values(["row", "rank", "name"])[["row", "name"]]


class TotalledCatalogue(VoteCatalogue):
    """A catalogue with the number of votes for each answer, and the total of each question as `{question}_total-votes`.

    Args:
        tree: As for VoteCatalogue.
        table: As for VoteCatalogue.
        images: As for VoteCatalogue.
        incomplete: Questions whose votes may sum to less than the total, because volunteers gave answers that the table
            does not have; where that is so the question is masked. None for those that are known of the campaign.
    """

    def __init__(
        self,
        tree: str,
        table: str | Sequence[str],
        images: str | Sequence[str],
        incomplete: Sequence[str] | None = None,
    ) -> None:
        super().__init__(tree, table, images)
        self.totals = [f"{question.name}_total-votes" for question in self.tree.questions]
        self.incomplete = list(INCOMPLETE.get(tree, ()) if incomplete is None else incomplete)
        names = [question.name for question in self.tree.questions]
        if unknown := [name for name in self.incomplete if name not in names]:
            raise UserError(
                f"incomplete=[{','.join(self.incomplete)}]: {tree} asks no {unknown[0]}. "
                f"{did_you_mean(unknown[0], names)}"
            )

    def vote_columns(self, table: WideTable) -> list[str]:
        wanted = [*self.tree.columns, *self.totals]
        table.check(wanted, self.column_names())
        return wanted

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        sums, totals = self._sums(self._counts(rows)), self._total_votes(rows)
        may_lack = np.array([question.name in self.incomplete for question in self.tree.questions])
        lacking = (sums < totals - SAME) & may_lack
        rows.refuse(
            (np.abs(sums - totals) > SAME) & ~lacking,
            lambda row, question: (
                f": the votes of {self._answers(question)} sum to {sums[row, question]:g}, but "
                f"{self.totals[question]} is {totals[row, question]:g}; they must be the same, or where volunteers "
                "gave answers that the table does not have, the question must be masked by "
                f"incomplete=[{self.tree.questions[question].name}]"
            ),
            "Correct the row or take it out, or mask the question.",
        )
        for question, count in zip(self.tree.questions, lacking.sum(0), strict=True):
            if count:
                notes.append(
                    f"{rows.path.name}: {count:,} galaxies have votes on {question.name} for answers that the table "
                    "does not have; the question is masked for them."
                )
        return np.where(lacking, np.nan, totals)

    def _total_votes(self, rows: Rows) -> np.ndarray:
        """Votes of each question, shape (N, Q)."""
        return counted(rows, self.totals)


class GalaxyZooDecals(TotalledCatalogue):
    """Galaxies of DECaLS in Galaxy Zoo DECaLS (Walmsley et al. 2022): campaigns 1 and 2 (`gzd12`) or 5 (`gzd5`).

    Images are named by `iauname`, at any depth below the folders. Arguments as for TotalledCatalogue.
    """

    id_column = "iauname"
    where = _DECALS


class Posteriors(VoteCatalogue):
    """Predictions of a model trained on Galaxy Zoo DECaLS (Walmsley et al. 2022), in place of votes.

    A question has as many votes as the share of volunteers who would be asked it, and counts as not asked where that is
    below a half. Arguments as for VoteCatalogue; images as for GalaxyZooDecals.
    """

    id_column = "iauname"
    kinds = ("fraction",)
    endings = ("_fraction", "_concentration")
    where = _DECALS

    def vote_columns(self, table: WideTable) -> list[str]:
        wanted = [f"{question.name}_proportion_volunteers_asked" for question in self.tree.questions]
        table.check(wanted, self.column_names())
        return wanted

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        notes.append(
            f"{table.path.name}: these are a model's predictions, not votes; a question counts as asked where at least "
            f"{LEAST_ASKED:g} of the volunteers would be asked it."
        )
        shares = rows.numbers(self.vote_columns(table), 0, 1, "shares of volunteers lie in [0, 1]")
        return np.where(shares >= LEAST_ASKED, shares, np.nan)


class HubCatalogue(TotalledCatalogue):
    """A data set of votes of the Hugging Face hub, with its images inside: columns `id_str` and the tree's answers.

    A question whose votes do not sum to `{question}_total-votes`, where the table has it, is masked.

    Args:
        tree: As for VoteCatalogue.
        table: The data set's folder.
        positions_from: Tables of Galaxy Zoo 2, of which the first that is there has positions (`ra`, `dec`) of galaxies
            of the same id (`dr7objid`); used where the data set has no positions itself.
    """

    id_column = "id_str"
    kinds = ("fraction",)
    where = f"`python -m galaxyml fetch gz_ukidss` fetches that of UKIDSS; or put one there by hand {_LAST}"

    def __init__(self, tree: str, table: str | Sequence[str], positions_from: Sequence[str] = ()) -> None:
        names = [question.name for question in DecisionTree.load(tree).questions]
        super().__init__(tree, table, (), incomplete=names)
        self.positions_from = list(positions_from)

    def vote_columns(self, table: WideTable) -> list[str]:
        table.check(self.tree.columns, self.column_names())
        return [*self.tree.columns, *(self.totals if set(self.totals) <= set(table.columns) else ())]

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        if self.totals[0] in rows.frame:
            return super().votes(table, rows, values, notes)
        return self._sums(self._counts(rows))

    def positions(self, root: Path, rows: Rows, notes: list[str]) -> np.ndarray:
        unknown = super().positions(root, rows, notes)
        if (name := next((name for name in self.positions_from if (root / name).is_file()), None)) is None:
            return unknown
        table = WideTable(root / name).read(GalaxyZoo2.id_column, (), ["ra", "dec"], repeats=True)
        known = pd.DataFrame(positions(table), index=table.ids.to_numpy(object))
        found = known[~known.index.duplicated()].reindex(rows.ids.to_numpy(object)).to_numpy()
        count = int((~np.isnan(found).any(axis=1)).sum())
        notes.append(
            f"audit: {rows.path.name} has no positions: those of {count:,} of its {len(found):,} galaxies are those of "
            f"the same id in {name}."
        )
        return found

    def _columns(self, table: WideTable, kind: str) -> dict[int, str]:
        return {}  # shares follow from the votes

    def _counts(self, rows: Rows) -> np.ndarray:
        return np.nan_to_num(counted(rows, self.count_columns, empty=True))  # of campaigns that have not seen a galaxy

    def _total_votes(self, rows: Rows) -> np.ndarray:
        return np.nan_to_num(counted(rows, self.totals, empty=True))

    def _images(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.Series:
        assert rows.inside is not None
        folder = rows.path.relative_to(root).as_posix()
        return pd.Series([f"{folder}/{image}" for image in rows.inside], dtype=object)


class GalaxyZooUkidss(TotalledCatalogue):
    """Galaxies of UKIDSS in Galaxy Zoo: UKIDSS.

    Args:
        table: The catalogue, or several names of which the first that is there is read; a folder is that of the hub's
            data set, which `HubCatalogue` reads.
        positions: A table of `subject_id`, `ra` and `dec` (degrees), which the catalogue lacks; read where it is there.
        images: Folders of images, which lie in them as `{subfolder}/{filename}`, `{filename}` or
            `{subfolder}_{filename}`; the suffix may be another one.
        incomplete: As for TotalledCatalogue.
        positions_from: As for HubCatalogue.
    """

    id_column = "subject_id"
    texts = ("subfolder", "filename")
    by_path = True
    kinds = ("fraction",)
    where = (
        "`python -m galaxyml fetch gz_ukidss` fetches the catalogue of Galaxy Zoo: UKIDSS and its images (7.9 GB; "
        "gz_ukidss-tiny a hundredth of it). Or put a table with subject_id, subfolder and filename, and its images, "
        f"into surveys/ukidss/ as ukidss_catalog.csv and images/ {_LAST}"
    )

    def __init__(
        self,
        table: str | Sequence[str],
        positions: str | None,
        images: str | Sequence[str],
        incomplete: Sequence[str] | None = None,
        positions_from: Sequence[str] = GZ2_TABLES,
    ) -> None:
        super().__init__("ukidss", table, images, incomplete)
        self.other_table = positions
        self.positions_from = list(positions_from)

    def read(self, root: Path, kinds: Sequence[str], notes: list[str], steps: Steps) -> SurveyTable:
        if (root / (name := self.table_name(root))).is_dir():
            return HubCatalogue(self.campaign, name, self.positions_from).read(root, kinds, notes, steps)
        return super().read(root, kinds, notes, steps)

    def image_names(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.DataFrame:
        folder, name = rows.frame["subfolder"], rows.frame["filename"].map(without_suffix)
        names = [folder + "/" + name, name, folder + "_" + name]
        return pd.DataFrame(
            {
                "row": np.tile(np.arange(len(rows.frame)), len(names)),
                "name": np.concatenate([column.to_numpy(object) for column in names]),
            }
        )

    def positions(self, root: Path, rows: Rows, notes: list[str]) -> np.ndarray:
        if self.other_table is None or not (root / self.other_table).is_file():
            notes.append(
                "No positions are known of the galaxies of UKIDSS: by them they cannot be found in other surveys."
            )
            return super().positions(root, rows, notes)
        table = WideTable(root / self.other_table).read(self.id_column, (), ["ra", "dec"], self.id_pattern)
        degrees = pd.DataFrame(positions(table), index=table.ids.to_numpy(object)).reindex(rows.ids)
        if missing := int(degrees.isna().any(axis=1).sum()):
            notes.append(f"{self.other_table}: {missing:,} of {len(degrees):,} galaxies have no position there.")
        return degrees.to_numpy()
