"""A server on this machine that has files and, when told to, every fault of a real one."""

import hashlib
import http.server
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

Fault = Callable[["Answering"], None]


class Server(http.server.ThreadingHTTPServer):
    """Files by name, each with faults that its next requests meet, and what was asked for.

    Attributes:
        files: Content by name.
        faults: By name what happens at the next requests, one after another; afterwards all is well.
        always: By name what happens at every request.
        heads: Whether sizes are told to who asks for them alone.
        asked: Method, path and headers of all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.heads = True
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are none."""

    def count(self, name: str, method: str = "GET") -> int:
        """How often a file was asked for."""
        return sum(path.endswith(f"/{name}") and how == method for how, path, _ in self.asked)


class Answering(http.server.BaseHTTPRequestHandler):
    """One request.

    Attributes:
        body: What is asked for, if by POST.
    """

    body: Any
    protocol_version = "HTTP/1.1"
    server: Server

    @property
    def name(self) -> str:
        """The file that is asked for."""
        return self.path.partition("?")[0].rpartition("/")[2]

    @property
    def content(self) -> bytes:
        """That file."""
        return self.server.files[self.name]

    @property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    @property
    def start(self) -> int:
        """Where the part begins that is asked for, if it is one of this version."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match.group(1)) if match and self.headers.get("If-Range", self.tag) == self.tag else 0

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        if self.name in self.server.always:
            self.server.always[self.name](self)
        elif self.server.faults[self.name]:
            self.server.faults[self.name].pop(0)(self)
        elif self.name in self.server.files:
            well(self)
        else:
            self.refuse(404)

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def do_HEAD(self) -> None:
        self.server.asked.append(("HEAD", self.path, dict(self.headers)))
        if self.name not in self.server.files or not self.server.heads:
            return self.refuse(404)
        return self.head(200, len(self.content))

    def head(self, status: int, length: int | None, **headers: object) -> None:
        """The head of an answer; underscores are hyphens."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def refuse(self, status: int, **headers: object) -> None:
        """An answer without the file."""
        self.head(status, 0, **headers)

    def hang_up(self) -> None:
        """Breaks the line."""
        self.close_connection = True
        self.connection.shutdown(2)

    def log_message(self, *_: Any) -> None:
        pass


def well(asked: Answering) -> None:
    """All is well: the file, or the part of it that is asked for."""
    part(asked, asked.start)


def part(asked: Answering, start: int, until: int | None = None, **headers: object) -> None:
    """The file from some byte on, broken off at another."""
    size = len(asked.content)
    about = {"ETag": asked.tag, "Accept-Ranges": "bytes", **headers}
    if start:
        asked.head(206, size - start, **({"Content_Range": f"bytes {start}-{size - 1}/{size}"} | about))
    else:
        asked.head(200, size, **about)
    asked.wfile.write(asked.content[start:until])
    if until is not None:
        asked.hang_up()


def broken(after: int) -> Fault:
    """The line breaks so many bytes after where the answer begins."""
    return lambda asked: part(asked, asked.start, asked.start + after)


def broken_at(byte: int) -> Fault:
    """The line breaks at a byte of the file, whatever part is asked for."""
    return lambda asked: part(asked, asked.start, byte)


def stalled(after: int) -> Fault:
    """Nothing comes any more after so many bytes."""

    def answer(asked: Answering) -> None:
        asked.head(200, len(asked.content), ETag=asked.tag)
        asked.wfile.write(asked.content[:after])
        asked.wfile.flush()
        time.sleep(1.0)
        asked.hang_up()

    return answer


def sends(content: bytes, kind: str = "application/octet-stream") -> Fault:
    """Something else, well sent."""

    def answer(asked: Answering) -> None:
        asked.head(200, len(content), Content_Type=kind)
        asked.wfile.write(content)

    return answer


def refuses(status: int, **headers: object) -> Fault:
    """The server does not give the file."""
    return lambda asked: asked.refuse(status, **headers)


def sent_elsewhere(address: str) -> Fault:
    """The server says that the file is elsewhere."""
    return lambda asked: asked.refuse(302, Location=address)


def without_ranges(until: int | None = None) -> Fault:
    """A server that knows no parts: it always sends the file from its beginning."""

    def answer(asked: Answering) -> None:
        asked.head(200, len(asked.content))
        asked.wfile.write(asked.content[:until])
        if until is not None:
            asked.hang_up()

    return answer


def chunked(content: bytes, ended: bool = True) -> Fault:
    """Something of which the length is not told, in chunks, perhaps without their end."""

    def answer(asked: Answering) -> None:
        asked.head(200, None, Transfer_Encoding="chunked")
        asked.wfile.write(f"{len(content):x}\r\n".encode() + content + (b"\r\n0\r\n\r\n" if ended else b""))
        if not ended:
            asked.hang_up()

    return answer


def until_closed(content: bytes) -> Fault:
    """Something that ends where the line ends."""

    def answer(asked: Answering) -> None:
        asked.head(200, None, Connection="close")
        asked.wfile.write(content)
        asked.close_connection = True

    return answer


def tells(found: object) -> Fault:
    """A JSON document."""
    return sends(json.dumps(found).encode(), "application/json")
