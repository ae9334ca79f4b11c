"""The table of labels, as `task=images` reads it, and beside it what was skipped."""

import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from galaxyml.inference.embedded import Embedded
from galaxyml.inference.galleries import Images
from galaxyml.labelling.lines import Lines
from galaxyml.labelling.question import Question
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import file_lock

LABELS = ("label", "question", "labelled_by", "labelled_at")
SKIPPED = ("skipped_at",)
OF_IMAGES, OF_CURVES = ("id", "path"), ("object_id",)  # what names an object; the last one tells objects apart


@dataclass(frozen=True)
class Named:
    """Objects as a table of labels names them.

    Attributes:
        columns: `OF_IMAGES` or `OF_CURVES`.
        names: Of each of the N objects its values in these columns.
    """

    columns: tuple[str, ...]
    names: list[tuple[str, ...]]

    @classmethod
    def of(cls, objects: Embedded, folder: Path) -> "Named":
        """The names of objects in a table.

        Args:
            objects: The objects.
            folder: Of the table, from which on paths of images are written.
        """
        if not isinstance(objects.gallery, Images):
            return cls(OF_CURVES, [(name,) for name in objects.ids])
        above = f"{os.path.abspath(folder)}{os.sep}"
        paths = [path_from(above, path) for path in objects.gallery.paths]
        return cls(OF_IMAGES, list(zip(objects.ids, paths, strict=True)))


def path_from(above: str, path: str) -> str:
    """A path from a folder on, which ends in a separator; where the path lies elsewhere, links are followed first."""
    full = os.path.abspath(path)
    inside = full.removeprefix(above)
    return inside if inside != full else os.path.relpath(os.path.realpath(path), os.path.realpath(above))


class LabelFile:
    """Labels of objects in a CSV file, a line an answer, which is on the disk before the next one is asked for.

    Objects go by the last of the columns that name them. Skipped ones are in a file of the same name that ends in
    `.skipped`, so that the table has nothing but labels.

    Args:
        path: The file.
        columns: That name objects.
        question: What is asked.
        by: Who answers.

    Attributes:
        path: See above.
        question: See above.

    Raises:
        DataError: If the file is another kind of table, or has other answers or answers to another question.
    """

    def __init__(self, path: Path, columns: Sequence[str], question: Question, by: str) -> None:
        self.path, self.question = path, question
        self._columns, self._by = tuple(columns), by
        self._last = datetime.min.replace(tzinfo=UTC)
        file = path.resolve()  # so that a link stays one
        self._labels = Lines(file, (*columns, *LABELS), columns[-1])
        self._skipped = Lines(file.with_suffix(".skipped"), (*columns, *SKIPPED), columns[-1])
        self._check()
        times = [(record["labelled_at"], key, True) for key, record in self._labels.records.items()]
        times += [(record["skipped_at"], key, False) for key, record in self._skipped.records.items()]
        self._history = [(key, is_label) for _, key, is_label in sorted(times, key=lambda time: time[0])]

    def _check(self) -> None:
        """Makes sure that what is there answers the same question.

        Raises:
            DataError: If it does not.
        """
        answers = list(dict.fromkeys(self.labels().values()))
        if others := [answer for answer in answers if answer not in self.question.answers]:
            every = ",".join([*self.question.answers, *others])
            raise DataError(
                f"{self.path} has the answers {shorten(answers)}, and those here are "
                f"{', '.join(self.question.answers)}. Give them all (--answers {every}), or the labels another file: "
                "--labels other.csv."
            )
        questions = Counter(record["question"] for record in self._labels.records.values())
        if others := [text for text in questions if not self.question.allows(text)]:
            raise DataError(
                f"{self.path} has answers to another question, '{others[0]}', and this one is '{self.question.text}'. "
                f"Go on with it by --question '{others[0]}', or give the labels another file: --labels other.csv."
            )

    @property
    def notes(self) -> list[str]:
        """Sentences on what was repaired."""
        return [*self._labels.notes, *self._skipped.notes]

    def labels(self) -> dict[str, str]:
        """The label of each object that has one, in the order of the lines."""
        self._labels.read()
        return {key: record["label"] for key, record in self._labels.records.items() if record["label"]}

    def skipped(self) -> list[str]:
        """Objects that were skipped and are not labelled, the one that was skipped first being the first."""
        self._skipped.read()
        labelled = self.labels()
        return [key for key in self._skipped.records if key not in labelled]

    def check_writable(self) -> None:
        """Raises DataError if the files cannot be written."""
        self._labels.check_writable()
        self._skipped.check_writable()

    def label(self, name: Sequence[str], answer: str) -> None:
        """Keeps an answer about an object, in the place of an earlier one.

        Raises:
            DataError: If it cannot be written; then nothing has changed.
        """
        record = self._record(name, self._labels)
        now = self._now()
        self._labels.add(
            {**record, "label": answer, "question": self.question.text, "labelled_by": self._by, "labelled_at": now}
        )
        self._remember(name[-1], True)

    def skip(self, name: Sequence[str]) -> None:
        """Keeps that an object was skipped, behind all that were skipped before; otherwise as `label`."""
        self._skipped.add({**self._record(name, self._skipped), "skipped_at": self._now()})
        self._remember(name[-1], False)

    def undo(self, among: Container[str] | None = None) -> str | None:
        """Takes the last answer or skip back; gives the object, or None if there is nothing to take back.

        Args:
            among: Objects that it may be about, as the file may have others; None for all.

        Raises:
            DataError: As `label`.
        """
        for key, is_label in reversed(self._history.copy()):
            if among is None or key in among:
                lines = self._labels if is_label else self._skipped
                lines.read()
                is_there = key in lines.records
                lines.remove(key)
                self._history.remove((key, is_label))
                if is_there:
                    return key
        return None

    def _record(self, name: Sequence[str], lines: Lines) -> Mapping[str, str]:
        """The beginning of a line; an id that an object elsewhere has is replaced by the path."""
        lines.read()
        record = dict(zip(self._columns, name, strict=True))
        first, key = self._columns[0], self._columns[-1]
        if any(other[first] == record[first] and other[key] != record[key] for other in lines.records.values()):
            record[first] = record[key]
        return record

    def _now(self) -> str:
        """The time, later than of every answer before: what is undone by another command goes by it."""
        self._last = max(datetime.now(UTC), self._last + timedelta(milliseconds=1))
        return self._last.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _remember(self, key: str, is_label: bool) -> None:
        self._history = [earlier for earlier in self._history if earlier != (key, is_label)]
        self._history.append((key, is_label))


@contextmanager
def opened(path: Path, columns: Sequence[str], question: Question, by: str) -> Iterator[LabelFile]:
    """The labels in a file, for this process alone; arguments and errors as of `LabelFile`.

    Raises:
        DataError: If another command labels into the same file, or it cannot be written.
    """
    taken = DataError(
        f"{path}: another command labels into this file. Stop that one first, or give the labels another file: "
        "--labels other.csv."
    )
    with file_lock(path.resolve(), taken):
        file = LabelFile(path, columns, question, by)
        file.check_writable()
        yield file
