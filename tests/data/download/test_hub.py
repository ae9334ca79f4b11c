"""Data sets of the hub by one command, from a server that speaks its protocol: listed, resumed, checked, and read."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from faulty import Answering, Server, refuses, sends, sent_elsewhere, tells
from inside import write_parts

from galaxyml.data.download import command
from galaxyml.data.download.server import RetryPolicy
from galaxyml.data.source import Real
from galaxyml.tasks.images import Images

HURRIED = RetryPolicy(tries=3, unreached=2, wait=0.01, longest=0.02, longest_asked=5.0, stall=0.4)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = ["tiny/train-00000-of-00001.parquet", "tiny/test-00000-of-00001.parquet"]
DATA = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"]
Fetch = Callable[..., tuple[int, str]]


class Hub:
    """A server with one data set.

    Attributes:
        about: What it says of the data set.
        entries: What it says of its files.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.about: dict[str, Any] = {"id": "mwalmsley/gz_ukidss", "sha": COMMIT, "gated": False}
        self.about["cardData"] = {"license": "cc-by-nc-sa-4.0"}
        self.entries: list[dict[str, Any]] = [{"type": "directory", "path": "data", "oid": "1", "size": 0}]
        for path in sorted(folder.rglob("*.*")):
            content, name = path.read_bytes(), path.relative_to(folder).as_posix()
            entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            if path.suffix == ".parquet":
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            self.entries.append(entry)
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
        server.always["main"] = lambda asked: tells(self.about)(asked)
        server.always[COMMIT] = self.tree

    def tree(self, asked: Answering) -> None:
        """Files, in two pages."""
        half = len(self.entries) // 2
        if "cursor" in asked.path:
            tells(self.entries[half:])(asked)
            return
        content = json.dumps(self.entries[:half]).encode()
        link = f'<{self.server.address}{asked.path}&cursor=2>; rel="next"'
        asked.head(200, len(content), Content_Type="application/json", Link=link)
        asked.wfile.write(content)

    def asked_for(self, part: str) -> int:
        """How many requests had this in their path."""
        return sum(part in path for _, path, _ in self.server.asked)


@pytest.fixture
def hub(server: Server, images_sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    table = pd.read_csv(images_sky / "labels.csv", dtype={"id": str}).rename(columns={"id": "id_str"})
    folder = write_parts(tmp_path / "hub", images_sky, table[["id_str", "path", "kind"]])
    monkeypatch.setenv("HF_ENDPOINT", server.address + "/")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(command, "RETRIES", HURRIED)
    hub = Hub(server, folder)
    for name in hub.files:  # the server knows files by their last names, several of which are the same here
        server.always[name.rpartition("/")[2]] = partial(_by_path, hub.files)
    shutil.rmtree(folder)
    return hub


def _by_path(files: dict[str, bytes], asked: Answering) -> None:
    """The file of a whole path, or the part of it that is asked for."""
    name = asked.path.partition(f"/resolve/{COMMIT}/")[2]
    if asked.server.faults[name]:
        asked.server.faults[name].pop(0)(asked)
        return
    content = files[name]
    start = int(asked.headers.get("Range", "bytes=0-")[6:-1])
    tag = f'"{hashlib.md5(content).hexdigest()}"'
    if start:
        asked.head(
            206, len(content) - start, ETag=tag, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}"
        )
    else:
        asked.head(200, len(content), ETag=tag)
    asked.wfile.write(content[start:])


def _broken(files: dict[str, bytes], after: int) -> Callable[[Answering], None]:
    def answer(asked: Answering) -> None:
        content = files[asked.path.partition(f"/resolve/{COMMIT}/")[2]]
        asked.head(200, len(content), ETag=f'"{hashlib.md5(content).hexdigest()}"')
        asked.wfile.write(content[:after])
        asked.hang_up()

    return answer


@pytest.fixture
def fetch(hub: Hub, in_process: Callable[..., tuple[int, str]], tmp_path: Path) -> Fetch:
    return lambda *args: in_process(command.main, *args, "--to", tmp_path / "data")


def test_a_configuration_is_fetched_placed_checked_and_read(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    status, said = fetch("gz_ukidss-tiny")
    assert status == 0, said
    assert (
        "CC-BY-NC-SA-4.0; models trained on it must be released as source code (the hub says cc-by-nc-sa-4.0)" in said
    )
    assert "arXiv:2408.10160" in said
    assert f"Next: python -m galaxyml task=surveys train=[sdss] data_dir={tmp_path / 'data'}" in said
    folder = tmp_path / "data" / "gz_ukidss"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {*TINY, "README.md"}
    for name in (*TINY, "README.md"):
        assert (folder / name).read_bytes() == hub.files[name]
        assert (tmp_path / "data" / "surveys" / "ukidss" / name).samefile(folder / name)
    assert hub.asked_for("/data/train") == 0

    data = Images(Real("images", str(folder), own=True), columns=["kind"], size=16, cache_dir=str(tmp_path / "c"))
    data.setup()
    assert data.catalog is not None
    assert len(data.catalog) == 20

    asked = len(hub.server.asked)
    assert fetch("gz_ukidss-tiny")[0] == 0
    assert fetch("--check")[0] == 0
    status, said = fetch("--list")
    assert len(hub.server.asked) == asked  # nothing more is asked for
    assert "whole" in next(line for line in said.splitlines() if line.startswith("gz_ukidss-tiny"))
    assert "part (2 of 8)" in next(line for line in said.splitlines() if line.startswith("gz_ukidss "))
    (folder / TINY[0]).write_bytes(b"?" * len(hub.files[TINY[0]]))
    status, said = fetch("--check", "gz_ukidss-tiny")
    assert status == 1
    assert TINY[0] in said


def test_what_broke_goes_on_where_it_was(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    hub.server.faults[DATA[1]] = [_broken(hub.files, 20_000), *[refuses(503)] * 2]
    status, said = fetch("gz_ukidss")
    assert status == 1
    assert "20,000 bytes of it are kept" in said
    assert (tmp_path / "data" / "gz_ukidss" / DATA[0]).is_file()
    asked = len(hub.server.asked)
    status, said = fetch("gz_ukidss")
    assert status == 0, said
    later = hub.server.asked[asked:]
    assert [headers["Range"] for _, path, headers in later if DATA[1] in path] == ["bytes=20000-"]
    assert not any(DATA[0] in path or "/api/" in path for _, path, _ in later)
    for name in DATA:
        assert (tmp_path / "data" / "gz_ukidss" / name).read_bytes() == hub.files[name]


def test_what_is_not_what_the_hub_lists_is_refused(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    hub.server.faults[TINY[0]] = [sends(hub.files[TINY[0]][::-1])]
    status, said = fetch("gz_ukidss-tiny")
    assert status == 1
    assert "what came has the digest sha256:" in said
    assert not (tmp_path / "data" / "gz_ukidss" / TINY[0]).exists()
    assert fetch("gz_ukidss-tiny")[0] == 0


def test_some_shards_of_each_split(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    status, said = fetch("gz_ukidss", "--shards", "1")
    assert status == 0, said
    assert "gz_ukidss: the first 1 of the parts of each split are there." in said
    folder = tmp_path / "data" / "gz_ukidss"
    assert sorted(path.name for path in (folder / "data").iterdir()) == sorted(
        Path(name).name for name in (DATA[0], DATA[2])
    )
    assert fetch("gz_ukidss", "--shards", "0")[0] == 2
    assert fetch("gz_ukidss")[0] == 0
    assert len(list((folder / "data").iterdir())) == 3


def test_gated_data_say_how_to_get_in(hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.about["gated"] = "manual"
    status, said = fetch("gz_ukidss-tiny")
    assert status == 1
    assert "mwalmsley/gz_ukidss is gated" in said
    assert "Open https://huggingface.co/datasets/mwalmsley/gz_ukidss, log in and agree to its terms" in said
    assert "HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.server.faults[TINY[0]] = [refuses(403, X_Error_Code="GatedRepo")]
    status, said = fetch("gz_ukidss-tiny")
    assert status == 1
    assert "The hub does not give you mwalmsley/gz_ukidss (403). Open https://huggingface.co" in said
    assert "hf_secret" not in said
    assert fetch("gz_ukidss-tiny")[0] == 0
    resolved = [headers for _, path, headers in hub.server.asked if "/resolve/" in path]
    assert all(headers["Authorization"] == "Bearer hf_secret" for headers in resolved)


def test_the_token_is_shown_to_the_hub_alone(hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files lie elsewhere, at addresses that need no token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store = Server()
    store.files["blob"] = hub.files[TINY[0]]
    hub.server.faults[TINY[0]] = [sent_elsewhere(store.address.replace("127.0.0.1", "localhost") + "/blob")]
    status, said = fetch("gz_ukidss-tiny")
    assert status == 0, said
    assert [path for _, path, _ in store.asked] == ["/blob"]
    assert "Authorization" not in store.asked[0][2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hub: hub.server.always.update(main=refuses(401)), r"does not give you mwalmsley/gz_ukidss \(401\)"),
        (lambda hub: hub.server.always.update(main=refuses(404)), "answers 404"),
        (lambda hub: hub.server.always.update(main=refuses(503)), "answers 503"),
        (lambda hub: hub.about.pop("sha"), "describes mwalmsley/gz_ukidss in a way that is not understood"),
        (lambda hub: hub.files.update({"README.md": b"# none"}) or hub.entries.pop(), "has no configuration tiny"),
    ],
)
def test_what_the_hub_cannot_do_is_said(hub: Hub, fetch: Fetch, change: Callable[[Hub], Any], words: str) -> None:
    change(hub)
    if "configuration" in words:
        hub.entries = [entry for entry in hub.entries if not entry["path"].startswith("tiny")]
    status, said = fetch("gz_ukidss-tiny")
    assert status == 1
    assert re.search(words, said), said


def test_a_line_that_breaks_while_files_are_listed_is_tried_again(hub: Hub, fetch: Fetch) -> None:
    listed, tried = hub.server.always.pop("main"), []

    def answer(asked: Answering) -> None:
        tried.append(1)
        (refuses(500) if len(tried) < 3 else listed)(asked)

    hub.server.always["main"] = answer
    assert fetch("gz_ukidss-tiny")[0] == 0
