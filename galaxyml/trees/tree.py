"""A decision tree: its questions and their order, read from a YAML file."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from galaxyml.runs.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """One question of a tree.

    Attributes:
        name: Its name in the campaign, such as `Class7`.
        text: What volunteers are asked.
        answers: What they can answer.
        columns: The column of each answer, in the order of the answers.
        labels: What figures call each answer, such as `edge-on` for a `yes`.
        after: The columns of the answers that lead here; none for a question that everyone is asked.
    """

    name: str
    text: str
    answers: tuple[str, ...]
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecisionTree:
    """The questions of a campaign; columns, groups and parents follow from them.

    Attributes:
        name: Name of its file, such as `kaggle`.
        title: Campaign.
        questions: Each comes after the questions whose answers lead to it.
    """

    name: str
    title: str
    questions: tuple[Question, ...]

    @classmethod
    def load(cls, name: str | Path) -> "DecisionTree":
        """Reads a tree that comes with the package, by name, or one from a YAML file of your own, by path.

        Args:
            name: `kaggle`, or a path that ends in `.yaml`.

        Raises:
            UserError: If there is no such tree, or its file breaks a rule (the message says which).

        >>> tree = DecisionTree.load("kaggle")
        >>> len(tree.questions), len(tree.columns), tree.columns[:3]
        (11, 37, ['Class1.1', 'Class1.2', 'Class1.3'])
        """
        path = _path(name)
        return _read(path, path.stat().st_mtime_ns)

    @classmethod
    def parse(cls, name: str, content: dict[str, Any], where: str) -> "DecisionTree":
        """Builds a tree from the content of its YAML file.

        Args:
            name: Name of the tree.
            content: `title`, `column` (how a column is called: a format of `name`, `number` and `answer`) and
                `questions` (each with `name` and `answers`, and where wanted `text`, `labels` and `after`).
            where: The file, for error messages.

        Raises:
            UserError: If a key is missing, a name occurs twice, or a question comes before what leads to it.
        """
        try:
            pattern, entries = content["column"], content["questions"]
            questions = tuple(_question(entry, pattern) for entry in entries)
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: {error} is missing or not a mapping; see {FOLDER / 'kaggle.yaml'}.") from error
        seen: set[str] = set()
        for question in questions:
            if unknown := [column for column in question.after if column not in seen]:
                raise UserError(f"{where}: {question.name} comes after {unknown[0]}, which no earlier question has.")
            if len(set(question.after)) < len(question.after):
                raise UserError(f"{where}: {question.name} names an answer twice in after; name each once.")
            if twice := [column for column in question.columns if column in seen]:
                raise UserError(f"{where}: {question.name} names the column {twice[0]} a second time.")
            seen.update(question.columns)
        return cls(name, content.get("title", name), questions)

    @cached_property
    def columns(self) -> list[str]:
        """All answers' columns, question by question."""
        return [column for question in self.questions for column in question.columns]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Names of columns in figures, such as `edge-on`."""
        return {
            column: label
            for question in self.questions
            for column, label in zip(question.columns, question.labels, strict=True)
        }

    @cached_property
    def question_of(self) -> list[int]:
        """Index of the question that each column answers, K integers."""
        return [number for number, question in enumerate(self.questions) for _ in question.columns]

    @cached_property
    def leads(self) -> list[list[int]]:
        """For each question the indices of the columns that lead there; none if everyone is asked."""
        return [[self.columns.index(column) for column in question.after] for question in self.questions]

    @cached_property
    def depth(self) -> int:
        """Questions on the longest path."""
        depths: list[int] = []
        for leads in self.leads:
            depths.append(1 + max((depths[self.question_of[lead]] for lead in leads), default=0))
        return max(depths)


def tree_names() -> list[str]:
    """Names of the trees that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "ontology")


def _path(name: str | Path) -> Path:
    """The file of a tree; raises UserError if there is none."""
    names = {name: FOLDER / f"{name}.yaml" for name in tree_names()}
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else names.get(str(name))
    if path is None or not path.is_file():
        raise UserError(
            f"No decision tree '{name}'. {did_you_mean(str(name), names)} A file of your own ends in .yaml."
        )
    return path


@lru_cache
def _read(path: Path, changed: int) -> DecisionTree:
    """The tree of a file, read once for each time that it changed."""
    return DecisionTree.parse(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def _question(entry: dict[str, Any], pattern: str) -> Question:
    answers = tuple(str(answer) for answer in entry["answers"])
    columns = tuple(
        pattern.format(name=entry["name"], number=number, answer=answer)
        for number, answer in enumerate(answers, start=1)
    )
    labels = tuple(str(label) for label in entry.get("labels", answers))
    after = entry.get("after", ())
    after = (after,) if isinstance(after, str) else tuple(after)
    return Question(entry["name"], entry.get("text", entry["name"]), answers, columns, labels, after)


def tree_text(title: str, column: str, questions: Sequence[Mapping[str, Any]]) -> str:
    """What a file of a tree holds, in one line.

    Args:
        title: As for `DecisionTree.parse`, like the others.
        column: How a column is called.
        questions: Name, answers and so on of each.

    >>> tree_text("Mine", "{answer}", [{"name": "shape", "answers": ["smooth", "disk"]}])
    "{title: Mine, column: '{answer}', questions: [{name: shape, answers: [smooth, disk]}]}"
    """
    content = {"title": title, "column": column, "questions": [dict(question) for question in questions]}
    return yaml.safe_dump(content, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf).strip()


def part_text(name: str | Path, questions: Collection[str]) -> str:
    """What a file of some of a tree's questions holds; one whose leading question is left out is asked of everyone.

    Args:
        name: As for `DecisionTree.load`.
        questions: Names of those that are kept.
    """
    content = yaml.safe_load(_path(name).read_text(encoding="utf-8"))
    tree = DecisionTree.load(name)
    kept = {column for question in tree.questions if question.name in questions for column in question.columns}
    entries = []
    for entry, question in zip(content["questions"], tree.questions, strict=True):
        if question.name in questions:
            after = [column for column in question.after if column in kept]
            others = {key: value for key, value in entry.items() if key != "after"}
            entries.append(others | ({"after": after} if after else {}))
    return tree_text(f"{tree.title}, in part", content["column"], entries)


def count(tree: str) -> int:
    """Number of all answers of a tree, K, by its name."""
    return len(DecisionTree.load(tree).columns)


def columns(tree: str) -> list[str]:
    """All answers' columns of a tree, by its name."""
    return DecisionTree.load(tree).columns
