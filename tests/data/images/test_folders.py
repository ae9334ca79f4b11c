"""Images of a folder: what is one by its name or its content, and what is passed over."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from galaxyml.data.images import folders
from galaxyml.data.images.folders import ImageFolders, images_below, without_suffix


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of images under odd names, and of other files."""
    for name in ("b.jpg", "a.png", "below/c.tif", "below/._c.tif", ".hidden/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    for name in ("J190+12", "cutout.fits?ra=1&dec=2", "x.img", "below/7.fit"):
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / name)
    for name in ("notes.txt", "more.txt", "labels.csv", "README", "data.xyz", "below/J1.5", ".DS_Store"):
        (tmp_path / name).write_text("nothing to see")
    (tmp_path / "below" / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "below" / "cube").write_bytes(b"\x89HDF\r\n\x1a\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_images_are_found_by_name_or_content_and_others_are_counted(mixed: Path) -> None:
    passed_over: Counter[str] = Counter()
    assert list(images_below(mixed, passed_over)) == [
        "J190+12",
        "a.png",
        "b.jpg",
        "cutout.fits?ra=1&dec=2",
        "x.img",
        "below/7.fit",
        "below/c.tif",
    ]
    assert passed_over == {".txt": 2, ".csv": 1, ".xyz": 1, "without a suffix": 2, ".h5": 1, "HDF5": 1, "hidden": 2}
    assert "below/c.tif" not in list(images_below(mixed, passed_over, deep=False))


def test_locks_of_commands_are_nobodys_business(tmp_path: Path) -> None:
    for name in (".labels.csv.lock", ".DS_Store", "a.png"):
        (tmp_path / name).touch()
    passed_over: Counter[str] = Counter()
    assert list(images_below(tmp_path, passed_over)) == ["a.png"]
    assert passed_over == {"hidden": 1}


def test_known_names_are_not_opened(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(folders, "file_type", lambda path: opened.append(path.name))
    list(images_below(mixed, Counter()))
    assert sorted(opened) == ["J1.5", "J190+12", "README", "cube", "cutout.fits?ra=1&dec=2", "data.xyz", "x.img"]


def test_names_without_a_suffix_are_found_by_surveys(mixed: Path) -> None:
    found = ImageFolders.below(mixed, ["."])
    assert found.by_name["J190+12"].endswith("J190+12")
    assert found.by_path["below/7"].endswith("below/7.fit")
    assert found.passed_over[".txt"] == 2


@pytest.mark.parametrize(
    ("name", "stem"),
    [("7.fits.gz", "7"), ("7.fit.bz2", "7"), ("7.FITS.FZ", "7"), ("7.fz", "7"), ("7.ftz", "7"), ("J1+2.5", "J1+2.5")],
)
def test_suffixes_of_fits_are_dropped_whole(name: str, stem: str) -> None:
    assert without_suffix(name) == stem
