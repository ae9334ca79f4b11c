"""Serves the page: on this machine alone unless told otherwise, without a word to anyone else."""

import errno
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from galaxyml.runs.errors import UserError

# Before gradio is imported: it would ask its makers for news, and look at where a model hub is.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LOOPBACK, FIRST_PORT, PORTS = "127.0.0.1", 7860, 100
SWEPT, AGE = 60.0, 600.0  # seconds between looks for old uploads, and from when on they are old
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONOSPACED = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
# What the browser may fetch: from here alone, whatever a library's template names.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'self'; object-src 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def free_port(host: str, first: int = FIRST_PORT) -> int:
    """The first free port from a number on.

    Raises:
        UserError: If none is free, or the machine has no such address.
    """
    for port in range(first, first + PORTS):
        if _free(host, port):
            return port
    raise UserError(f"No port from {first} to {first + PORTS - 1} of {host} is free. Give another one: --port 9000")


def check_port(host: str, port: int) -> int:
    """The port, if it is one and is free.

    Raises:
        UserError: If it is not.
    """
    if not 0 < port < 2**16:
        raise UserError(f"--port {port}: it must be a whole number from 1 to 65535.")
    if not _free(host, port):
        raise UserError(f"--port {port}: another program uses it, or you may not. Leave it out for the next free one.")
    return port


def _free(host: str, port: int) -> bool:
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            trial.bind(address)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"--host {host}: this machine has no such address. 127.0.0.1 is this machine alone, 0.0.0.0 for all."
            ) from None
        return False
    return True


class Guarded:
    """An ASGI application whose answers tell the browser to fetch nothing from anywhere else.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Adds headers to whatever is sent."""

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)


@contextmanager
def served(sources: Sequence[Path], host: str = LOOPBACK, port: int | None = None, age: float = AGE) -> Iterator[str]:
    """Serves the page of some runs for as long as the block lasts.

    Args:
        sources: Folders of runs or sweeps, or bundles.
        host: Address to listen on.
        port: None for the next free one.
        age: Seconds after which uploads are removed.

    Yields:
        Its address.

    Raises:
        UserError: If a run cannot be used, or the port.
    """
    chosen = free_port(host) if port is None else check_port(host, port)
    uploads = Path(tempfile.mkdtemp(prefix="galaxyml-page-"))
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    stopped = threading.Event()
    try:
        import gradio as gr
        from starlette.middleware import Middleware

        from galaxyml.page.app import build
        from galaxyml.page.uploads import MOST_BYTES

        page = build(sources)
        page.queue(max_size=None)
        own = {path for path in uploads.rglob("*") if path.is_file()}
        threading.Thread(target=_sweep, args=(uploads, own, age, stopped), daemon=True).start()
        theme = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONOSPACED)
        launch = partial(
            page.launch,
            server_name=host,
            share=False,
            quiet=True,
            show_error=False,
            prevent_thread_lock=True,
            max_file_size=MOST_BYTES,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme,
            css_paths=Path(__file__).with_name("page.css"),
            app_kwargs={"middleware": [Middleware(Guarded)]},
        )
        while True:
            try:
                _, address, _ = launch(server_port=chosen)
                break
            except OSError:  # another program has taken the port since it was seen to be free
                if port is not None:
                    raise
                chosen = free_port(host, chosen + 1)
        try:
            yield address
        finally:
            page.close(verbose=False)
    finally:
        stopped.set()
        shutil.rmtree(uploads, ignore_errors=True)
        os.environ.pop("GRADIO_TEMP_DIR")
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before


def serve(sources: Sequence[Path], host: str = LOOPBACK, port: int | None = None, show: bool = False) -> None:
    """Serves the page until somebody interrupts it; arguments as for `served`.

    Args:
        sources: Likewise.
        host: Likewise.
        port: Likewise.
        show: Whether to open a browser, if there is one.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uploads are removed then, too
    with served(sources, host, port) as address:
        print(f"The page is at {address} until you press Ctrl+C.", flush=True)
        if show and not (_has_screen() and webbrowser.open(address)):
            print("There is no browser to open here; copy the address.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nThe page is closed; what was uploaded is removed.", flush=True)


def _has_screen() -> bool:
    """Whether a browser would have a window; those of a terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _sweep(folder: Path, own: set[Path], age: float, stopped: threading.Event) -> None:
    """Removes old uploads. Two visitors' equal pictures are one file, so that none can go right after its answer."""
    while not stopped.wait(min(SWEPT, age)):
        limit = time.time() - age
        for path in folder.rglob("*"):
            try:
                if path.is_file() and path not in own and path.stat().st_mtime < limit:
                    path.unlink()
            except FileNotFoundError:  # gone meanwhile
                continue
