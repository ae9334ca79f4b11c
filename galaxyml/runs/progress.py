"""Progress of long work: a bar in a terminal or a notebook, a plain line now and then elsewhere; nothing with `-q`."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # rich takes a tenth of a second to import, which help and typing errors need not wait for
    from rich.console import Console
    from rich.progress import Progress, Task

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 15.0
CONSOLE = "GALAXYML_CONSOLE"  # environment variable with the lowest level of `logging` that is printed: INFO or WARNING
_tracked = ContextVar("tracked", default=False)  # whether a bar over the whole of the work is shown already


def quiet() -> bool:
    """Whether only errors, and where the report is, are printed."""
    return os.environ.get(CONSOLE, "INFO") not in ("INFO", "DEBUG")


def live() -> bool:
    """Whether bars are drawn: there is a terminal or a notebook, and `-q` was not given."""
    return (sys.stdout.isatty() or in_notebook()) and not quiet()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"


def say(text: str) -> None:
    """Prints a line, unless `-q` was given."""
    if not quiet():
        print(text, flush=True)


def rate(speed: float | None, unit: str = "") -> str:
    """Items a second, or seconds an item, in words.

    >>> rate(1234.5, " steps"), rate(0.25), rate(None)
    ('1,234 steps/s', '4.0 s each', '')
    """
    if not speed:
        return ""
    return f"{1 / speed:.1f} s each" if speed < 1 else f"{speed:,.0f}{unit}/s"


def bar(of_bytes: bool = False) -> "Progress":
    """A progress bar as all of galaxyml shows it.

    Nothing is drawn where the output is neither a terminal nor a notebook, nor within what `track` shows already.

    Args:
        of_bytes: Whether bytes are counted; otherwise a task has a field `note`, and may have a `unit`.
    """
    from rich import progress
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        """The last half minute's, or of all when it is done."""

        def render(self, task: "Task") -> Text:
            return Text(rate(task.finished_speed or task.speed, task.fields.get("unit", "")))

    columns: list[progress.ProgressColumn] = [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    if not of_bytes:
        columns = [progress.MofNCompleteColumn(), Rate(), progress.TimeElapsedColumn()]
    note = [] if of_bytes else [progress.TextColumn("{task.fields[note]}")]
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *columns,
        progress.TimeRemainingColumn(),
        *note,
        console=_notebook() if in_notebook() else None,
        refresh_per_second=2 if in_notebook() else 10,  # a notebook keeps all that is drawn
        disable=not live() or _tracked.get(),
    )


def _notebook() -> "Console":
    """A console for one line that is drawn again and again, which is all that a notebook can do without a widget."""
    from rich.console import Console

    # Without colours: their codes count as letters where a new line is drawn over an old one.
    return Console(force_terminal=True, force_jupyter=False, color_system=None, width=110)


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Passes items through while showing how many of them are done.

    Args:
        items: What is worked on.
        description: What is done, such as `Decoding images`.
        total: How many items there are.

    Yields:
        The items.
    """

    def line(done: int, speed: float) -> str:
        return f"{done} of {total}, {speed:.3g}/s, about {(total - done) / speed:.0f} s left"

    if _tracked.get():
        yield from items
        return
    with _shown(description, total, line) as update:
        for done, item in enumerate(items, start=1):
            _tracked.set(True)
            try:
                yield item
            finally:
                _tracked.set(False)
            update(done)


@contextmanager
def transfer(description: str, total: int | None, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows how many bytes of a file are done, how fast, and how long the rest takes.

    Nothing is shown within what `track` shows already.

    Args:
        description: What is done, such as `images_gz2.zip`.
        total: Bytes in all, where that is known.
        start: Bytes that are done already.

    Yields:
        Takes how many bytes are done now, which may be fewer than before where something starts over.
    """

    def line(done: int, speed: float) -> str:
        rest = f" of {total / 1e6:,.1f} MB, about {(total - done) / speed:.0f} s left" if total else " MB"
        return f"{done / 1e6:,.1f}{rest}, {speed / 1e6:.1f} MB/s"

    if _tracked.get():
        yield lambda done: None
        return
    with _shown(description, total, line, start, of_bytes=True) as update:
        yield update


@contextmanager
def _shown(
    description: str, total: int | None, line: Callable[[int, float], str], start: int = 0, of_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Shows a bar, or where none can be drawn a line now and then; yields what takes how many are done now."""
    if live():
        with bar(of_bytes) as progress:
            task = progress.add_task(description, total=total, completed=start, note="")
            yield lambda done: progress.update(task, completed=done)
        return
    began = last = time.monotonic()

    def update(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_LINES and done != total:
            last = time.monotonic()
            say(f"{description}: {line(done, max(done - start, 1) / (last - began))}")

    yield update
