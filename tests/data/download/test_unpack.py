"""Archives as they are published, and the folders and files that come of them."""

import gzip
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

import pytest

from galaxyml.data.download.unpack import Damaged, gunzip, to_file, to_folder
from galaxyml.runs import files
from galaxyml.runs.errors import DataError

AMPLE = 10**6


def archive(path: Path, *names: str) -> Path:
    """A zip of some files, of which each holds its own name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in names:
            opened.writestr(name, name)
    return path


@pytest.mark.parametrize(
    ("around", "inside"),
    [
        ("", ("7.jpg", "8.jpg")),
        ("images/", ("7.jpg", "8.jpg")),  # the folder's name, as in images_gz2.zip
        ("sky/", ("7.jpg", "8.jpg")),  # the archive's name
        ("sky/images/", ("7.jpg", "8.jpg")),
        ("./images/", ("7.jpg", "8.jpg")),
        ("images/", ("J081/J081412.47+220853.0.png", "J082/J082.png")),
        ("", ("J081/J081412.47+220853.0.png", "J082/J082.png")),
        ("", ("other/7.jpg", "other/8.jpg")),  # a name that means something, for all that is known
        ("images/", ("images/7.jpg", "8.jpg")),
    ],
)
def test_a_folder_around_all_files_is_left_away_where_it_says_nothing(
    tmp_path: Path, around: str, inside: tuple[str, ...]
) -> None:
    packed = archive(tmp_path / "sky.zip", *(around + name for name in inside), "__MACOSX/images/._7.jpg", ".DS_Store")
    content = to_folder(packed, tmp_path / "images", AMPLE)
    found = {path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.*g")}
    assert found == set(content) == set(inside)
    for name, (size, digest) in content.items():
        held = (tmp_path / "images" / name).read_bytes()
        assert held.decode().endswith(name)
        assert (size, digest) == (len(held), f"crc32:{zlib.crc32(held):08x}")


def test_a_path_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    packed = archive(tmp_path / "sky.zip", "images/7.jpg", "images//7.jpg")
    with pytest.raises(Damaged, match="twice"):
        to_folder(packed, tmp_path / "images", AMPLE)


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    packed = archive(tmp_path / "sky.zip", "images/7.jpg", "images/8.jpg")
    content = bytearray(packed.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of a member's flags: encrypted
        at = content.find(mark)
        content[at + offset] |= 1
    packed.write_bytes(content)
    with pytest.raises(Damaged, match="encrypted"):
        to_folder(packed, tmp_path / "images", AMPLE)


def test_what_does_not_fit_the_disk_is_told_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(100, 90, 10))
    with pytest.raises(DataError, match="Free some space, then run the same command"):
        to_folder(archive(tmp_path / "sky.zip", "images/7.jpg"), tmp_path / "images", AMPLE)
    assert not (tmp_path / "images").exists()


def test_the_one_file_of_a_zip_is_taken_and_several_are_refused(tmp_path: Path) -> None:
    to_file(archive(tmp_path / "a.zip", "folder/solutions.csv", "__MACOSX/._solutions.csv"), tmp_path / "a.csv", AMPLE)
    assert (tmp_path / "a.csv").read_text() == "folder/solutions.csv"
    with pytest.raises(Damaged, match=r"holds 2 files \(1\.csv, 2\.csv\); there must be one"):
        to_file(archive(tmp_path / "b.zip", "1.csv", "2.csv"), tmp_path / "b.csv", AMPLE)
    with pytest.raises(Damaged, match="at most"):
        to_file(archive(tmp_path / "c.zip", "1.csv"), tmp_path / "c.csv", 4)


def test_a_file_that_comes_unpacked_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "solutions.zip").write_text("GalaxyID\n1\n")
    content = to_file(tmp_path / "solutions.zip", tmp_path / "solutions.csv", AMPLE)
    assert (tmp_path / "solutions.csv").read_text() == "GalaxyID\n1\n"
    assert content[""][0] == 11


def test_a_gzip_of_several_parts_is_unpacked_whole(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    gunzip(tmp_path / "a.gz", tmp_path / "a", AMPLE)
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"
