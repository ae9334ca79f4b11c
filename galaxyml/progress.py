"""How long work shows itself: a bar in a terminal, a plain line now and then elsewhere."""

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
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 15.0
_tracked = ContextVar("tracked", default=False)  # whether a bar over the whole of the work is shown already


def bar() -> Progress:
    """A progress bar as all of galaxyml shows it.

    Nothing is drawn where the output is no terminal, nor for a part of what `track` shows already.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        disable=not sys.stdout.isatty() or _tracked.get(),
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
    if sys.stdout.isatty():
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
            left = (told - start) / done * (total - done)
            print(f"{description}: {done} of {total}, about {left:.0f} s left", flush=True)


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
    if sys.stdout.isatty():
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
        print(f"{description}: {there / 1e6:,.1f}{rest}, {rate / 1e6:.1f} MB/s", flush=True)

    yield tell
