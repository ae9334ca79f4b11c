"""What a file is by its first bytes, whatever its name says, and what its name says."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

HDF5 = (".h5", ".hdf5")
TAR = (".tar",)
FITS = (*(name + end for name in (".fits", ".fit", ".fts") for end in ("", ".gz", ".bz2", ".xz", ".fz")), ".ftz", ".fz")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".npy", *FITS)
PICTURES = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")  # as Pillow calls them; it is never asked for others
READ = "JPEG, PNG, TIFF, WebP, BMP, GIF, FITS, npy, HDF5"

_STARTS = {
    "FITS": (b"SIMPLE  =",),
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "GIF": (b"GIF87a", b"GIF89a"),
    "npy": (b"\x93NUMPY",),
    "HDF5": (b"\x89HDF\r\n\x1a\n",),
}
_OTHERS = {
    "a ZIP archive": (b"PK\3\4",),
    "a PDF": (b"%PDF",),
    "packed by compress": (b"\x1f\x9d",),
    "a web page or XML": (b"<!", b"<html", b"<HTML", b"<?xml", b"<svg"),
}
_UNPACK: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_LONGEST = 16  # bytes that are looked at


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file's name ends in one of some suffixes, in upper or lower case."""
    return path.name.lower().endswith(tuple(suffixes))


def type_of_bytes(start: bytes) -> str | None:
    r"""The type of an image file by its first 16 bytes; None where it is none.

    >>> type_of_bytes(b"SIMPLE  =    T"), type_of_bytes(b"RIFF\x10\0\0\0WEBPVP8 "), type_of_bytes(b"<html>")
    ('FITS', 'WEBP', None)
    """
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    if start.startswith(b"BM") and start[6:10] == bytes(4):  # two letters alone begin many a text
        return "BMP"
    return next((name for name, starts in _STARTS.items() if start.startswith(starts)), None)


def file_type(path: Path) -> str | None:
    """The type of an image file, of `READ`, by its first bytes; packed ones are unpacked for it.

    Returns:
        None where it is no image, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return type_of_bytes(_unpacking(file).read(_LONGEST))
    except (OSError, EOFError, lzma.LZMAError, zlib.error):
        return None


@contextmanager
def unpacked(image: Path | bytes) -> Iterator[tuple[str, BinaryIO]]:
    """Opens an image file, or the content of one, unpacked, with its type.

    Raises:
        ValueError: If it is no image; the message says what it is.
    """
    with image.open("rb") if isinstance(image, Path) else io.BytesIO(image) as file:
        stream: BinaryIO = _unpacking(file)
        start = stream.read(_LONGEST)
        stream.seek(0)
        if (found := type_of_bytes(start)) is None:
            raise NoImageError(f"{_in_words(start)}; images are {READ}")
        yield found, stream


def _unpacking(file: BinaryIO) -> Any:
    """A file, or what unpacks it as it is read: a small one may unpack to a huge one."""
    start = file.read(_LONGEST)
    file.seek(0)
    return next((unpack(file) for mark, unpack in _UNPACK.items() if start.startswith(mark)), file)


class NoImageError(ValueError):
    """A file that is no image; the message says what it is."""


def _in_words(start: bytes) -> str:
    if not start:
        return "it is empty"
    if other := next((name for name, starts in _OTHERS.items() if start.startswith(starts)), None):
        return f"it is {other}"
    text = start.decode("latin-1")
    return f"it begins with {text!r}" if text.isprintable() else f"it begins with the bytes {start[:8].hex(' ')}"
