"""Processes that are forked from one that has imported everything, so that they begin within a fraction of a second."""

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from galaxyml.runs.provenance import COMMAND, command_line

T = TypeVar("T")

LONGEST = 60  # characters of the folder for temporary files

_used = False  # whether there is such a process


def context() -> Any:
    """Where processes are forked from; the first one waits for the imports, which take seconds."""
    global _used
    _used = True
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["galaxyml.sweeps.preload"])
    # The folder of its sockets, whose paths systems allow 100 bytes or so, has no public setting.
    settings = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if len(tempfile.gettempdir()) > LONGEST and not settings.get("tempdir"):
        settings["tempdir"] = tempfile.mkdtemp(prefix="pymp-", dir="/tmp")
        atexit.register(shutil.rmtree, settings["tempdir"], ignore_errors=True)
    # Asking the driver itself whether there is a GPU would start CUDA, which does not survive a fork.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    return server


def ask(function: Callable[[], T]) -> T:
    """Calls a function in such a process, which has the environment of the first one's time."""
    server = context()
    receiver, sender = server.Pipe(duplex=False)
    process = server.Process(target=_answer, args=(function, sender, os.getcwd(), command_line()))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        sys.exit(process.exitcode or 1)
    finally:
        process.join()


def call(function: Callable[[], T]) -> T:
    """Calls a function, in such a process if there is one."""
    if not _used:
        return function()
    try:
        return ask(function)
    except OSError:  # no more processes, or none of its files
        return function()


def end_with_parent(number: int) -> None:
    """Sends this process a signal as soon as the one that asked for it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def _answer(function: Callable[[], Any], sender: Connection, folder: str, typed: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with_parent(signal.SIGTERM)
    os.chdir(folder)
    os.environ[COMMAND] = json.dumps(typed)
    try:
        sender.send(function())
    except KeyboardInterrupt:
        sys.exit(130)
