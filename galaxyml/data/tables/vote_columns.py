"""Votes of a decision tree in a table's columns, as Galaxy Zoo's catalogues name them: counts, shares, whole paths."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.data.tables.reading import Rows
from galaxyml.runs.errors import DataError, shorten
from galaxyml.trees.tree import DecisionTree, part_text, tree_names

COUNTS, SHARES, PATHS = "numbers of votes", "shares of each question's votes", "fractions of all volunteers"
_ENDINGS = {COUNTS: ("", "_count"), SHARES: ("_fraction", "_weighted_fraction")}
TOTAL = "_total-votes"
REFUSED_GAP, REPORTED_GAP = 0.05, 0.02  # of a question's shares from 1; rounding in the catalogues makes up to 0.002
SAME_AS_GZD5 = "gz_desi"  # asks what campaign 5 of DECaLS asks, whose name is given first
SAME = 0.01  # votes; sums of whole numbers differ by less


@dataclass(frozen=True)
class VoteColumns:
    """Columns of a table that hold what volunteers answered.

    Attributes:
        form: `COUNTS` or `SHARES`; `PATHS` where the columns are called as the tree's answers are, and values tell
            whether they are counts.
        answers: For each of the K answers its columns: several where campaigns with the same tree stand side by side,
            as in `bar-dr5_no` and `bar-dr8_no`.
        totals: For each question the columns of all votes on it, as far as the table has them.
        suffixes: What stands behind the names of questions in these columns; '' for nothing.
    """

    form: str
    answers: list[list[str]]
    totals: list[list[str]]
    suffixes: list[str]

    @property
    def names(self) -> list[str]:
        """All columns of answers."""
        return [name for names in self.answers for name in names]


def find_votes(tree: DecisionTree, header: Sequence[str]) -> VoteColumns | None:
    """The columns of a table that hold the votes of a tree; None if it lacks some.

    Args:
        tree: The decision tree.
        header: Names of the table's columns.
    """
    present = set(header)
    suffixes = ["", *_suffixes(tree, header)]
    for form, endings in _ENDINGS.items():
        for ending in endings:
            columns = {suffix: _columns(tree, suffix, ending) for suffix in suffixes}
            complete = [suffix for suffix, names in columns.items() if present.issuperset(names)]
            if not complete:
                continue
            if "" in complete:  # the tree's own names
                complete = [""]
            totals = [
                [name for suffix in complete if (name := question.name + suffix + TOTAL) in present]
                for question in tree.questions
            ]
            answers = [list(names) for names in zip(*(columns[suffix] for suffix in complete), strict=True)]
            beside = present.intersection(name + "_fraction" for name in columns[complete[0]])
            is_plain = form == COUNTS and not ending and complete == [""] and not any(totals) and not beside
            return VoteColumns(PATHS if is_plain else form, answers, totals, complete)
    return None


def refuse_part(path: Path, name: str, header: Sequence[str]) -> None:
    """Refuses a table that has some whole questions of a tree, and not all.

    Args:
        path: The table.
        name: Of the tree, or its file.
        header: Names of the table's columns.

    Raises:
        DataError: If so; the message has the tree of the questions that are there.
    """
    tree = DecisionTree.load(name)
    if find_votes(tree, header) is not None:
        return
    present: list[str] = []
    answered: set[str] = set()
    for question in tree.questions:
        alone = DecisionTree(tree.name, tree.title, (replace(question, after=()),))
        votes = find_votes(alone, header)
        if votes is not None and (votes.form != PATHS or answered.issuperset(question.after)):
            present.append(question.name)
            answered.update(question.columns)
    if present:
        raise DataError(
            f"{path} has the columns of {len(present)} of the {len(tree.questions)} questions of tree={name} "
            f"({shorten(present)}), and a tree is learnt whole. Put the tree of those that are there into a file, "
            f"part.yaml, and give tree=part.yaml: {part_text(name, present)}"
        )


def matching_trees(header: Sequence[str]) -> list[str]:
    """Trees that come with the package whose answers a table has, those with the most answers first."""
    found = []
    for name in tree_names():
        tree = DecisionTree.load(name)
        if find_votes(tree, header) is not None:
            found.append((-len(tree.columns), name == SAME_AS_GZD5, name))
    return [name for *_, name in sorted(found)]


def vote_form(frame: pd.DataFrame, votes: VoteColumns) -> str:
    """What the columns hold, where their names leave it open: counts are whole, and some above 1."""
    return COUNTS if votes.form == PATHS and _are_counts(frame[votes.names]) else votes.form


def path_fractions(rows: Rows, tree: DecisionTree, votes: VoteColumns, notes: list[str]) -> pd.DataFrame:
    """Fractions of all volunteers on the path to each answer: its share, times that of the answers that lead there.

    Args:
        rows: The table as text, by `id`.
        tree: The decision tree.
        votes: Where its votes are; they are counts or shares.
        notes: Gets sentences about what a user should know.

    Returns:
        A column for each of the tree's answers, in [0, 1]; NaN where nobody was asked who should have been.

    Raises:
        DataError: If a cell is no number of votes or no share, or shares do not sum to 1.
    """
    rows = replace(rows, frame=rows.frame.where(rows.frame != ""))
    read = _checked if votes.form == SHARES else _shares_of_counts
    shares = read(rows, tree, votes, notes)
    fractions, question_of = np.empty_like(shares), np.array(tree.question_of)
    for number, leads in enumerate(tree.leads):
        lead = fractions[:, leads].sum(1) if leads else np.ones(len(shares))
        answers = question_of == number
        fractions[:, answers] = np.where(lead[:, None] == 0, 0.0, shares[:, answers] * lead[:, None])
    known = ~np.isnan(fractions[:, 0])
    if unasked := int((np.isnan(fractions[known]).any(axis=1)).sum()):
        notes.append(
            f"{rows.path.name}: {unasked:,} of {int(known.sum()):,} galaxies have no votes on a question that an "
            "answer of theirs leads to; those answers are not known."
        )
    return pd.DataFrame(fractions, rows.frame.index, tree.columns)


def _suffixes(tree: DecisionTree, header: Sequence[str]) -> list[str]:
    """What a table puts behind the names of questions, such as `-dr5`, in the order of its columns."""
    question = tree.questions[0]
    if question.columns[0] != f"{question.name}_{question.answers[0]}":
        return []
    pattern = re.compile(rf"{re.escape(question.name)}(-[a-zA-Z0-9.]+)_{re.escape(question.answers[0])}(_fraction)?")
    return list(dict.fromkeys(match[1] for name in header if (match := pattern.fullmatch(name))))


def _columns(tree: DecisionTree, suffix: str, ending: str) -> list[str]:
    if not suffix:
        return [column + ending for column in tree.columns]
    return [f"{question.name}{suffix}_{answer}{ending}" for question in tree.questions for answer in question.answers]


def _are_counts(cells: pd.DataFrame) -> bool:
    """Whether cells are whole numbers of which some are above 1."""
    values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    known = values[np.isfinite(values)]
    return bool(known.size and (known % 1 == 0).all() and known.max() > 1)


def _sums(values: np.ndarray, tree: DecisionTree) -> np.ndarray:
    """Sums over the answers of each question, shape (N, Q)."""
    starts = np.flatnonzero(np.diff(tree.question_of, prepend=-1))
    return np.add.reduceat(values, starts, axis=1)


def _added(rows: Rows, groups: Sequence[Sequence[str]], allowed: str) -> np.ndarray:
    """Numbers of votes, those of several campaigns added up, shape (N, number of groups); an empty cell has none."""
    columns = [
        np.nan_to_num(rows.numbers(names, 0, np.inf, allowed, empty=True)).sum(1)
        if names
        else np.full(len(rows.frame), np.nan)
        for names in groups
    ]
    return np.stack(columns, axis=1)


def _shares_of_counts(rows: Rows, tree: DecisionTree, votes: VoteColumns, notes: list[str]) -> np.ndarray:
    """Shares of each question's votes, shape (N, K); NaN where there are none."""
    counts = _added(rows, votes.answers, "it must be a number of votes, 0 or more")
    sums, totals = _sums(counts, tree), _added(rows, votes.totals, "it must be a number of votes, 0 or more")
    rows.refuse(
        sums > totals + SAME,
        lambda row, question: (
            f": the votes on {tree.questions[question].name} sum to {sums[row, question]:g}, but "
            f"{votes.totals[question][0]} is {totals[row, question]:g}"
        ),
    )
    lacking = sums < totals - SAME
    for question, count in zip(tree.questions, lacking.sum(0), strict=True):
        if count:
            notes.append(
                f"{rows.path.name}: {count:,} galaxies have votes on {question.name} for answers that the table does "
                "not have; the question is masked for them."
            )
    return counts / np.where((sums > 0) & ~lacking, sums, np.nan)[:, tree.question_of]


def _checked(rows: Rows, tree: DecisionTree, votes: VoteColumns, notes: list[str]) -> np.ndarray:
    """Shares as the table has them, shape (N, K); NaN where a question was not asked."""
    shares = np.full((len(rows.frame), len(tree.columns)), np.nan)
    for place in range(len(votes.suffixes)):  # of several campaigns that which asked
        names = [names[place] for names in votes.answers]
        values = rows.numbers(names, 0, 1, "shares of a question's votes lie in [0, 1]", empty=True)
        asked = np.nan_to_num(_sums(values, tree)) > 0
        shares = np.where(np.isnan(shares) & asked[:, tree.question_of], values, shares)
    sums = _sums(shares, tree)
    off = np.abs(np.nan_to_num(sums, nan=1.0) - 1)
    rows.refuse(
        off > REFUSED_GAP,
        lambda row, question: (
            f": the shares of {tree.questions[question].name} ({shorten(tree.questions[question].answers)}) sum to "
            f"{sums[row, question]:.4f}"
        ),
        f"Shares of a question's votes sum to 1 within {REFUSED_GAP}, or are 0 or empty where it was not asked.",
    )
    if count := int((off > REPORTED_GAP).sum()):
        notes.append(
            f"{rows.path.name}: the shares of {count:,} of {int((~np.isnan(sums)).sum()):,} questions do not sum to 1 "
            f"within {REPORTED_GAP} (largest gap {off.max():.3f}); used unchanged."
        )
    return shares
