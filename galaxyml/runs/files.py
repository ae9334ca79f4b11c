"""Files and folders that appear whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from galaxyml.runs.errors import DataError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EEXIST: "a part of that path is a file, not a folder",
}

ADVICE = "Free some space or choose another folder, then run the same command."

_REFUSALS = {number: f"{_REASONS[number]}. {ADVICE}" for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)}
_REFUSALS |= dict.fromkeys(
    (errno.EACCES, errno.EPERM),
    "you may not read or write it. Give yourself the permission (chmod), or take a copy that is your own.",
)

_read_only: list[Path] = []  # folders that are another process's to write


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Discards meanwhile what `atomic_write` would put into a folder, which another process writes.

    Args:
        folder: The folder, with all that lies below.
    """
    _read_only.append(folder)
    try:
        yield
    finally:
        _read_only.remove(folder)


@contextmanager
def atomic_write(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """Gives a path to write to; what was written takes the name `path` when the block ends well, and goes otherwise.

    Args:
        path: Final file or folder. A file is replaced; a folder that another process has put there meanwhile stays.
            In a folder that is `read_only` nothing appears.
        advice: What the user can do if it cannot be written.

    Yields:
        A path beside `path` that does not exist yet.

    Raises:
        DataError: If the disk is full or the folder cannot be written.
    """
    if any(path.is_relative_to(folder) for folder in _read_only):
        with tempfile.TemporaryDirectory() as aside:
            yield Path(aside) / path.name
        return
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) / path.name
        yield draft
        _flush(draft)
        try:
            os.replace(draft, path)
        except OSError:
            if not (draft.is_dir() and path.is_dir()):
                raise
    except OSError as error:
        raise unwritable(path, error, advice) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft.parent, ignore_errors=True)


def unwritable(path: Path, error: OSError, advice: str = ADVICE) -> DataError:
    """The error of a file that cannot be written.

    Args:
        path: The file.
        error: Of the system.
        advice: What the user can do.

    Raises:
        OSError: The same error, if it is none that a user can do something about.
    """
    if error.errno not in _REASONS:
        raise error
    return DataError(f"{path} cannot be written: {_REASONS[error.errno]}. {advice}")


def refused_file(error: OSError) -> DataError | None:
    """The error of a file that the system refuses to read or to write, where nobody has said it better.

    Args:
        error: Of the system.

    Returns:
        None if it is none that a user can do something about.
    """
    reason = _REFUSALS.get(error.errno or 0)
    if reason is None or (error.filename is None and error.errno in (errno.EACCES, errno.EPERM)):
        return None
    return DataError(f"{error.filename or 'A file'}: {reason}")


@contextmanager
def file_lock(path: Path, taken: DataError | None = None) -> Iterator[bool]:
    """Lets one process of this machine at a time make what several need, as runs of a sweep do that begin at once.

    Whether it exists now is to be checked within. The lock ends with the process, however that ends.

    Args:
        path: Final file or folder; the lock is a file beside it.
        taken: The error if another process is within; None to wait for it.

    Yields:
        Whether no other process can be within; it may where the file system has no locks.

    Raises:
        DataError: `taken`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    is_alone = True
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.acquire(blocking=False))
        except Timeout:
            if taken is not None:
                raise taken from None
            print(f"Another process is making {path}; this one waits for it.", flush=True)
            stack.enter_context(lock.acquire())
        except OSError:  # no locks, or nothing can be written, which what writes it says better
            is_alone = False
        yield is_alone


def _flush(draft: Path) -> None:
    """Makes sure that a power cut after the renaming cannot leave empty files."""
    for path in draft.iterdir() if draft.is_dir() else [draft]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def in_name(text: str) -> str:
    r"""Overrides as a part of a folder's name: without what separates folders in paths and lists, quotes and escapes.

    >>> in_name(r"model-hf-hub\:mwalmsley/zoobot-encoder-convnext_nano")
    'model-hf-hub-mwalmsley-zoobot-encoder-convnext_nano'
    """
    return re.sub(r"[/:]", "-", re.sub(r"[\\'\"]", "", text))


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def digest(values: Iterable[object]) -> str:
    """A short name for a list of values: the first 16 hexadecimal digits of the SHA-256 of their text."""
    state = hashlib.sha256()
    for value in values:
        state.update(f"{value}\0".encode())
    return state.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file's content, cached for as long as its size and time of change stay the same.

    Args:
        path: The file.
        cache: Folder of cached digests.
    """
    stat = path.stat()
    if stat.st_size < 1e8:
        return file_digest(path)
    cached = cache / "digests" / digest([path.resolve(), stat.st_size, stat.st_mtime_ns])
    if not cached.is_file():
        write_text(cached, file_digest(path))
    return cached.read_text(encoding="utf-8")


def free_space(path: Path) -> int:
    """Bytes that are free where a file or folder is to be, which need not exist yet."""
    return shutil.disk_usage(next(parent for parent in path.absolute().parents if parent.exists())).free


def check_space(path: Path, needed: int, advice: str) -> None:
    """Makes sure, before the work, that there is room for a file or folder.

    Args:
        path: It need not exist yet.
        needed: Bytes.
        advice: What the user can do if there is not.

    Raises:
        DataError: If the disk has fewer bytes free.
    """
    free = free_space(path)
    if free < needed:
        raise DataError(f"{path} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. {advice}")
