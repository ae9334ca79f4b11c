"""A process that has a folder, as the command line says, until it is told to let it go or is killed."""

import os
import signal
import sys
import time
from pathlib import Path

from galaxyml.runs import run_lock
from galaxyml.runs.errors import UserError


def hold(folder: Path, name: str) -> None:
    """Takes a folder, and keeps it until a line comes."""
    with run_lock.folder_lock(folder, name):
        print("has it", flush=True)
        sys.stdin.readline()


def forked(folder: Path, name: str) -> None:
    """Takes a folder; a process that is forked leaves the block, too."""
    with run_lock.folder_lock(folder, name):
        if child := os.fork():
            os.waitpid(child, 0)
            print((folder / name).is_file(), flush=True)


def take_turns(folder: Path, name: str) -> None:
    """Takes a folder ten times, each time alone, as a file shows that every turn makes and removes."""
    for _ in range(10):
        with run_lock.folder_lock(folder, name):
            (folder / "inside").touch(exist_ok=False)
            time.sleep(0.001)
            (folder / "inside").unlink()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job's shell ignores
    run_lock.BEAT, run_lock.POLL_SECONDS = 0.1, 0.001
    try:
        {"hold": hold, "forked": forked, "take_turns": take_turns}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    except UserError as error:
        sys.exit(f"error: {error}")
