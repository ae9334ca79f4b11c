"""The folder of all data: which file lies where, whether it is still what was fetched, and how it gets there."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from galaxyml.data.download import kaggle
from galaxyml.data.download.download import PartialFile, file_digest
from galaxyml.data.download.manifest import File
from galaxyml.data.download.unpack import ADVICE, Content, Damaged, gunzip, to_file, to_folder
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import atomic_write, unwritable, write_text
from galaxyml.runs.progress import track

AMPLE = 3  # times as much as expected is the most that an archive may hold
UNPACK: dict[str, Callable[[Path, Path, int], Content]] = {"folder": to_folder, "file": to_file, "gzip": gunzip}


class State(Enum):
    """State of a place."""

    MISSING = "missing"
    PART = "part"
    WHOLE = "whole"
    OWN = "there, put by hand"  # what this command has not fetched it leaves alone
    CHANGED = "changed"


@dataclass(frozen=True)
class Store:
    """A folder of all data, with downloads and records in its folder `.fetch`.

    Attributes:
        root: The folder, such as `data`.
    """

    root: Path

    def download_path(self, file: File) -> Path:
        """Path that a file is downloaded to."""
        return self.root / ".fetch" / file.name

    def partial_size(self, file: File) -> int:
        """Bytes that are there of a file that is not downloaded whole."""
        path = self.download_path(file)
        return kaggle.partial_size(path) if file.source.kaggle else PartialFile(path).size

    def state(self, place: str, file: File) -> State:
        """State of a place, by sizes and counts alone."""
        if not (self.root / place).exists():
            started = self.download_path(file).exists() or self.partial_size(file)
            return State.PART if started else State.MISSING
        content = self._content(place)
        if content is None:
            return State.OWN
        return State.WHOLE if self._seems(place, content) else State.CHANGED

    def put(self, download: Path, digest: str, file: File, place: str) -> None:
        """Brings a downloaded file to its place, unpacked where it is to be; there it appears whole or not at all.

        Args:
            download: The file; afterwards it is gone.
            digest: Its own.
            file: What is known of it.
            place: Where it belongs.

        Raises:
            DataError: If it is not what it should be, and then it is deleted; or if the disk is full.
        """
        path = self.root / place
        self._tidy(path)
        try:
            if file.unpack is None:
                _check_start(download, file)
                self._keep(place, {"file": file.name, "content": {"": (download.stat().st_size, digest)}})
                _move(download, path)
                return
            with self._appearing(path) as draft:
                content = UNPACK[file.unpack](download, draft, int(AMPLE * (file.unpacked or 0)))
                if draft.is_file():
                    _check_start(draft, file)
                self._keep(place, {"file": file.name, "digest": digest, "content": content})
        except Damaged as error:
            download.unlink(missing_ok=True)
            raise DataError(f"{error} It was deleted; run the same command to fetch it again.") from None
        download.unlink(missing_ok=True)
        if file.members is not None and len(content) != file.members:
            print(f"{place} holds {len(content):,} files; {file.members:,} are published.")

    def link(self, place: str, other: str) -> None:
        """Makes what is at another place be at this one, too, without a second copy where the system allows it."""
        path, target = self.root / place, self.root / other
        self._tidy(path)
        with self._appearing(path) as draft:
            try:
                draft.symlink_to(os.path.relpath(target.resolve(), path.parent.resolve()), target.is_dir())
                self._keep(place, {"link": other})
            except OSError:  # Windows, where links need a right of their own, and some network drives
                (shutil.copytree if target.is_dir() else shutil.copyfile)(target, draft)
                self._keep(place, self._kept(other))

    def damage(self, place: str, file: File) -> str | None:
        """Damage of what is at a place, found by reading all of it; None if there is none or no digest is known."""
        content = self._content(place)
        path = self.root / place
        if content is None:
            if file.digest is None or file.unpack is not None or not path.is_file():
                return None
            digest = file_digest(path, file.digest.partition(":")[0])
            return None if digest == file.digest else f"has the digest {digest}, and the published file {file.digest}"
        wrong = []
        for name, (_, recorded) in track(content.items(), f"Checking {place}", len(content)):
            member = path / name if name else path
            if not member.is_file() or file_digest(member, recorded.partition(":")[0]) != recorded:
                wrong.append(name or place)
        return f"{len(wrong):,} of {len(content):,} damaged or missing: {shorten(wrong)}" if wrong else None

    def _record(self, place: str) -> Path:
        return self.root / ".fetch" / "records" / f"{place}.json"

    def _keep(self, place: str, record: dict[str, Any]) -> None:
        write_text(self._record(place), json.dumps(record))

    def _kept(self, place: str) -> dict[str, Any]:
        return dict(json.loads(self._record(place).read_text(encoding="utf-8")))

    def _content(self, place: str) -> Content | None:
        """Files that were fetched to a place, or to the one that it is a link to; None if none were."""
        try:
            record = self._kept(place)
            record = self._kept(record["link"]) if "link" in record else record
            return {name: (size, digest) for name, (size, digest) in record["content"].items()}
        except (OSError, ValueError, KeyError):
            return None

    def _seems(self, place: str, content: Content) -> bool:
        """Whether what is there has the size, or the number of files, that it had."""
        path = self.root / place
        if "" in content:
            return path.is_file() and path.stat().st_size == content[""][0]
        return sum(len(names) for _, _, names in os.walk(path)) == len(content)

    @contextmanager
    def _appearing(self, path: Path) -> Iterator[Path]:
        """As `whole`; leaves no empty folders, which would say that a task has real data, where nothing appears."""
        try:
            with atomic_write(path, ADVICE) as draft:
                yield draft
        finally:
            for folder in path.parents:
                if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()

    def _tidy(self, path: Path) -> None:
        """Removes what a killed command has left beside a place: drafts, and a link that leads nowhere."""
        for draft in path.parent.glob(f".{path.name}.????????"):
            shutil.rmtree(draft, ignore_errors=True)
        if path.is_symlink() and not path.exists():
            path.unlink()


def holding(store: Store, file: File, places: Sequence[str]) -> str | None:
    """The first of some places where a file is whole and was fetched, or None."""
    return next((place for place in places if store.state(place, file) is State.WHOLE), None)


def _move(download: Path, path: Path) -> None:
    """Moves a file, at once or, to another disk, by a copy that appears whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(download, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise unwritable(path, error, ADVICE) from error
        with atomic_write(path, ADVICE) as draft:
            shutil.copyfile(download, draft)
        download.unlink()


def _check_start(path: Path, file: File) -> None:
    """Raises Damaged if a file does not begin as a task expects it."""
    expected = file.starts.encode("latin-1")
    with path.open("rb") as opened:
        start = opened.read(len(expected))
    if start != expected:
        raise Damaged(
            f"{file.name} does not hold what it should: it begins with {start[:40]!r}, where {expected!r} must be."
        )
