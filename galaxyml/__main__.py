"""The command: `python -m galaxyml task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4`.

Nothing heavy is imported before the configuration is composed, so that help and typing errors answer at once.
"""

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from galaxyml.cli.commands import subcommand
from galaxyml.cli.train import train
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.files import refused_file
from galaxyml.runs.signals import Stop

NEW_OBJECTS = 10_000  # after which the garbage collector looks through them; Python's 700 cost a fifth of the imports


def command() -> None:
    """Runs the command line, and ends the process, if it was started for that.

    It ends at once, instead of taking thousands of modules apart, which takes a second and more.
    """
    gc.set_threshold(NEW_OBJECTS)
    if not starts_command(sys.orig_argv):
        main()
        return
    status: str | int | None = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(status)
    if isinstance(status, str):
        print(status, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(bool(status)))


def starts_command(words: Sequence[str]) -> bool:
    """Whether a command line of Python's starts this command, and not a notebook, a profiler or another that runs it.

    >>> starts_command(["python", "-X", "importtime", "-m", "galaxyml", "--help"])
    True
    >>> starts_command(["python", "-m", "cProfile", "-m", "galaxyml", "--help"])
    False
    >>> starts_command(["python", "/usr/bin/galaxyml", "--help"])
    True
    """
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            return next(rest, "") == "galaxyml"
        if word in ("-X", "-W"):
            next(rest, "")
        elif not word.startswith("-"):
            return Path(word).stem == "galaxyml"
    return False


def main() -> None:
    """Runs the command line; its status is 2 for what was typed wrong, 1 for failed work, 130 or 143 if stopped."""
    # Before torch is imported: on a machine that does anything else, threads that spin for long while they wait slow
    # a training step down up to ten times (2 cores).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        _check_home()
        if not subcommand(sys.argv[1:]):
            train(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # of `… | head`, which has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's last flush fails as well
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if (refused := refused_file(error)) is None:
            raise
        sys.exit(f"error: {refused}")
    except Stop as stop:
        sys.exit(stop.status)
    except KeyboardInterrupt:  # in a subcommand; before a run has begun, or after all of them
        print("Interrupted. Files are written whole or not at all.", file=sys.stderr)
        sys.exit(130)


def _check_home() -> None:
    """Makes sure that there is a home folder, without which libraries cannot even be imported.

    Raises:
        UserError: If there is none, as for users that a container gives a number and no name.
    """
    try:
        Path.home()
    except RuntimeError as error:
        raise UserError("There is no home folder. Set HOME to a folder that you may write to, such as /tmp.") from error


if __name__ == "__main__":
    command()
