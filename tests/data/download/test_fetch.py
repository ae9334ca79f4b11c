"""Data by one command: what comes of every fault that a server, a line, an archive or a disk can have."""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from faulty import (
    Server,
    broken,
    broken_at,
    chunked,
    part,
    refuses,
    sends,
    sent_elsewhere,
    stalled,
    tells,
    until_closed,
    well,
    without_ranges,
)

from galaxyml.data.download import command, manifest, remotes
from galaxyml.data.download.server import RetryPolicy
from galaxyml.runs import files

HURRIED = RetryPolicy(tries=3, unreached=2, wait=0.01, longest=0.02, longest_asked=5.0, stall=0.4)
TABLE = b"objid,votes\n" + b"".join(b"%d,%d\n" % (row, row * 7919 % 1000) for row in range(20_000))
IMAGES = {f"{number}.jpg": bytes([number]) * 999 for number in range(40)}
PLACES = {"sky/table.csv", "sky/loose.csv", "sky/packed.csv", "sky/images", "other/images"}


def zipped(members: dict[str, bytes], mode: int = 0) -> bytes:
    """A zip of some files, of which each has the kind `mode` where one is given."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, content)
    return packed.getvalue()


ARCHIVE = zipped({f"images/{name}": content for name, content in IMAGES.items()} | {"__MACOSX/._0.jpg": b"mac"})
CONTENT = {"table.csv": TABLE, "loose.csv": TABLE, "packed.csv.gz": gzip.compress(TABLE), "images.zip": ARCHIVE}


@dataclass
class Fetching:
    """The command, in a folder, beside a server.

    Attributes:
        server: The mirror.
        data: The folder of all data.
        ask: Runs the command in this process; gives its status and all that it printed.
    """

    server: Server
    data: Path
    ask: Callable[..., tuple[int, str]]

    def __call__(self, *args: object) -> tuple[int, str]:
        return self.ask(*args, "--to", self.data, "--mirror", self.server.address)

    def assert_whole(self, *places: str) -> None:
        """What a task reads is there, byte for byte, and nothing that was on the way is left."""
        for place in places:
            path = self.data / place
            if path.is_dir():
                assert {member.name: member.read_bytes() for member in path.iterdir()} == IMAGES
            else:
                assert path.read_bytes() == TABLE
        left = {path.name for path in self.data.rglob("*") if path.is_file() and "records" not in path.parts}
        assert all(name.endswith((".csv", ".jpg", ".lock")) for name in left), left


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small `datasets.yaml`, used in the place of the real one."""
    md5 = {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in CONTENT.items()}
    source = {"title": "A small sky", "page": "https://doi.org/10", "licence": "CC0", "cite": "Nobody 2024"}
    content = {
        "sources": {"sky": {**source, "zenodo": 7}, "bucket": {**source, "address": "http://127.0.0.1:9/"}},
        "files": {
            "table.csv": {"source": "sky", "size": len(TABLE), "digest": md5["table.csv"], "starts": "objid,"},
            "loose.csv": {"source": "bucket", "starts": "objid,"},
            "packed.csv.gz": {"source": "bucket", "unpack": "gzip", "unpacked": len(TABLE), "starts": "objid,"},
            "images.zip": {"source": "sky", "unpack": "folder", "unpacked": 50_000, "members": len(IMAGES)},
        },
        "datasets": {
            "table": {"task": "spirals", "what": "a table", "places": {"sky/table.csv": "table.csv"}},
            "loose": {"task": "spirals", "what": "one of unknown size", "places": {"sky/loose.csv": "loose.csv"}},
            "packed": {"task": "spirals", "what": "a packed one", "places": {"sky/packed.csv": "packed.csv.gz"}},
            "images": {"task": "spirals", "what": "images", "places": {"sky/images": "images.zip"}},
            "again": {"task": "surveys", "what": "the same images", "places": {"other/images": "images.zip"}},
            "all": {
                "task": "spirals",
                "what": "all of it",
                "parts": ["table", "loose", "packed", "images"],
                "next": "task=spirals",
                "note": "Look up.",
            },
        },
    }
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(manifest, "DATASETS", path)
    return path


@pytest.fixture
def fetching(
    server: Server,
    described: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_process: Callable[..., tuple[int, str]],
) -> Fetching:
    monkeypatch.setattr(command, "RETRIES", HURRIED)
    monkeypatch.delenv(command.MIRROR, raising=False)
    server.files |= CONTENT
    return Fetching(server, tmp_path / "data", partial(in_process, command.main))


def test_all_is_fetched_unpacked_and_placed_and_a_second_time_nothing_is_asked_for(fetching: Fetching) -> None:
    status, said = fetching("all")
    assert status == 0, said
    assert all(word in said for word in ("CC0", "Nobody 2024", "https://doi.org/10", "are free", "Look up."))
    assert f"Next: python -m galaxyml task=spirals data_dir={fetching.data}" in said
    fetching.assert_whole(*PLACES - {"other/images"})
    asked = len(fetching.server.asked)
    status, said = fetching("all")
    assert (status, len(fetching.server.asked)) == (0, asked), said
    assert fetching("--check")[0] == 0


def test_what_two_tasks_share_is_fetched_and_stored_once(fetching: Fetching) -> None:
    assert fetching("images")[0] == 0
    status, said = fetching("again")
    assert status == 0, said
    assert fetching.server.count("images.zip") == 1
    fetching.assert_whole("sky/images", "other/images")
    assert (fetching.data / "other/images").is_symlink()
    assert (fetching.data / "other/images/3.jpg").samefile(fetching.data / "sky/images/3.jpg")
    assert fetching("--check", "again")[0] == 0
    (fetching.data / "sky/images/3.jpg").write_bytes(b"?" * 999)
    status, said = fetching("--check", "again")
    assert status == 1
    assert "3.jpg" in said


def test_a_link_to_what_was_deleted_is_replaced_by_the_thing(fetching: Fetching) -> None:
    assert fetching("images", "again")[0] == 0
    (fetching.data / "sky").rename(fetching.data / "gone")
    assert fetching("again")[0] == 0
    fetching.assert_whole("other/images")
    assert not (fetching.data / "other/images").is_symlink()
    assert fetching("images")[0] == 0
    assert (fetching.data / "sky/images").is_symlink()


LATER = partial(formatdate, usegmt=True)
# Of a server and a line: the file, what happens, the status, and what is said of it.
FAULTS: dict[str, tuple[str, Callable[[Server], Any], int, str]] = {
    "breaks once": ("table", lambda s: [broken(50_000)], 0, "broke .*trying again"),
    "breaks again and again, with gains": ("table", lambda s: [broken(40_000)] * 5, 0, "broke"),
    "always breaks at the same byte": ("table", lambda s: broken_at(70_000), 1, "70,000 bytes of it are kept"),
    "always breaks and knows no parts": ("table", lambda s: without_ranges(70_000), 1, "cannot be downloaded now"),
    "breaks and knows no parts": ("table", lambda s: [without_ranges(7), without_ranges()], 0, "broke"),
    "breaks in chunks": ("table", lambda s: [chunked(TABLE[:99], ended=False)], 0, "broke"),
    "ends too early": ("table", lambda s: [until_closed(TABLE[:-9])], 0, "broke after"),
    "wrong bytes": ("table", lambda s: [sends(TABLE[::-1])], 1, "digest md5.*published.*deleted.*same command"),
    "too short": ("table", lambda s: [sends(TABLE[:-9])], 1, f"has {len(TABLE) - 9:,} bytes; .* {len(TABLE):,} bytes"),
    "too long": ("table", lambda s: [sends(TABLE + b"!")], 1, f"has {len(TABLE) + 1:,} bytes"),
    "too long, without saying so": ("table", lambda s: [chunked(TABLE + b"!")], 1, "more than"),
    "404": ("table", lambda s: [refuses(404)], 1, r"no http://127.*/table.csv: .* answers 404"),
    "403": ("table", lambda s: [refuses(403)], 1, "403 .*block it, or ask for a login"),
    "500, then fine": ("table", lambda s: [refuses(500)], 0, "500"),
    "always 503": ("table", lambda s: refuses(503), 1, "answers 503 .*Run the same command later"),
    "503 until a date": ("table", lambda s: [refuses(503, Retry_After=LATER(time.time() + 1))], 0, "in [01] s"),
    "429 for a day": ("table", lambda s: [refuses(429, Retry_After=86400)], 1, "asks to retry in 1440 minutes"),
    "429 until a date that is none": (
        "table",
        lambda s: [refuses(429, Retry_After="Fri, 31 Dec 99999 23:59:59 GMT"), refuses(404)],
        1,
        "404",
    ),
    "429 for hours": ("table", lambda s: [refuses(429, Retry_After=7200)], 1, "asks to retry in 120 minutes"),
    "moved": ("table", lambda s: [sent_elsewhere(f"{s.address}/new/table.csv")], 0, ""),
    "moved in a circle": ("table", lambda s: sent_elsewhere(f"{s.address}/table.csv"), 1, "without end"),
    "goes silent, then fine": ("table", lambda s: [stalled(90_000)], 0, "silent"),
    "a web page": ("table", lambda s: [sends(b"<html>Log in", "text/html; charset=utf-8")], 1, "is a web page"),
    "another part": (
        "table",
        lambda s: [broken(9_000), lambda a: part(a, 9_000, Content_Range=f"bytes 8999-9/{len(TABLE)}")],
        0,
        "another part",
    ),
    "a part without its place": (
        "table",
        lambda s: [broken(9_000), lambda a: a.head(206, 5, ETag=a.tag) or a.hang_up()],
        0,
        "another part",
    ),
    "no such part": ("table", lambda s: [broken(9_000), refuses(416)], 0, "another one now"),
    "another version of a part": (
        "loose",
        lambda s: [broken(9_000), lambda a: part(a, 9_000, ETag='"other"')],
        0,
        "another part",
    ),
    "nobody knows its length": ("loose", lambda s: [until_closed(TABLE)], 1, "how long"),
    "a web page of unknown digest": ("loose", lambda s: [sends(b"<html>")], 1, "page|begins with|bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_leaves_a_wrong_file_and_the_next_command_sets_it_right(fetching: Fetching, fault: str) -> None:
    name, happens, expected, words = FAULTS[fault]
    fetching.server.heads = fault != "nobody knows its length"
    file = f"{name}.csv"
    planned = happens(fetching.server)
    if isinstance(planned, list):
        fetching.server.faults[file] = planned
    else:
        fetching.server.always[file] = planned
    status, said = fetching(name)
    assert status == expected, said
    assert re.search(words, said, re.DOTALL), said
    assert "Traceback" not in said
    if status:
        assert said.count("error: ") == 1
        assert not (fetching.data / "sky").exists()
    fetching.server.always.clear()
    fetching.server.faults.clear()
    status, said = fetching(name)
    assert status == 0, said
    fetching.assert_whole(f"sky/{file}")


HALF = ARCHIVE[: len(ARCHIVE) // 2]
FEW = {"images/0.jpg": b"0", "images/1.jpg": b"1"}
# Of an archive that came as it was sent, with no digest known: the data's name, what it is, and what is said of it.
ARCHIVES: dict[str, tuple[str, bytes, str]] = {
    "a cut zip": ("images", HALF, "cut or damaged"),
    "a damaged zip": ("images", ARCHIVE.replace(b"\x63", b"\x36", 3), "cut or damaged"),
    "no zip": ("images", b"<html>Log in</html>", "cut or damaged"),
    "a path upwards": ("images", zipped(FEW | {"images/../../evil": b"!"}), "leads out of the folder"),
    "a path from the root": ("images", zipped(FEW | {"/tmp/evil": b"!"}), "leads out of the folder"),
    "a path of Windows": ("images", zipped(FEW | {"images\\..\\evil": b"!"}), "leads out of the folder"),
    "a drive of Windows": ("images", zipped(FEW | {"C:/evil": b"!"}), "leads out of the folder"),
    "a link": ("images", zipped({"images/evil": b"/etc/passwd"}, stat.S_IFLNK | 0o777), "link or a device"),
    "a device": ("images", zipped({"images/evil": b""}, stat.S_IFCHR | 0o777), "link or a device"),
    "a bomb": ("images", zipped({"images/0.jpg": bytes(10**6)}), "holds .* at most"),
    "an empty zip": ("images", zipped({}), "no files"),
    "a cut gzip": ("packed", CONTENT["packed.csv.gz"][:-999], "cut or damaged"),
    "a damaged gzip": ("packed", CONTENT["packed.csv.gz"][:-8] + b"12345678", "cut or damaged"),
    "no gzip": ("packed", b"<html>Log in</html>", "cut or damaged"),
    "a gzip bomb": ("packed", gzip.compress(b"objid," + bytes(10**6)), "expected at most"),
    "a gzip of something else": ("packed", gzip.compress(b"OBJECT,votes\n1,2\n"), "begins with b'OBJECT"),
}


@pytest.mark.parametrize("archive", ARCHIVES)
def test_no_archive_writes_elsewhere_or_half_and_a_good_one_is_fetched_next(fetching: Fetching, archive: str) -> None:
    name, content, words = ARCHIVES[archive]
    (file,) = manifest.load()[name].places.values()
    fetching.server.files[file.name] = content
    outside = set(fetching.data.parent.iterdir())
    status, said = fetching(name)
    assert status == 1, said
    assert re.search(words, said, re.DOTALL), said
    assert "same command to fetch it again" in said
    assert not (fetching.data / "sky").exists()
    assert set(fetching.data.parent.iterdir()) - outside == {fetching.data}
    assert not list(fetching.data.parent.rglob("evil"))
    assert not Path("/tmp/evil").exists()
    fetching.server.files[file.name] = CONTENT[file.name]
    status, said = fetching(name)
    assert status == 0, said
    fetching.assert_whole(*manifest.load()[name].places)


def test_a_version_that_changes_between_two_parts_is_fetched_anew(fetching: Fetching) -> None:
    fetching.server.files["loose.csv"] = TABLE[::-1]
    fetching.server.always["loose.csv"] = broken_at(9_000)
    assert fetching("loose")[0] == 1
    fetching.server.always.clear()
    fetching.server.files["loose.csv"] = TABLE
    assert fetching("loose")[0] == 0
    assert fetching.server.asked[-1][2]["Range"] == "bytes=9000-"
    fetching.assert_whole("sky/loose.csv")


def test_only_the_rest_is_asked_for_after_a_break(fetching: Fetching) -> None:
    fetching.server.always["table.csv"] = broken_at(70_000)
    assert fetching("table")[0] == 1
    assert "part" in fetching("--list", "table")[1]
    fetching.server.always.clear()
    status, said = fetching("table")
    assert status == 0, said
    assert "0.1 MB of it are here" in said
    headers = fetching.server.asked[-1][2]
    assert headers["Range"] == "bytes=70000-"
    assert headers["If-Range"].startswith('"')
    assert headers["User-Agent"].startswith("galaxyml/")
    fetching.assert_whole("sky/table.csv")


def test_a_weak_tag_is_not_trusted_and_a_date_is(fetching: Fetching) -> None:
    date = formatdate(usegmt=True)
    headers = {"ETag": 'W/"1"', "Last-Modified": date}
    fetching.server.faults["table.csv"] = [lambda asked: part(asked, 0, 5_000, **headers), well]
    assert fetching("table")[0] == 0
    assert fetching.server.asked[-1][2]["If-Range"] == date
    fetching.assert_whole("sky/table.csv")


def test_a_server_that_wants_to_be_left_alone_for_a_second_is(fetching: Fetching) -> None:
    fetching.server.faults["table.csv"] = [refuses(429, Retry_After=1)]
    began = time.monotonic()
    status, said = fetching("table")
    assert status == 0, said
    assert "trying again in 1 s" in said
    assert time.monotonic() - began >= 1


def test_no_server_no_proxy_and_no_address_are_told_apart(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = fetching.ask("table", "--to", fetching.data, "--mirror", "http://127.0.0.1:9")
    assert status == 1
    assert re.search("no connection.*refused.*Is this computer online", said, re.DOTALL)
    status, said = fetching.ask("table", "--to", fetching.data, "--mirror", "ftp.example.org/data")
    assert status == 1
    assert re.search("no address of a server.*https://", said)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    status, said = fetching("table")
    assert status == 1
    assert re.search("proxy that HTTPS_PROXY or HTTP_PROXY names", said)
    monkeypatch.delenv("HTTP_PROXY")
    assert fetching("table")[0] == 0
    fetching.assert_whole("sky/table.csv")


def test_the_mirror_of_the_environment_is_taken(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.MIRROR, f"{fetching.server.address}/data/")
    assert fetching.ask("table", "--to", fetching.data)[0] == 0
    assert fetching.server.asked[-1][1] == "/data/table.csv"


def test_a_full_disk_ends_it_and_what_came_is_kept(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, *args: Any, **options: Any) -> Any:
        if path.suffix == ".part" and args == ("ab",) and path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *args, **options)

    fetching.server.faults["table.csv"] = [broken(50_000)]
    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(Path, "open", full)
        status, said = fetching("table")
    assert status == 1
    assert re.search("error: .*table.csv cannot be written: the disk is full.*same command", said)
    assert not (fetching.data / "sky").exists()
    assert fetching("table")[0] == 0
    assert fetching.server.asked[-1][2]["Range"] == "bytes=50000-"
    fetching.assert_whole("sky/table.csv")


def test_a_disk_that_fills_while_unpacking_keeps_the_archive(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken_disk:
        broken_disk.setattr("galaxyml.data.download.unpack.shutil.copyfileobj", full)
        status, said = fetching("images")
    assert status == 1
    assert re.search("sky/images cannot be written: the disk is full.*what was downloaded is kept", said)
    assert not (fetching.data / "sky/images").exists()
    assert fetching("images")[0] == 0
    assert fetching.server.count("images.zip") == 1
    fetching.assert_whole("sky/images")


def test_what_does_not_fit_is_refused_before_it_begins(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as small_disk:
        small_disk.setattr(files.shutil, "disk_usage", lambda _: usage(10**6, 10**6, 10_000))
        status, said = fetching("all")
    assert status == 1
    assert re.search(r"needs 0\.0 GB, and 0\.0 GB are free\. Free some space, or choose another folder by --to", said)
    assert fetching.server.count("table.csv") == 0
    assert fetching("all")[0] == 0
    fetching.assert_whole(*PLACES - {"other/images"})


def test_where_nothing_may_be_written_one_sentence_says_so(fetching: Fetching, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, said = fetching.ask("table", "--to", tmp_path / "file", "--mirror", fetching.server.address)
    assert status == 1
    assert re.search("error: .*cannot be written: a part of that path is a file", said)
    if os.geteuid() == 0:
        return
    (tmp_path / "locked").mkdir(mode=0o500)
    status, said = fetching.ask("table", "--to", tmp_path / "locked", "--mirror", fetching.server.address)
    assert status == 1
    assert "you may not write there" in said


COMMAND = """
import signal
import sys
from pathlib import Path
from galaxyml.data.download import command, manifest
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
manifest.DATASETS = Path(sys.argv.pop(1))
command.main(sys.argv[1:])
"""


@pytest.fixture
def apart(fetching: Fetching, described: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command as a process of its own."""
    started = []

    def start(*args: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-c", COMMAND, described, *args, "--to", fetching.data]
        line += ["--mirror", fetching.server.address]
        process = subprocess.Popen(
            [str(word) for word in line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_killed_download_goes_on_where_it_was(
    fetching: Fetching, apart: Callable[..., subprocess.Popen[str]], sent: signal.Signals, status: int
) -> None:
    fetching.server.faults["table.csv"] = [stalled(90_000)]
    process = apart("table")
    reached = fetching.data / ".fetch/table.csv.part"
    until(lambda: reached.is_file() and reached.stat().st_size == 90_000)
    process.send_signal(sent)
    said = process.communicate()[0]
    assert process.returncode == status
    assert ("Interrupted; what was downloaded is kept" in said) == (sent == signal.SIGINT)
    assert "Traceback" not in said
    assert not (fetching.data / "sky").exists()
    assert fetching("table")[0] == 0
    assert fetching.server.asked[-1][2]["Range"] == "bytes=90000-"
    fetching.assert_whole("sky/table.csv")


def test_a_kill_while_unpacking_leaves_nothing_that_counts_as_whole(fetching: Fetching) -> None:
    """As after a SIGKILL: the archive is whole, and half of it lies in a draft."""
    (fetching.data / ".fetch").mkdir(parents=True)
    (fetching.data / ".fetch/images.zip").write_bytes(ARCHIVE)
    draft = fetching.data / "sky/.images.ab12_xyz/images"
    draft.mkdir(parents=True)
    (draft / "0.jpg").write_bytes(IMAGES["0.jpg"])
    assert "part" in fetching("--list", "images")[1]
    assert fetching("images")[0] == 0
    assert fetching.server.count("images.zip") == 0
    fetching.assert_whole("sky/images")
    assert not draft.parent.exists()


def test_two_commands_at_once_fetch_it_once(fetching: Fetching, apart: Callable[..., subprocess.Popen[str]]) -> None:
    going = threading.Event()

    def slow(asked: Any) -> None:
        going.wait(10)
        well(asked)

    fetching.server.faults["images.zip"] = [slow]
    one = apart("images")
    until(lambda: fetching.server.count("images.zip") == 1)
    other = apart("again")
    assert other.stdout is not None
    assert "waits for it" in next(line for line in other.stdout if "Another process" in line)
    going.set()
    assert (one.wait(20), other.wait(20)) == (0, 0)
    assert fetching.server.count("images.zip") == 1
    fetching.assert_whole("sky/images", "other/images")


def test_what_was_put_by_hand_is_left_alone(fetching: Fetching) -> None:
    (fetching.data / "sky").mkdir(parents=True)
    mine = fetching.data / "sky/table.csv"
    mine.write_text("objid,votes\n1,2\n")
    status, said = fetching("table")
    assert (status, mine.read_text()) == (0, "objid,votes\n1,2\n"), said
    status, said = fetching("--check", "table")
    assert status == 1
    assert re.search(f"has the digest md5:.*, and the published file md5:{hashlib.md5(TABLE).hexdigest()}", said)


def test_what_was_changed_since_is_neither_overwritten_nor_passed_over(fetching: Fetching) -> None:
    assert fetching("table", "images")[0] == 0
    table = fetching.data / "sky/table.csv"
    table.write_bytes(TABLE + b"20000,1\n")
    (fetching.data / "sky/images/7.jpg").unlink()
    assert "changed" in fetching("--list", "table")[1]
    status, said = fetching("table", "images")
    assert status == 1
    assert re.search("sky/table.csv, .*sky/images: not what was fetched. Move or delete it", said)
    assert table.read_bytes().endswith(b"20000,1\n")
    status, said = fetching("--check")
    assert status == 1
    assert re.search("sky/images: 1 of 40 damaged or missing: 7.jpg", said)
    table.unlink()
    (fetching.data / "sky/images").rename(fetching.data / "old")
    assert fetching("table", "images")[0] == 0
    assert fetching("--check")[0] == 0


def test_a_check_finds_one_byte_that_was_flipped(fetching: Fetching) -> None:
    assert fetching("all")[0] == 0
    for path, size in ((fetching.data / "sky/loose.csv", len(TABLE)), (fetching.data / "sky/images/9.jpg", 999)):
        content = bytearray(path.read_bytes())
        content[size // 2] ^= 1
        path.write_bytes(content)
    status, said = fetching("--check")
    assert status == 1
    assert "sky/loose.csv: 1 of 1 damaged" in said
    assert "sky/images: 1 of 40 damaged or missing: 9.jpg" in said
    assert "sky/table.csv: whole" in said


@pytest.fixture
def zenodo(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The command, with the server in the place of Zenodo and the bucket out of reach."""
    monkeypatch.setattr(remotes, "ZENODO", fetching.server.address)
    return partial(fetching.ask, "--to", fetching.data)


def record(content: dict[str, bytes]) -> dict[str, Any]:
    """A record as Zenodo's API describes it."""
    described = [
        {"key": name, "size": len(held), "checksum": f"md5:{hashlib.md5(held).hexdigest()}"}
        for name, held in content.items()
    ]
    return {"files": described, "metadata": {"license": {"id": "cc-by-4.0"}}}


def test_zenodo_is_asked_for_sizes_digests_and_the_licence(
    fetching: Fetching, zenodo: Callable[..., tuple[int, str]]
) -> None:
    fetching.server.always["7"] = tells(record(CONTENT))
    fetching.server.faults["images.zip"] = [sends(ARCHIVE[:-1] + b"!")]  # no digest of it is in the description
    status, said = zenodo("images")
    assert status == 1
    assert "cc-by-4.0 (says Zenodo)" in said
    assert "digest md5:" in said
    status, said = zenodo("images", "table")
    assert status == 0, said
    fetching.assert_whole("sky/images", "sky/table.csv")
    assert "/records/7/files/images.zip?download=1" in [path for _, path, _ in fetching.server.asked]


def test_without_zenodos_description_its_files_are_fetched_all_the_same(
    fetching: Fetching, zenodo: Callable[..., tuple[int, str]]
) -> None:
    fetching.server.always["7"] = refuses(503)
    status, said = zenodo("table")
    assert status == 0, said
    assert "does not describe record 7 now" in said
    fetching.assert_whole("sky/table.csv")


@pytest.mark.parametrize(
    ("description", "words"),
    [(record({"other.csv": b""}), "Record 7 of Zenodo has no table.csv; it has other.csv"), ({}, "not understood")],
)
def test_a_record_without_the_file_is_told(
    fetching: Fetching, zenodo: Callable[..., tuple[int, str]], description: object, words: str
) -> None:
    fetching.server.always["7"] = tells(description)
    status, said = zenodo("table")
    assert status == 1
    assert words in said


def of_folder(folder: Path, around: str) -> bytes:
    """A zip of a folder's files, with another folder around them."""
    return zipped({f"{around}/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.*g")})


def test_what_datasets_yaml_describes_lies_file_for_file_as_in_the_tasks_own_tests(
    server: Server,
    in_process: Callable[..., tuple[int, str]],
    spirals_sky: Path,
    surveys_sky: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    description = yaml.safe_load(manifest.DATASETS.read_text())
    for file in description["files"].values():  # the simulated sky's files have other sizes and digests
        for key in ("size", "digest"):
            file.pop(key, None)
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(description))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(manifest, "DATASETS", tmp_path / "datasets.yaml")
    part1, decals = "gz_decals_dr5_png_part1", surveys_sky / "decals"
    server.files |= {
        "GalaxyZoo1_DR_table2.csv.gz": gzip.compress((spirals_sky / "GalaxyZoo1_DR_table2.csv").read_bytes()),
        "gz2_filename_mapping.csv": (spirals_sky / "gz2_filename_mapping.csv").read_bytes(),
        "images_gz2.zip": of_folder(spirals_sky / "images", "images"),
        f"{part1}.zip": of_folder(decals / part1, part1),
        **{name: (decals / name).read_bytes() for name in (f"gz_decals_volunteers_{n}.csv" for n in ("1_and_2", "5"))},
    }
    status, said = in_process(
        command.main, *["spirals", "surveys-decals-1", "--to", "data", "--mirror", server.address]
    )
    assert status == 0, said
    for place, original in (("spirals", spirals_sky), ("surveys/decals", decals)):
        found = {path.relative_to(f"data/{place}"): path for path in Path("data", place).rglob("*") if path.is_file()}
        images = {path.relative_to(original) for path in original.rglob("*.*g")}
        assert {name for name in found if name.suffix != ".csv"} == images
        assert all(path.read_bytes() == (original / name).read_bytes() for name, path in found.items())


def test_a_name_that_is_none_and_no_name_are_told(fetching: Fetching) -> None:
    status, said = fetching("tabel")
    assert (status, "Did you mean table?" in said, "--list" in said) == (2, True, True)
    assert fetching()[0] == 2


def test_the_list_says_what_there_is(fetching: Fetching) -> None:
    status, said = fetching("--list")
    assert status == 0
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert re.search(r"spirals +0\.2 MB +missing +CC0 +a table", lines["table"])
    assert re.search(r"0\.2 MB \+ \? +missing", lines["all"])
    assert fetching("table")[0] == 0
    assert "whole" in fetching("--list", "table")[1]
    assert "part (1 of 4)" in fetching("--list", "all")[1]
    assert json.loads((fetching.data / ".fetch/records/sky/table.csv.json").read_text())["file"] == "table.csv"


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
