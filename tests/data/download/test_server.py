"""What servers answer, and what is said of it."""

import time
from email.utils import formatdate

import pytest
import requests
import urllib3
from faulty import Server, refuses

from galaxyml.data.download.server import (
    RetryPolicy,
    TransientError,
    answer,
    host,
    open_session,
    retried,
    transient_errors,
)
from galaxyml.runs.errors import UserError

HURRIED = RetryPolicy(tries=4, unreached=2, wait=0.01, longest=0.02, stall=2.0)


def test_names_and_passwords_of_a_mirror_are_told_to_nobody(server: Server) -> None:
    address = server.address.replace("//", "//ada:secret@") + "/table.csv"
    with pytest.raises(UserError) as told:
        answer(open_session(), address, HURRIED)
    assert "secret" not in str(told.value)
    assert server.asked[-1][2]["Authorization"].startswith("Basic ")
    assert host(address) == host(server.address)


@pytest.mark.parametrize(("asked", "seconds"), [("3", 3), ("a date", 50), ("soon", None), (None, None)])
def test_how_long_a_server_wants_to_be_left_alone(server: Server, asked: str | None, seconds: float | None) -> None:
    given = formatdate(time.time() + 50, usegmt=True) if asked == "a date" else asked
    server.always["table.csv"] = refuses(429, **({"Retry_After": given} if given else {}))
    with pytest.raises(TransientError) as told:
        answer(open_session(), f"{server.address}/table.csv", HURRIED)
    assert told.value.wait == (None if seconds is None else pytest.approx(seconds, abs=5))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), UserError, "REQUESTS_CA_BUNDLE"),
        (requests.exceptions.ConnectTimeout(), TransientError, "no connection"),
        (requests.exceptions.ReadTimeout(), TransientError, "gone silent"),
        (requests.exceptions.JSONDecodeError("Expecting value", "<html>", 0), TransientError, "broke"),
        (
            urllib3.exceptions.ProtocolError("Connection broken", ConnectionResetError(104, "reset")),
            TransientError,
            "broke",
        ),
    ],
)
def test_every_error_of_a_line_becomes_a_sentence(error: Exception, kind: type[UserError], words: str) -> None:
    with pytest.raises(kind, match=words), transient_errors():
        raise error


def test_attempts_that_bring_something_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    gained = 0

    def ask() -> str:
        nonlocal gained
        gained += gained < 20  # bytes come one by one, and then no more
        raise TransientError("the line broke")

    with pytest.raises(TransientError):
        retried(ask, "table.csv", HURRIED, lambda: gained)
    assert capsys.readouterr().out.count("trying again") == 19 + HURRIED.tries - 1
