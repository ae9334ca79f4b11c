"""One folder, one live process: a lock file that names the process, and that the next one takes over when it is gone.

A process of this machine is gone when its number is, or belongs to another one that began at another time; one of
another machine or container when it has given no sign of life for a minute, as the file system's clock has it. The
leases of filelock 4.3 do not do: they are taken over by an exchange of names, which NFS does not have.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import unwritable
from galaxyml.runs.progress import say

RUN = "run.lock"  # in a run's folder, by the process that works on it
LAUNCH = "launch.lock"  # in the folder of a sweep, or of a run by itself, by the command that has it run
WAIT = "GALAXYML_WAIT"  # environment variable: 1 to wait for a folder that another process has
BEAT = 10.0  # seconds between two signs of life
DEAD_AFTER = 6 * BEAT
POLL_SECONDS = 1.0  # between two looks at a folder that is waited for


def _namespace() -> str:
    """Where the number of a process means the same: this machine since it was switched on, and this container."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _began(pid: int) -> str | None:
    """When a process began, as the system has it; "" if all that is left is its exit status, None where unknown."""
    if sys.platform == "linux":
        try:
            state, *rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return "" if state in "ZX" else rest[18]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return shown.strip() or None


@dataclass(frozen=True)
class Holder:
    """The process that a folder belongs to, and since when.

    Attributes:
        host: Name of its machine.
        pid: Its number.
        namespace: Where that number means this process.
        began: When the process began, as its system has it.
        since: When it took the folder, in seconds since 1970.
        token: Of this one time.
    """

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    namespace: str = field(default_factory=_namespace)
    began: str | None = field(default_factory=lambda: _began(os.getpid()))
    since: float = field(default_factory=time.time)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host} (since {since})"

    @property
    def is_near(self) -> bool:
        """Whether this process can see it."""
        return self.namespace == _namespace()

    @property
    def is_running(self) -> bool:
        """Whether a process that can be seen from here still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return _began(self.pid) in (None, self.began)


@contextmanager
def folder_lock(folder: Path, name: str = RUN) -> Iterator[None]:
    """Makes a folder this process's own while the block runs; forked processes have no part in it.

    With `GALAXYML_WAIT=1` it waits where another process has the folder. A process that loses it, as the folder was
    deleted or it gave no sign of life for so long that another one took it over, ends at once.

    Args:
        folder: It need not exist yet.
        name: `RUN` or `LAUNCH`.

    Raises:
        UserError: If a living process has the folder, or nothing can be written there.
    """
    path, me = folder.absolute() / name, Holder()
    try:
        _acquire(path, me)
    except OSError as error:
        raise unwritable(path, error) from error
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, me, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        if os.getpid() == me.pid:
            ended.set()
            beating.join()
            _release(path, me)


def holder(folder: Path, name: str = RUN) -> Holder | None:
    """The living process that a folder belongs to; None if there is none."""
    try:
        with (folder / name).open("rb") as file:  # opened, as a network's file system would else tell an old time
            found, beat = _read(file), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    alive = found.is_running if found.is_near else _clock(folder) - beat < DEAD_AFTER
    return found if alive else None


def _acquire(path: Path, me: Holder) -> None:
    """Creates a lock file, in the place of one whose process is gone."""
    waiting = False
    while not _create(path, me):
        other = holder(path.parent, path.name)
        if other is None:
            _remove_stale(path)
            continue
        in_use = f"{_shown(path.parent)} is in use by {other}"
        if os.environ.get(WAIT) != "1":
            raise UserError(f"{in_use}. Give --wait to begin when it has ended, or choose another name=….")
        if not waiting:
            say(f"{in_use}; this one waits for its end.")
        waiting = True
        time.sleep(POLL_SECONDS)


def _create(path: Path, me: Holder) -> bool:
    """Creates a lock file; returns False if there is one, or another process removes its folder in this moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("x", encoding="utf-8")
    except (FileExistsError, FileNotFoundError):
        return False
    try:
        with file:
            file.write(json.dumps(asdict(me), indent=2) + "\n")
    except OSError:  # the disk is full
        path.unlink()
        raise
    return True


def _read(file: BinaryIO) -> Holder:
    """What a lock file says; nobody of nowhere if that is nothing."""
    content = file.read()
    if not content:  # its process may be about to write it
        time.sleep(0.1)
        content = file.read()
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        since = os.fstat(file.fileno()).st_mtime
        return Holder(host="another machine", pid=0, namespace="", began=None, since=since, token="")


def _remove_stale(path: Path) -> None:
    """Removes a lock file whose process is gone, unless another process is quicker."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        with suppress(ImportError, OSError):  # a file system without locks, where two may come to it in the same moment
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()) and holder(path.parent, path.name) is None:
            path.unlink()


def _release(path: Path, me: Holder) -> None:
    """Removes a process's own lock file, and its folder if nothing was written there."""
    with suppress(OSError):
        if _is_held(path, me):
            path.unlink()
            path.parent.rmdir()


def _beat(path: Path, me: Holder, ended: threading.Event) -> None:
    """Gives signs of life; ends the process when the lock is not its own any more."""
    while not ended.wait(BEAT):
        try:
            held = _is_held(path, me)
            if held:
                os.utime(path)
        except OSError:  # of a network, which may pass
            continue
        if not held and not ended.is_set():
            print(
                f"error: {path.parent} is no longer this process's, which ends here: the folder was deleted, or "
                "another process took it over, as this one gave no sign of life.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)


def _is_held(path: Path, me: Holder) -> bool:
    try:
        with path.open("rb") as file:
            return _read(file) == me
    except FileNotFoundError:
        return False


def _shown(folder: Path) -> Path:
    """A folder as the user would write it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _clock(folder: Path) -> float:
    """The time of the file system's clock, which is not this machine's where it lies on another one."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.") as probe:
        return os.fstat(probe.fileno()).st_mtime
