"""How long work shows itself: a bar in a terminal, a plain line now and then elsewhere; nothing with `-q`."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 15.0
CONSOLE = "GALAXYML_CONSOLE"  # environment variable with the lowest level that is told, of `logging`: INFO or WARNING
_tracked = ContextVar("tracked", default=False)  # whether a bar over the whole of the work is shown already


def quiet() -> bool:
    """Whether only what goes wrong is to be told, and where the report is."""
    return os.environ.get(CONSOLE, "INFO") not in ("INFO", "DEBUG")


def live() -> bool:
    """Whether something may be drawn that changes: there is a terminal, and somebody who wants to see it."""
    return sys.stdout.isatty() and not quiet()


def say(text: str) -> None:
    """Prints a line, unless all is to be quiet."""
    if not quiet():
        print(text, flush=True)


class Rate(ProgressColumn):
    """How many are done a second, or how long one takes."""

    def render(self, task: Task) -> Text:
        """The last half minute's, or of all when it is done."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{1 / speed:.1f} s each" if speed < 1 else f"{speed:,.0f}{task.fields.get('unit', '')}/s")


def bar() -> Progress:
    """A progress bar as all of galaxyml shows it.

    Nothing is drawn where the output is no terminal, nor for a part of what `track` shows already.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        disable=not live() or _tracked.get(),
    )


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Passes items through while showing how many of them are done.

    Args:
        items: What is worked on.
        description: What is done, such as `Decoding images`.
        total: How many items there are.

    Yields:
        The items.
    """
    if _tracked.get():
        yield from items
        return
    if live():
        with bar() as shown:
            task = shown.add_task(description, total=total, note="")
            for item in items:
                _tracked.set(True)
                try:
                    yield item
                finally:
                    _tracked.set(False)
                shown.advance(task)
        return
    start = told = time.monotonic()
    for done, item in enumerate(items, start=1):
        _tracked.set(True)
        try:
            yield item
        finally:
            _tracked.set(False)
        if time.monotonic() - told > SECONDS_BETWEEN_LINES and done < total:
            told = time.monotonic()
            rate = done / (told - start)
            say(f"{description}: {done} of {total}, {rate:.3g}/s, about {(total - done) / rate:.0f} s left")


@contextmanager
def transfer(description: str, total: int | None, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows how many bytes of a file are done, how fast, and how long the rest takes.

    Nothing is shown for a part of what `track` shows already.

    Args:
        description: What is done, such as `images_gz2.zip`.
        total: Bytes in all, where that is known.
        start: Bytes that are done already.

    Yields:
        Takes how many bytes are done now, which may be fewer than before where something starts over.
    """
    if _tracked.get():
        yield lambda there: None
        return
    if live():
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn()) as shown:
            task = shown.add_task(description, total=total, completed=start)
            yield lambda there: shown.update(task, completed=there)
        return
    began = told = time.monotonic()

    def tell(there: int) -> None:
        nonlocal told
        if time.monotonic() - told < SECONDS_BETWEEN_LINES or there == total:
            return
        told = time.monotonic()
        rate = max(there - start, 1) / (told - began)
        rest = f" of {total / 1e6:,.1f} MB, about {(total - there) / rate:.0f} s left" if total else " MB"
        say(f"{description}: {there / 1e6:,.1f}{rest}, {rate / 1e6:.1f} MB/s")

    yield tell
