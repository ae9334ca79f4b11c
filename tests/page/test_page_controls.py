"""Whatever goes wrong, a visitor gets a sentence."""

import logging
from pathlib import Path

import pytest

from galaxyml.page.controls import refusal
from galaxyml.runs.errors import UserError


def test_a_sentence_names_no_folder_and_no_visitor_sees_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    path = Path("/secret/folder/x.csv")
    shown = refusal(UserError(f"{path}, line 2: it is wrong."), path)
    assert "x.csv, line 2" in shown
    assert "secret" not in shown
    with caplog.at_level(logging.ERROR):
        shown = refusal(KeyError("secret"))
    assert "secret" not in shown
    assert "KeyError" not in shown
    assert "secret" in caplog.text
