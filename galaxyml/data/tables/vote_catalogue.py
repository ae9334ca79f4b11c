"""A catalogue of votes with its images, whatever its columns are called: read by name, checked, put in one form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.images.folders import ImageFolders, passed_over_notes
from galaxyml.data.tables.data_set import find_data_set
from galaxyml.data.tables.reading import NAME, Rows
from galaxyml.data.tables.wide import WideTable
from galaxyml.runs.errors import DataError, UserError, did_you_mean, shorten
from galaxyml.trees import DecisionTree

Steps = Callable[[str, int, int], None]

KINDS = ("fraction", "weighted_fraction", "debiased")
REFUSED_GAP, REPORTED_GAP = 0.05, 0.02  # of a question's fractions from 1; rounding in the catalogues makes up to 0.002


@dataclass(frozen=True)
class SurveyTable:
    """Galaxies of one catalogue that have an image; N of them, ordered by id.

    Attributes:
        galaxies: `id` (text), `image` (path in the task's folder), `ra` and `dec` (degrees, NaN where not known) and
            `votes` (of the first question).
        votes: Votes of each question of the campaign's tree, 0 where it was not asked, shape (N, Q).
        fractions: For each kind the answers' shares of their question's votes, shape (N, K); NaN where the question was
            not asked or the table does not have them.
    """

    galaxies: pd.DataFrame
    votes: np.ndarray
    fractions: dict[str, np.ndarray]


class VoteCatalogue:
    """A catalogue of votes, one row a galaxy. Subclasses name its columns.

    Args:
        tree: The campaign's decision tree, by name.
        table: The table in the task's folder, or several names of which the first that is there is read; or a folder of
            parquet files with images inside, for catalogues that read one.
        images: Folders of images in the task's folder, or patterns of their names such as `part*`.

    Attributes:
        campaign: Name of the tree.
        id_column: The column of ids.
        id_pattern: Pattern of an id.
        texts: Further columns of text.
        kinds: The kinds of fractions that a catalogue like this has.
        endings: Everything that is put behind an answer's name to make a column.
        count_ending: What is put behind it to make the column of its votes, as in `count_columns`.
        by_path: Whether images are known by their paths in their folder, rather than by their names alone.
        where: Where the files can be had.
        other_table: A table beside the catalogue; None if there is none.
    """

    id_column: str
    id_pattern = NAME
    texts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("fraction", "debiased")
    endings: tuple[str, ...] = ("", "_fraction", "_debiased")
    count_ending = ""
    by_path = False
    where: str
    other_table: str | None = None

    def __init__(self, tree: str, table: str | Sequence[str], images: str | Sequence[str]) -> None:
        self.campaign = tree
        self.tree = DecisionTree.load(tree)
        self.tables = [table] if isinstance(table, str) else list(table)
        self.images = [images] if isinstance(images, str) else list(images)
        self.count_columns = [answer + self.count_ending for answer in self.tree.columns]
        self._question_of = np.array(self.tree.question_of)
        self._starts = np.flatnonzero(np.diff(self._question_of, prepend=-1))

    def files(self, root: Path) -> list[str]:
        """The tables that are read, as paths in the task's folder; those that are there."""
        present = [name for name in self.tables if _is_table(root / name)]
        data_set = find_data_set(root / present[0]) if present and (root / present[0]).is_dir() else None
        if data_set is not None:
            return [f"{present[0]}/{part}" for part in data_set.parts]
        other = [self.other_table] if self.other_table and (root / self.other_table).is_file() else []
        return [*present[:1], *other]

    def table_name(self, root: Path) -> str:
        """The table of votes in the task's folder.

        Raises:
            DataError: If there is none.
        """
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. {self.where}")
        name = next((name for name in self.tables if _is_table(root / name)), None)
        if name is None:
            raise DataError(f"{root} has no {' and no '.join(self.tables)}. {self.where}")
        return name

    def read(self, root: Path, kinds: Sequence[str], notes: list[str], steps: Steps) -> SurveyTable:
        """Reads the galaxies that have an image.

        Args:
            root: The task's folder.
            kinds: The kinds of fractions that are wanted, of `KINDS`.
            notes: Gets what a user should know, in sentences.
            steps: Called with the name of each step and the number of galaxies before and after.

        Raises:
            DataError: If a file is missing or breaks a rule, or no galaxy is left.
            UserError: If a kind is unknown.
        """
        kinds = list(dict.fromkeys(kinds))
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UserError(
                f"surveys.NAME.fraction={unknown[0]}: there is no such kind of fractions. "
                f"{did_you_mean(unknown[0], KINDS)}"
            )
        name = self.table_name(root)
        table = WideTable(root / name, self.where)
        counts = self.vote_columns(table)
        chosen = self._chosen(table, kinds, notes)
        columns = {kind: self._columns(table, kind) for kind in (*chosen, *self.path_kind(table))}
        position = ["ra", "dec"] if {"ra", "dec"} <= set(table.columns) else []
        numbers = [*counts, *position, *(name for names in columns.values() for name in names.values())]
        rows = table.read(self.id_column, self.texts, numbers, self.id_pattern)
        steps(f"rows of {name}", len(rows.frame), len(rows.frame))

        values = {kind: self._read_fractions(rows, names) for kind, names in columns.items()}
        votes = self.votes(table, rows, values, notes)
        fractions = {kind: np.full((len(rows.frame), len(self.tree.columns)), np.nan) for kind in kinds}
        for kind in chosen:
            present = np.isin(np.arange(len(self.tree.columns)), list(columns[kind]))
            if not present.any():
                values[kind], present = self._shares(rows, votes), ~present
            fractions[kind] = self._checked(rows, kind, values[kind], present, votes, notes)

        galaxies = pd.DataFrame({"id": rows.ids.to_numpy(object), "votes": np.nan_to_num(votes[:, 0])})
        galaxies[["ra", "dec"]] = self.positions(root, rows, notes) if not position else positions(rows)
        galaxies["image"] = self._images(root, rows, notes, steps)
        galaxies = galaxies[galaxies["image"].notna()].sort_values("id")
        order = galaxies.index.to_numpy()
        return SurveyTable(
            galaxies[["id", "image", "ra", "dec", "votes"]].reset_index(drop=True),
            np.nan_to_num(votes[order]),
            {kind: values[order] for kind, values in fractions.items()},
        )

    # --- for subclasses

    def vote_columns(self, table: WideTable) -> list[str]:
        """Columns that tell how many volunteers were asked.

        Raises:
            DataError: If the table lacks some.
        """
        raise NotImplementedError  # each catalogue has its own columns

    def path_kind(self, table: WideTable) -> list[str]:
        """The kind of fractions that votes are estimated from, where they have to be."""
        return []

    def votes(self, table: WideTable, rows: Rows, values: Mapping[str, np.ndarray], notes: list[str]) -> np.ndarray:
        """Votes of each question, shape (N, Q): 0 where nobody was asked, NaN where what was answered is not used."""
        raise NotImplementedError  # each catalogue has its own columns

    def image_names(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.DataFrame:
        """Names that galaxies' images may have: `row` (a number in the rows read) and `name`, the preferred first."""
        return pd.DataFrame({"row": np.arange(len(rows.frame)), "name": rows.ids.to_numpy(object)})

    def positions(self, root: Path, rows: Rows, notes: list[str]) -> np.ndarray:
        """Positions of galaxies whose catalogue has none, in degrees, shape (N, 2); NaN where not known."""
        return np.full((len(rows.frame), 2), np.nan)

    # --- columns

    def column_names(self) -> list[str]:
        """All names that a catalogue like this may use for answers and questions."""
        answers = [answer + ending for answer in self.tree.columns for ending in self.endings]
        return [*answers, *(f"{question.name}_total-votes" for question in self.tree.questions)]

    def _columns(self, table: WideTable, kind: str) -> dict[int, str]:
        """The columns of a kind that the table has, by the answer's number."""
        if kind not in self.kinds:
            return {}
        names = {number: f"{answer}_{kind}" for number, answer in enumerate(self.tree.columns)}
        return {number: name for number, name in names.items() if name in table.columns}

    def _complete(self, table: WideTable) -> list[str]:
        """Kinds that the table has for every answer; shares of votes follow from counts too."""
        count = len(self.tree.columns)
        kinds = [kind for kind in KINDS if len(self._columns(table, kind)) == count]
        counted = set(self.count_columns) <= set(table.columns)
        return ["fraction", *kinds] if counted and not self._columns(table, "fraction") else kinds

    def _chosen(self, table: WideTable, kinds: Sequence[str], notes: list[str]) -> list[str]:
        """The kinds asked for that the table has, in whole or in part.

        Raises:
            DataError: If it has none of them in whole, or columns look misspelt.
        """
        complete = self._complete(table)
        unknown = [name for name in table.columns if name and name not in {self.id_column, *self.column_names()}]
        chosen = []
        for kind in kinds:
            names = [f"{answer}_{kind}" for answer in self.tree.columns] if kind in self.kinds else []
            missing = [name for name in names if name not in table.columns]
            if kind in complete:
                chosen.append(kind)
            elif missing and unknown and did_you_mean(missing[0], unknown).startswith("Did"):
                table.check(names, self.column_names())
            elif len(missing) < len(names):
                chosen.append(kind)
                notes.append(
                    f"{table.path.name} has the {kind} of {len(names) - len(missing)} of {len(names)} answers; that of "
                    f"the others is masked ({shorten(missing, shown=3)})."
                )
            else:
                notes.append(f"{table.path.name} has no {kind}; for its galaxies it is masked.")
        if not set(chosen) & set(complete):
            if not complete:
                table.check([f"{answer}_fraction" for answer in self.tree.columns], self.column_names())
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
        return counted(rows, self.count_columns)

    def _shares(self, rows: Rows, votes: np.ndarray) -> np.ndarray:
        """Each answer's share of its question's votes, shape (N, K); NaN where there are none."""
        return self._counts(rows) / np.where(votes > 0, votes, np.nan)[:, self._question_of]

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the answers of each question, shape (N, Q); what is not known counts as 0."""
        return np.add.reduceat(np.nan_to_num(values), self._starts, axis=1)

    def _checked(
        self, rows: Rows, kind: str, values: np.ndarray, present: np.ndarray, votes: np.ndarray, notes: list[str]
    ) -> np.ndarray:
        """Fractions (N, K) of the questions that were asked, all others masked; `present` (K,) are those of the table.

        Raises:
            DataError: If they cannot be shares of the question's votes.
        """
        answered = votes > 0
        whole = np.logical_and.reduceat(present, self._starts)
        empty = self._sums(np.isnan(values) & present) > 0
        sums = self._sums(values)
        if kind == "debiased":
            answered = answered & ~empty & (sums > 0)  # debiasing was not possible for every galaxy
            off = np.abs(sums - 1)[answered & whole]
            if count := int((off > REFUSED_GAP).sum()):
                notes.append(
                    f"{rows.path.name}: answers are debiased one by one; the debiased fractions of {count:,} of "
                    f"{off.size:,} questions do not sum to 1 within {REFUSED_GAP} (largest gap {off.max():.2f}); used "
                    "unchanged."
                )
            return np.where(answered[:, self._question_of], values, np.nan)
        if kind == "weighted_fraction":
            answered = answered & ((sums > 0) | empty)  # all who answered may have the weight 0
        off = np.where(answered & whole, np.abs(sums - 1), 0.0)
        for wrong, fault in (
            (answered & empty, "a {kind} of {answers} is empty, but it has votes"),
            ((votes == 0) & (sums > REFUSED_GAP), "the {kind}s of {answers} sum to {sum:.4f}, but it has no votes"),
            (off > REFUSED_GAP, "the {kind}s of {answers} sum to {sum:.4f}"),
        ):
            rows.refuse(
                wrong,
                lambda row, question, fault=fault: (
                    f": {fault.format(kind=kind, answers=self._answers(question), sum=sums[row, question])}"
                ),
                "Fractions of a question are shares of its votes: they sum to 1 within "
                f"{REFUSED_GAP}, and are 0 or empty where there are none. Correct the row or take it out.",
            )
        if count := int((off > REPORTED_GAP).sum()):
            row, question = (int(number) for number in np.unravel_index(off.argmax(), off.shape))
            notes.append(
                f"{rows.path.name}: the {kind}s of {count:,} of {(answered & whole).sum():,} questions do not sum to "
                f"1 within {REPORTED_GAP} (largest gap {off.max():.3f}: {self._answers(question)} in {rows.line(row)}, "
                f"galaxy {rows.ids.iloc[row]}, with {sums[row, question]:.3f}); used unchanged."
            )
        return np.where(answered[:, self._question_of], values, np.nan)

    def _answers(self, number: int) -> str:
        question = self.tree.questions[number]
        return f"{question.name} ({question.columns[0]} to {question.columns[-1]})"

    # --- images

    def _images(self, root: Path, rows: Rows, notes: list[str], steps: Steps) -> pd.Series:
        """Each row's image, as a path in the task's folder; None where it has none.

        Raises:
            DataError: If no row has one.
        """
        where = ", ".join(self.images)
        folders = ImageFolders.below(root, self.images, self.where)
        notes += passed_over_notes(where, folders.passed_over)
        named = self.image_names(root, rows, notes, steps)
        paths = folders.by_path if self.by_path else folders.by_name
        named["image"] = pd.Series([paths.get(name) for name in named["name"]], named.index, dtype=object)
        images = named[named["image"].notna()].drop_duplicates("row").set_index("row")["image"]
        if images.empty:
            example = f" such as {named['name'].iloc[0]}" if len(named) else ""
            raise DataError(
                f"{rows.path}: none of its {len(rows.frame):,} galaxies has an image{example} among the "
                f"{len(folders.by_path):,} of {where}. Give a table and images that belong together. {self.where}"
            )
        wanted = named["row"].unique()
        steps(f"its image is in {where}", len(wanted), len(images))
        if len(images) < len(wanted):
            missing = sorted(rows.ids.iloc[np.setdiff1d(wanted, images.index)])
            notes.append(
                f"{rows.path.name}: galaxies without an image in {where}, left out ({len(missing):,} of "
                f"{len(wanted):,}): {shorten(missing)}."
            )
        return images.reindex(range(len(rows.frame)))


def _is_table(path: Path) -> bool:
    """Whether there is a table: a file, or a data set's folder."""
    return path.is_file() or (path.is_dir() and find_data_set(path) is not None)


def positions(rows: Rows) -> np.ndarray:
    """Right ascension and declination, in degrees, shape (N, 2); NaN where empty."""
    ra = rows.numbers(["ra"], 0, 360, "right ascensions lie in [0, 360] degrees", empty=True)
    dec = rows.numbers(["dec"], -90, 90, "declinations lie in [-90, 90] degrees", empty=True)
    return np.concatenate([ra, dec], axis=1)


def counted(rows: Rows, names: Sequence[str], empty: bool = False) -> np.ndarray:
    """Counts of votes in some columns, shape (N, A); NaN where a cell is empty, if it may be."""
    return rows.numbers(names, 0, np.inf, "it must be a number of votes, 0 or more", empty)
