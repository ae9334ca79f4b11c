import math
import os
import time
from pathlib import Path

import pytest

from galaxyml.runs.run_dir import RunDir
from galaxyml.sweeps import live_table
from galaxyml.sweeps.live_table import Board, _Row, time_left


def test_jobs_take_as_long_as_those_that_have_ended() -> None:
    assert time_left([10.0, 20.0], [], waiting=3, slots=1) == 45
    # One runs for 10 s more, though its fit will have ended in 1 s; 40 s in all, on two slots.
    assert time_left([10.0, 20.0], [(5.0, 1.0)], waiting=2, slots=2) == 20
    assert time_left([10.0, 20.0], [(5.0, 50.0)], waiting=0, slots=2) == 50
    assert time_left([], [(5.0, 10.0)], waiting=2, slots=1) == 40  # none has ended yet
    assert time_left([10.0], [(4.0, None), (12.0, None)], waiting=0, slots=2) == 6  # the second is to end at any time
    assert time_left([], [(1.0, 99.0), (1.0, 1.0)], waiting=0, slots=2) == 99  # the longest
    assert math.isnan(time_left([], [(3.0, None)], waiting=5, slots=1))


def test_lines_tell_how_long_all_of_a_sweep_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_table, "SECONDS_BETWEEN_LINES", 0.0)
    runs = [RunDir(tmp_path / f"fold-{number}") for number in range(4)]
    for run in runs:
        run.path.mkdir()
    board = Board(runs)
    with board.shown(2):
        now = time.time()
        for number in (0, 1):
            board.started(number, f"CPU {number + 1}", os.getpid())
        runs[0].update_status(
            state="finished", began=now - 100, ended=now, pid=os.getpid(), monitor="val/loss", value=1
        )
        runs[1].update_status(state="training", began=now - 40, ended=None, pid=os.getpid(), left=60.0)
        capsys.readouterr()
        board.ended(0, "finished", "")
        board.look()
    lines = capsys.readouterr().out.splitlines()
    # One of 100 s has ended, one has begun, two wait: 300 s on two slots; 260 s as soon as the second says 60 s.
    assert lines[0] == "fold-0: finished after 1:40, val/loss 1.0000 (1 of 4, about 2:30 left)"
    assert lines[1] == "fold-1: training, about 1:00 left"
    assert lines[2].startswith("4 runs: 1 finished, 1 running, 2 waiting; ")
    assert lines[2].endswith(", about 2:10 left")


def test_lines_tell_what_is_being_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_table, "SECONDS_BETWEEN_LINES", 0.0)
    run = RunDir(tmp_path / "fold-0")
    run.path.mkdir()
    board = Board([run])
    with board.shown(1):
        board.started(0, "CPU 1", os.getpid())
        run.update_status(state="preparing", doing="reading the data", began=time.time(), pid=os.getpid())
        board.look()
    assert "\nfold-0: preparing (reading the data)\n" in capsys.readouterr().out


def test_how_far_a_job_is_is_said_in_words(tmp_path: Path) -> None:
    row = _Row(RunDir(tmp_path))
    assert row.progress == ""
    row.status = {"epoch": 0, "epochs": 3, "phase": "all", "phases": ["head", "all"]}
    assert row.progress == "phase 'all', first of 3 epochs"
    row.status = {"epoch": 2, "epochs": 30, "phase": "all", "phases": ["all"]}
    assert row.progress == "epoch 2 of 30"
