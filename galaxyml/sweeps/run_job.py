"""`galaxyml job FOLDER`: runs or continues the run whose configuration lies in a folder, wherever that is.

Every launcher starts this command, or calls `run_job`. A failure is one message, which stays with the run.
"""

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.runs import progress
from galaxyml.runs.errors import DataError, UsageError, UserError, shorten
from galaxyml.runs.files import read_only, refused_file
from galaxyml.runs.options import Parser
from galaxyml.runs.run_lock import WAIT, folder_lock
from galaxyml.runs.signals import Stop, watched

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from galaxyml.runs.run_dir import RunDir

log = logging.getLogger("galaxyml")

LOG = "galaxyml.log"
MEMORY = "out of memory on the GPU"  # how the reason begins of a failure that a smaller batch may mend
BAD_DATA = 65  # status of a job that no other one on the same files can do better than; EX_DATAERR of sysexits.h


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: `finished`, `pruned`, `stopped` or `failed`.
        value: The metric that it monitors; None if it failed.
        reason: Why it failed, in one line.
        bad_data: Whether the data's files cannot be used, so that all runs on them would fail alike.
    """

    state: str
    value: float | None = None
    reason: str = ""
    bad_data: bool = False

    @property
    def status(self) -> int:
        """Exit status of the command."""
        return BAD_DATA if self.bad_data else int(self.value is None)


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parser = Parser(
        prog="galaxyml job",
        description="Runs or continues the run whose configuration lies in FOLDER/.hydra. Of several processes, each "
        "is started with this command: by torchrun, by srun, or by itself where trainer=ddp asks for them.",
    )
    parser.add_argument("folder", type=Path, help="a run's folder, such as multirun/galaxyzoo/mine/fold-0")
    parser.add_argument("--attached", action="store_true", help="end together with the process that has started it")
    parser.add_argument("--wait", action="store_true", help="begin when no other process works in the folder any more")
    given = parser.parse_args(arguments)
    if given.wait:
        os.environ[WAIT] = "1"
    if "LOCAL_RANK" in os.environ:  # which Lightning and torchrun give the processes that they start
        end_with_parent(signal.SIGKILL)  # it may wait for others, where nothing else reaches it
    elif given.attached:
        end_with_parent(signal.SIGTERM)
    try:
        sys.exit(run_job(given.folder).status)
    except Stop as stop:
        sys.exit(stop.status)


def run_job(folder: Path) -> Outcome:
    """Runs a run, or continues it.

    Args:
        folder: The run's folder, with its configuration.

    Raises:
        Stop: If a signal ended it.
        UserError: If another process works on it, nothing can be written there, or it is a sweep's.
    """
    from galaxyml.runs import ranks
    from galaxyml.runs.run_dir import RunDir, next_time, state_in_words

    run = RunDir(folder.absolute())
    config = run.config
    if runs := run.children():
        raise UsageError(
            f"{folder} is a sweep. Give one of its runs: {shorten([folder / child.name for child in runs])}; or the "
            "command that made the sweep, which carries on with all of them."
        )
    if not ranks.is_rank_zero():
        return _follow(run, config)
    with folder_lock(run.path), _logged(run):
        began = time.time()

        def line() -> str:
            status = run.status()
            is_new = status.get("began", 0) >= began
            state = state_in_words(status) if is_new else "preparing (loading libraries and the model)"
            return f"{run.name}: {state}, {progress.duration(time.time() - began)} so far"

        try:
            with watched(), progress.heartbeat(line):
                from galaxyml import experiment

                value = experiment.run(config, run.path)
                return Outcome("pruned" if run.status().get("state") == "pruned" else "finished", value)
        except Stop as stop:
            if run.status():
                _write_end(run, "stopped", str(stop))
            print(f"\n{run.name}: {stop}. {next_time(config.name, [run])}", file=sys.stderr)
            raise
        except Exception as error:  # whatever ends one run must not end the others
            cause = user_error(error)
            reason = _reason(error, cause)
            if not run.has_progress or run.status().get("began", 0) >= began:  # else it was refused, and stays
                _write_end(run, "failed", reason)
            if cause is None:
                log.exception("%s failed", run.name)
            else:
                log.error("error: %s", cause)
            return Outcome("failed", None, reason, isinstance(cause, DataError))


def _follow(run: "RunDir", config: "DictConfig") -> Outcome:
    """Does what rank 0 does, but for writing and printing: that is rank 0's."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    parent = os.getppid()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), watched(), read_only(run.path):
            from galaxyml import experiment

            experiment.run(config, run.path)
    except Stop:  # which all processes raise together, and rank 0 reports
        pass
    except Exception:
        time.sleep(1)
        if os.getppid() == parent:  # else it follows from the end of rank 0
            log.exception("a process of %s failed", run.name)
        os._exit(1)  # at once: threads of torch may still wait for others
    return Outcome("finished", 0.0)


def ended(run: "RunDir", status: int | None, began: float) -> Outcome:
    """The outcome of a job that was a process of its own, by its exit status and its folder.

    Args:
        run: The run.
        status: Of its process; negative for the signal that ended it.
        began: Seconds since 1970 when it was started.
    """
    written = run.status()
    state = written.get("state")
    if status == 0:
        return Outcome("pruned" if state == "pruned" else "finished", written.get("value"))
    if state in ("stopped", "failed") and (written.get("ended") or 0.0) >= began:  # else it is of another time
        return Outcome(state, None, str(written["reason"]), state == "failed" and status == BAD_DATA)
    if status in (1, 2, BAD_DATA):  # it was refused, and its folder stays as it was
        return Outcome("failed", None, "see its log", status == BAD_DATA)
    for stop in (Stop(signal.SIGINT), Stop(signal.SIGTERM)):
        if status in (stop.status, -stop.number):  # before it had begun, so that it wrote nothing
            return Outcome("stopped", None, str(stop))
    reason = f"its process ended with status {status} and said nothing"
    if status is not None and status < 0:
        reason = f"its process was ended by {signal.Signals(-status).name}"
        reason += ", which the system sends where memory runs out" if -status == signal.SIGKILL else ""
    _write_end(run, "failed", reason)
    return Outcome("failed", None, reason)


def end_with_parent(number: int) -> None:
    """Sends this process a signal as soon as the process that has started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def user_error(error: BaseException | None) -> UserError | None:
    """The UserError that caused an error, or that says what the system refused, if any; Hydra wraps what it catches."""
    while error is not None and not isinstance(error, UserError):
        if isinstance(error, OSError) and (refused := refused_file(error)):
            return refused
        error = error.__cause__
    return error


def _write_end(run: "RunDir", state: str, reason: str) -> None:
    """Keeps how a run has ended, unless that was for want of a disk that takes it."""
    with suppress(UserError):
        run.update_status(state=state, reason=reason, ended=time.time())


class _Log(logging.FileHandler):
    """The log of a run, which ends where the disk is full: what comes then is only printed."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def _logged(run: "RunDir") -> Iterator[None]:
    """A block whose logging goes to the run's log, with time and module, and to the terminal as plain lines."""
    file = _Log(run.path / LOG)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [file]
    if not _is_file(sys.stderr, run.path / LOG):  # as it is where a launcher has put the console there
        handlers.append(logging.StreamHandler(sys.stderr))
        handlers[-1].setLevel(os.environ.get(progress.CONSOLE, "INFO"))
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = handlers
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        file.close()


def _is_file(stream: Any, path: Path) -> bool:
    """Whether a stream writes to a file, which exists."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:  # it is none of the system's
        return False


def _reason(error: Exception, cause: UserError | None) -> str:
    """Why a run failed, in one line."""
    if cause is not None:
        return str(cause)
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return MEMORY if kind == "OutOfMemoryError" else f"{kind}: {lines[0]}" if lines else kind
