"""What a run says of a picture, as HTML: classes, a decision tree, or a plain table."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from galaxyml.evaluation.predict_intervals import PredictIntervals
from galaxyml.inference.predictor import Predictor
from galaxyml.kinds.classes.calibrate import Calibrate
from galaxyml.page import markup
from galaxyml.page.questions import Questions, questions_of, walk
from galaxyml.trees.tree import Question

LEVEL = 95  # per cent, of the intervals shown; `galaxyml.inference.predict` writes the same unless it is told otherwise
NOT_OUTPUTS = ("path", "distance", "unlike", "class", "confidence", "classes")
_END = re.compile(r"_(?:low|high)\d+$")  # of an interval
SURE_OF_CLASSES = (
    "How sure: of answers with a confidence of 70 % about 70 % are right (temperature scaling, Guo et al. 2017), and "
    "the set of classes holds the true one as often as it says (conformal prediction), for galaxies like those that "
    "the run was validated on."
)
SURE_OF_FRACTIONS = (
    "How sure: the interval beside a fraction, in per cent, holds what volunteers would answer in 95 % of cases "
    "(conformal prediction), for galaxies like those that the run was validated on."
)
SURE_OF_NUMBERS = (
    "How sure: the interval beside a number holds the truth in 95 % of cases (conformal prediction), for galaxies like "
    "those that the run was validated on."
)
NOT_SURE = "How sure: this run gives numbers without intervals; its report tells how far they are off on average."

Row = Mapping[str, Any]


class Answers:
    """Shows rows of an predictor's table.

    Args:
        predictor: The run.

    Attributes:
        classes: Names of the classes; none for a run that says something else.
        questions: What volunteers are asked, for a run that says fractions of their votes.
        outputs: Columns that may be explained, and what they are called.
        promise: How sure what is said is, in a few sentences.
    """

    def __init__(self, predictor: Predictor) -> None:
        calibrate = next((stage for stage in predictor.stages if isinstance(stage, Calibrate)), None)
        self.classes = calibrate.classes if calibrate else []
        self.coverage = calibrate.coverage if calibrate else 0.0
        self.questions = questions_of(predictor.stages)
        names = _named(self.questions) if self.questions else {}
        intervals = any(isinstance(stage, PredictIntervals) for stage in predictor.stages)
        with_intervals = SURE_OF_FRACTIONS if self.questions else SURE_OF_NUMBERS
        self.promise = SURE_OF_CLASSES if self.classes else with_intervals if intervals else NOT_SURE
        self.outputs = {column: names.get(column, column) for column in predictor.columns}

    def shown(self, table: pd.DataFrame) -> str:
        """The HTML of what is said of one picture, a table of one row."""
        row = _first(table)
        if self.classes:
            said = _classes(row, self.classes, self.coverage)
        elif self.questions:
            said = _tree(row, self.questions)
        else:
            said = _plain(row)
        saved = markup.download(table.to_csv(index=False), "prediction.csv", "All numbers as CSV")
        return f'<div role="status">{unlike(row)}{said}{saved}</div>'

    def explained(self, table: pd.DataFrame) -> str:
        """The output that is explained unless another one is asked for: the likeliest class or first answer."""
        row = _first(table)
        if self.classes:
            return str(row["class"])
        if self.questions and (steps := walk(self.questions, row)) and steps[0].column in self.outputs:
            return steps[0].column
        return next(iter(self.outputs))


def _first(table: pd.DataFrame) -> Row:
    return {str(name): value for name, value in table.iloc[0].items()}


def unlike(row: Row) -> str:
    """A warning where the picture is unlike those that the run has learnt from."""
    if not row.get("unlike"):
        return ""
    far = f"{row['distance']:.2f}" if row["distance"] < 100 else "more than 100"
    return (
        '<div class="gx-warning" role="alert"><strong>Unlike the training set.</strong> The distance of this picture '
        f"from the galaxies that the net has learnt from is {far}; all but 1 % of those that it was validated on are "
        "nearer than 1. The numbers may mean nothing, and the promises about them do not hold.</div>"
    )


def _named(questions: Questions) -> dict[str, str]:
    return {
        column: f"{question.text} {answer}"
        for question in questions.asked
        for column, answer in zip(question.columns, question.answers, strict=True)
    }


def _classes(row: Row, classes: Sequence[str], coverage: float) -> str:
    inside = str(row["classes"]).split("|") if row["classes"] else []
    order = sorted(classes, key=lambda name: -row[name])
    rows = [_bar_row(name, row[name], chosen=name == row["class"]) for name in order]
    names = " or ".join(inside) or "none of them"
    if len(inside) == len(classes):
        names = f"any of the {len(classes)}"
    return (
        f'<h3 class="gx-verdict">{markup.text(row["class"])} <small>confidence {markup.number(row["confidence"])}'
        f"</small></h3>{_bars('Probability of each class', rows)}"
        f"<p>In {100 * coverage:g} % of cases the true class is in the set that is given; here it is: "
        f'<strong class="gx-set">{markup.text(names)}</strong>.</p>'
    )


def _tree(row: Row, questions: Questions) -> str:
    steps = walk(questions, row)
    on_way = {step.question.name: step.column for step in steps}
    shown = "".join(f"<li>{_question(row, step.question, step.column)}</li>" for step in steps)
    whole = "".join(
        f"<li>{_question(row, question, on_way.get(question.name))}</li>"
        for question in questions.asked
        if question.name not in on_way
    )
    words = ", ".join(step.label for step in steps)
    of = "of all volunteers" if questions.of_all else "of those who are asked the question"
    rest = markup.details(f"The other questions ({len(questions.asked) - len(steps)})", f"<ol>{whole}</ol>")
    return (
        f'<h3 class="gx-verdict">{markup.text(words)}</h3>'
        f'<p class="gx-note">The way of the likeliest answers. Fractions are {of}.</p>'
        f'<ol class="gx-way">{shown}</ol>{rest if whole else ""}'
    )


def _question(row: Row, question: Question, chosen: str | None) -> str:
    rows = [
        _bar_row(
            answer, row[column], row.get(f"{column}_low{LEVEL}"), row.get(f"{column}_high{LEVEL}"), column == chosen
        )
        for column, answer in zip(question.columns, question.answers, strict=True)
    ]
    return _bars(question.text, rows)


def _plain(row: Row) -> str:
    names = [name for name in row if name not in NOT_OUTPUTS and not _END.search(name)]
    rows = "".join(
        f'<tr><th scope="row">{markup.text(name)}</th>'
        f'<td><data value="{float(row[name])!r}">{row[name]:.4g}</data>{_interval(row, name)}</td></tr>'
        for name in names
    )
    return f'<table class="gx-table"><caption>What the net says</caption><tbody>{rows}</tbody></table>'


def _interval(row: Row, name: str) -> str:
    """The ends of a number's interval, where it has one."""
    low, high = (row.get(f"{name}_{end}{LEVEL}") for end in ("low", "high"))
    return "" if low is None or high is None else f" <small>{low:.4g} to {high:.4g}</small>"


def _bars(caption: str, rows: Sequence[str]) -> str:
    return f'<table class="gx-bars"><caption>{markup.text(caption)}</caption><tbody>{"".join(rows)}</tbody></table>'


def _bar_row(name: str, share: float, low: float | None = None, high: float | None = None, chosen: bool = False) -> str:
    kind = ' class="gx-chosen"' if chosen else ""
    mark = '<span class="gx-mark" aria-label="likeliest">&#9656;</span> ' if chosen else ""
    interval = ""
    if low is not None and high is not None:
        interval = f'<small title="{LEVEL} % interval">{100 * low:.0f} to {100 * high:.0f}</small>'
    value = share if share == share else 0.0
    return (
        f'<tr{kind}><th scope="row">{mark}{markup.text(name)}</th>'
        f"<td>{markup.bar(value, low, high)}</td><td>{markup.number(share)}{interval}</td></tr>"
    )
