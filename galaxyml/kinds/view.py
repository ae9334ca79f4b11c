"""The predictions for one object as a page shows them, as plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from galaxyml.trees.questions import Questions, walk
from galaxyml.trees.tree import Question

LEVEL = 95  # per cent, of the intervals that are shown
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """A share in [0, 1], with the ends of its interval where it has one, and whether it is the likeliest answer."""

    name: str
    share: float
    low: float | None = None
    high: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Chart:
    """Shares that answer one question."""

    caption: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Number:
    """A number with the ends of its interval, where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class View:
    """The predictions for one object.

    Attributes:
        explained: The output that is explained unless another one is asked for.
        verdict: They in a few words; '' for none.
        confidence: Probability that the verdict is right, if there is one.
        note: A sentence below the verdict.
        charts: What leads to the verdict.
        others: Further charts, of less interest.
        conclusion: A sentence below the charts, and what it leads to.
        numbers: In the place of charts.
    """

    explained: str
    verdict: str = ""
    confidence: float | None = None
    note: str = ""
    charts: tuple[Chart, ...] = ()
    others: tuple[Chart, ...] = ()
    conclusion: tuple[str, str] | None = None
    numbers: tuple[Number, ...] = ()


def ends(row: Row, name: str) -> tuple[float | None, float | None]:
    """The ends of a column's interval, where a row has them."""
    return row.get(f"{name}_low{LEVEL}"), row.get(f"{name}_high{LEVEL}")


def numbers_view(row: Row, columns: Sequence[str]) -> View:
    """The view of numbers that have nothing to do with each other."""
    return View(columns[0], numbers=tuple(Number(name, row[name], *ends(row, name)) for name in columns))


def tree_view(row: Row, questions: Questions, outputs: Sequence[str]) -> View:
    """The view of fractions: the most likely path through the questions, and the questions beside it."""
    steps = walk(questions, row)
    on_path = {step.question.name: step.column for step in steps}

    def chart(question: Question) -> Chart:
        chosen = on_path.get(question.name)
        pairs = zip(question.columns, question.answers, strict=True)
        return Chart(question.text, tuple(Bar(name, row[key], *ends(row, key), key == chosen) for key, name in pairs))

    of = "of all volunteers" if questions.of_all else "of those who are asked the question"
    asked = {column for question in questions.asked for column in question.columns}
    others = [name for name in outputs if name not in asked and not math.isnan(row.get(name, math.nan))]
    beside = tuple(Bar(name, row[name], *ends(row, name)) for name in others)
    more = (Chart("Answers that this campaign does not ask for", beside),) if beside else ()
    return View(
        explained=steps[0].column if steps and steps[0].column in outputs else outputs[0],
        verdict=", ".join(step.label for step in steps),
        note=f"Most likely path through the decision tree. Fractions are {of}.",
        charts=tuple(chart(step.question) for step in steps),
        others=tuple(chart(question) for question in questions.asked if question.name not in on_path) + more,
    )


def output_names(questions: Questions, outputs: Sequence[str]) -> dict[str, str]:
    """Names for people of outputs that are answers, each by its question and itself."""
    named = {
        column: f"{question.text} {answer}"
        for question in questions.asked
        for column, answer in zip(question.columns, question.answers, strict=True)
    }
    return {column: named.get(column, column) for column in outputs}
