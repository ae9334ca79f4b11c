"""A CSV file that grows line by line, each of which is on the disk before the next."""

import codecs
import csv
import io
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from galaxyml.runs.errors import DataError, shorten
from galaxyml.runs.files import atomic_write, unwritable

ADVICE = "Free some space, or stop the command and give another file by --labels other.csv."
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")  # the end of a whole line

Record = Mapping[str, str]


class Lines:
    """Records in a CSV file, one a line, by one of their values.

    A record is added by one write and a flush to the disk, so that whatever ends the process leaves all records before
    it; the last one, if it is half written then, is taken out when the file is read. What another program writes into
    the file is read before it is changed again.

    Args:
        path: The file, which need not be there.
        columns: Its columns, of which the last one is a time, ISO 8601 in UTC.
        key: The column that tells records apart.

    Attributes:
        records: By their keys, in the order of the lines.
        notes: Sentences on what was repaired.

    Raises:
        DataError: If the file has other columns, or cannot be read.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: str) -> None:
        self.path, self.columns, self.key = path, list(columns), key
        self.records: dict[str, Record] = {}
        self.notes: list[str] = []
        self._state: tuple[int, int, int] | None = None
        self._has_header = False
        self.read()

    def read(self) -> None:
        """Reads the file, if it has changed since it was read or written here.

        Raises:
            DataError: As the class.
        """
        if (state := _state(self.path)) == self._state and state is not None:
            return
        self.records, self._has_header = {}, False
        if state is not None:
            self._parse()
        self._state = _state(self.path)

    def add(self, record: Record) -> None:
        """Adds a record, in the place of one with the same key.

        Raises:
            DataError: If it cannot be written; then the file is as before.
        """
        self.read()
        key = record[self.key]
        if self._has_header and key not in self.records:
            self._append(_text([[record[column] for column in self.columns]]))
            self.records[key] = record
        else:
            self._write([*(other for name, other in self.records.items() if name != key), record])

    def remove(self, key: str) -> None:
        """Takes a record out, if it is there; the file is replaced whole.

        Raises:
            DataError: If it cannot be written; then the file is as before.
        """
        self.read()
        if key in self.records:
            self._write([record for name, record in self.records.items() if name != key])

    def check_writable(self) -> None:
        """Makes sure, before the work, that the file and its folder can be written.

        Raises:
            DataError: If not.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self.path.open("ab").close()
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
        except OSError as error:
            raise unwritable(self.path, error, "Give another file: --labels other.csv.") from error

    def _parse(self) -> None:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}.") from None
        text = content.removeprefix(codecs.BOM_UTF8)
        if _text([self.columns]).encode().startswith(text):  # empty, or the header half written
            self._has_header = text.endswith(b"\n")
            return
        end = text.rfind(b"\n") + 1
        header = next(csv.reader([text[:end].partition(b"\n")[0].decode(errors="replace").strip()]), [])
        if header != self.columns:
            found = shorten(header or [text[:40].decode(errors="replace")], shown=8)
            raise DataError(
                f"{self.path} is not a file of labels by this command: it has the columns {found}, in the place of "
                f"{', '.join(self.columns)}. It stays as it is; give the labels another file: --labels other.csv."
            )
        self._take(text[:end], header_lines=1)
        self._has_header = True
        if text[end:]:
            self._repair(content[: len(content) - len(text) + end], text[end:])

    def _take(self, lines: bytes, header_lines: int) -> None:
        """Reads whole lines.

        Raises:
            DataError: If one is no record.
        """
        try:
            reader = csv.reader(io.StringIO(lines.decode(), newline=""), strict=True)
            for number, values in enumerate(reader):
                if number < header_lines or not values:
                    continue
                if len(values) != len(self.columns):
                    raise self._wrong(reader.line_num, f"it has {len(values)} values, not {len(self.columns)}")
                record = dict(zip(self.columns, values, strict=True))
                if record[self.key] in self.records:
                    raise self._wrong(reader.line_num, f"{self.key} {record[self.key]} occurs a second time")
                self.records[record[self.key]] = record
        except csv.Error as error:
            raise self._wrong(reader.line_num, str(error)) from None
        except UnicodeDecodeError:
            raise DataError(f"{self.path} is no UTF-8, in which labels are written. Save it as such.") from None

    def _wrong(self, line: int, why: str) -> DataError:
        return DataError(f"{self.path}, line {line}: {why}. Correct the line or take it out.")

    def _repair(self, whole: bytes, last: bytes) -> None:
        """Ends the last line, which has no end, or takes it out if it is not complete."""
        try:
            values = next(csv.reader([last.decode()], strict=True), [])
        except (csv.Error, UnicodeDecodeError):
            values = []
        if len(values) == len(self.columns) and _TIME.fullmatch(values[-1]):
            self._take(last, header_lines=0)
            whole += last + b"\n"
        else:
            cut = last.decode(errors="replace").strip("\0")
            self.notes.append(
                f"{self.path}: its last line was half written, as a kill or a power cut leaves it, and is taken out "
                f"({cut[:60]!r}); what it was about is asked again."
            )
        with atomic_write(self.path, ADVICE) as draft:
            draft.write_bytes(whole)

    def _append(self, text: str) -> None:
        """Adds text at the end, on the disk when this returns; as before if it does not."""
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                before, left = os.fstat(file).st_size, text.encode()
                try:
                    while left:
                        left = left[os.write(file, left) :]
                    os.fsync(file)
                except OSError:
                    os.ftruncate(file, before)
                    raise
            finally:
                os.close(file)
        except OSError as error:
            raise unwritable(self.path, error, ADVICE) from error
        self._state = _state(self.path)

    def _write(self, records: Iterable[Record]) -> None:
        """Replaces the file by one with these records."""
        by_key = {record[self.key]: record for record in records}
        rows = [[record[column] for column in self.columns] for record in by_key.values()]
        with atomic_write(self.path, ADVICE) as draft:
            draft.write_text(_text([self.columns, *rows]), encoding="utf-8", newline="")
        self.records, self._has_header = by_key, True
        self._state = _state(self.path)


def _text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells whether a file has changed; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
