"""Progress of long work: a bar in a terminal or a notebook, a plain line now and then elsewhere; nothing with `-q`."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # rich takes a tenth of a second to import, which help and typing errors need not wait for
    from rich.console import Console
    from rich.progress import Progress, Task

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 15.0  # at most, while work goes on
CONSOLE = "GALAXYML_CONSOLE"  # environment variable with the lowest level of `logging` that is printed: INFO or WARNING
_tracked = ContextVar("tracked", default=False)  # whether a bar over the whole of the work is shown already
_blocks: list[tuple[Callable[[], str], bool]] = []  # of `heartbeat`, of all threads, the innermost last
_blocks_change = threading.Lock()
_all_ended = threading.Event()  # set when the last of them ends
_last_line = 0.0  # on the monotonic clock


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
    global _last_line
    _last_line = time.monotonic()
    if not quiet():
        print(text, flush=True)


def say_progress(*lines: str) -> None:
    """Prints how far work is, and behind it how far all of it is, as the blocks of `heartbeat` around it know."""
    say("; ".join([*lines, *(line() for line, of_all in _blocks if of_all)]))


def rate(speed: float | None, unit: str = "") -> str:
    """Items a second, or seconds an item, in words.

    >>> rate(1234.5, " steps"), rate(1.2, " batches"), rate(0.25), rate(None)
    ('1,234 steps/s', '1 batch/s', '4.0 s each', '')
    """
    if not speed:
        return ""
    if speed < 1:
        return f"{1 / speed:.1f} s each"
    if round(speed) == 1:
        unit = unit.removesuffix("es") if unit.endswith("ches") else unit.removesuffix("s")
    return f"{speed:,.0f}{unit}/s"


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(8), duration(185), duration(7385)
    ('8 s', '3:05', '2:03:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(done: float, rest: float, seconds: float, unit: str = "", running: float = 0.0) -> str:
    """How fast work goes, and how long the rest of it takes, behind a comma; "" where nothing is done yet.

    The item that is being worked on is taken to last as long as the mean of the others: the time left goes down while
    it runs, and stands still where it takes longer. Of the last item nothing is known then but for how long it has run.

    Args:
        done: Items that are done.
        rest: Those that are not, with the one that is being worked on.
        seconds: That those which are done took.
        unit: What they are, behind a space.
        running: Seconds that the next one has taken so far.

    >>> pace(2, 2, 30.0), pace(0, 4, 30.0), pace(2, 2, 30.0, running=10.0), pace(3, 1, 30.0, running=200.0)
    (', 15.0 s each, about 30 s left', '', ', 15.0 s each, about 20 s left', ', 10.0 s each, the last one 3:20 so far')
    """
    if done <= 0 or seconds <= 0:
        return ""
    each = seconds / done
    left = rest * each - min(running, each)
    rest_of_it = f"about {duration(left)} left" if left > 0 or not rest else f"the last one {duration(running)} so far"
    return f", {rate(1 / each, unit)}, {rest_of_it}"


@contextmanager
def heartbeat(line: Callable[[], str], of_all: bool = False) -> Iterator[None]:
    """Where no bars are drawn, breaks the silence of a block: a line whenever none was printed for a while.

    Of blocks within each other the innermost speaks.

    Args:
        line: How far the work is; it is called in another thread.
        of_all: Whether this is said behind the lines of the blocks within, as the time left of a sweep is.
    """
    global _last_line, _all_ended
    if live() or quiet():
        yield
        return
    block = (line, of_all)
    with _blocks_change:
        _blocks.append(block)
        if len(_blocks) == 1:
            _last_line, _all_ended = time.monotonic(), threading.Event()
            threading.Thread(target=_beat, args=(_all_ended,), daemon=True).start()
    try:
        yield
    finally:
        with _blocks_change:
            _blocks.remove(block)
            if not _blocks:
                _all_ended.set()


def _beat(ended: threading.Event) -> None:
    """Prints the line of the innermost block when it is time, until the last one has ended."""
    while not ended.wait(max(_last_line + SECONDS_BETWEEN_LINES - time.monotonic(), 0.01)):
        if time.monotonic() - _last_line >= SECONDS_BETWEEN_LINES:
            say_progress(*(line() for line, of_all in _blocks[-1:] if not of_all))


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

    def line(done: int, seconds: float, running: float) -> str:
        return f"{done:,} of {total:,}{pace(done, total - done, seconds, running=running)}"

    with _shown(description, total, line) as update:
        for done, item in enumerate(items, start=1):
            outer = _tracked.get()
            _tracked.set(True)
            try:
                yield item
            finally:
                _tracked.set(outer)
            update(done)


@contextmanager
def advancing(description: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows how many of some items are done, as `track` does, where they are not done one by one.

    Args:
        description: What is done.
        total: How many there are.
        start: How many are done already.

    Yields:
        Takes how many are done now.
    """

    def line(done: int, seconds: float, running: float) -> str:
        return f"{done:,} of {total:,}"

    with _shown(description, total, line, start) as update:
        yield update


@contextmanager
def counted(description: str) -> Iterator[Callable[[int], None]]:
    """Shows how many items are done, and how fast, where nobody knows how many there are.

    Args:
        description: What is done, such as `Listing images`.

    Yields:
        Takes how many are done now.
    """

    def line(done: int, seconds: float, running: float) -> str:
        seconds += running
        return f"{done:,}, {rate(done / seconds if seconds else None)}"

    with _shown(description, None, line) as update:
        yield update


@contextmanager
def transfer(description: str, total: int | None, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows how many bytes of a file are done, how fast, and how long the rest takes.

    Args:
        description: What is done, such as `images_gz2.zip`.
        total: Bytes in all, where that is known.
        start: Bytes that are done already.

    Yields:
        Takes how many bytes are done now, which may be fewer than before where something starts over.
    """

    def line(done: int, seconds: float, running: float) -> str:
        seconds += running  # in which nothing came
        speed = max(done - start, 0) / seconds if seconds else 0.0
        left = f", about {duration((total - done) / speed)} left" if total and speed else ""
        of_all = f" of {total / 1e6:,.1f}" if total else ""
        return f"{done / 1e6:,.1f}{of_all} MB, {speed / 1e6:.1f} MB/s{left}"

    with _shown(description, total, line, start, of_bytes=True) as update:
        yield update


@contextmanager
def _shown(
    description: str,
    total: int | None,
    line: Callable[[int, float, float], str],
    start: int = 0,
    of_bytes: bool = False,
) -> Iterator[Callable[[int], None]]:
    """Shows a bar, or where none can be drawn a line now and then; yields what takes how many are done now.

    A bar within what `track` shows already is not drawn.

    Args:
        description: What is done.
        total: How much there is, where that is known.
        line: How far it is, from how many are done, the seconds that they took, and those that have gone since.
        start: How many are done already.
        of_bytes: As for `bar`.
    """
    if live():
        with bar(of_bytes) as progress:
            task = progress.add_task(description, total=total, completed=start, note="")
            yield lambda done: progress.update(task, completed=done)
        return
    began = time.monotonic()
    state = start, began  # how many are done, and since when

    def update(done: int) -> None:
        nonlocal state
        state = done, time.monotonic()

    def text() -> str:
        now_done, since = state
        return f"{description}: {line(now_done, since - began, time.monotonic() - since)}"

    with heartbeat(text):
        yield update
