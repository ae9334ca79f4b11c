"""What volunteers of four campaigns said about galaxies of three surveys: catalogues and pictures, read and checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.picture_folders import PictureFolders, without_suffix
from galaxyml.data.tables import more
from galaxyml.data.wide_tables import NAME, WHOLE, Rows, WideTable
from galaxyml.errors import DataError, UserError, near, some
from galaxyml.tasks.spirals import SAMPLES
from galaxyml.trees import DecisionTree

Steps = Callable[[str, int, int], None]

KINDS = ("fraction", "weighted_fraction", "debiased")
REFUSED_GAP, REPORTED_GAP = 0.05, 0.02  # of a question's fractions from 1; rounding in the catalogues makes up to 0.002
LEAST_ASKED = 0.5  # share of volunteers who would be asked a question, for a model's prediction of it to count
SAME = 0.01  # votes; sums of whole numbers differ by less
# Questions whose answers changed while the campaign went on: votes for the old ones are in the total and nowhere else.
# Of the galaxies shown first (upload_group pre_active) one has 32 votes on merging, and one of them for an answer left.
INCOMPLETE: Mapping[str, tuple[str, ...]] = {"gzd5": ("merging",)}
_LAST = "and give the folder above surveys/ as data_dir=… Without them, source=simulated runs on the simulated sky."
_DECALS = (
    "The tables gz_decals_volunteers_1_and_2.csv, gz_decals_volunteers_5.csv and gz_decals_auto_posteriors.csv and the "
    "pictures gz_decals_dr5_png_part1 to part4 (unpacked) are those of https://doi.org/10.5281/zenodo.4573248: put "
    f"them into a folder surveys/decals/ {_LAST}"
)


@dataclass(frozen=True)
class SurveyTable:
    """What is known of the galaxies of one catalogue that have a picture; N of them, ordered by id.

    Attributes:
        galaxies: `id` (text), `image` (path in the task's folder), `ra` and `dec` (degrees, NaN where not known) and
            `votes` (of the first question).
        votes: Votes of each question of the campaign's tree, 0 where it was not asked, shape (N, Q).
        fractions: For each kind the answers' shares of their question's votes, shape (N, K); NaN where the question was
            not asked or the table does not tell.
    """

    galaxies: pd.DataFrame
    votes: np.ndarray
    fractions: dict[str, np.ndarray]


class VoteCatalogue:
    """A catalogue of votes, one row a galaxy. What its columns are called is its subclasses' to say.

    Args:
        tree: The campaign's decision tree, by name.
        table: The table in the task's folder, or several names of which the first that is there is read.
        images: Folders of pictures in the task's folder, or patterns of their names such as `part*`.

    Attributes:
        campaign: Name of the tree.
        id_column: The column of ids.
        id_pattern: What an id looks like.
        texts: Further columns of text.
        kinds: The kinds of fractions that a catalogue like this has.
        endings: Everything that is put behind an answer's name to make a column.
        where: Where the files can be had.
    """

    id_column: str
    id_pattern = NAME
    texts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("fraction", "debiased")
    endings: tuple[str, ...] = ("", "_fraction", "_debiased")
    where: str

    def __init__(self, tree: str, table: str | Sequence[str], images: str | Sequence[str]) -> None:
        self.campaign = tree
        self.tree = DecisionTree.load(tree)
        self.tables = [table] if isinstance(table, str) else list(table)
        self.images = [images] if isinstance(images, str) else list(images)
        self._question_of = np.array(self.tree.question_of)
        self._starts = np.flatnonzero(np.diff(self._question_of, prepend=-1))

    def files(self, root: Path) -> list[str]:
        """The tables that are read, as paths in the task's folder; those that are there."""
        first = [name for name in self.tables if (root / name).is_file()][:1]
        return [*first, *(name for name in self.other_tables() if (root / name).is_file())]

    def read(self, root: Path, kinds: Sequence[str], notes: list[str], steps: Steps) -> SurveyTable:
        """Reads the galaxies that have a picture.

        Args:
            root: The task's folder.
            kinds: The kinds of fractions that are wanted, of `KINDS`.
            notes: Gets what a user should know, in sentences.
            steps: Is told what each step asked for, and how many galaxies there were before and after.

        Raises:
            DataError: If a file is missing or breaks a rule, or no galaxy is left.
            UserError: If a kind is unknown.
        """
        kinds = list(dict.fromkeys(kinds))
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UserError(
                f"surveys.NAME.fraction={unknown[0]}: there is no such kind of fractions. {near(unknown[0], KINDS)}"
            )
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. {self.where}")
        name = next((name for name in self.tables if (root / name).is_file()), None)
        if name is None:
            raise DataError(f"{root} has no {' and no '.join(self.tables)}. {self.where}")
        table = WideTable(root / name, self.where)
        counted = self.vote_columns(table)
        chosen = self._chosen(table, kinds, notes)
        columns = {kind: self._columns(table, kind) for kind in (*chosen, *self.path_kind(table))}
        places = ["ra", "dec"] if {"ra", "dec"} <= set(table.columns) else []
        numbers = [*counted, *places, *(name for names in columns.values() for name in names.values())]
        rows = table.read(self.id_column, self.texts, numbers, self.id_pattern)
        steps(f"rows of {name}", len(rows.frame), len(rows.frame))

        values = {kind: self._read_fractions(rows, names) for kind, names in columns.items()}
        votes = self.votes(table, rows, values, notes)
        fractions = {kind: np.full((len(rows.frame), len(self.tree.columns)), np.nan) for kind in kinds}
        for kind in chosen:
            there = np.isin(np.arange(len(self.tree.columns)), list(columns[kind]))
            if not there.any():
                values[kind], there = self._shares(rows, votes), ~there
            fractions[kind] = self._checked(rows, kind, values[kind], there, votes, notes)

        galaxies = pd.DataFrame({"id": rows.ids.to_numpy(object), "votes": np.nan_to_num(votes[:, 0])})
        galaxies[["ra", "dec"]] = self.positions(root, rows, notes) if not places else positions(rows)
        galaxies["image"] = self._images(root, rows, notes, steps)
        kept = galaxies[galaxies["image"].notna()].sort_values("id")
        order = kept.index.to_numpy()
        return SurveyTable(
            kept[["id", "image", "ra", "dec", "votes"]].reset_index(drop=True),
            np.nan_to_num(votes[order]),
            {kind: values[order] for kind, values in fractions.items()},
        )

    # --- what subclasses say

    def other_tables(self) -> list[str]:
        """Tables beside the catalogue."""
        return []

    def count_column(self, answer: str) -> str:
        """What the number of votes for an answer is called."""
        return answer

    def vote_columns(self, table: WideTable) -> list[str]:
        """Columns that tell how many volunteers were asked.

        Raises:
            DataError: If the table lacks some.
        """
        raise NotImplementedError

    def path_kind(self, table: WideTable) -> list[str]:
        """The kind of fractions that votes are estimated from, where they have to be."""
        return []

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        """Votes of each question, shape (N, Q): 0 where nobody was asked, NaN where what was answered is not used."""
        raise NotImplementedError

    def picture_names(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.DataFrame:
        """Names that galaxies' pictures may have: `row` (a number in the rows read) and `name`, the preferred first."""
        return pd.DataFrame({"row": np.arange(len(rows.frame)), "name": rows.ids.to_numpy(object)})

    def picture(self, pictures: PictureFolders, name: str) -> str | None:
        """The picture of a name, at any depth; None where there is none."""
        return pictures.by_name.get(name)

    def positions(self, root: Path, rows: Rows, notes: list[str]) -> np.ndarray:
        """Positions of galaxies whose catalogue has none, in degrees, shape (N, 2); NaN where not known."""
        return np.full((len(rows.frame), 2), np.nan)

    # --- columns

    def known(self) -> list[str]:
        """All names that a catalogue like this may use for answers and questions."""
        answers = [answer + ending for answer in self.tree.columns for ending in self.endings]
        return [*answers, *(f"{question.name}_total-votes" for question in self.tree.questions)]

    def _columns(self, table: WideTable, kind: str) -> dict[int, str]:
        """The columns of a kind that the table has, by the answer's number."""
        if kind not in self.kinds:
            return {}
        there = set(table.columns)
        return {at: name for at, answer in enumerate(self.tree.columns) if (name := f"{answer}_{kind}") in there}

    def _complete(self, table: WideTable) -> list[str]:
        """Kinds that the table has for every answer; shares of votes follow from counts too."""
        count = len(self.tree.columns)
        found = [kind for kind in KINDS if len(self._columns(table, kind)) == count]
        counts = {self.count_column(answer) for answer in self.tree.columns} <= set(table.columns)
        return ["fraction", *found] if counts and not self._columns(table, "fraction") else found

    def _chosen(self, table: WideTable, kinds: Sequence[str], notes: list[str]) -> list[str]:
        """The kinds asked for that the table has, in whole or in part.

        Raises:
            DataError: If it has none of them in whole, or columns look misspelt.
        """
        complete = self._complete(table)
        known = {self.id_column, *self.known()}
        unknown = [name for name in table.columns if name and name not in known]
        chosen = []
        for kind in kinds:
            names = [f"{answer}_{kind}" for answer in self.tree.columns] if kind in self.kinds else []
            missing = [name for name in names if name not in table.columns]
            if kind in complete:
                chosen.append(kind)
            elif missing and unknown and near(missing[0], unknown).startswith("Did"):
                table.check(names, self.known())
            elif len(missing) < len(names):
                chosen.append(kind)
                notes.append(
                    f"{table.path.name} has the {kind} of {len(names) - len(missing)} of {len(names)} answers; that of "
                    f"the others is masked ({some(missing, shown=3)})."
                )
            else:
                notes.append(f"{table.path.name} has no {kind}; for its galaxies it is masked.")
        if not set(chosen) & set(complete):
            if not complete:
                table.check([f"{answer}_fraction" for answer in self.tree.columns], self.known())
            raise DataError(
                f"{table.path} does not have the {' or the '.join(kinds)} of all answers; it has "
                f"{', '.join(complete)}. Take that for its fractions: surveys.NAME.fraction={complete[0]}, with the "
                "survey's name."
            )
        return chosen

    # --- numbers

    def _read_fractions(self, rows: Rows, names: Mapping[int, str]) -> np.ndarray:
        """A kind's columns as they are, shape (N, K); NaN where there is none, or a cell is empty."""
        values = np.full((len(rows.frame), len(self.tree.columns)), np.nan)
        if names:
            values[:, list(names)] = rows.numbers(list(names.values()), 0, 1, "fractions lie in [0, 1]", empty=True)
        return values

    def _counts(self, rows: Rows) -> np.ndarray:
        """Votes for each answer, shape (N, K)."""
        return _votes(rows, [self.count_column(answer) for answer in self.tree.columns])

    def _shares(self, rows: Rows, votes: np.ndarray) -> np.ndarray:
        """Each answer's share of its question's votes, shape (N, K); NaN where there are none."""
        asked = np.where(votes > 0, votes, np.nan)
        return self._counts(rows) / asked[:, self._question_of]

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the answers of each question, shape (N, Q); what is not known counts as 0."""
        return np.add.reduceat(np.nan_to_num(values), self._starts, axis=1)

    def _checked(
        self, rows: Rows, kind: str, values: np.ndarray, there: np.ndarray, votes: np.ndarray, notes: list[str]
    ) -> np.ndarray:
        """Fractions of the questions that were asked; all others are masked.

        Args:
            rows: The rows read.
            kind: The kind.
            values: Shape (N, K).
            there: Answers that the table has the kind of, shape (K,).
            votes: As `votes` gives them.
            notes: Gets what is reported.

        Raises:
            DataError: If they cannot be shares of the question's votes.
        """
        asked = votes > 0
        whole = np.logical_and.reduceat(there, self._starts)
        empty = self._sums(np.isnan(values) & there) > 0
        sums = self._sums(values)
        if kind == "debiased":
            asked = asked & ~empty & (sums > 0)  # debiasing was not possible for every galaxy
            off = np.abs(sums - 1)[asked & whole]
            if count := int((off > REFUSED_GAP).sum()):
                notes.append(
                    f"{rows.path.name}: answers are debiased one by one; the debiased fractions of {count:,} of "
                    f"{off.size:,} questions do not sum to 1 within {REFUSED_GAP} (the worst miss it by "
                    f"{off.max():.2f}). Taken as they are."
                )
        else:
            if kind == "weighted_fraction":
                asked = asked & ((sums > 0) | empty)  # all who answered may have the weight 0
            self._refuse(
                rows, asked & empty, lambda row, at: f"a {kind} of {self._answers(at)} is empty, but it has votes"
            )
            self._refuse(
                rows,
                (votes == 0) & (sums > REFUSED_GAP),
                lambda row, at: f"the {kind}s of {self._answers(at)} sum to {sums[row, at]:.4f}, but it has no votes",
            )
            off = np.where(asked & whole, np.abs(sums - 1), 0.0)
            self._refuse(
                rows,
                off > REFUSED_GAP,
                lambda row, at: f"the {kind}s of {self._answers(at)} sum to {sums[row, at]:.4f}",
            )
            if count := int((off > REPORTED_GAP).sum()):
                row, at = (int(number) for number in np.unravel_index(off.argmax(), off.shape))
                notes.append(
                    f"{rows.path.name}: the {kind}s of {count:,} of {int((asked & whole).sum()):,} questions do not "
                    f"sum to 1 within {REPORTED_GAP}; the worst are those of {self._answers(at)} in {rows.line(row)}, "
                    f"galaxy {rows.ids.iloc[row]}, with {sums[row, at]:.3f}. Taken as they are."
                )
        return np.where(asked[:, self._question_of], values, np.nan)

    def _answers(self, question: int) -> str:
        asked = self.tree.questions[question]
        return f"{asked.name} ({asked.columns[0]} to {asked.columns[-1]})"

    def _refuse(self, rows: Rows, wrong: np.ndarray, told: Callable[[int, int], str]) -> None:
        if wrong.any():
            row, question = (int(at) for at in np.argwhere(wrong)[0])
            raise DataError(
                f"{rows.place(row)}: {told(row, question)}{more(int(wrong.sum()))}. Fractions of a question are shares "
                f"of its votes: they sum to 1 within {REFUSED_GAP}, and are 0 or empty where there are none. Correct "
                "the row or take it out."
            )

    # --- pictures

    def _images(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.Series:
        """Each row's picture, as a path in the task's folder; None where it has none.

        Raises:
            DataError: If no row has one.
        """
        where = ", ".join(self.images)
        pictures = PictureFolders.below(root, self.images, self.where)
        named = self.picture_names(root, rows, notes, steps)
        named["image"] = pd.Series([self.picture(pictures, name) for name in named["name"]], named.index, dtype=object)
        found = named[named["image"].notna()].drop_duplicates("row").set_index("row")["image"]
        if found.empty:
            example = f" such as {named['name'].iloc[0]}" if len(named) else ""
            raise DataError(
                f"{rows.path}: none of its {len(rows.frame):,} galaxies has a picture{example} among the "
                f"{len(pictures.by_path):,} of {where}. Give a table and pictures that belong together. {self.where}"
            )
        sought = named["row"].unique()
        steps(f"its picture is in {where}", len(sought), len(found))
        if len(found) < len(sought):
            lost = sorted(rows.ids.iloc[np.setdiff1d(sought, found.index)])
            notes.append(
                f"{rows.path.name}: galaxies without a picture in {where}, left out ({len(lost):,} of "
                f"{len(sought):,}): {some(lost)}."
            )
        return found.reindex(range(len(rows.frame)))


class GalaxyZoo2(VoteCatalogue):
    """Galaxies of SDSS in Galaxy Zoo 2, from the catalogue of Hart et al. 2016 or some of its columns.

    Without `_count` columns votes are estimated from `total_classifications` and the fractions.

    Args:
        table: The catalogue, or several names of which the first that is there is read.
        mapping: The table from `objid` to `asset_id`, the names of pictures; None where they are named by object id.
        images: As for VoteCatalogue.
    """

    id_column = "dr7objid"
    id_pattern = WHOLE
    kinds = KINDS
    endings = ("_count", "_weight", "_fraction", "_weighted_fraction", "_debiased", "_flag")
    where = (
        "The table is https://gz2hart.s3.amazonaws.com/gz2_hart16.fits.gz (Hart et al. 2016); gz2_filename_mapping.csv "
        "and images_gz2.zip (unpacked as images/) are those of https://doi.org/10.5281/zenodo.3565489: put them into a "
        f"folder surveys/sdss/ {_LAST}"
    )

    def __init__(self, table: str | Sequence[str], mapping: str | None, images: str | Sequence[str]) -> None:
        super().__init__("gz2", table, images)
        self.mapping = mapping

    def other_tables(self) -> list[str]:
        return [self.mapping] if self.mapping else []

    def count_column(self, answer: str) -> str:
        return f"{answer}_count"

    def vote_columns(self, table: WideTable) -> list[str]:
        counts = [self.count_column(answer) for answer in self.tree.columns]
        wanted = counts if set(counts) & set(table.columns) else ["total_classifications"]
        table.check(wanted, self.known())
        return wanted

    def path_kind(self, table: WideTable) -> list[str]:
        return [] if self.count_column(self.tree.columns[0]) in table.columns else self._complete(table)[:1]

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        if not (kinds := self.path_kind(table)):
            return self._sums(self._counts(rows))
        (kind,) = kinds
        notes.append(
            f"{table.path.name} has no counts of votes: those of a question are estimated, as total_classifications "
            f"times the {kind} of the answers that lead to it."
        )
        fractions, total = np.nan_to_num(values[kind]), _votes(rows, ["total_classifications"])
        votes = np.empty((len(total), len(self.tree.questions)))
        for question, leads in enumerate(self.tree.leads):
            parts = votes[:, self._question_of[leads]] * fractions[:, leads] if leads else total
            votes[:, question] = parts.sum(1)
        # Fractions that are not all 0 had a vote at least, even where rounding or weights made a 0 further up.
        return np.where(self._sums(fractions) > 0, np.maximum(votes, 1.0), np.nan)

    def picture_names(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.DataFrame:
        if self.mapping is None:
            return super().picture_names(root, rows, notes, steps)
        table = WideTable(root / self.mapping, self.where)
        sample = ["sample"] if "sample" in table.columns else []
        mapping = table.read("objid", ["asset_id", *sample], repeats=True).frame
        galaxies = pd.DataFrame({"objid": rows.ids.to_numpy(object), "row": np.arange(len(rows.frame))})
        both = galaxies.merge(mapping, on="objid").rename(columns={"asset_id": "name"})
        steps(f"{self.id_column} is in {self.mapping}", len(galaxies), both["row"].nunique())
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
        self.incomplete = list(INCOMPLETE.get(tree, ()) if incomplete is None else incomplete)
        names = [question.name for question in self.tree.questions]
        if unknown := [name for name in self.incomplete if name not in names]:
            raise UserError(
                f"incomplete=[{','.join(self.incomplete)}]: {tree} asks no {unknown[0]}. {near(unknown[0], names)}"
            )

    def vote_columns(self, table: WideTable) -> list[str]:
        wanted = [*self.tree.columns, *self._totals()]
        table.check(wanted, self.known())
        return wanted

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        sums, totals = self._sums(self._counts(rows)), _votes(rows, self._totals())
        may_lack = np.array([question.name in self.incomplete for question in self.tree.questions])
        lacking = (sums < totals - SAME) & may_lack
        if (wrong := np.argwhere((np.abs(sums - totals) > SAME) & ~lacking)).size:
            row, at = (int(number) for number in wrong[0])
            raise DataError(
                f"{rows.place(row)}: the votes of {self._answers(at)} sum to {sums[row, at]:g}, but "
                f"{self._totals()[at]} is {totals[row, at]:g}; they must be the same{more(len(wrong))}. Correct the "
                "row or take it out. If volunteers gave answers that the table does not have, mask the question there: "
                f"incomplete=[{self.tree.questions[at].name}]."
            )
        for question, count in zip(self.tree.questions, lacking.sum(0), strict=True):
            if count:
                notes.append(
                    f"{rows.path.name}: {count:,} galaxies have votes on {question.name} for answers that the table "
                    "does not have; the question is masked for them."
                )
        return np.where(lacking, np.nan, totals)

    def _totals(self) -> list[str]:
        return [f"{question.name}_total-votes" for question in self.tree.questions]


class GalaxyZooDecals(TotalledCatalogue):
    """Galaxies of DECaLS in Galaxy Zoo DECaLS (Walmsley et al. 2022): campaigns 1 and 2 (`gzd12`) or 5 (`gzd5`).

    Pictures are named by `iauname`, at any depth below the folders. Arguments as for TotalledCatalogue.
    """

    id_column = "iauname"
    where = _DECALS


class Posteriors(VoteCatalogue):
    """What a model trained on Galaxy Zoo DECaLS predicts (Walmsley et al. 2022), in place of votes.

    A question has as many votes as the share of volunteers who would be asked it, and counts as not asked where that is
    below a half. Arguments as for VoteCatalogue; pictures as for GalaxyZooDecals.
    """

    id_column = "iauname"
    kinds = ("fraction",)
    endings = ("_fraction", "_concentration")
    where = _DECALS

    def vote_columns(self, table: WideTable) -> list[str]:
        wanted = [f"{question.name}_proportion_volunteers_asked" for question in self.tree.questions]
        table.check(wanted, self.known())
        return wanted

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        notes.append(
            f"{table.path.name}: these are a model's predictions, not votes; a question counts as asked where at least "
            f"{LEAST_ASKED:g} of the volunteers would be asked it."
        )
        shares = rows.numbers(self.vote_columns(table), 0, 1, "shares of volunteers lie in [0, 1]")
        return np.where(shares >= LEAST_ASKED, shares, np.nan)


class GalaxyZooUkidss(TotalledCatalogue):
    """Galaxies of UKIDSS in Galaxy Zoo: UKIDSS.

    Args:
        table: The catalogue, or several names of which the first that is there is read.
        positions: A table of `subject_id`, `ra` and `dec` (degrees), which the catalogue lacks; read where it is there.
        images: Folders of pictures, which lie in them as `{subfolder}/{filename}`, `{filename}` or
            `{subfolder}_{filename}`; the suffix may be another one.
        incomplete: As for TotalledCatalogue.
    """

    id_column = "subject_id"
    texts = ("subfolder", "filename")
    kinds = ("fraction",)
    where = (
        "The table is the catalogue of Galaxy Zoo: UKIDSS (https://data.galaxyzoo.org) with subject_id, subfolder and "
        "filename, and the pictures are those of its subject catalogue: put them into surveys/ukidss/ as "
        f"ukidss_catalog.csv and images/ {_LAST}"
    )

    def __init__(
        self,
        table: str | Sequence[str],
        positions: str | None,
        images: str | Sequence[str],
        incomplete: Sequence[str] | None = None,
    ) -> None:
        super().__init__("ukidss", table, images, incomplete)
        self.places = positions

    def other_tables(self) -> list[str]:
        return [self.places] if self.places else []

    def picture_names(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.DataFrame:
        folder, name = rows.frame["subfolder"], rows.frame["filename"].map(without_suffix)
        names = [folder + "/" + name, name, folder + "_" + name]
        return pd.DataFrame(
            {
                "row": np.tile(np.arange(len(rows.frame)), len(names)),
                "name": np.concatenate([part.to_numpy(object) for part in names]),
            }
        )

    def picture(self, pictures: PictureFolders, name: str) -> str | None:
        return pictures.by_path.get(name)

    def positions(self, root: Path, rows: Rows, notes: list[str]) -> np.ndarray:
        if self.places is None or not (root / self.places).is_file():
            notes.append(
                "No positions are known of the galaxies of UKIDSS: by them they cannot be found in other surveys."
            )
            return super().positions(root, rows, notes)
        found = WideTable(root / self.places).read(self.id_column, (), ["ra", "dec"], self.id_pattern)
        known = pd.DataFrame(positions(found), index=found.ids.to_numpy(object)).reindex(rows.ids)
        if lost := int(known.isna().any(axis=1).sum()):
            notes.append(f"{self.places}: {lost:,} of {len(known):,} galaxies have no position there.")
        return known.to_numpy()


def positions(rows: Rows) -> np.ndarray:
    """Right ascension and declination, in degrees, shape (N, 2); NaN where empty."""
    ra = rows.numbers(["ra"], 0, 360, "right ascensions lie in [0, 360] degrees", empty=True)
    dec = rows.numbers(["dec"], -90, 90, "declinations lie in [-90, 90] degrees", empty=True)
    return np.concatenate([ra, dec], axis=1)


def _votes(rows: Rows, names: Sequence[str]) -> np.ndarray:
    return rows.numbers(names, 0, np.inf, "it must be a number of votes, 0 or more")
