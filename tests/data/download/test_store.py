"""The folder of all data where systems and users make it hard: no links, several disks, folders that are links."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from galaxyml.data.download.manifest import File, Source
from galaxyml.data.download.store import State, Store, holding

SOURCE = Source("A small sky", "https://doi.org/10", "CC0", "Nobody 2024", address="http://127.0.0.1:9/")
TABLE = File("table.csv", SOURCE, starts="objid")
CONTENT = b"objid,votes\n1,2\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Holds `spirals/table.csv`."""
    store = Store(tmp_path / "data")
    fetched(store, "spirals/table.csv")
    return store


def fetched(store: Store, place: str) -> None:
    download = store.download_path(TABLE)
    download.parent.mkdir(parents=True, exist_ok=True)
    download.write_bytes(CONTENT)
    store.put(download, "sha256:0", TABLE, place)
    assert not download.exists()


def test_a_system_without_links_gets_a_copy_that_is_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    store.link("surveys/table.csv", "spirals/table.csv")
    assert not (store.root / "surveys/table.csv").is_symlink()
    assert (store.root / "surveys/table.csv").read_bytes() == CONTENT
    assert store.state("surveys/table.csv", TABLE) is State.WHOLE
    (store.root / "spirals/table.csv").unlink()
    assert holding(store, TABLE, ["spirals/table.csv", "surveys/table.csv"]) == "surveys/table.csv"


def test_a_file_comes_to_another_disk_by_a_copy_that_appears_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, replace = [], os.replace

    def across(source: Path, target: Path) -> None:
        if Path(source).parent.name == ".fetch":
            moved.append(target)
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", across)
    store = Store(tmp_path / "data")
    fetched(store, "spirals/table.csv")
    assert moved == [store.root / "spirals/table.csv"]
    assert (store.root / "spirals/table.csv").read_bytes() == CONTENT
    assert [path.name for path in (store.root / "spirals").iterdir()] == ["table.csv"]


def test_links_hold_between_folders_that_are_links_themselves(tmp_path: Path) -> None:
    for name in ("disk1/deep/spirals", "disk2/surveys", "data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/spirals").symlink_to(tmp_path / "disk1/deep/spirals")
    (tmp_path / "data/surveys").symlink_to(tmp_path / "disk2/surveys")
    store = Store(tmp_path / "data")
    fetched(store, "spirals/table.csv")
    store.link("surveys/sdss/table.csv", "spirals/table.csv")
    assert (store.root / "surveys/sdss/table.csv").read_bytes() == CONTENT
    assert store.state("surveys/sdss/table.csv", TABLE) is State.WHOLE


def test_a_record_that_is_spoilt_counts_as_none(store: Store) -> None:
    (store.root / ".fetch/records/spirals/table.csv.json").write_text("{")
    assert store.state("spirals/table.csv", TABLE) is State.OWN
