"""What a person sees of jobs that run side by side: a live table in a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from galaxyml.runs.progress import SECONDS_BETWEEN_LINES, live, say
from galaxyml.runs.run_dir import RunDir

RUNNING = ("preparing", "training", "predicting")
STYLES = {"finished": "green", "failed": "red", "stopped": "yellow", "pruned": "yellow", "waiting": "dim"}


@dataclass
class Row:
    """One job.

    Attributes:
        run: Its folder.
        state: How it stands, as `galaxyml.runs.run_dir.STATES` has it.
        place: Where it runs.
        pid: Of its process, where that is known; what its folder tells of another's is old.
        told: What its folder tells.
        seconds: How long it took, or has taken.
        began: `time.monotonic()` of its start.
        printed: `time.monotonic()` of its last line.
        reason: Why it failed.
    """

    run: RunDir
    state: str = "waiting"
    place: str = ""
    pid: int | None = None
    told: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    began: float = 0.0
    printed: float = 0.0
    reason: str = ""

    @property
    def epoch(self) -> str:
        """Such as `3/30`, with the phase where there are several."""
        if "epoch" not in self.told:
            return ""
        phase = f"{self.told['phase']} " if len(self.told.get("phases", [])) > 1 else ""
        return f"{phase}{self.told['epoch']}/{self.told['epochs']}"

    @property
    def value(self) -> str:
        """The monitored metric."""
        value = self.told.get("value")
        return "" if value is None else f"{value:.4f}"

    @property
    def left(self) -> float | None:
        """Seconds until the end of the fit, as far as is known."""
        return self.told.get("left")


class Board:
    """The jobs of a sweep, shown while they run.

    Args:
        folders: Of the jobs, in their order.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.rows = [Row(RunDir(folder)) for folder in folders]
        self.began, self.since = time.monotonic(), time.time()
        self.console = Console(highlight=False)
        self.live: Live | None = None
        if live():
            self.live = Live(get_renderable=self._table, refresh_per_second=2, console=self.console)

    @contextmanager
    def shown(self, slots: int | None = None) -> Iterator[None]:
        """A block in which the table is there.

        Args:
            slots: How many run at once, if that is known.
        """
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

    def started(self, at: int, place: str, pid: int | None) -> None:
        """A job has begun."""
        row = self.rows[at]
        row.state, row.place, row.pid, row.began = "preparing", place, pid, time.monotonic()
        row.printed = row.began
        if self.live is None:
            self.say(f"{row.run.name}: begins on {place}")

    def ended(self, at: int, state: str, reason: str) -> None:
        """A job has ended."""
        row = self.rows[at]
        self._read(row)
        row.state, row.reason = state, reason
        if self.live is None or state in ("failed", "stopped"):
            value = f", {row.told['monitor']} {row.value}" if row.value and state == "finished" else ""
            why = f": {reason}" if reason else ""
            done = sum(each.state not in ("waiting", *RUNNING) for each in self.rows)
            self.say(f"{row.run.name}: {state} after {_time(row.seconds)}{value}{why} ({done} of {len(self.rows)})")

    def look(self) -> None:
        """Reads how far the running jobs are."""
        now = time.monotonic()
        for row in self.rows:
            if row.state in ("waiting", *RUNNING):
                self._read(row)
                if self.live is None and row.state in RUNNING and now - row.printed > SECONDS_BETWEEN_LINES:
                    row.printed = now
                    left = f", about {_time(row.left)} left" if row.left is not None else ""
                    value = f", {row.told.get('monitor')} {row.value}" if row.value else ""
                    epoch = f", epoch {row.epoch}" if row.epoch else ""
                    self.say(f"{row.run.name}: {row.state}{epoch}{value}{left}")

    def _read(self, row: Row) -> None:
        """Takes over what a job's folder tells, unless that is from before."""
        if row.pid is not None:
            row.seconds = time.monotonic() - row.began
        told = row.run.status()
        if row.pid is None:
            mine = told.get("began", 0.0) > self.since or told.get("state") in RUNNING
        else:
            mine = told.get("pid") == row.pid
        if mine:
            row.told, row.state = told, told["state"]
            row.place = row.place or told.get("place", "")
            row.seconds = (told.get("ended") or time.time()) - told["began"]

    def _table(self) -> Group:
        """As many rows as the terminal has room for: those that run, then what is new."""
        metric = next((str(row.told["monitor"]) for row in self.rows if "monitor" in row.told), "metric")
        table = Table(box=None, pad_edge=False)
        for name in ("run", "where", "", "epoch", metric, "time", "left"):
            table.add_column(name, justify="left" if name in ("run", "where", "") else "right", no_wrap=True)
        for row in self._shown():
            left = _time(row.left) if row.left is not None and row.state == "training" else ""
            state = Text(row.state, style=STYLES.get(row.state, ""))
            taken = _time(row.seconds) if row.seconds else ""
            table.add_row(row.run.name, row.place, state, row.epoch, row.value, taken, left)
        counts = Counter("running" if row.state in RUNNING else row.state for row in self.rows)
        summary = ", ".join(f"{count} {state}" for state, count in counts.items())
        return Group(table, Text(f"{len(self.rows)} runs: {summary}; {_time(time.monotonic() - self.began)}"))

    def _shown(self) -> list[Row]:
        room = max(4, self.console.height - 4)
        if len(self.rows) <= room:
            return self.rows
        weight = {"failed": 1, "stopped": 1, "waiting": 2, "finished": 3, "pruned": 3}
        first = sorted(range(len(self.rows)), key=lambda at: weight.get(self.rows[at].state, 0))[:room]
        return [self.rows[at] for at in sorted(first)]


def _time(seconds: float) -> str:
    """Such as `8 s`, `3:05` or `2:03:05`.

    >>> _time(8), _time(185), _time(7385)
    ('8 s', '3:05', '2:03:05')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{hours}:{minutes}:{rest % 60:02}" if hours else f"{minutes}:{rest % 60:02}"
