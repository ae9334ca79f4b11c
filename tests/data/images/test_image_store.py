import errno
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from galaxyml.data.images import store
from galaxyml.data.images.store import Framing, open_store
from galaxyml.runs import files
from galaxyml.runs.errors import DataError, UserError

FRAMING = Framing(size=16, crop=0.5, margin=1.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abcd":
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        noise.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


NAMES = ["b.png", "a.png", "d.png", "c.png"]


def test_stores_the_cropped_and_resized_centre(root: Path, tmp_path: Path) -> None:
    store = open_store(root, NAMES, FRAMING, tmp_path / "cache")
    assert FRAMING.side == 24
    assert store.pixels.shape == (4, 24, 24, 3)
    for row, name in enumerate(NAMES):
        # The net's view is the central 32 px of 64; half as much again is stored: 48 px, at 8 / 12.
        expected = Image.open(root / name).crop((8, 8, 56, 56)).resize((24, 24), Image.Resampling.BICUBIC)
        # The edge differs: the store's filter sees what lies beyond the crop.
        np.testing.assert_array_equal(store.pixels[row, 2:-2, 2:-2].numpy(), np.asarray(expected)[2:-2, 2:-2])


def test_gather_copies_the_rows_asked_for(root: Path, tmp_path: Path) -> None:
    store = open_store(root, NAMES, FRAMING, tmp_path / "cache")
    torch.testing.assert_close(store.gather(torch.tensor([3, 0])), store.pixels[[3, 0]])


def test_an_image_smaller_than_the_margin_is_stored_whole(root: Path) -> None:
    assert Framing(size=16, crop=1.0, margin=1.42).side == 16
    assert Framing(size=16, crop=0.8, margin=1.42).box(64, 64) == pytest.approx((0, 0, 64, 64), abs=1.7)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P"):
        Image.effect_noise((20, 20), 50).convert(mode).save(tmp_path / f"{mode}.png")
        assert Framing(size=8).read(tmp_path / f"{mode}.png").shape == (8, 8, 3)


def test_is_decoded_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_store(root, NAMES, FRAMING, tmp_path / "cache")
    monkeypatch.setattr(Framing, "read", lambda *_: pytest.fail("decoded again"))
    second = open_store(root, NAMES, FRAMING, tmp_path / "cache")
    assert torch.equal(first.pixels, second.pixels)


@pytest.mark.parametrize("change", ["image", "order", "framing"])
def test_a_change_makes_another_store(root: Path, tmp_path: Path, change: str) -> None:
    open_store(root, NAMES, FRAMING, tmp_path / "cache")
    names, framing = NAMES, FRAMING
    if change == "image":
        Image.effect_noise((64, 64), 50).convert("RGB").save(root / "b.png")
    elif change == "order":
        names = NAMES[::-1]
    else:
        framing = Framing(size=16, crop=0.25, margin=1.5)
    store = open_store(root, names, framing, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "images").glob("[!.]*"))) == 2
    for row, name in enumerate(names):
        np.testing.assert_array_equal(store.pixels[row].numpy(), framing.read(root / name))


def test_whole_numbers_and_floats_are_one_store(root: Path, tmp_path: Path) -> None:
    stores = [open_store(root, NAMES, Framing(8, crop, crop), tmp_path / "cache") for crop in (1, 1.0)]
    assert stores[0].name == stores[1].name


def test_equal_pixels_have_equal_digests(root: Path, tmp_path: Path) -> None:
    (root / "e.png").write_bytes((root / "a.png").read_bytes())
    digests = open_store(root, [*NAMES, "e.png"], FRAMING, tmp_path / "cache").digests
    assert digests[4] == digests[1]
    assert len(set(digests.tolist())) == 4


def left(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_all_bad_images_are_named(root: Path, tmp_path: Path) -> None:
    (root / "a.png").write_bytes((root / "a.png").read_bytes()[:-400])
    (root / "d.png").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"cannot be read \(2 of 4\): a.png: .*[Tt]runcated.*; d.png is not an image"):
        open_store(root, NAMES, FRAMING, tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_an_empty_file_is_named(root: Path, tmp_path: Path) -> None:
    (root / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png is not an image"):
        open_store(root, NAMES, FRAMING, tmp_path / "cache")


def test_missing_images_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing \(2 of 6\): x.png, y.png"):
        open_store(root, [*NAMES, "x.png", "y.png"], FRAMING, tmp_path / "cache")


def test_a_disk_that_fills_up_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.np, "save", full)
    with pytest.raises(DataError, match=r"cannot be written: the disk is full.*cache_dir="):
        open_store(root, NAMES, FRAMING, tmp_path / "cache")
    assert left(tmp_path / "cache") == []
    monkeypatch.undo()
    assert len(open_store(root, NAMES, FRAMING, tmp_path / "cache").pixels) == 4


def test_a_disk_too_small_is_told_before_the_work(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(DataError, match=r"needs 0\.0 GB, and 0\.0 GB are free"):
        open_store(root, NAMES, FRAMING, tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot be written: a part of that path is a file"):
        open_store(root, NAMES, FRAMING, tmp_path / "cache")


def test_other_stores_are_named_where_there_is_no_room(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    open_store(root, NAMES, FRAMING, cache)
    before = left(cache)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(
        DataError, match=r"images holds 0\.0 GB of images decoded before: .* may be deleted.*cache_dir="
    ):
        open_store(root, NAMES[:3], FRAMING, cache)
    assert left(cache) == before


OPEN = """
import sys
from pathlib import Path
from galaxyml.data.images import store
from galaxyml.data.images.store import Framing, open_store

frame = Framing.frame


def counted(self, image):
    with open("decoded.txt", "a") as file:
        file.write(f"{sys.argv[1]}\\n")
    before(len(Path("decoded.txt").read_text().splitlines()))
    return frame(self, image)


Framing.frame = counted
"""
END = """
opened = open_store(Path("many"), [f"{number}.png" for number in range(40)], Framing(8), Path("cache"))
opened.pixels.sum()
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    (tmp_path / "many").mkdir()
    rng = np.random.default_rng(1)
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "many" / f"{number}.png")
    return tmp_path


def process(folder: Path, number: int, before: str, after: str = "") -> subprocess.Popen[str]:
    """A process that opens the store of `many`, and notes each image that it decodes."""
    code = OPEN + before + END + after
    return subprocess.Popen(
        [sys.executable, "-c", code, str(number)],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def check_pixels(folder: Path) -> None:
    """The store is what Pillow reads."""
    pixels = open_store(folder / "many", [f"{number}.png" for number in range(40)], Framing(8), folder / "cache").pixels
    for number in range(40):
        np.testing.assert_array_equal(pixels[number], np.asarray(Image.open(folder / "many" / f"{number}.png")))


def test_of_several_processes_one_makes_the_store_and_the_others_say_that_they_wait(many: Path) -> None:
    slowly = "import time\nbefore = lambda count: time.sleep(0.2)\n"
    processes = [process(many, number, slowly) for number in range(3)]
    texts = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    decoded = (many / "decoded.txt").read_text().split()
    assert len(decoded) == 40
    assert len({*decoded}) == 1
    assert len(list((many / "cache" / "images").glob("[!.]*"))) == 1
    for number, text in enumerate(texts):
        # One that was late may find the store there already.
        assert number == int(decoded[0]) or "Another process is making" in text or "Decoding" not in text
    assert any("this one waits for it" in text for text in texts)
    check_pixels(many)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signal that kills")
def test_a_process_that_is_killed_leaves_what_it_decoded_to_the_next(many: Path) -> None:
    dies = """
import os, signal
store._SECONDS_AT_RISK, store._AHEAD, store._TOGETHER = -1, 1, 1
before = lambda count: count == 25 and os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = process(many, 0, dies)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not list((many / "cache" / "images").glob("[!.]*"))
    following = process(many, 1, "before = lambda count: None\n")
    text = following.communicate(timeout=120)[0]
    assert following.returncode == 0
    stated = int(re.findall(r"(\d+) of 40 are there", text)[0])
    assert stated >= 22  # a thread or two were at work on the others
    assert (many / "decoded.txt").read_text().split().count("1") == 40 - stated
    check_pixels(many)
    assert [path.name for path in left(many / "cache")].count("pixels.u8") == 1


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells which pages are shared")
def test_processes_share_the_pages_of_a_store(many: Path) -> None:
    wait = "\nprint('open', flush=True)\nsys.stdin.read()\n"
    open_store(many / "many", [f"{number}.png" for number in range(40)], Framing(8), many / "cache")
    with subprocess.Popen(
        [sys.executable, "-c", OPEN + END + wait, "0"],
        cwd=many,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        smaps = Path(f"/proc/{other.pid}/smaps").read_text()
        other.communicate("")
    (mapping,) = re.findall(r"^\S+ (r--s) .*pixels\.u8\n((?:\w+: .*\n)+)", smaps, re.MULTILINE)
    sizes = {name: int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", mapping[1])}
    assert sizes["Rss"] >= 40 * 8 * 8 * 3 // 1024
    assert sizes["Private_Dirty"] == 0
    assert sizes["Anonymous"] == 0


def test_a_store_that_is_handed_to_a_process_is_opened_there(root: Path, tmp_path: Path) -> None:
    opened = open_store(root, NAMES, FRAMING, tmp_path / "cache")
    handed = pickle.dumps(opened)
    assert len(handed) < 2000 < opened.pixels.numel()
    assert torch.equal(pickle.loads(handed).pixels, opened.pixels)


def test_a_store_that_is_cut_off_is_named(root: Path, tmp_path: Path) -> None:
    open_store(root, NAMES, FRAMING, tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("pixels.u8")
    os.truncate(path, 100)
    with pytest.raises(DataError, match=r"pixels\.u8 is cut off: it has 100 bytes of 6,912\. Delete "):
        open_store(root, NAMES, FRAMING, tmp_path / "cache")


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 8, "crop": 0}, {"size": 8, "crop": 1.5}, {"size": 8, "margin": 0.5}]
)
def test_impossible_framings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^(size|crop|margin)=.* must be"):
        Framing(**options)
