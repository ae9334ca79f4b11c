"""Asks a person about objects in the order in which they teach most, and learns from the answers meanwhile."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from galaxyml.inference.embedded import Embedded
from galaxyml.kinds import Kind
from galaxyml.labelling.choose import Chooser
from galaxyml.labelling.label_file import LabelFile, Named
from galaxyml.runs.errors import UserError

log = logging.getLogger(__name__)

EVERY = 10  # labels after which the order is learnt again
PAUSE = 60.0  # seconds without an answer that count as work at most
BARS = 4  # shares that are shown of a prediction
FACTS = {"nearest_known_class": "nearest known class", "reason": "stands out by its"}  # of light curves


class Labeller:
    """Objects that are asked about, one after the other, and their answers; for several threads.

    Args:
        objects: The objects, N of them.
        kind: What the run predicts of them.
        named: What a table of labels calls them.
        file: Where answers go.
        chooser: Orders them.
        every: Labels after which it learns again, in a thread of its own, while answers go on in the order before.

    Attributes:
        objects: See above.
        question: What is asked.
    """

    def __init__(
        self, objects: Embedded, kind: Kind, named: Named, file: LabelFile, chooser: Chooser, every: int = EVERY
    ) -> None:
        self.objects, self.question = objects, file.question
        self._kind, self._names, self._file, self._chooser, self._every = kind, named.names, file, chooser, every
        self._row_of = {name[-1]: row for row, name in enumerate(named.names)}
        self._predicts = set(kind.outputs) <= set(objects.table.columns)
        self._change = threading.Condition(threading.RLock())
        self._front: list[int] = []  # rows that were taken back, the next one last
        self._seconds, self._answered, self._last = 0.0, 0, 0.0  # of this session
        self._since = 0  # answers since the order was learnt
        self._is_due = self._is_learning = self._has_ended = False
        self._failure = ""
        self._probabilities: np.ndarray | None = None
        self._learnt_from = 0
        if labels := self._learnable():
            chooser.learn(labels)
        self._take(len(labels), chooser.order(labels))
        self._thread = threading.Thread(target=self._learn_on, name="chooser", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends once the answer that is being written is on the disk."""
        with self._change:
            self._has_ended = True
            self._change.notify_all()
        self._thread.join(timeout=10)

    def label(self, row: int, answer: int) -> None:
        """Keeps an answer, by its number.

        Raises:
            UserError: If it cannot be written, or labelling has ended; then nothing has changed.
        """
        with self._change:
            self._check_open()
            self._file.label(self._names[row], self.question.answers[answer])
            self._forget(row)
            now = time.monotonic()
            self._seconds += min(now - self._last, PAUSE) if self._last else 0.0
            self._last = now
            self._answered += 1
            self._since += 1
            if self._since >= self._every:
                self._since, self._is_due = 0, True
                self._change.notify_all()

    def skip(self, row: int) -> None:
        """Puts an object behind all others; otherwise as `label`."""
        with self._change:
            self._check_open()
            self._file.skip(self._names[row])
            self._forget(row)

    def undo(self) -> int | None:
        """Takes the last answer or skip back, and asks about that object again; gives its row, or None.

        Raises:
            UserError: As `label`.
        """
        with self._change:
            self._check_open()
            key = self._file.undo(self._row_of)
            if key is None:
                return None
            row = self._row_of[key]
            self._forget(row)
            self._front.append(row)
            return row

    def upcoming(self, count: int) -> list[int]:
        """The rows that are asked about next: in the chooser's order, skipped ones behind all others."""
        with self._change:
            return list(islice(self._waiting(), count))

    def state(self) -> dict[str, Any]:
        """Progress, as plain data."""
        with self._change:
            labels = self._labels()
            counts = Counter(labels.values())
            return {
                "counts": [counts[answer] for answer in self.question.answers],
                "labelled": len(labels),
                "skipped": len(self._skipped()),
                "total": len(self.objects),
                "session": self._answered,
                "per_minute": 60 * (self._answered - 1) / self._seconds if self._seconds else None,
                "learning": self._is_due or self._is_learning,
                "learnt_from": self._learnt_from,
                "failure": self._failure,
            }

    def describe(self, row: int) -> dict[str, Any]:
        """An object, what the run predicts of it, and the probability of each answer, as plain data."""
        probabilities = self._probabilities
        found: dict[str, Any] = {"row": row, "id": self.objects.ids[row], "prediction": self._prediction(row)}
        found["suggested"] = None if probabilities is None else [_finite(value) for value in probabilities[row]]
        return found

    def _prediction(self, row: int) -> dict[str, Any] | None:
        """What the run predicts; None of objects that have features alone."""
        if not self._predicts:
            return None
        of_table = {str(name): value for name, value in self.objects.table.iloc[row].items()}
        view = self._kind.view(of_table)
        bars = [(bar.name, _finite(bar.share)) for bar in view.charts[0].bars[:BARS]] if view.charts else []
        facts = [(number.name, f"{number.value:.3g}") for number in view.numbers[:BARS]]
        facts += [(title, str(of_table[name])) for name, title in FACTS.items() if name in of_table]
        return {
            "verdict": view.verdict,
            "confidence": _finite(view.confidence),
            "caption": view.charts[0].caption if view.charts else "",
            "bars": bars,
            "facts": facts,
            "ood": bool(of_table.get("ood", False)),
        }

    def _labels(self) -> dict[int, str]:
        """Answers by row, of objects that are here."""
        return {self._row_of[key]: label for key, label in self._file.labels().items() if key in self._row_of}

    def _learnable(self) -> dict[int, str]:
        """The same without what somebody else has written that is no answer."""
        return {row: label for row, label in self._labels().items() if label in self.question.answers}

    def _skipped(self) -> list[int]:
        """Rows that were skipped, in the order in which they were."""
        return [self._row_of[key] for key in self._file.skipped() if key in self._row_of]

    def _waiting(self) -> Iterator[int]:
        labelled = self._labels()
        skipped = self._skipped()
        front = [row for row in reversed(self._front) if row not in labelled]
        yield from front
        aside = labelled.keys() | set(skipped) | set(front)
        yield from (int(row) for row in self._order if int(row) not in aside)
        yield from (row for row in skipped if row not in front)

    def _check_open(self) -> None:
        if self._has_ended:
            raise UserError("The command has been stopped. The same one goes on from here.")

    def _forget(self, row: int) -> None:
        if row in self._front:
            self._front.remove(row)

    def _take(self, learnt_from: int, order: np.ndarray) -> None:
        self._order, self._learnt_from = order, learnt_from
        self._probabilities = self._chooser.probabilities

    def _learn_on(self) -> None:
        """Learns whenever it is due, until the end."""
        while True:
            with self._change:
                self._is_learning = False
                self._change.wait_for(lambda: self._is_due or self._has_ended)
                if self._has_ended:
                    return
                self._is_due, self._is_learning = False, True
                labels = self._learnable()
            try:
                self._chooser.learn(labels)
                order = self._chooser.order(labels)
            except Exception as error:  # labels go on in the order before, whatever it is
                log.exception("The order could not be learnt again.")
                self._failure = f"The order is not learnt again: {error}"
                continue
            with self._change:
                self._take(len(labels), order)
                self._failure = ""


def _finite(value: float | None) -> float | None:
    """A number that JSON has."""
    return None if value is None or not math.isfinite(value) else float(value)
