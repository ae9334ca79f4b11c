"""Images inside parquet, HDF5 and tar files: where they are, and what is read of them a few at a time."""

import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml.data.images.file_types import SUFFIXES, has_suffix
from galaxyml.runs.errors import DataError

PARQUET = (".parquet",)
KEY = "images"  # of an HDF5 file
AT_ONCE = 64  # images of a parquet file that are held
_NAMES = ("image", "images", "img", "rgb_image", "picture")  # of columns, the preferred first
_BINARY = (pa.types.is_binary, pa.types.is_large_binary)


def image_column(schema: pa.Schema) -> str | None:
    """The column of a parquet file that holds images: a struct of `bytes` and `path`, or bytes; None if there is none.

    >>> image_column(pa.schema({"id": pa.string(), "image": pa.struct({"bytes": pa.binary(), "path": pa.string()})}))
    'image'
    """
    holding = [
        field.name
        for field in schema
        if (pa.types.is_struct(field.type) and _holds_bytes(field.type))
        or (_is_bytes(field.type) and field.name.lower() in _NAMES)
    ]
    return min(holding, key=lambda name: _NAMES.index(name.lower()) if name.lower() in _NAMES else 99, default=None)


def images_in(file: Any) -> Any:
    """The images of an HDF5 file: `images`, or else its only array of shape (N, H, W) or (N, H, W, C).

    Raises:
        KeyError: If there is none, or several.
    """
    if KEY in file:
        return file[KEY]
    arrays = [name for name, values in file.items() if getattr(values, "ndim", 0) in (3, 4)]
    if len(arrays) != 1:
        raise KeyError(f"it has no {KEY}")
    return file[arrays[0]]


def _holds_bytes(kind: pa.StructType) -> bool:
    number = kind.get_field_index("bytes")
    return number >= 0 and _is_bytes(kind.field(number).type)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(check(kind) for check in _BINARY)


def read_contents(path: Path, rows: Sequence[int]) -> Iterator[bytes | str]:
    """Contents of the image files inside a parquet file, in the order of `rows`, which is best theirs in the file.

    Yields:
        The bytes of each image's file, or the reason why there are none, which begins with its name.
    """
    done = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            column = image_column(file.schema_arrow)
            if column is None:
                raise pa.ArrowInvalid("it has no column of images")
            reader = _Reader(file, column)
            for row in rows:
                content = reader.content(path, row)
                yield content
                done += 1
    except FileNotFoundError:
        reason = f"{path.name} is not there"
    except (OSError, pa.ArrowException) as error:
        reason = f"{path.name} cannot be read ({str(error).splitlines()[0]}); fetch it again"
    yield from (reason for _ in rows[done:])


def count_in_tar(path: Path) -> int:
    """Number of image files in a tar file.

    Raises:
        DataError: If it cannot be read, or holds none.
    """
    try:
        count = len(_members(path))
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read as tar ({error}). It must be a tar file that is not packed.") from None
    if not count:
        raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)}).")
    return count


def read_tar(path: Path, rows: Sequence[int]) -> Iterator[bytes | str]:
    """Contents of the image files inside a tar file, which are numbered from 0; as `read_contents`."""
    try:
        members = _members(path)
        with path.open("rb") as file:
            for row in rows:
                if row >= len(members):
                    yield f"{path.name}#{row}: the file has {len(members):,} images, from #0 on"
                    continue
                offset, size = members[row]
                file.seek(offset)
                yield file.read(size)
    except FileNotFoundError:
        yield from (f"{path.name} is not there" for _ in rows)
    except (OSError, tarfile.TarError) as error:
        yield from (f"{path.name} cannot be read ({error}); fetch it again" for _ in rows)


def _members(path: Path) -> list[tuple[int, int]]:
    """Where the images lie in a tar file, and their sizes in bytes."""
    status = path.stat()
    return _indexed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _indexed(path: Path, changed: int, size: int) -> list[tuple[int, int]]:
    with tarfile.open(path, "r:") as archive:
        members = ((member, Path(member.name)) for member in archive)
        return [
            (member.offset_data, member.size)
            for member, name in members
            if member.isfile() and has_suffix(name, SUFFIXES) and not name.name.startswith(".")
        ]


class _Reader:
    """Reads a column forward, `AT_ONCE` rows at a time; what lies behind is read again from its row group on."""

    def __init__(self, file: pq.ParquetFile, column: str) -> None:
        self.file, self.column = file, column
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        self.starts = np.cumsum([0, *sizes])
        self.batch: Any = None
        self.batches: Iterator[pa.RecordBatch] = iter(())
        self.start = self.stop = 0

    def content(self, path: Path, row: int) -> bytes | str:
        """Bytes of one row's image, or the reason why there are none."""
        name, count = f"{path.name}#{row}", int(self.starts[-1])
        if row >= count:
            return f"{name}: the file has {count:,} images, from #0 on"
        value = self._value(row)
        value = value if isinstance(value, dict) else {"bytes": value}
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if not value.get("path"):
            return f"{name}: there is no image in this row"
        beside = path.parent / value["path"]
        return beside.read_bytes() if beside.is_file() else f"{name}: its image {value['path']} is not there"

    def _value(self, row: int) -> Any:
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        if row < self.start or self.starts[group] >= self.stop:
            self.batches = self.file.iter_batches(AT_ONCE, [group], [self.column], use_threads=False)
            self.stop = int(self.starts[group])
        while row >= self.stop:
            self.batch = next(self.batches).column(0)
            self.start, self.stop = self.stop, self.stop + len(self.batch)
        return self.batch[row - self.start].as_py()
