"""How objects fall into classes, or into the answers of each question, by what was predicted of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from galaxyml.inference.summary.tallies import ShareHistogram, Top
from galaxyml.trees.questions import Questions

EXAMPLES = 100  # objects of a ranking
REACHED = 0.5  # probability from which on an object counts as asked a question
OTHERS = "any other answer"
Values = Mapping[str, np.ndarray]


@dataclass
class Ranking:
    """Objects that are shown, in their order.

    Attributes:
        heading: Of the sheet that they are on.
        label: Of their part of it; '' where they have all of it.
        measure: What they are ranked by, in words.
        top: They.
    """

    heading: str
    label: str
    measure: str
    top: Top = field(default_factory=lambda: Top(EXAMPLES))


@dataclass
class Group:
    """A class, or an answer to a question.

    Attributes:
        name: In words.
        column: Its column; '' where it has none.
        count: Objects whose likeliest it is.
        unlike: Of these, those that are out of distribution.
        confidence: Sum over these.
    """

    name: str
    column: str = ""
    count: int = 0
    unlike: int = 0
    confidence: float = 0.0


@dataclass
class Judged:
    """The likeliest group of each of N objects.

    Attributes:
        chosen: Its index; -1 for objects that are in none, shape (N,).
        confidence: Its probability among the groups, shape (N,).
        rank: What the surest of a group have most of, shape (N,).
    """

    chosen: np.ndarray
    confidence: np.ndarray
    rank: np.ndarray


@dataclass
class Partition:
    """Classes, or a question with its answers.

    Attributes:
        title: The question, or what classes are called.
        groups: The classes or answers.
        surest: What the surest are ranked by, in words.
        confidence: Of the objects that are in a group; None where nobody says how sure.
    """

    title: str
    groups: list[Group]
    surest: str
    confidence: ShareHistogram | None = field(default_factory=ShareHistogram)

    @property
    def count(self) -> int:
        """Objects that are in a group."""
        return sum(group.count for group in self.groups)

    def add(self, judged: Judged, unlike: np.ndarray | None) -> None:
        """Counts objects, of which some may be known to be out of distribution."""
        inside = judged.chosen >= 0
        chosen = judged.chosen[inside]
        counts = np.bincount(chosen, minlength=len(self.groups))
        odd = np.bincount(chosen[unlike[inside]], minlength=len(self.groups)) if unlike is not None else counts * 0
        sums = np.bincount(chosen, np.nan_to_num(judged.confidence[inside]), minlength=len(self.groups))
        for group, count, of_them, total in zip(self.groups, counts, odd, sums, strict=True):
            group.count, group.unlike = group.count + int(count), group.unlike + int(of_them)
            group.confidence += float(total)
        if self.confidence is not None:
            self.confidence.add(judged.confidence[inside])


class Grouping(ABC):
    """How the objects of one kind of target fall into groups.

    Attributes:
        partitions: One of classes, one for each question, or none.
        columns: Those that it reads.
        notes: Sentences about what a reader should know.
    """

    def __init__(self, partitions: list[Partition], columns: Sequence[str]) -> None:
        self.partitions, self.columns = partitions, list(columns)
        self.notes: list[str] = []

    @abstractmethod
    def judge(self, values: Values) -> list[Judged]:
        """The groups of some objects, for each of `partitions`.

        Args:
            values: By column, shape (N,) each.
        """


class NoGroups(Grouping):
    """Numbers, which have none."""

    def __init__(self) -> None:
        super().__init__([], [])

    def judge(self, values: Values) -> list[Judged]:
        return []


class ByClass(Grouping):
    """Classes that exclude each other, by their probabilities.

    Args:
        classes: What each class's column is called, by column.
    """

    def __init__(self, classes: Mapping[str, str]) -> None:
        groups = [Group(column, column) for column in classes]
        super().__init__([Partition("class", groups, "probability")], list(classes))

    def judge(self, values: Values) -> list[Judged]:
        chosen, best = likeliest(np.stack([values[column] for column in self.columns], axis=1))
        return [Judged(chosen, best, best)]


class ByAnswer(Grouping):
    """Answers to the questions of a decision tree: the likeliest of each question that an object reaches.

    An object reaches a question with the probability of the answers that lead there, along the tree; it counts where
    that is `REACHED` or more.

    Args:
        questions: The tree's.
        outputs: Columns that are predicted; questions of which none is are left out.
    """

    def __init__(self, questions: Questions, outputs: Sequence[str]) -> None:
        known = set(outputs)
        self.of_all = questions.of_all
        self.asked = [question for question in questions.asked if known.intersection(question.columns)]
        partitions = []
        self._answers: list[list[str]] = []
        for question in self.asked:
            pairs = zip(question.columns, question.answers, strict=True)
            groups = [Group(answer, column) for column, answer in pairs if column in known]
            self._answers.append([group.column for group in groups])
            groups += [Group(OTHERS)] if len(groups) == 1 else []
            partitions.append(Partition(question.text, groups, "share of all volunteers"))
        super().__init__(partitions, [column for columns in self._answers for column in columns])
        self._leads = [[column for column in question.after if column in known] for question in self.asked]
        self._question_of = {column: k for k, columns in enumerate(self._answers) for column in columns}
        for question, leads in zip(self.asked, self._leads, strict=True):
            if question.after and not leads:
                self.notes.append(
                    f"“{question.text}” is asked after answers that are not predicted: all objects count as asked."
                )

    def judge(self, values: Values) -> list[Judged]:
        judged: list[Judged] = []
        reached: list[np.ndarray] = []
        for columns, leads in zip(self._answers, self._leads, strict=True):
            shares = np.stack([values[column] for column in columns], axis=1)
            reach = np.ones(len(shares))
            if leads:
                before = (
                    values[lead] if self.of_all else values[lead] * reached[self._question_of[lead]] for lead in leads
                )
                reach = np.clip(np.sum([np.nan_to_num(share) for share in before], axis=0), 0, 1)
            reached.append(reach)
            if len(columns) == 1:  # how many do not give it is known all the same
                whole = reach if self.of_all else 1.0
                shares = np.stack([shares[:, 0], whole - shares[:, 0]], axis=1)
            chosen, best = likeliest(shares)
            total = np.nansum(np.clip(shares, 0, None), axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                confidence = np.clip(best / total, 0, 1)
            chosen = np.where((reach >= REACHED) & (total > 0), chosen, -1)
            judged.append(Judged(chosen, confidence, reach * confidence))
        return judged


class ByNearest(Grouping):
    """Light curves, by the known class that each is most like; classes are met on the way.

    Attributes:
        nearest: Name of the column.
    """

    nearest = "nearest_known_class"

    def __init__(self) -> None:
        super().__init__([Partition("nearest known class", [], "lowest score", None)], [self.nearest, "score"])
        self._index: dict[str, int] = {}

    def judge(self, values: Values) -> list[Judged]:
        names, inverse = np.unique(values[self.nearest], return_inverse=True)
        for name in names:
            if name not in self._index:
                self._index[name] = len(self._index)
                self.partitions[0].groups.append(Group(str(name)))
        chosen = np.array([self._index[name] for name in names], np.int64)[inverse]
        score = values["score"]
        return [Judged(np.where(np.isnan(score), -1, chosen), np.full(len(score), np.nan), -score)]


def likeliest(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and value of the highest of each row, shape (N,) each; -1 and NaN for rows without any number."""
    known = ~np.isnan(shares)
    filled = np.where(known, shares, -np.inf)
    chosen = filled.argmax(axis=1)
    best = np.take_along_axis(filled, chosen[:, None], axis=1)[:, 0]
    any_known = known.any(axis=1)
    return np.where(any_known, chosen, -1), np.where(any_known, best, np.nan)
