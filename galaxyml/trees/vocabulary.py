"""The outputs of a model of votes: shares of the answers of some questions, shared by campaigns or each its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.trees import DecisionTree
from galaxyml.trees.ontology import Ontology

HEADS = ("shared", "own")
KIND = "fraction"  # of the votes; the kind whose features go by their plain names


class Asked(Protocol):
    """A survey whose volunteers were asked the questions of a campaign."""

    @property
    def campaign(self) -> str:
        """Name of the decision tree."""


@dataclass(frozen=True)
class Campaign:
    """A survey of which only the campaign is known."""

    campaign: str


@dataclass(frozen=True)
class Group:
    """One question that a model answers.

    Attributes:
        name: Of the question.
        columns: Names of its outputs, A of them.
        kind: Which of a catalogue's fractions.
        campaigns: For each campaign that asks it, its tree's columns behind each output: 0 and 1, shape (K_tree, A).
        features: The features behind each output, of whole questions: 0 and 1, shape (A, F).
    """

    name: str
    columns: tuple[str, ...]
    kind: str
    campaigns: dict[str, np.ndarray]
    features: np.ndarray


class Vocabulary:
    """The outputs of a model, and how they become features that all surveys are judged by.

    Args:
        features: `all` (that a survey to train on has), `common` (to all surveys), the name of a list of the ontology
            (9, 11, 26, 52, 74), or names of features. A question is always predicted whole; other answers of its
            are then not judged.
        heads: `shared`: one output a feature, for all campaigns; `own`: one for each answer of each campaign that is
            trained on.
        surveys: Those that may be named, by name.
        train: Names of those that are trained on.
        test: Names of those that are only judged.

    Attributes:
        features: What is judged, F names; `_debiased` or `_weighted_fraction` follows where it is another kind than the
            fraction of votes.
        plain_of: Of each judged feature its name without the kind.
        columns: Outputs, K names.
        question_of: The question, or the question and kind, that each output belongs to: K integers, in order.

    Raises:
        UserError: If a name is not known, or nothing can be predicted.
    """

    def __init__(
        self,
        features: str | int | Sequence[str],
        heads: str,
        surveys: Mapping[str, Asked],
        train: Sequence[str],
        test: Sequence[str] = (),
    ) -> None:
        if heads not in HEADS:
            raise UserError(f"heads={heads}: it must be {' or '.join(HEADS)}.")
        check_names(surveys, train, test)
        self.spec = {  # from which it can be built again
            "_target_": f"{type(self).__module__}.{type(self).__qualname__}",
            "features": features if isinstance(features, str | int) else list(features),
            "heads": heads,
            "surveys": {
                name: {"_target_": f"{Campaign.__module__}.Campaign", "campaign": surveys[name].campaign}
                for name in (*train, *test)
            },
            "train": list(train),
            "test": list(test),
        }
        self.ontology = Ontology.load()
        self.heads = heads
        self.trained = list(dict.fromkeys(surveys[name].campaign for name in train))
        campaigns = list(dict.fromkeys(surveys[name].campaign for name in (*train, *test)))
        chosen, self.kinds = self._chosen(features, campaigns)
        trainable = {feature for campaign in self.trained for feature in self.ontology.has(campaign)}
        self.plain = [feature for feature in self.ontology.features if feature in chosen and feature in trainable]
        if not self.plain:
            raise UserError(f"features={features}: no survey of train={list(train)} has any of these features.")
        self.features = [_named(feature, kind) for kind in self.kinds for feature in self.plain]
        self.plain_of = {_named(feature, kind): feature for kind in self.kinds for feature in self.plain}
        # Whole questions, so that what a campaign lacks can be shared out among what it has.
        predicted = {self.ontology.question_of(feature).name for feature in self.plain}
        self._whole = [
            feature
            for feature in self.ontology.features
            if feature in trainable and self.ontology.question_of(feature).name in predicted
        ]
        self.groups = [group for kind in self.kinds for group in self._groups(kind)]
        self.columns = [column for group in self.groups for column in group.columns]
        self.sizes = [len(group.columns) for group in self.groups]
        self.question_of = [number for number, size in enumerate(self.sizes) for _ in range(size)]

    def targets(self, campaign: str, votes: np.ndarray, fractions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Targets of a loss on the outputs.

        Args:
            campaign: Whose galaxies these are.
            votes: Of each question of its tree, shape (N, Q); 0 where it was not asked.
            fractions: By kind, shares of the question's votes, shape (N, K_tree); NaN where not known.

        Returns:
            Fractions (NaN where not known) and the votes of their question, shape (N, K, 2).
        """
        blocks = [
            _summed(campaign, votes, fractions.get(group.kind), group.campaigns.get(campaign), len(group.columns))
            for group in self.groups
        ]
        return np.concatenate([np.stack(block, axis=2).astype(np.float32) for block in blocks], axis=1)

    def target_features(
        self, campaign: str, votes: np.ndarray, fractions: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fractions of the judged features, NaN where not known, and the votes of their questions; (N, F) each."""
        sums = self.ontology.matrix(campaign, self.plain)
        blocks = [_summed(campaign, votes, fractions.get(kind), sums, len(self.plain)) for kind in self.kinds]
        return np.concatenate([block[0] for block in blocks], 1), np.concatenate([block[1] for block in blocks], 1)

    def predicted_features(self, outputs: np.ndarray, campaigns: np.ndarray) -> np.ndarray:
        """Fractions of the judged features, as the volunteers of each galaxy's campaign would give them.

        Outputs of a campaign that was not trained on are the mean over those that were, where each has its own.

        Args:
            outputs: Of the model, shape (N, K).
            campaigns: Of the galaxies, shape (N,).

        Returns:
            Shape (N, F); NaN for features that the galaxy's campaign lacks. The features of a question sum to 1 over
            those that the campaign has, where all of them are judged.
        """
        features = np.full((len(outputs), len(self.features)), np.nan)
        for campaign in np.unique(campaigns):
            rows = campaigns == campaign
            features[rows] = self._features_of(outputs[rows], str(campaign))
        return features

    def _features_of(self, outputs: np.ndarray, campaign: str) -> np.ndarray:
        heads = [campaign] if campaign in self.trained or self.heads == "shared" else self.trained
        by_head = np.stack([self._by_head(outputs, head) for head in heads])
        has_head = ~np.isnan(by_head)
        mean = np.where(has_head, by_head, 0).sum(0) / np.maximum(has_head.sum(0), 1)
        answered = set(self.ontology.has(campaign)).intersection(self._whole)
        judged = np.full((len(outputs), len(self.features)), np.nan)
        for question in self.ontology.questions:
            features = [feature for feature in question.features if feature in answered]
            columns = [self._whole.index(feature) for feature in features]
            for number, kind in enumerate(self.kinds):
                fractions = _normalised(mean[:, number][:, columns])
                for feature, share in zip(features, fractions.T, strict=True):
                    if feature in self.plain:
                        judged[:, self.features.index(_named(feature, kind))] = share
        return judged

    def _by_head(self, outputs: np.ndarray, campaign: str) -> np.ndarray:
        """By kind, features of whole questions from the outputs of one campaign's head, NaN where it has none."""
        features = np.zeros((len(outputs), len(self.kinds), len(self._whole)))
        has_head = np.zeros(features.shape[1:], bool)
        blocks = np.split(np.clip(outputs, 0, None), np.cumsum(self.sizes)[:-1], axis=1)
        for group, block in zip(self.groups, blocks, strict=True):
            if self.heads == "own" and campaign not in group.campaigns:
                continue
            kind = self.kinds.index(group.kind)
            features[:, kind] += _normalised(block) @ group.features
            has_head[kind] |= group.features.any(0)
        return np.where(has_head, features, np.nan)

    def _groups(self, kind: str) -> list[Group]:
        groups = []
        for question in self.ontology.questions:
            features = [feature for feature in question.features if feature in self._whole]
            if features and self.heads == "shared":
                behind = np.array([[feature == other for other in self._whole] for feature in features], float)
                sums = {campaign: self.ontology.matrix(campaign, features) for campaign in question.asked}
                groups.append(Group(question.name, tuple(_named(name, kind) for name in features), kind, sums, behind))
            elif features:
                for campaign in (name for name in self.trained if name in question.asked):
                    tree = DecisionTree.load(campaign)
                    own = next(each for each in tree.questions if each.name == question.asked[campaign])
                    rows = [tree.columns.index(column) for column in own.columns]
                    names = tuple(_named(f"{campaign}:{column}", kind) for column in own.columns)
                    sums = {campaign: np.eye(len(tree.columns))[:, rows]}
                    groups.append(Group(own.name, names, kind, sums, self.ontology.matrix(campaign, self._whole)[rows]))
        return groups

    def _chosen(self, features: str | int | Sequence[str], campaigns: list[str]) -> tuple[list[str], list[str]]:
        """Names of features, and the kinds of fractions that are predicted."""
        if not isinstance(features, str | int):
            for feature in features:
                self.ontology.question_of(feature)
            return list(features), [KIND]
        if features == "all":
            return self.ontology.features, [KIND]
        if features == "common":
            return self.ontology.common(campaigns), [KIND]
        if str(features) not in self.ontology.lists:
            choices = ["all", "common", *self.ontology.lists]
            raise UserError(f"features={features}: there is no such list. {did_you_mean(str(features), choices)}")
        listed = self.ontology.lists[str(features)]
        return list(listed.features), list(listed.values)


def check_names(surveys: Mapping[str, Asked], train: Sequence[str], test: Sequence[str]) -> None:
    """Makes sure that surveys are known, and named once.

    Raises:
        UserError: If they are not.
    """
    for key, names in (("train", train), ("test", test)):
        if isinstance(names, str):
            raise UserError(f"{key}={names}: give a list, such as {key}=[{names}].")
        for name in names:
            if name not in surveys:
                raise UserError(f"{key}: there is no survey '{name}'. {did_you_mean(str(name), surveys)}")
    if not train:
        raise UserError(f"train=[]: name a survey to train on. There are: {', '.join(surveys)}.")
    named = [*train, *test]
    if twice := [name for name in named if named.count(name) > 1]:
        raise UserError(f"The survey '{twice[0]}' is named twice in train and test; each is either of them.")


def count(vocabulary: Vocabulary) -> int:
    """Number of a net's outputs, K."""
    return len(vocabulary.columns)


def shares(outputs: Tensor, question_of: Sequence[int], available: Tensor) -> Tensor:
    """Outputs of any head as shares of each question.

    Args:
        outputs: Shape (N, K); what is negative counts as 0.
        question_of: The question of each output, K integers that begin with 0, in order.
        available: Which answers a galaxy's volunteers had, boolean, shape (N, K).

    Returns:
        In [0, 1], shape (N, K): each question sums to 1 over its available answers (equal shares where all outputs are
        0), and is 0 where there are none.
    """
    number = torch.tensor(question_of)
    same = number[:, None] == number
    with torch.autocast(outputs.device.type, enabled=False):
        positive = torch.where(available, outputs.clamp_min(0), 0).to(torch.promote_types(outputs.dtype, torch.float32))
        # Products add in one order on GPUs, too, where index_add does not.
        total, answers = (values @ same.to(positive) for values in (positive, available.to(positive)))
        equal = available / answers.clamp_min(1)
        return torch.where(total > 0, positive / torch.where(total > 0, total, 1), equal)


def _summed(
    campaign: str, votes: np.ndarray, fractions: np.ndarray | None, sums: np.ndarray | None, answers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Added fractions and the votes of their question, (N, A) each; NaN and 0 for what the campaign lacks."""
    if fractions is None or sums is None:
        return np.full((len(votes), answers), np.nan), np.zeros((len(votes), answers))
    number = np.array(DecisionTree.load(campaign).question_of)
    first = sums.argmax(0)  # all columns of a feature answer one question
    unknown = (np.isnan(fractions).astype(float) @ sums > 0) | ~sums.any(0)
    return (
        np.where(unknown, np.nan, np.nan_to_num(fractions) @ sums),
        np.where(unknown, 0.0, votes[:, number[first]]),
    )


def _normalised(values: np.ndarray) -> np.ndarray:
    """Rows that sum to 1, equal shares where all values are 0; shape (N, A)."""
    total = values.sum(1, keepdims=True)
    return np.where(total > 0, values / np.where(total > 0, total, 1), 1 / max(values.shape[1], 1))


def _named(feature: str, kind: str) -> str:
    return feature if kind == KIND else f"{feature}_{kind}"
