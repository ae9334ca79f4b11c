"""Serves the page of labels to this machine alone, with the standard library's server."""

import hmac
import io
import json
import re
import secrets
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from galaxyml.inference.galleries import Images
from galaxyml.labelling.labeller import Labeller
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.files import refused_file

LOOPBACK = "127.0.0.1"
POLL = 0.1  # seconds until the end is noticed
FIRST_PORT, PORTS = 7870, 100  # that are tried where none is given
SHOWN = 24  # objects that the page knows beforehand: a sheet and some of the next
SIDES = range(16, 1025)  # pixels of an image
REMEMBERED = 1000  # operations that are not done again
LONGEST = 2**14  # bytes that a page sends
TOKEN = "X-Galaxyml-Token"
# What the browser may do with the page: nothing from elsewhere, no script or style but the files of here, no frame.
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FILES = {
    "/": ("label.html", "text/html"),
    "/label.js": ("label.js", "text/javascript"),
    "/label.css": ("label.css", "text/css"),
}
Value = TypeVar("Value")
_IMAGE = re.compile(r"/image/(\d{1,9})/(\d{1,4})")
_ENDED = "This page is of a command that has ended. Load it again."
_STALE = "Labelling goes on in another window."


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        sentence: Why.
        **more: What the page has to know besides.
    """

    def __init__(self, status: HTTPStatus, sentence: str, **more: Any) -> None:
        super().__init__(sentence)
        self.status, self.content = status, {"error": sentence, **more}


class LabelServer(ThreadingHTTPServer):
    """A page on which one window at a time labels objects.

    Args:
        port: Of this machine alone.
        labeller: Knows what is asked, and keeps answers.
        strategy: The order in words.

    Attributes:
        labeller: See above.
        token: What the page sends along; a page of another site does not know it.
        hosts: What the browser may call this machine: no name of another site that leads here.

    Raises:
        OSError: If the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, port: int, labeller: Labeller, strategy: str) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__((LOOPBACK, port), Handler)
        self.labeller = labeller
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}
        self._strategy, self._version = strategy, secrets.token_hex(4)  # so that no image of another command is shown
        self._window: str | None = None
        self._done: deque[Any] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self._drawing = threading.Lock()  # matplotlib's figures are drawn one at a time
        self._cached_picture = lru_cache(maxsize=128)(self._encoded)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tells errors, but not that a browser ended a connection, as they do when they like."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def get_request(self) -> tuple[Any, Any]:
        """Remembers a connection, to end it with the server."""
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Forgets a connection that has ended."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Ends the connections that browsers keep, too."""
        super().server_close()
        for connection in self._connections.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, path: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answers what the page asks for.

        Args:
            path: `/open` with `window` and `before` (names of the window, this time and the times before) and `take`
                (whether from another one); all others with `window`: `/state`, `/label` with `row` and `answer`,
                `/skip` with `row`, `/undo`, `/close`.
            given: The values, beside these `shown`, rows that the window shows, and `operation`, a name: what is asked
                for a second time under one name is not done again.

        Raises:
            Refusal: If it is none of these, or of another window.
            UserError: If a label cannot be written.
        """
        window = given.get("window")
        if not isinstance(window, str):
            raise Refusal(HTTPStatus.BAD_REQUEST, "It does not say of which window it is.")
        with self._lock:
            if path == "/open":
                known = (None, window, *_list(given.get("before"), str))
                if self._window not in known and given.get("take") is not True:
                    raise Refusal(HTTPStatus.CONFLICT, _STALE, stale=True)
                self._window = window
                return self._begun() | self._state(given)
            if path == "/close":
                self._window = None if self._window == window else self._window
                return {}
            if self._window != window:
                raise Refusal(HTTPStatus.CONFLICT, _STALE, stale=True)
            operation, undone = given.get("operation"), None
            if operation is not None and operation in self._done:
                return self._state(given)
            if path == "/label":
                self.labeller.label(self._row(given), self._answer(given))
            elif path == "/skip":
                self.labeller.skip(self._row(given))
            elif path == "/undo":
                undone = self.labeller.undo()
            elif path != "/state":
                raise Refusal(HTTPStatus.NOT_FOUND, f"There is no {path}.")
            self._done.append(operation)
            return self._state(given) | {"undone": None if undone is None else self.labeller.describe(undone)}

    def picture(self, row: int, side: int) -> tuple[bytes, str]:
        """An object as a file that browsers show, and its type."""
        return self._cached_picture(row, side)

    def _encoded(self, row: int, side: int) -> tuple[bytes, str]:
        gallery, file = self.labeller.objects.gallery, io.BytesIO()
        if isinstance(gallery, Images):
            gallery.picture(row, side).save(file, "JPEG", quality=92)
            return file.getvalue(), "image/jpeg"
        with self._drawing:
            gallery.picture(row, side).save(file, "PNG")
        return file.getvalue(), "image/png"

    def _begun(self) -> dict[str, Any]:
        question = self.labeller.question
        return {
            "question": question.text,
            "answers": list(question.answers),
            "strategy": self._strategy,
            "compared_by": self.labeller.objects.by,
            "version": self._version,
        }

    def _state(self, given: dict[str, Any]) -> dict[str, Any]:
        """Progress, what is asked next, and what is known now of the objects that are shown."""
        describe, count = self.labeller.describe, len(self.labeller.objects)
        shown = [row for row in _list(given.get("shown"), int)[:SHOWN] if 0 <= row < count]
        return {
            **self.labeller.state(),
            "items": [describe(row) for row in self.labeller.upcoming(SHOWN)],
            "shown": [describe(row) for row in shown],
        }

    def _row(self, given: dict[str, Any]) -> int:
        return _number(given.get("row"), len(self.labeller.objects), "row")

    def _answer(self, given: dict[str, Any]) -> int:
        return _number(given.get("answer"), len(self.labeller.question.answers), "answer")


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: LabelServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "galaxyml", ""
    timeout = 300  # seconds that a browser keeps a connection without a word

    def do_GET(self) -> None:
        """Sends the page, its files, or an image."""
        path = self.path.partition("?")[0]
        try:
            self._check_host()
            if path in FILES:
                name, kind = FILES[path]
                text = Path(__file__).with_name(name).read_text(encoding="utf-8")
                content = text.replace("{{token}}", self.server.token).encode()
                self._send(HTTPStatus.OK, content, f"{kind}; charset=utf-8")
            elif path == "/favicon.ico":
                self._send(HTTPStatus.NO_CONTENT, b"", "image/x-icon")
            elif (found := _IMAGE.fullmatch(path)) is not None:
                row, side = int(found[1]), int(found[2])
                if row >= len(self.server.labeller.objects) or side not in SIDES:
                    raise Refusal(HTTPStatus.NOT_FOUND, "There is no such image.")
                self._send(HTTPStatus.OK, *self.server.picture(row, side), lasting=True)
            else:
                raise Refusal(HTTPStatus.NOT_FOUND, f"There is no {path}.")
        except Refusal as refusal:
            self._refuse(refusal)

    def do_POST(self) -> None:
        """Answers the page."""
        try:
            self._check_host()
            if not hmac.compare_digest(self.headers.get(TOKEN, "").encode(), self.server.token.encode()):
                raise Refusal(HTTPStatus.FORBIDDEN, _ENDED, ended=True)
            content = self.server.answer(self.path, self._given())
        except Refusal as refusal:
            self._refuse(refusal)
        except (UserError, OSError) as error:
            said = error if isinstance(error, UserError) else refused_file(error) or error
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(said)))
        else:
            self._send(HTTPStatus.OK, json.dumps(content, allow_nan=False).encode(), "application/json")

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not told."""

    def _check_host(self) -> None:
        """Refuses what was asked under another site's name, which that site may have led to this machine."""
        if self.headers.get("Host") not in self.server.hosts:
            raise Refusal(HTTPStatus.FORBIDDEN, f"This page is at {self.server.address} alone.")

    def _given(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too long.")
        try:
            given = json.loads(self.rfile.read(int(length)))
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "That is no JSON object.")
        return given

    def _refuse(self, refusal: Refusal) -> None:
        self.close_connection = True  # what else was sent is not read
        self._send(refusal.status, json.dumps(refusal.content).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str, lasting: bool = False) -> None:
        self.send_response(status)
        headers = {
            **HEADERS,
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "private, max-age=86400, immutable" if lasting else "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(labeller: Labeller, strategy: str, port: int | None = None) -> Iterator[LabelServer]:
    """Serves the page for as long as the block lasts.

    Args:
        labeller: Of the objects.
        strategy: Their order in words.
        port: None for the next free one from 7870 on.

    Raises:
        UsageError: If the port cannot be had.
    """
    server = _listening(labeller, strategy, port)
    thread = threading.Thread(target=server.serve_forever, args=(POLL,), name="page", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listening(labeller: Labeller, strategy: str, port: int | None) -> LabelServer:
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    for number in ports:
        try:
            return LabelServer(number, labeller, strategy)
        except OSError as error:
            why = error.strerror
    which = f"--port {port}" if port is not None else f"ports {ports[0]} to {ports[-1]}"
    raise UsageError(f"{which}: another program uses it, or you may not ({why}). Give another one: --port 9000")


def _number(value: Any, below: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number from 0 to {below - 1}.")
    return value


def _list(values: Any, kind: type[Value]) -> list[Value]:
    """What of a list is of one kind."""
    return [value for value in values if isinstance(value, kind)] if isinstance(values, list) else []
