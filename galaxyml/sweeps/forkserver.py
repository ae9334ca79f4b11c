"""Processes that are forked from one that has imported everything, so that they begin within a fraction of a second."""

import atexit
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

Found = TypeVar("Found")

LONGEST = 60  # characters of the folder for temporary files

_used = False  # whether there is such a process


def context() -> Any:
    """Where processes are forked from; the first one waits for the imports, which take seconds."""
    global _used
    _used = True
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["galaxyml.sweeps.preload"])
    _shorten()
    # Asking the driver itself whether there is a GPU would start CUDA, which does not survive a fork.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    return found


def _shorten() -> None:
    """Puts the sockets of such processes where their paths, which systems allow 100 bytes or so, are short enough."""
    own = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # no public way
    if len(tempfile.gettempdir()) > LONGEST and not own.get("tempdir"):
        own["tempdir"] = tempfile.mkdtemp(prefix="pymp-", dir="/tmp")
        atexit.register(shutil.rmtree, own["tempdir"], ignore_errors=True)


def ask(function: Callable[[], Found]) -> Found:
    """What a function returns in such a process, which has the environment of the first one's time."""
    here = context()
    mine, theirs = here.Pipe(duplex=False)
    process = here.Process(target=_answer, args=(function, theirs, os.getcwd()))
    process.start()
    theirs.close()
    try:
        return mine.recv()
    except EOFError:
        process.join()
        sys.exit(process.exitcode or 1)
    finally:
        process.join()


def call(function: Callable[[], Found]) -> Found:
    """What a function returns: in such a process if there is one, else here."""
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


def _answer(function: Callable[[], Any], answer: Connection, folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(signal.SIGTERM)
    os.chdir(folder)
    try:
        found = function()
    except KeyboardInterrupt:
        sys.exit(130)
    answer.send(found)
