"""Serves the page: on this machine alone unless told otherwise, without a word to anyone else."""

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from galaxyml.runs.browser import open_browser
from galaxyml.runs.errors import UsageError, UserError

# Before gradio is imported: it would ask its makers for news, and look at where a model hub is.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LOOPBACK = "127.0.0.1"
TRIES = 3  # of Gradio's to reach its own page, each of some seconds
WAITING = 500  # visitors; more are asked to come back
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


def check_host(host: str) -> None:
    """Makes sure that this machine has an address.

    Raises:
        UserError: If it has not.
    """
    try:
        family, kind, *_, (name, _, *more) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.bind((name, 0, *more))
    except OSError:
        raise UsageError(
            f"--host {host}: this machine has no such address. 127.0.0.1 is this machine alone, 0.0.0.0 for all."
        ) from None


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
def served(
    sources: Sequence[Path], host: str = LOOPBACK, port: int | None = None, among: Sequence[str] = ()
) -> Iterator[str]:
    """Serves the page of some runs for as long as the block lasts.

    Args:
        sources: Folders of runs or sweeps, or bundles.
        host: Address to listen on.
        port: None for the next free one from 7860, or from the variable GRADIO_SERVER_PORT, on.
        among: As of `galaxyml.page.app.build`.

    Yields:
        Its address.

    Raises:
        UserError: If a run cannot be used, or the address or port.
    """
    check_host(host)
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="galaxyml-page-", ignore_cleanup_errors=True) as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        try:
            import gradio as gr
            from starlette.middleware import Middleware

            from galaxyml.page.app import build
            from galaxyml.page.uploads import MOST_BYTES

            page = build(sources, among)
            page.queue(max_size=WAITING)
            options = {
                "share": False,
                "quiet": True,
                "show_error": False,
                "prevent_thread_lock": True,
                "max_file_size": MOST_BYTES,
                "footer_links": [],
                "ssr_mode": False,
                "mcp_server": False,
                "enable_monitoring": False,
                "theme": gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONOSPACED),
                "css_paths": Path(__file__).with_name("page.css"),
                "app_kwargs": {"middleware": [Middleware(Guarded)]},
            }
            address = _launched(page, host, port, options)
            try:
                yield address
            finally:
                page.close(verbose=False)
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def _launched(page: Any, host: str, port: int | None, options: dict[str, Any]) -> str:
    """The address of a page that is now served.

    Gradio visits its own page once it is served, and gives up after 3 s, in which a busy machine may not answer.

    Raises:
        UserError: If the port cannot be had, or the page does not answer.
    """
    import httpx

    for _ in range(TRIES):
        try:
            return str(page.launch(server_name=host, server_port=port, **options)[1])
        except OSError as error:  # Gradio's, which has tried 100 ports where none was given
            which = f"--port {port}: another program uses it, or you may not" if port else "no port is free"
            raise UserError(f"{which} ({str(error).partition('. ')[0]}). Give another one: --port 9000") from None
        except Exception as error:  # of Gradio's, which has no type of its own for it
            page.close(verbose=False)
            if "localhost" not in str(error) and not isinstance(error, httpx.TransportError):
                raise
    raise UserError(
        f"The page does not answer at {host}: this machine is too busy, or a proxy stands between. "
        f"Try it again, or with no_proxy={LOOPBACK},localhost in the environment."
    )


def loading(source: Path) -> str:
    """A line about a run, or a bundle, that is about to be loaded: how many nets it has, where that is seen at once."""
    from galaxyml.runs.run_dir import RunDir

    try:
        nets = 0 if source.is_file() else len(RunDir(source).nets())
    except UserError:  # which is told when it is loaded
        nets = 0
    return f"Loading {nets} nets of {source}" if nets > 1 else f"Loading {source}"


def serve(
    sources: Sequence[Path],
    host: str = LOOPBACK,
    port: int | None = None,
    show: bool = False,
    among: Sequence[str] = (),
) -> None:
    """Serves the page until somebody interrupts it; arguments as for `served`.

    Args:
        sources: Likewise.
        host: Likewise.
        port: Likewise.
        show: Whether to open a browser, if there is one.
        among: As for `served`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uploads are removed then, too
    for source in sources:
        print(loading(source), flush=True)
    with served(sources, host, port, among) as address:
        print(f"The page is at {address} until you press Ctrl+C.", flush=True)
        if show and not open_browser(address):
            print("There is no browser to open here; copy the address.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nThe page is closed; what was uploaded is removed.", flush=True)


def serve_folder(folder: Path) -> None:
    """Serves the bundles of an exported folder, at home or as a Hugging Face Space, until it is interrupted.

    Args:
        folder: As `galaxyml.page.export` writes it. A Space says by `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` where
            it listens; elsewhere it is this machine alone.
    """
    on_space = "SPACE_ID" in os.environ  # which Hugging Face sets
    bundles = sorted(folder.glob("runs/*/model.zip"))
    if not bundles:
        sys.exit(f"error: {folder} has no runs/*/model.zip. Export it again: python -m galaxyml page RUN --export …")
    try:
        serve(bundles, os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0" if on_space else LOOPBACK))
    except UserError as error:
        sys.exit(f"error: {error}")
