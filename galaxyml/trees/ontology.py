"""Features: answers that campaigns with different decision trees share, read from a YAML file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.trees import DecisionTree

FILE = Path(__file__).with_name("ontology.yaml")


@dataclass(frozen=True)
class SharedQuestion:
    """A question that several campaigns ask, each in its own words.

    Attributes:
        name: Such as `bar`.
        text: What volunteers are asked.
        features: Its answers under their shared names, such as `bar_yes`.
        labels: By feature, what figures call it.
        asked: By campaign, the name of its question.
        columns: By campaign, and by feature that it has, the columns of its tree that are added up.
    """

    name: str
    text: str
    features: tuple[str, ...]
    labels: dict[str, str]
    asked: dict[str, str]
    columns: dict[str, dict[str, tuple[str, ...]]]


@dataclass(frozen=True)
class FeatureList:
    """Features to predict, and which of a catalogue's fractions of each.

    Attributes:
        features: Shared names.
        values: Kinds of fractions, such as `fraction` and `debiased`.
    """

    features: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Ontology:
    """Common ground of the answers of all campaigns.

    Attributes:
        questions: In the order of the file.
        lists: Lists of features, by name.
    """

    questions: tuple[SharedQuestion, ...]
    lists: dict[str, FeatureList]

    @classmethod
    @lru_cache
    def load(cls, path: Path = FILE) -> "Ontology":
        """Reads the ontology that comes with the package, or one of your own.

        Raises:
            UserError: If an answer of a campaign belongs to no feature, or to two, or is none of its tree.
        """
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        questions = tuple(_question(entry, path) for entry in content["questions"])
        by_name = {question.name: question for question in questions}
        lists = {
            name: FeatureList(
                tuple(
                    feature
                    for question in entry["questions"]
                    for feature in by_name[question].features
                    if feature not in entry.get("without", ())
                ),
                tuple(entry["values"]),
            )
            for name, entry in content.get("lists", {}).items()
        }
        for campaign in dict.fromkeys(campaign for question in questions for campaign in question.asked):
            features = (feature for question in questions for feature in question.columns.get(campaign, {}).values())
            uses = Counter(column for columns in features for column in columns)
            for column in DecisionTree.load(campaign).columns:
                if uses[column] != 1:
                    raise UserError(
                        f"{path}: the answer {column} of {campaign} belongs to {uses[column]} features; it must be 1."
                    )
        return cls(questions, lists)

    @cached_property
    def features(self) -> list[str]:
        """All features, question by question."""
        return [feature for question in self.questions for feature in question.features]

    @cached_property
    def _questions(self) -> dict[str, SharedQuestion]:
        return {feature: question for question in self.questions for feature in question.features}

    def question_of(self, feature: str) -> SharedQuestion:
        """The question that a feature answers.

        Raises:
            UserError: If there is no such feature.
        """
        if feature not in self._questions:
            raise UserError(f"features: there is no feature '{feature}'. {did_you_mean(feature, self.features)}")
        return self._questions[feature]

    def label(self, feature: str) -> str:
        """Name of a feature in figures, such as `edge-on`."""
        return self.question_of(feature).labels[feature]

    def has(self, campaign: str) -> list[str]:
        """The features that a campaign can answer, in the order of the file."""
        return [name for name, question in self._questions.items() if name in question.columns.get(campaign, {})]

    def common(self, campaigns: Sequence[str]) -> list[str]:
        """The features that all of these campaigns have, in the order of the file."""
        return [feature for feature in self.features if all(feature in self.has(campaign) for campaign in campaigns)]

    def matrix(self, campaign: str, features: Sequence[str]) -> np.ndarray:
        """Columns of a campaign's tree that each feature is the sum of.

        The shape is (K, F), of 0 and 1; a feature that the campaign lacks has a column of zeros.
        """
        columns = DecisionTree.load(campaign).columns
        sums = np.zeros((len(columns), len(features)))
        for number, feature in enumerate(features):
            for column in self.question_of(feature).columns.get(campaign, {}).get(feature, ()):
                sums[columns.index(column), number] = 1
        return sums


def _question(entry: dict[str, Any], path: Path) -> SharedQuestion:
    columns: dict[str, dict[str, tuple[str, ...]]] = {}
    for campaign, name in entry["asked"].items():
        questions = {question.name: question for question in DecisionTree.load(campaign).questions}
        if name not in questions:
            raise UserError(f"{path}: {campaign} has no question '{name}'. {did_you_mean(name, questions)}")
        by_answer = dict(zip(questions[name].answers, questions[name].columns, strict=True))
        columns[campaign] = {}
        for feature, answers in entry["features"].items():
            if campaign not in answers:
                continue
            own = answers[campaign] if isinstance(answers[campaign], list) else [answers[campaign]]
            if unknown := [answer for answer in own if answer not in by_answer]:
                raise UserError(
                    f"{path}: {feature}: {campaign} has no answer '{unknown[0]}'. {did_you_mean(unknown[0], by_answer)}"
                )
            columns[campaign][feature] = tuple(by_answer[answer] for answer in own)
    features = entry["features"]
    labels = {feature: str(answers["label"]) for feature, answers in features.items()}
    return SharedQuestion(entry["name"], entry["text"], tuple(features), labels, dict(entry["asked"]), columns)
