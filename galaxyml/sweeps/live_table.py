"""Jobs that run side by side, shown to a person: a live table in a terminal, plain lines elsewhere."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from galaxyml.reports.sweep_table import RUNNING
from galaxyml.runs.progress import SECONDS_BETWEEN_LINES, duration, in_notebook, live, say
from galaxyml.runs.run_dir import RunDir, state_in_words

STYLES = {"finished": "green", "failed": "red", "stopped": "yellow", "pruned": "yellow", "waiting": "dim"}


@dataclass
class _Row:
    """One job."""

    run: RunDir
    state: str = "waiting"
    place: str = ""  # where it runs
    pid: int | None = None  # of its process, where that is known; what its folder says of another's is old
    status: dict[str, Any] = field(default_factory=dict)  # as its folder has it
    seconds: float = 0.0  # that it took, or has taken
    began: float = 0.0  # on the monotonic clock, as the time of its last line
    printed: float = 0.0
    kept: bool = False  # as it had finished before

    @property
    def epoch(self) -> str:
        """Such as `3/30`, with the phase where there are several."""
        if "epoch" not in self.status:
            return ""
        phase = f"{self.status['phase']} " if len(self.status.get("phases", [])) > 1 else ""
        return f"{phase}{self.status['epoch']}/{self.status['epochs']}"

    @property
    def progress(self) -> str:
        """The same in words: `epoch 3 of 30`, or `first of 30 epochs` before the end of that one."""
        if "epoch" not in self.status:
            return ""
        done, all_of_them = self.status["epoch"], self.status["epochs"]
        words = f"epoch {done} of {all_of_them}" if done else f"first of {all_of_them} epochs"
        several = len(self.status.get("phases", [])) > 1
        return f"phase '{self.status['phase']}', {words}" if several else words

    @property
    def value(self) -> str:
        """The monitored metric."""
        value = self.status.get("value")
        return "" if value is None else f"{value:.4f}"

    @property
    def left(self) -> str:
        """Time until the end of the fit, as far as is known."""
        seconds = self.status.get("left")
        return "" if seconds is None else duration(seconds)


class Board:
    """The jobs of a sweep, shown while they run.

    Args:
        runs: Their folders.
        table: Whether there is a table in a terminal; plain lines otherwise, as where each run has a bar of its own.
    """

    def __init__(self, runs: Sequence[RunDir], table: bool = True) -> None:
        self.rows = [_Row(run) for run in runs]
        self.began, self.since = time.monotonic(), time.time()
        self.printed, self.slots = self.began, 1
        self.table = table
        self.console = Console(highlight=False)
        self.live: Live | None = None
        if table and live() and not in_notebook():  # which cannot go back by several lines
            self.live = Live(get_renderable=self._table, refresh_per_second=2, console=self.console)

    @contextmanager
    def shown(self, slots: int | None = None) -> Iterator[None]:
        """A block in which the table is there.

        Args:
            slots: How many run at once, if that is known.
        """
        self.slots = slots or len(self.rows)
        if self.live is None:
            say(f"{len(self.rows)} runs" + (f", {slots} at once" if slots else ""))
            yield
            return
        with self.live:
            yield

    def say(self, text: str) -> None:
        """Prints a line, above the table."""
        if self.live is not None:
            self.console.print(text, markup=False)
        else:
            say(text)

    def started(self, number: int, place: str, pid: int | None) -> None:
        """Shows that a job has begun."""
        row, now = self.rows[number], time.monotonic()
        row.state, row.place, row.pid, row.began, row.printed = "preparing", place, pid, now, now
        row.kept = row.run.finished
        if self.live is None and not row.kept:
            self.say(f"{row.run.name}: begins on {place}")

    def ended(self, number: int, state: str, reason: str) -> None:
        """Shows that a job has ended."""
        row = self.rows[number]
        self._read(row)
        row.state = state
        if self.live is None or state in ("failed", "stopped"):
            value = f", {row.status['monitor']} {row.value}" if row.value and state == "finished" else ""
            why = f": {reason}" if reason else ""
            done = sum(other.state not in ("waiting", *RUNNING) for other in self.rows)
            all_of_them = f"({done} of {len(self.rows)}{self._left()})"
            ended = "kept, as finished before" if row.kept else f"{state} after {duration(row.seconds)}"
            self.say(f"{row.run.name}: {ended}{value}{why} {all_of_them}")

    def summary(self) -> str:
        """How many jobs are in which state, the time that they have taken, and about what is left."""
        counts = Counter("running" if row.state in RUNNING else row.state for row in self.rows)
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        return f"{len(self.rows)} runs: {states}; {duration(time.monotonic() - self.began)}{self._left()}"

    def read(self) -> None:
        """Reads how far the running jobs are."""
        for row in self.rows:
            if row.state in ("waiting", *RUNNING):
                self._read(row)

    def look(self) -> None:
        """Reads how far the running jobs are, and where there is no table prints it now and then."""
        self.read()
        if self.live is not None:
            return
        now = time.monotonic()
        for row in self.rows:
            if row.state in RUNNING and now - row.printed > SECONDS_BETWEEN_LINES:
                row.printed = now
                left = f", about {row.left} left" if row.left else ""
                value = f", {row.status.get('monitor')} {row.value}" if row.value else ""
                epoch = f", {row.progress}" if row.progress else ""
                state = state_in_words({**row.status, "state": row.state})
                self.say(f"{row.run.name}: {state}{epoch}{value}{left}")
        if now - self.printed > SECONDS_BETWEEN_LINES:
            self.printed = now
            self.say(self.summary())

    def _read(self, row: _Row) -> None:
        """Takes over a job's status from its folder, unless that is from before."""
        status = row.run.status()
        if row.pid is None:
            # A node's clock may go otherwise than this machine's.
            current = status.get("began", 0.0) > self.since or (self.table and status.get("state") in RUNNING)
        else:
            row.seconds = time.monotonic() - row.began
            current = status.get("pid") == row.pid
        if current:
            row.status, row.state = status, status["state"]
            row.place = row.place or status.get("place", "")
            row.seconds = (status.get("ended") or time.time()) - status["began"]

    def _left(self) -> str:
        """The time until the last job has ended, in words behind a comma; "" where nothing is known of it."""
        running = [row for row in self.rows if row.state in RUNNING]
        seconds = time_left(
            [row.seconds for row in self.rows if row.state == "finished" and row.status],  # else it was kept
            [(row.seconds, row.status.get("left") if row.state == "training" else None) for row in running],
            sum(row.state == "waiting" and not row.run.finished for row in self.rows),
            self.slots,
        )
        return f", about {duration(seconds)} left" if seconds > 0 else ""

    def _table(self) -> Group:
        """As many rows as the terminal has room for: those that run, then what is new."""
        metric = next((str(row.status["monitor"]) for row in self.rows if "monitor" in row.status), "metric")
        table = Table(box=None, pad_edge=False)
        for name in ("run", "where", "", "epoch", metric, "time", "left"):
            table.add_column(name, justify="left" if name in ("run", "where", "") else "right", no_wrap=True)
        for row in self._shown():
            state = Text(row.state, style=STYLES.get(row.state, ""))
            seconds = duration(row.seconds) if row.seconds else ""
            left = row.left if row.state == "training" else ""
            table.add_row(row.run.name, row.place, state, row.epoch, row.value, seconds, left)
        return Group(table, Text(self.summary()))

    def _shown(self) -> list[_Row]:
        """Those rows that there is room for, in their order."""
        rank = {"failed": 1, "stopped": 1, "waiting": 2, "finished": 3, "pruned": 3}
        numbers = sorted(range(len(self.rows)), key=lambda number: rank.get(self.rows[number].state, 0))
        return [self.rows[number] for number in sorted(numbers[: max(4, self.console.height - 4)])]


def time_left(done: Sequence[float], running: Sequence[tuple[float, float | None]], waiting: int, slots: int) -> float:
    """Seconds until the last of some jobs has ended, if all take as long as those that have ended did on average.

    Before one has ended, all take as long as those that run.

    Args:
        done: Seconds that each job took that has ended.
        running: Seconds that each has taken, and about how many more its fit takes; None where that is not known.
        waiting: How many have not begun.
        slots: How many run at once.

    Returns:
        NaN where nothing is known of any of them.
    """
    times = list(done) or [taken + left for taken, left in running if left is not None]
    if not times:
        return math.nan
    mean = sum(times) / len(times)
    # What comes after the fit is known of those that have ended alone.
    rest = [left if left is not None and not done else max(mean - taken, left or 0.0) for taken, left in running]
    return max([(sum(rest) + waiting * mean) / slots, *rest])
