"""Images decoded once: a store of uint8 pixels on disk, mapped into memory, that all folds and sweeps share."""

import hashlib
import json
import math
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from galaxyml.data.images.decode import decoded, file_of, open_picture, read_images, row_of
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.quiet import quiet
from galaxyml.data.mapped import MappedRows
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.files import atomic_write, check_space, digest, file_lock, write_json
from galaxyml.runs.progress import say, track

VERSION = 2  # of what a store holds; raise it when the pixels of the same images would change
MOST_BAD = 0.1  # share of images that may be left out; more of them are a mistake of another kind
ASKED = ("channels", "bands", "hdu", "stretch")  # keys that an image of another kind is refused by
_AHEAD = 256  # images decoded before the first of them is written
_TOGETHER = 8  # images that a thread takes at a time
_QUICK = 0.5e-3  # seconds an image, below which threads take longer than one alone
_SECONDS_AT_RISK = 30.0  # of decoding that a process which is killed may have done in vain
_ADVICE = "Free some space, or choose another folder with cache_dir=..., then run the same command."


@dataclass(frozen=True)
class Framing:
    """Part of an image that is kept, its size in pixels, and how it is decoded.

    Attributes:
        size: Side in pixels of what the net sees.
        crop: Side of what the net sees as a fraction of the image's shorter side, in (0, 1]; SDSS cutouts of Galaxy
            Zoo hold the galaxy in about the central half.
        margin: Side of what is stored, relative to what the net sees, at least 1. The rim lets a rotated or shifted
            view show true sky; it ends at the image's own edge.
        decoding: How the image's file becomes channels of 8 bits.
    """

    size: int
    crop: float = 1.0
    margin: float = 1.0
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        for name, ok, allowed in (
            ("size", self.size >= 1, "at least 1 px"),
            ("crop", 0 < self.crop <= 1, "a fraction in (0, 1]"),
            ("margin", self.margin >= 1, "at least 1"),
        ):
            if not ok:
                raise UserError(f"{name}={getattr(self, name)}: it must be {allowed}.")
        for name in ("crop", "margin"):  # 1 and 1.0 are the same store
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def side(self) -> int:
        """Side in pixels of what is stored: `size` plus an even rim."""
        return self.size + 2 * round(self.size * (min(self.margin, 1 / self.crop) - 1) / 2)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what is stored: rows, columns and channels, (side, side, C)."""
        return self.side, self.side, self.decoding.channels

    def read(self, path: Path) -> np.ndarray:
        """Decodes one image, crops its centre and resizes that; uint8 of shape (side, side, C).

        Raises:
            DataError: If it is no image or cannot be read.
        """
        return self.frame(open_picture(path, self.decoding))

    def frame(self, image: np.ndarray | Image.Image) -> np.ndarray:
        """Crops an image's centre and resizes that, each channel by itself; uint8, (H, W, C) -> (side, side, C).

        Args:
            image: An array, or one of Pillow's images in RGB.
        """
        if isinstance(image, Image.Image):
            return np.asarray(image.resize((self.side, self.side), Image.Resampling.BICUBIC, box=self.box(*image.size)))
        pixels = np.asarray(image)
        box = self.box(pixels.shape[1], pixels.shape[0])
        # Pillow resizes three channels at once as it does each alone; it knows no images of two, or of five.
        bands = [pixels] if pixels.shape[2] == 3 else [pixels[..., band] for band in range(pixels.shape[2])]
        resized = [
            np.asarray(Image.fromarray(band).resize((self.side, self.side), Image.Resampling.BICUBIC, box=box))
            for band in bands
        ]
        return resized[0] if pixels.shape[2] == 3 else np.stack(resized, axis=-1)

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Stored part of an image of the given size in pixels: left, upper, right, lower."""
        half = min(width, height) * self.crop * self.side / self.size / 2
        half = min(half, min(width, height) / 2)
        return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


class ImageStore:
    """Images as one array of pixels, but for a few that cannot be read.

    All processes of a machine share its pages. A process that is handed one, as those that gather batches may be, opens
    it again.

    Args:
        folder: Where it lies.
        count: Number of its images, M.
        framing: What is kept of each.

    Attributes:
        name: Digest of its images and framing.
        pixels: uint8, shape (M, side, side, C), mapped from disk; black where an image cannot be read.
        bad: Why images cannot be read, by their place among all M.
        rows: Places of the others, N of them.
        digests: One number for each of these; equal numbers mean equal pixels. Shape (N,), uint64.
    """

    def __init__(self, folder: Path, count: int, framing: Framing) -> None:
        self.name = folder.name
        self.framing = framing
        self._arguments = folder, count, framing
        self._mapped = MappedRows(folder / "pixels.u8", (count, *framing.shape), torch.uint8)
        about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        self.bad = {int(row): str(reason) for row, reason in about.get("bad", {}).items()}
        readable = np.delete(np.arange(count), list(self.bad))
        self.rows = torch.from_numpy(readable)
        self.digests: np.ndarray = np.load(folder / "digests.npy")[readable]

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageStore, self._arguments

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pixels(self) -> Tensor:
        return self._mapped.values

    def gather(self, rows: Tensor) -> Tensor:
        """Pixels of some images that can be read, one copy; rows (B,) -> uint8 (B, side, side, C)."""
        return self._mapped.gather(self.rows[rows] if self.bad else rows)


def open_store(root: Path, images: Sequence[str], framing: Framing, cache: Path) -> ImageStore:
    """Opens the store of some images; decodes them first if that has not been done yet.

    A store is known by its images' paths, sizes and times of change, and by the framing. It appears whole or not at
    all, so a half-written one is never opened. Of several processes that need it one makes it, and the others wait;
    one that is stopped or killed leaves what it has decoded to the next.

    Args:
        root: Folder of the images.
        images: Their paths in it, or addresses of rows of files there, in the order wanted; N of them.
        framing: What is kept of each.
        cache: Folder of all stores.

    Raises:
        DataError: If images are missing, if more than a tenth are no images or are cut off (all are tried, and the
            first few named) or any is not what the settings say, or if the store cannot be written.
    """
    stats = _stats(root, images)
    name = digest(chain([VERSION, root.resolve(), *astuple(framing)], zip(images, stats, strict=True)))
    folder = cache / "images" / name
    if not (folder / "store.json").is_file():
        with file_lock(folder) as is_alone:
            if not (folder / "store.json").is_file():
                alone = "" if is_alone else f".{secrets.token_hex(4)}"  # others may be decoding the same
                _build(root, images, framing, folder, folder.with_name(f".{folder.name}.decoding{alone}"))
    return ImageStore(folder, len(images), framing)


def _stats(root: Path, images: Sequence[str]) -> list[tuple[int, int]]:
    @lru_cache(maxsize=1)  # many images may lie in one file
    def stat_of(file: str) -> tuple[int, int]:
        stat = os.stat(os.path.join(root, file))
        return stat.st_size, stat.st_mtime_ns

    stats, missing = [], []
    for image in images:
        try:
            stats.append(stat_of(file_of(image)))
        except FileNotFoundError:
            missing.append(image)
    if missing:
        raise DataError(
            f"{root}: images are missing ({len(missing)} of {len(images)}): {shorten(missing)}. "
            "Put them there, or take their rows out of the table."
        )
    return stats


def _build(root: Path, images: Sequence[str], framing: Framing, folder: Path, work: Path) -> None:
    _check_room(work, len(images) * (math.prod(framing.shape) + np.uint64().nbytes))
    with atomic_write(folder, _ADVICE) as draft:
        try:
            _decode(root, images, framing, work)
        except (DataError, OSError):  # what anything else leaves behind is gone on with
            shutil.rmtree(work, ignore_errors=True)
            raise
        os.replace(work, draft)


def _decode(root: Path, images: Sequence[str], framing: Framing, work: Path) -> None:
    """Decodes images into a folder, or goes on there where another process was broken off.

    Raises:
        DataError: If images cannot be used.
    """
    count, image_bytes = len(images), math.prod(framing.shape)
    done, bad = _decoded_before(work)
    work.mkdir(exist_ok=True)
    digests = np.load(work / "digests.npy") if done else np.zeros(count, np.uint64)
    order = _reading_order(images)[done:]
    framed = frame_all(root, [images[row] for row in order], framing)
    if done:
        say(f"Decoding images: {done:,} of {count:,} are there from a run that was broken off.")
    with (work / "pixels.u8").open("r+b" if done else "wb") as file:

        def save_state() -> None:
            file.flush()
            os.fsync(file.fileno())
            with atomic_write(work / "digests.npy", _ADVICE) as draft:
                np.save(draft, digests)
            write_json(work / "state.json", {"done": done, "bad": {str(row): reason for row, reason in bad.items()}})

        saved = monotonic()
        for row, pixels in zip(order, track(framed, "Decoding images", len(order)), strict=True):
            if isinstance(pixels, str):
                bad[row] = pixels
            else:
                content = pixels.tobytes()
                file.seek(row * image_bytes)
                file.write(content)
                digests[row] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
            done += 1
            if monotonic() - saved > _SECONDS_AT_RISK:
                save_state()
                saved = monotonic()
        file.truncate(count * image_bytes)
        save_state()
    asked = any(f"{key}=" in reason for key in ASKED for reason in bad.values())
    if asked or len(bad) > MOST_BAD * count:
        found = shorten(by_reason(images, list(bad.values())), "; ")
        cure = "" if asked else " Fetch them again, or take them and their rows out."
        raise DataError(f"{root}: images cannot be read ({len(bad)} of {count}): {found}.{cure}")
    about = {"root": str(root), "images": count, "side": framing.side, **asdict(framing)}
    write_json(work / "store.json", about | {"bad": {str(row): reason for row, reason in bad.items()}})
    (work / "state.json").unlink(missing_ok=True)


def _decoded_before(work: Path) -> tuple[int, dict[int, str]]:
    """How many images, in the order of reading, a run that was broken off has decoded, and which are bad."""
    try:
        state = json.loads((work / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0, {}
    return int(state["done"]), {int(row): str(reason) for row, reason in state["bad"].items()}


def _check_room(work: Path, whole: int) -> None:
    """Makes sure that there is room for what is still to be written of a store.

    Args:
        work: Folder in which it is made, which may hold a part of it.
        whole: Bytes of all of it.

    Raises:
        DataError: If there is not; it names what could go.
    """
    advice, there = _ADVICE, _disk_bytes(work)
    if others := _disk_bytes(work.parent) - there:
        advice = (
            f"{work.parent} holds {others / 1e9:.1f} GB of images decoded before: what is not needed any more may be "
            f"deleted, and is made again where it is. {_ADVICE}"
        )
    check_space(work, max(whole - there, 0), advice)


def _disk_bytes(folder: Path) -> int:
    """Bytes that the files in a folder take on disk; holes in them take none."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a draft of another process
            stat = path.stat()
            size += getattr(stat, "st_blocks", -(-stat.st_size // 512)) * 512
    return size


def _reading_order(images: Sequence[str]) -> list[int]:
    """Numbers of images, those inside one file after another, as they lie there.

    >>> _reading_order(["a.parquet#7", "b.jpg", "a.parquet#2"])
    [2, 0, 1]
    """
    numbers: dict[str, int] = {}  # of files, as they come
    files = np.fromiter((numbers.setdefault(file_of(image), len(numbers)) for image in images), np.int64, len(images))
    rows = np.fromiter(map(row_of, images), np.int64, len(images))
    return np.lexsort((rows, files)).tolist()


def by_reason(images: Sequence[str], bad: Sequence[str]) -> list[str]:
    """Sentences that begin with an image's name, those of images that have the same reason made one.

    >>> by_reason(["a.png", "b.png", "c.png"], ["a.png: cut off", "b.png is not an image", "c.png: cut off"])
    ['a.png, c.png: cut off', 'b.png is not an image']
    """
    names: dict[str, list[str]] = {}
    known = set(images)
    for sentence in bad:
        name, colon, reason = sentence.partition(": ")
        names.setdefault(reason if colon and name in known else sentence, []).append(name)
    return [f"{shorten(of)}: {reason}" if reason not in bad else reason for reason, of in names.items()]


def frame_all(
    root: Path, images: Sequence[str], framing: Framing, threads: int | None = None
) -> Iterator[np.ndarray | str]:
    """Decodes and frames images in threads (Pillow works outside Python's lock), a bounded number ahead.

    Args:
        root: Folder of the images.
        images: Their paths in it, or addresses of rows of files there.
        framing: What is kept of each.
        threads: How many; None for as many as cores, 1 to stay in this one, as do images that are decoded so quickly
            that threads would wait for each other.

    Yields:
        For each image its pixels, uint8 of shape (side, side, C), or the reason why it cannot be read.
    """

    def read(named: tuple[str, np.ndarray | bytes | str | None]) -> np.ndarray | str:
        name, image = named
        try:
            if isinstance(image, bytes):
                return framing.frame(decoded(name, image, framing.decoding))
            if isinstance(image, np.ndarray):
                return framing.frame(image)
            if image is None:
                return framing.read(root / name)
            reason = image
        except DataError as error:
            reason = str(error)
        return name.removesuffix(Path(name).name) + reason

    named = chain.from_iterable(read_images(root, images, framing.decoding))
    with quiet():  # once, and not for each
        seconds = []
        for one in islice(named, _TOGETHER):
            began = perf_counter()
            image = read(one)
            if isinstance(image, np.ndarray):
                seconds.append(perf_counter() - began)
            yield image
        if threads == 1 or (seconds and median(seconds) < _QUICK):
            yield from map(read, named)
            return

    def read_some(some: Sequence[tuple[str, np.ndarray | bytes | str | None]]) -> list[np.ndarray | str]:
        return [read(one) for one in some]

    with quiet(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        waiting: deque[Future[list[np.ndarray | str]]] = deque()
        while some := list(islice(named, _TOGETHER)):
            waiting.append(pool.submit(read_some, some))
            if len(waiting) * _TOGETHER >= _AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
