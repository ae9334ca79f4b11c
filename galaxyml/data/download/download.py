"""One file from a server to the disk: in parts where the line breaks, and whole and right or not at all.

pooch fetches public files, too, but starts over after a break, and some of these have 26 GB. A downloader of one's own
for it would do all that is done here, and pooch would add a digest and a renaming: requests is used without it.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from galaxyml.data.download.server import RetryPolicy, TransientError, answer, content_length, host, plain, retried
from galaxyml.runs.errors import DataError, UserError
from galaxyml.runs.files import unwritable, write_json
from galaxyml.runs.progress import transfer

if TYPE_CHECKING:
    from requests import Response, Session

BLOCK = 1 << 20
ADVICE = "Free some space or choose another folder by --to, then run the same command: it goes on from here."


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        name: Its name.
        address: Gives its address; asked before each attempt, as some addresses hold for some minutes only.
        size: Bytes, if they are known exactly.
        digest: Such as `md5:…`, if it is known.
        about: Bytes, if they are known roughly.
        licence: What the server says of its licence, if it does.
    """

    name: str
    address: Callable[[], str]
    size: int | None = None
    digest: str | None = None
    about: int | None = None
    licence: str | None = None


class PartialFile:
    """Downloaded part of a file, beside which is written of which version of the file it is.

    Args:
        path: Where the whole file will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self.about = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def version(self) -> str | None:
        """By what the server tells versions of the file apart: a strong ETag or a date."""
        try:
            return str(json.loads(self.about.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def reset(self, version: str | None = None) -> None:
        """Forgets all of it, to start over with a version of the file where it is known."""
        self.path.unlink(missing_ok=True)  # first: bytes of another version never stand beside this one's name
        self.about.unlink(missing_ok=True)
        if version is not None:
            write_json(self.about, {"version": version})


def download(session: "Session", remote: Remote, path: Path, policy: RetryPolicy) -> str:
    """Downloads a file, going on with what an earlier attempt has left.

    Args:
        session: From `open_session`.
        remote: The file.
        path: Appears when the file is whole and has its digest. Until then `….part` stands beside it, which is kept
            when the download is broken off.
        policy: How long the server is waited for.

    Returns:
        Its digest: the known one, or the SHA-256 of what came.

    Raises:
        UserError: If the server cannot be reached, has no such file, or sends another one, or the disk is full.
    """
    part = PartialFile(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with transfer(remote.name, remote.size, part.size) as shown:
            retried(lambda: _attempt(session, remote, part, policy, shown), remote.name, policy, lambda: part.size)
        digest = _verified(remote, part)
        os.replace(part.path, path)
        part.reset()
    except TransientError as error:
        raise UserError(given_up(remote.name, part.size, error)) from None
    except OSError as error:
        raise unwritable(path, error, ADVICE) from error
    return digest


def file_digest(path: Path, algorithm: str) -> str:
    """Digest of a file's content, as `algorithm:…`.

    Args:
        path: The file.
        algorithm: One of hashlib's, or `crc32`, which is for small files.
    """
    if algorithm == "crc32":
        return f"crc32:{zlib.crc32(path.read_bytes()):08x}"
    state, size = hashlib.new(algorithm), 0
    with path.open("rb") as file, transfer(f"Checking {path.name}", path.stat().st_size) as shown:
        while block := file.read(BLOCK):
            state.update(block)
            size += len(block)
            shown(size)
    return f"{algorithm}:{state.hexdigest()}"


def _attempt(
    session: "Session", remote: Remote, part: PartialFile, policy: RetryPolicy, shown: Callable[[int], None]
) -> None:
    """Brings the rest of the file; raises TransientError if it ends before the file does."""
    done, version = part.size, part.version
    if done and remote.size == done:
        return
    ranged = {}
    if done and version is not None:
        ranged = {"Range": f"bytes={done}-", "If-Range": version}
    with answer(session, remote.address(), policy, **ranged) as response:
        if response.status_code == 206:
            total = _continued(response, done, version)
            if total is None:
                part.reset()
                raise TransientError("the server sent another part than was asked for", wait=0.0)
        elif response.status_code == 416:  # no such range: what is there is not of this file
            part.reset()
            raise TransientError("the file on the server is another one now", wait=0.0)
        else:
            done, total = 0, content_length(response)
        _refuse_others(remote, response, total)
        size = total if total is not None else remote.size
        if done == 0:
            part.reset(_version(response))
        with part.path.open("ab") as file:
            while block := response.raw.read(BLOCK, decode_content=False):
                done += len(block)
                if size is not None and done > size:
                    file.close()
                    part.reset()
                    raise DataError(_other_size(remote, f"more than {size:,} bytes"))
                file.write(block)
                file.flush()
                shown(done)
    if size is not None and done < size:
        raise TransientError(f"the line broke after {done:,} of {size:,} bytes")


def _continued(response: "Response", done: int, version: str | None) -> int | None:
    """Bytes of the whole file, if a partial answer goes on with the same version where the last one ended."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != done or _version(response) not in (None, version):
        return None
    return int(match.group(2))


def _refuse_others(remote: Remote, response: "Response", total: int | None) -> None:
    """Raises UserError if an answer cannot be the file."""
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise UserError(
            f"{plain(response.url)} is a web page, not {remote.name}: a proxy or a login page may stand in between. "
            "Open the address in a browser to see it."
        )
    if total is not None and remote.size is not None and total != remote.size:
        raise DataError(_other_size(remote, f"{total:,} bytes"))
    chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    if total is None and not chunked and remote.size is None and remote.digest is None:
        raise UserError(
            f"{host(response.url)} does not say how long {remote.name} is, and nobody else knows, so that a broken "
            "download could not be told from a whole one. Take another mirror."
        )


def _other_size(remote: Remote, size: str) -> str:
    published = f"{remote.size:,} bytes" if remote.size is not None else "less"
    return (
        f"{remote.name} on the server has {size}; the published file has {published}. It was replaced, or the mirror "
        "has another one. Nothing of it was kept."
    )


def _verified(remote: Remote, part: PartialFile) -> str:
    """The digest of what came; raises DataError, and forgets it, if it is not the known one."""
    published = remote.digest or "sha256:"
    digest = file_digest(part.path, published.partition(":")[0])
    if remote.digest is not None and digest != remote.digest.lower():
        part.reset()
        raise DataError(
            f"{remote.name}: what came has the digest {digest}; the published file has {remote.digest}. It was damaged "
            "on the way or replaced on the server, and was deleted. Run the same command to fetch it again."
        )
    return digest


def given_up(name: str, size: int, error: TransientError) -> str:
    """Message on a file that cannot be downloaded now, of which `size` bytes are there."""
    line = " Is this computer online? HTTPS_PROXY names a proxy, where one is needed." if error.unreached else ""
    kept = f"{size:,} bytes of it are kept, and the same command goes on from there." if size else ""
    return f"{name} cannot be downloaded now: {error}.{line} {kept or 'Run the same command later.'}"


def _version(response: "Response") -> str | None:
    """By what a server tells versions of a file apart; a weak ETag is of no use for that (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
