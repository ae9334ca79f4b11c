import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from galaxyml.runs import progress
from galaxyml.sweeps import live_table
from galaxyml.training import callbacks
from galaxyml.training.callbacks import StatusWriter

Command = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("speed", "unit", "printed"),
    [
        (None, "", ""),
        (1234.5, "", "1,234/s"),
        (31.2, " steps", "31 steps/s"),
        (1.2, " steps", "1 step/s"),
        (1.2, " batches", "1 batch/s"),
        (1.6, " batches", "2 batches/s"),
        (0.25, " steps", "4.0 s each"),
    ],
)
def test_a_rate_is_how_many_a_second_or_how_long_each(speed: float | None, unit: str, printed: str) -> None:
    assert progress.rate(speed, unit) == printed


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is printed by work that is to break its silence at once."""
    printed: list[str] = []
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(progress, "say", printed.append)
    return printed


def wait_for(lines: list[str], pattern: str) -> str:
    """Waits for a line of another thread, for some seconds at most."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := next((line for line in list(lines) if re.fullmatch(pattern, line)), None):
            return found
        time.sleep(0.005)
    raise AssertionError(f"no line {pattern!r} among the last of {len(lines)}: {lines[-3:]}")


def test_lines_tell_how_far_how_fast_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    blocks: list[Callable[[], str]] = []

    @contextmanager
    def heartbeat(line: Callable[[], str]) -> Iterator[None]:
        blocks.append(line)
        yield

    monkeypatch.setattr(progress, "heartbeat", heartbeat)
    for number, _ in enumerate(progress.track("abcd", "Reading", 4)):
        clock[0] += 10
        if number in (0, 3):
            progress.say(blocks[-1]())
    with progress.transfer("galaxies.zip", 8_000_000, start=2_000_000) as update:
        clock[0] += 10
        update(4_000_000)
        progress.say(blocks[-1]())
    assert capsys.readouterr().out.splitlines() == [
        "Reading: 0 of 4",
        "Reading: 3 of 4, 10.0 s each, the last one 10 s so far",
        "galaxies.zip: 4.0 of 8.0 MB, 0.2 MB/s, about 20 s left",
    ]


def seconds_left(line: str) -> int:
    """The time left that a line says; 0 where it says none."""
    found = re.search(r"about (?:(\d+):)?(\d+)(?: s)? left", line)
    return 60 * int(found[1] or 0) + int(found[2]) if found else 0


@pytest.mark.parametrize("rest", [1, 2, 7])
def test_the_time_left_never_grows_while_an_item_runs(rest: int) -> None:
    told = [seconds_left(progress.pace(3, rest, 360.0, running=running)) for running in range(0, 1000, 10)]
    assert told[0] == 120 * rest
    assert told == sorted(told, reverse=True)
    assert told[-1] == 120 * (rest - 1)  # as long as the others, for each that has not begun


def test_an_item_that_takes_long_is_not_silent(lines: list[str]) -> None:
    second = r"Reading: 1 of 2, .+, (about|the last one) \d+ s .+"
    for item in progress.track("ab", "Reading", 2):
        wait_for(lines, "Reading: 0 of 2" if item == "a" else second)
    said = len(lines)
    time.sleep(0.1)
    assert len(lines) <= said + 1  # one that was on its way


def test_the_innermost_work_speaks_and_a_sweep_with_it(lines: list[str]) -> None:
    with progress.heartbeat(lambda: "2 runs", of_all=True):
        wait_for(lines, "2 runs")
        with progress.heartbeat(lambda: "fold-0: judging"):
            wait_for(lines, "fold-0: judging; 2 runs")
            for _ in progress.track(range(1), "Scoring", 1):
                wait_for(lines, "Scoring: 0 of 1; 2 runs")
            del lines[:]
            wait_for(lines, "fold-0: judging; 2 runs")
        progress.say_progress("fold-0: epoch 1 of 9")
        assert "fold-0: epoch 1 of 9; 2 runs" in lines


def test_work_of_another_thread_speaks_on_when_what_began_first_has_ended(lines: list[str]) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with progress.heartbeat(lambda: "second"):
            begun.set()
            may_end.wait(20)

    second = threading.Thread(target=work)
    with progress.heartbeat(lambda: "first"):
        second.start()
        assert begun.wait(20)
    del lines[:]
    wait_for(lines, "second")
    may_end.set()
    second.join()
    said = len(lines)
    time.sleep(0.1)
    assert len(lines) <= said + 1  # one that was on its way


def test_nothing_breaks_the_silence_too_early(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 60.0)
    with progress.heartbeat(lambda: "working"):
        time.sleep(0.1)
    assert lines == []


def test_no_stage_of_a_sweep_is_silent(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (progress, callbacks, live_table):
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.002)
    monkeypatch.setattr(StatusWriter, "BETWEEN", 0.0)
    status, printed = command("name=talking", "epochs=2", "predict_views=8", "-m", "fold=0,1")
    assert status == 0, printed
    sweep, time = r"; 2 runs: .*", r"[\d:]+( s)?"
    for line in (
        rf"fold-0: preparing \((loading|reading|beginning) .*\), {time} so far" + sweep,
        rf"fold-0: epoch [12] of 2, step \d+ of \d+(, val/rmse [\d.]+)?(, .*/s|, .* s each), about {time} left" + sweep,
        r"fold-0: epoch [12] of 2, step \d+ of \d+, validating batch \d of \d.*" + sweep,
        r"fold-0: predicting, batch \d+ of \d+.*" + sweep,
        r"fold-0: judging and drawing: \d of \d.*; 2 runs: 1 running, 1 waiting; .*",
        rf"fold-1: epoch .*; 2 runs: 1 finished, 1 running; {time}, about {time} left",
        rf"fold-0: finished after {time}, val/rmse [\d.]+ \(1 of 2, about {time} left\)",
        r"multirun/galaxyzoo/talking: joining its runs and writing the report",
        r"talking: judging and drawing: \d of \d.*",
    ):
        assert re.search(rf"^{line}$", printed, flags=re.MULTILINE), (line, printed[-3000:])


def test_a_notebook_has_a_bar_on_one_line_without_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert list(progress.track(range(3), "Reading", 3)) == [0, 1, 2]
    drawn = capsys.readouterr().out
    assert re.search(r"Reading ━+ 3/3", drawn)
    assert drawn.count("\n") == 1  # at its end
    assert not re.search(r"\x1b\[\d*[A;m]", drawn)  # no cursor that goes up, no colour


def test_nothing_is_said_where_all_is_to_be_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(progress.CONSOLE, "WARNING")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert list(progress.track(range(3), "Reading", 3)) == [0, 1, 2]
    assert not progress.live()
    progress.say("a word")
    assert capsys.readouterr().out == ""


def test_a_quiet_run_tells_where_its_report_is_and_nothing_else(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own stand in front of the command's
    status, printed = command("-q", "name=still", "epochs=1", "-m", "fold=0,1")
    assert status == 0
    assert printed == "report      multirun/galaxyzoo/still/report.html\n"
    log = (tmp_path / "multirun" / "galaxyzoo" / "still" / "fold-0" / "galaxyml.log").read_text()
    assert "galaxyml.experiment: fold-0: " in log


def test_a_quiet_run_tells_what_is_wrong(command: Command) -> None:
    status, printed = command("--quiet", "fold=7")
    assert status == 2
    assert "fold=7: with folds=5 it must be" in printed
