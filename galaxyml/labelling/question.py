"""The question that a person is asked about each object, and its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from galaxyml.data.tables.label_column import as_number, in_one_form
from galaxyml.data.tables.labels import AMONG_NUMBERS, MISSING
from galaxyml.kinds import Kind
from galaxyml.kinds.classes import Classes
from galaxyml.runs.errors import UsageError

USUAL = ("ordinary", "odd")  # answers about a run that has no classes
MOST = 10  # answers, each of which has a key: 1 to 9, and 0
_BEGINNING = "Which is it: "


@dataclass(frozen=True)
class Question:
    """A question with answers that exclude each other.

    Attributes:
        text: As a person reads it.
        answers: Two to ten words, in the order of their keys.
    """

    text: str
    answers: tuple[str, ...]

    @classmethod
    def of(cls, kind: Kind | None, answers: str | None = None, text: str | None = None) -> "Question":
        """The question that a command asks.

        Args:
            kind: What the run predicts; None if that is not known.
            answers: With commas between; None for the classes of the run, or `USUAL` ones.
            text: None for one made of the answers.

        Raises:
            UsageError: If the answers cannot be used.
        """
        if answers is not None:
            names = [" ".join(name.split()) for name in answers.split(",")]
            check_answers(names, f"--answers {answers}")
        elif isinstance(kind, Classes):
            names = list(kind.classes)
            check_answers(names, f"The run has {len(names)} classes")
        else:
            names = list(USUAL)
        return cls(" ".join(text.split()) if text else asked_about(names), tuple(names))

    def allows(self, text: str) -> bool:
        """Whether answers to another question are answers to this one: it is the same, or was made of fewer answers."""
        made_of = text.removeprefix(_BEGINNING)
        return text in (self.text, asked_about([name for name in self.answers if name in made_of]))


def asked_about(answers: Sequence[str]) -> str:
    """A question made of its answers.

    >>> asked_about(["smooth", "spiral", "odd"])
    'Which is it: smooth, spiral or odd?'
    """
    return f"{_BEGINNING}{' or '.join([', '.join(answers[:-1]), *answers[-1:]])}?"


def check_answers(answers: Sequence[str], given: str) -> None:
    """Makes sure that answers are told apart, also by whoever learns from them as classes.

    Args:
        answers: Their names.
        given: How they were given, for messages.

    Raises:
        UsageError: If one is empty, there are too few or too many, two are alike, or one would be read as no value.
    """
    if "" in answers:
        raise UsageError(f"{given}: one of them is empty. Write --answers smooth,spiral,odd, without a comma too many.")
    if not 2 <= len(answers) <= MOST:
        raise UsageError(f"{given}: there must be 2 to {MOST}, each with a key. Write --answers smooth,spiral,odd.")
    seen: dict[str, str] = {}
    for answer, form in zip(answers, in_one_form(pd.Series(answers)), strict=True):
        spelling = "".join(form.split()).casefold()
        if spelling in seen:
            raise UsageError(f"{given}: {seen[spelling]} and {answer} would be taken for one. Name each answer once.")
        seen[spelling] = answer
    numbers = [as_number(answer) for answer in answers]
    if any(number is not None for number in numbers) and any(number is None or number % 1 for number in numbers):
        raise UsageError(f"{given}: answers are words, or all of them whole numbers. Write odd in the place of 0.5.")
    nothing = {word.casefold() for word in MISSING} - {AMONG_NUMBERS}
    if lost := [answer for answer in answers if answer.casefold() in nothing or answer == "None"]:
        raise UsageError(f"{given}: {lost[0]} stands for no value in tables. Call it something else, such as unclear.")
    if strange := [answer for answer in answers if not answer.isprintable()]:
        raise UsageError(f"{given}: {strange[0]!r} has characters that cannot be shown. Leave them out.")
