"""Archives to folders and files: nothing outside the folder, no links, no more than was declared, nothing half."""

import gzip
import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from galaxyml.data.download.download import file_digest
from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import check_space
from galaxyml.runs.progress import track, transfer

BLOCK = 1 << 20
ADVICE = "Free some space, then run the same command: what was downloaded is kept."
# Bytes and digest of each file, by its path in its place; the path of a single file is empty.
Content = dict[str, tuple[int, str]]


class Damaged(DataError):
    """An archive that is not what it should be; it is of no use to keep it."""


def to_folder(archive: Path, folder: Path, limit: int) -> Content:
    """Unpacks a zip into a folder.

    A folder around all of it is left away where it has the archive's name or the folder's; what macOS adds (`__MACOSX`,
    `._…`) is left out.

    Args:
        archive: The zip.
        folder: Will be made.
        limit: Most bytes that it may hold.

    Returns:
        What it held; digests are the CRC-32 of its directory, which each file has been found to have.

    Raises:
        Damaged: If it is cut or damaged, or holds links, paths that lead elsewhere, one path twice, or too much.
        DataError: If it does not fit the disk.
    """
    content: Content = {}
    with _readable(archive), zipfile.ZipFile(archive) as opened:
        members = _members(opened, archive, {archive.stem, folder.name})
        _check_size(archive, folder, sum(member.file_size for member in members.values()), limit)
        for name, member in track(members.items(), f"Unpacking {archive.name}", len(members)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as packed, path.open("xb") as file:
                shutil.copyfileobj(packed, file, BLOCK)
            content[name] = member.file_size, f"crc32:{member.CRC:08x}"
    if hasattr(os, "sync"):
        os.sync()  # once is 17 times faster than once a file
    return content


def to_file(archive: Path, path: Path, limit: int) -> Content:
    """Takes the one file out of a zip; a file that is no zip is moved.

    Args:
        archive: The zip, or, as Kaggle sends small files, the file itself.
        path: Will be written.
        limit: Most bytes that it may hold.

    Raises:
        Damaged: If the zip is cut or damaged, or holds too much, or several files.
        DataError: If it does not fit the disk.
    """
    if not _is_zip(archive):
        _check_size(archive, path, archive.stat().st_size, limit)
        digest = file_digest(archive, "sha256")
        shutil.move(archive, path)
        return {"": (path.stat().st_size, digest)}
    with _readable(archive), zipfile.ZipFile(archive) as opened:
        members = _members(opened, archive, set())
        if len(members) != 1:
            raise Damaged(f"{archive}: it holds {len(members)} files ({shorten(list(members))}); there must be one.")
        (member,) = members.values()
        _check_size(archive, path, member.file_size, limit)
        with opened.open(member) as packed:
            return _copied(cast(BinaryIO, packed), path, archive, limit)


def gunzip(archive: Path, path: Path, limit: int) -> Content:
    """Unpacks a .gz.

    Args:
        archive: The .gz.
        path: Will be written.
        limit: Most bytes that it may hold.

    Raises:
        Damaged: If it is cut or damaged, or holds too much.
    """
    with _readable(archive), gzip.open(archive) as packed:
        return _copied(cast(BinaryIO, packed), path, archive, limit)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turns what is wrong with an archive into a sentence."""
    try:
        yield
    # NotImplementedError: a way of packing that zipfile does not know; RuntimeError: a password.
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise Damaged(f"{archive} cannot be unpacked ({str(error).rstrip('.')}): it is cut or damaged.") from None


def _is_zip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _members(opened: zipfile.ZipFile, archive: Path, around: set[str]) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip, by their path without the folders around all of them that have one of some names."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in opened.infolist():
        path = PurePosixPath(member.filename)
        added = path.name.startswith("._") or path.name == ".DS_Store" or "__MACOSX" in path.parts
        if member.is_dir() or not path.parts or added:
            continue
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Damaged(f"{archive}: {member.filename} is a link or a device; there must be files only.")
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0]:
            raise Damaged(f"{archive}: {member.filename} leads out of the folder.")
        if path in members:
            raise Damaged(f"{archive}: {member.filename} is there twice.")
        members[path] = member
    while members and len(tops := {path.parts[0] for path in members}) == 1 and tops <= around:
        if any(len(path.parts) == 1 for path in members):
            break
        members = {PurePosixPath(*path.parts[1:]): member for path, member in members.items()}
    if not members:
        raise Damaged(f"{archive}: it holds no files.")
    return {str(path): member for path, member in members.items()}


def _check_size(archive: Path, path: Path, held: int, limit: int) -> None:
    if held > limit:
        raise Damaged(f"{archive} holds {held / 1e9:,.1f} GB; at most {limit / 1e9:,.1f} GB were to be expected.")
    check_space(path, held, ADVICE)


def _copied(packed: BinaryIO, path: Path, archive: Path, limit: int) -> Content:
    """Writes what comes, up to a limit."""
    size, digest = 0, hashlib.sha256()
    with path.open("xb") as file, transfer(f"Unpacking {archive.name}", None) as shown:
        while block := packed.read(BLOCK):
            size += len(block)
            if size > limit:
                raise Damaged(f"{archive} holds more than the {limit / 1e9:,.1f} GB that were to be expected at most.")
            file.write(block)
            digest.update(block)
            shown(size)
    return {"": (size, f"sha256:{digest.hexdigest()}")}
