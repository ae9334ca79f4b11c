"""Servers: how they are asked, how long they are waited for, and what is said when they do not answer."""

import email.utils
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from galaxyml import __version__
from galaxyml.runs.errors import UserError

if TYPE_CHECKING:
    from requests import Response, Session

Answer = TypeVar("Answer")

# Zenodo slows down clients that do not say who they are (fatiando/pooch#502).
USER_AGENT = f"galaxyml/{__version__} (https://github.com/galaxyml/galaxyml)"
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # states of a server that may be others a little later


@dataclass(frozen=True)
class RetryPolicy:
    """How long a server is waited for.

    Attributes:
        tries: Attempts in a row that bring nothing new.
        unreached: The same where no server answers at all.
        wait: Seconds before the second attempt; each further one waits twice as long.
        longest: Most seconds before an attempt.
        longest_asked: Most seconds that a server may ask to wait.
        stall: Seconds without a byte after which a line counts as broken.
    """

    tries: int = 7
    unreached: int = 3
    wait: float = 1.0
    longest: float = 60.0
    longest_asked: float = 900.0
    stall: float = 60.0


class TransientError(UserError):
    """An error that may go away by itself.

    Args:
        what: It, in words.
        wait: Seconds that the server asks for, if it does.
        unreached: Whether no server replied.
    """

    def __init__(self, what: str, wait: float | None = None, unreached: bool = False) -> None:
        super().__init__(what)
        self.wait, self.unreached = wait, unreached


class Refused(UserError):
    """A server's answer that the file is not given.

    Args:
        what: It, in words.
        status: Its number.
    """

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


def open_session() -> "Session":
    """A session that says who it is; proxies are those of the environment."""
    import requests

    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    session.max_redirects = 10
    return session


def retried(ask: Callable[[], Answer], what: str, policy: RetryPolicy, gained: Callable[[], int] = lambda: 0) -> Answer:
    """Asks a server until it answers, with longer and longer pauses.

    Args:
        ask: Asks once.
        what: What is asked for, in words.
        policy: How often and how long.
        gained: How much has been brought so far; attempts that bring more do not count.

    Raises:
        TransientError: If it does not answer.
        UserError: If it refuses.
    """
    most, failures = gained(), 0
    while True:
        try:
            with transient_errors():
                return ask()
        except TransientError as error:
            failures = 1 if gained() > most else failures + 1
            most = max(most, gained())
            if failures >= (policy.unreached if error.unreached else policy.tries):
                raise
            # Not all clients at the same moment.
            seconds = min(policy.wait * 2 ** (failures - 1), policy.longest) * random.uniform(0.75, 1.25)
            seconds = seconds if error.wait is None else error.wait
            print(f"{what}: {error}; trying again in {seconds:.0f} s.", flush=True)
            time.sleep(seconds)


def answer(session: "Session", address: str, policy: RetryPolicy, method: str = "GET", **headers: str) -> "Response":
    """Answer of a server to one question.

    Raises:
        TransientError: If it is busy.
        UserError: If it refuses.
    """
    headers = {"Accept-Encoding": "identity", **headers}  # sizes and ranges are those of the file itself
    response = session.request(
        method, address, headers=headers, stream=True, timeout=(min(policy.stall, 20.0), policy.stall)
    )
    status = response.status_code
    if status < 400 or status == 416:
        return response
    response.close()
    reply = f"{host(address)} answers {status} ({response.reason})"
    if status in TRANSIENT:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        if wait is not None and wait > policy.longest_asked:
            raise UserError(f"{reply} and asks to retry in {wait / 60:.0f} minutes. Run the same command then.")
        raise TransientError(reply, wait)
    if status in (404, 410):
        missing = f"There is no {plain(address)}: {reply}. The file was moved, or the mirror does not have it."
        raise Refused(missing, status)
    raise Refused(
        f"{plain(address)}: {reply}. It does not give the file to this computer: it may block it, or ask for a login.",
        status,
    )


@contextmanager
def transient_errors() -> Iterator[None]:
    """Turns the errors of a line into `TransientError`, and those of an address or a proxy into a sentence."""
    import requests
    import urllib3

    try:
        yield
    except requests.exceptions.ProxyError as error:
        raise UserError(
            "The proxy that HTTPS_PROXY or HTTP_PROXY names does not let this through "
            f"({_reason(error)}). Correct it, or unset it."
        ) from None
    except requests.exceptions.SSLError as error:
        raise UserError(
            f"The server's certificate is not accepted ({_reason(error)}). Where an institute has certificates of its "
            "own, REQUESTS_CA_BUNDLE names the file that holds them."
        ) from None
    except requests.exceptions.TooManyRedirects:
        raise UserError("The server sends from address to address without end. Try again later.") from None
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidSchema,
    ) as error:
        raise UserError(f"That is no address of a server: {error}. It begins with https://") from None
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        raise TransientError("the server has gone silent") from None
    except requests.exceptions.ConnectionError as error:
        raise TransientError(f"no connection ({_reason(error)})", unreached=True) from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransientError(f"the line broke ({_reason(error)})") from None


def plain(address: str) -> str:
    """An address without what may be a secret: what comes after `?`, and a name and password before the server's.

    >>> plain("https://ada:secret@example.org/table.csv?signature=1")
    'https://example.org/table.csv'
    """
    return re.sub(r"//[^/@]*@", "//", address.partition("?")[0])


def host(address: str) -> str:
    """The server's name in an address."""
    return plain(address).partition("//")[2].partition("/")[0]


def content_length(response: "Response") -> int | None:
    """Bytes of an answer, if the server tells them."""
    given = response.headers.get("Content-Length", "")
    return int(given) if given.isdecimal() else None


def _retry_after(given: str) -> float | None:
    """Seconds of a Retry-After, which are given as such or as a date."""
    if given.strip().isdecimal():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """The innermost of nested errors, in one line."""
    inner: object = error
    while isinstance(inner, Exception):
        error, inner = inner, getattr(inner, "reason", None) or next(iter(inner.args), None)
    lines = re.sub(r"^<[^>]*>: |^[\w.]*Connection\([^)]*\): ", "", str(error)).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
