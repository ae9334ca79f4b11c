"""Fractions of a decision tree's answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
from torch import Tensor, nn

from galaxyml.data.tables.fractions import check_fractions
from galaxyml.data.tables.reading import Rows, finite_numbers
from galaxyml.data.tables.vote_columns import PATHS, find_votes, path_fractions, vote_form
from galaxyml.evaluation.predict_intervals import PredictIntervals
from galaxyml.kinds.fractions.constrain import Constrain
from galaxyml.kinds.fractions.figures import FractionFigures, caption, named
from galaxyml.kinds.fractions.metrics import FractionMetrics
from galaxyml.kinds.fractions.score import WORDS, ScoredFractions, ScoreFractions
from galaxyml.kinds.fractions.submission import Submission
from galaxyml.kinds.kind import Kind, Stage, scored_columns, with_column_means
from galaxyml.kinds.losses import MSELoss
from galaxyml.kinds.view import Row, View, output_names, tree_view
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, TreeHead
from galaxyml.trees.questions import Questions, in_words, labelled, questions_of_tree


class Fractions(Kind):
    """Fractions of all volunteers' votes that obey a decision tree, each with intervals.

    Targets and outputs are fractions in [0, 1], shape (N, K); NaN marks a target that is not known.

    Args:
        tree: Name of the decision tree whose answers the columns are, or its `.yaml`.
        constraint: What makes predictions obey it: `project` (the nearest that do), `normalise`, or `none`.
        benchmark: The table whose rows, order and header a challenge's `submission.csv` must have; None for none.
    """

    name: ClassVar[str] = "fractions"
    words = WORDS
    promise: ClassVar[str] = (
        "How sure: the interval beside a fraction, in per cent, holds what volunteers would answer in 95 % of cases "
        "(conformal prediction), for galaxies like those that the run was validated on."
    )

    def __init__(self, tree: str, constraint: str = "project", benchmark: str | None = None) -> None:
        self.tree_name, self.constraint, self.benchmark = tree, constraint, benchmark
        self.tree = DecisionTree.load(tree)
        self.outputs = self.tree.columns

    def head(self) -> nn.Module:
        return TreeHead(self.tree_name, "softmax")

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        return chosen if chosen is not None else MSELoss()

    def metrics(self) -> FractionMetrics:
        return FractionMetrics(self.outputs)

    def baseline(self, targets: Tensor) -> Tensor:
        """Means of the columns."""
        return targets.nanmean(dim=0)

    def source_columns(self, columns: list[str], header: Sequence[str]) -> list[str]:
        """Those of the first question, where the table has votes; all of them where it has fractions of paths."""
        votes = find_votes(self.tree, header)
        if votes is None or votes.form == PATHS:
            return columns
        return votes.answers[0] if len(votes.suffixes) == 1 else []

    def read_targets(self, rows: Rows, columns: list[str], notes: list[str]) -> pd.DataFrame:
        """Fractions that obey the tree, from votes, from shares of each question's votes, or as they are."""
        votes = find_votes(self.tree, list(rows.frame.columns))
        if votes is not None and (form := vote_form(rows.frame, votes)) != PATHS:
            suffixes = f", those of {' and '.join(votes.suffixes)} put together" if any(votes.suffixes) else ""
            notes.append(f"{rows.path.name}: {form} of tree={self.tree_name} ({self.tree.title}){suffixes}.")
            return path_fractions(rows, self.tree, votes, notes)
        values = finite_numbers(rows, columns)
        check_fractions(replace(rows, frame=values.assign(id=rows.ids)), self.tree, notes)
        return values

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """The fractions, those that are not known as their column's mean."""
        values = catalog[self.outputs]
        return values.fillna(values.mean()).to_numpy(np.float64)

    def stages(self) -> list[Stage]:
        submission = [Submission(self.tree, self.benchmark, self.constraint)] if self.benchmark else []
        return [
            Constrain(self.tree, self.constraint),
            ScoreFractions(self.tree),
            PredictIntervals(self.outputs, labels=named(self.tree)),
            *submission,
            FractionFigures(self.tree),
        ]

    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredFractions | None:
        return scored_columns(ScoredFractions, run, split, WORDS, self.outputs)

    def column_means(self, run: RunDir, scored: ScoredFractions) -> ScoredFractions:
        return with_column_means(scored, run)

    def in_words(self, column: str) -> tuple[str, str]:
        return labelled(self.questions())[column]

    def targets_like_outputs(self, catalog: pd.DataFrame) -> np.ndarray:
        return catalog[self.outputs].to_numpy(np.float64)

    def questions(self) -> Questions:
        return questions_of_tree(self.tree)

    def view(self, row: Row) -> View:
        return tree_view(row, self.questions(), self.outputs)

    def output_names(self) -> Mapping[str, str]:
        return output_names(self.questions(), self.outputs)

    def known(self, row: Row) -> str:
        return in_words(self.questions(), row)

    def caption(self, output: np.ndarray, target: np.ndarray) -> str:
        return caption(output, target, self.tree)
