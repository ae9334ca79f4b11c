"""Votes of several campaigns and surveys."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from galaxyml.evaluation.correlation import LEAST, Resampled
from galaxyml.kinds.kind import Kind, Stage
from galaxyml.kinds.view import Row, View, output_names, tree_view
from galaxyml.kinds.votes.answers import Answers
from galaxyml.kinds.votes.features import label, question_text
from galaxyml.kinds.votes.figures import ShiftFigures
from galaxyml.kinds.votes.heads import Concentrations
from galaxyml.kinds.votes.losses import DirichletMultinomialLoss
from galaxyml.kinds.votes.metrics import VoteMetrics
from galaxyml.kinds.votes.score import ScoreVotes
from galaxyml.kinds.votes.scored import WORDS, ScoredVotes
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree
from galaxyml.trees.questions import Questions, in_words, questions_of_campaign
from galaxyml.trees.vocabulary import Vocabulary


class Votes(Kind):
    """Votes on the questions that a galaxy was asked, in several surveys, as concentrations or shares of answers.

    Targets are the fraction of each answer (NaN where not asked) and the votes of its question, shape (N, K, 2).

    Args:
        vocabulary: What a model says, and how it becomes the features that all surveys are judged by.
        resamples: Bootstrap resamples of the intervals; 0 for none.
        least: Galaxies that must have been asked for a feature to be measured.
        crop: Central part of an image that figures show, a fraction of its side.
    """

    name: ClassVar[str] = "votes"
    words = WORDS

    def __init__(self, vocabulary: Vocabulary, resamples: int = 1000, least: int = LEAST, crop: float = 0.7) -> None:
        self.vocabulary = vocabulary
        self.outputs = vocabulary.columns
        self.resamples, self.least, self.crop = resamples, least, crop

    def head(self) -> nn.Module:
        return Concentrations()

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        return chosen if chosen is not None else DirichletMultinomialLoss(self.vocabulary)

    def metrics(self) -> VoteMetrics:
        return VoteMetrics(self.vocabulary)

    def baseline(self, targets: Tensor) -> Tensor:
        """Means of the fractions over the galaxies that were asked."""
        return targets[..., 0].nanmean(dim=0).nan_to_num(0.0)

    @property
    def target_columns(self) -> list[str]:
        return self.vocabulary.features

    def example_targets(self) -> Tensor:
        """Two galaxies that were asked every question twice, with a vote for each of the answers."""
        return torch.tensor([0.5, 2.0]).expand(2, len(self.outputs), 2)

    def stages(self) -> list[Stage]:
        return [Answers(self.vocabulary), ScoreVotes(self.resamples, self.least), ShiftFigures(self.crop)]

    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredVotes | None:
        least = self.least if least is None else least
        catalog = run.catalog()
        splits = {name: ScoredVotes.load(run, name, catalog) for name in ("val", "test")}
        galaxies = splits.get(split)
        if galaxies is None:
            return None
        surveys = [each.of(survey) for each in splits.values() if each is not None for survey in each.surveys()]
        defined = [Resampled({}, survey.target, survey.votes, 0, least).defined for survey in surveys]
        common = np.logical_and.reduce([each for each in defined if each.any()] or [np.zeros(0, bool)])
        names = tuple(name for name, inside in zip(galaxies.columns, common, strict=False) if inside)
        return replace(galaxies, common=names, least=least)

    def in_words(self, column: str) -> tuple[str, str]:
        """Of a survey, or of one of its features."""
        survey, mark, feature = column.partition(":")
        return (f"{survey}: {question_text(feature)}", label(feature)) if mark else ("", f"all of {survey}")

    def targets_like_outputs(self, catalog: pd.DataFrame) -> np.ndarray | None:
        """Fractions, where each output stands for one."""
        known = set(self.outputs) <= set(catalog)
        return catalog[self.outputs].to_numpy(np.float64) if known else None

    def view(self, row: Row) -> View:
        return tree_view(row, self.questions(), self.outputs)

    def output_names(self) -> Mapping[str, str]:
        return output_names(self.questions(), self.outputs)

    def known(self, row: Row) -> str:
        return in_words(self.questions(), row)

    def questions(self) -> Questions:
        """As the volunteers of the campaign are asked who speak of new images."""
        return questions_of_campaign(self.vocabulary, Answers(self.vocabulary).campaign)

    def caption(self, output: np.ndarray, target: np.ndarray) -> str:
        asked, question_of = ~np.isnan(target[:, 0]), np.array(self.vocabulary.question_of)
        answers = [np.flatnonzero(asked & (question_of == number)) for number in range(len(self.vocabulary.sizes))]
        lines = []
        for name, values in (("true", target[:, 0]), ("predicted", output)):
            likeliest = []
            for columns in [columns for columns in answers if len(columns)][:3]:
                shares = np.clip(values[columns], 0, None)
                shares = shares / max(shares.sum(), 1e-9)
                best = int(shares.argmax())
                likeliest.append(f"{self._label(self.outputs[columns[best]])} {shares[best]:.2f}")
            lines.append(f"{name}: " + ", ".join(likeliest))
        return "\n".join(lines)

    def _label(self, column: str) -> str:
        ontology = self.vocabulary.ontology
        plain = self.vocabulary.plain_of.get(column, column)
        if plain in ontology.features:
            return ontology.label(plain)
        campaign, mark, answer = column.partition(":")
        return DecisionTree.load(campaign).labels.get(answer, answer) if mark else column
