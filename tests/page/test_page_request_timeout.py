"""Answers take turns and have a time limit; whatever goes wrong, a visitor gets a sentence."""

import logging
import threading
from pathlib import Path

import pytest

from galaxyml.page.request_timeout import Patience, refused
from galaxyml.runs.errors import UserError


def test_what_takes_too_long_is_told_and_so_is_what_waits_for_it() -> None:
    patience, released = Patience(0.2), threading.Event()
    with pytest.raises(UserError, match=r"This takes longer than 0\.2 s"):
        patience(released.wait)
    with pytest.raises(UserError, match="somebody asked before"):
        patience(lambda: 1)
    released.set()
    assert Patience(5)(lambda value: value + 1, 1) == 2
    assert patience(lambda: 3) == 3  # what was given up is not done any more, and the next one is


def test_errors_come_through() -> None:
    def fails() -> None:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        Patience(5)(fails)


def test_a_sentence_names_no_folder_and_no_visitor_sees_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    path = Path("/secret/folder/x.csv")
    said = refused(UserError(f"{path}, line 2: it is wrong."), path)
    assert "x.csv, line 2" in said
    assert "secret" not in said
    with caplog.at_level(logging.ERROR):
        said = refused(KeyError("secret"))
    assert "secret" not in said
    assert "KeyError" not in said
    assert "secret" in caplog.text
