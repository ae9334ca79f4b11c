import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from galaxyml.runs import progress

Command = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("speed", "unit", "printed"),
    [(None, "", ""), (1234.5, "", "1,234/s"), (31.2, " steps", "31 steps/s"), (0.25, " steps", "4.0 s each")],
)
def test_a_rate_is_how_many_a_second_or_how_long_each(speed: float | None, unit: str, printed: str) -> None:
    assert progress.rate(speed, unit) == printed


def test_lines_tell_how_far_how_fast_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0, 10, 20, 30, 40, 50, 60])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    assert list(progress.track("abcd", "Reading", 4)) == list("abcd")
    # The clock is read at the start, and after each item: once, or twice where a line is due. 2 items took 30 s.
    assert capsys.readouterr().out == "Reading: 2 of 4, 0.0667/s, about 30 s left\n"


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
