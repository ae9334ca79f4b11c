"""Images decoded once: a store of uint8 pixels on disk, mapped into memory, that all folds and sweeps share."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from galaxyml.data.images.decode import file_of, open_image, read_images
from galaxyml.data.images.decoding import Decoding
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.files import atomic_write, check_space, digest, file_lock, write_json
from galaxyml.runs.progress import track

VERSION = 2  # of what a store holds; raise it when the pixels of the same images would change
_AHEAD = 256  # images decoded before the first of them is written


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
        return self.frame(open_image(path, self.decoding))

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Crops an image's centre and resizes that, each channel by itself; uint8, (H, W, C) -> (side, side, C)."""
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
    """Images as one array of pixels.

    Attributes:
        name: Digest of its images and framing.
        pixels: uint8, shape (N, side, side, C), mapped from disk.
        digests: One number an image; equal numbers mean equal pixels. Shape (N,), uint64.
    """

    def __init__(self, folder: Path, count: int, framing: Framing) -> None:
        self.name = folder.name
        self.framing = framing
        self.pixels = torch.from_file(
            str(folder / "pixels.u8"), shared=False, size=count * math.prod(framing.shape), dtype=torch.uint8
        ).view(count, *framing.shape)
        self.digests: np.ndarray = np.load(folder / "digests.npy")

    def gather(self, rows: Tensor) -> Tensor:
        """Pixels of some images, one copy; rows (B,) -> uint8 (B, side, side, C)."""
        return self.pixels.index_select(0, rows)


def open_store(root: Path, images: Sequence[str], framing: Framing, cache: Path) -> ImageStore:
    """Opens the store of some images; decodes them first if that has not been done yet.

    A store is known by its images' paths, sizes and times of change, and by the framing. It appears whole or not at
    all, so a half-written one is never opened.

    Args:
        root: Folder of the images.
        images: Their paths in it, or addresses of rows of an HDF5 file there, in the order wanted; N of them.
        framing: What is kept of each.
        cache: Folder of all stores.

    Raises:
        DataError: If images are missing, are no images or are cut off (all are tried, and the first few named), or
            if the store cannot be written.
    """
    stats = _stats(root, images)
    name = digest([VERSION, root.resolve(), *astuple(framing), *zip(images, stats, strict=True)])
    folder = cache / "images" / name
    if not (folder / "store.json").is_file():
        with file_lock(folder):
            if not (folder / "store.json").is_file():
                _build(root, images, framing, folder)
    return ImageStore(folder, len(images), framing)


def _stats(root: Path, images: Sequence[str]) -> list[tuple[int, int]]:
    sizes, missing = [], []
    stat_of = lru_cache(maxsize=1)(os.stat)  # many images may lie in one file
    for image in images:
        try:
            stat = stat_of(root / file_of(image))
            sizes.append((stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            missing.append(image)
    if missing:
        raise DataError(
            f"{root}: images are missing ({len(missing)} of {len(images)}): {shorten(missing)}. "
            "Put them there, or take their rows out of the table."
        )
    return sizes


def _build(root: Path, images: Sequence[str], framing: Framing, folder: Path) -> None:
    advice = "Free some space, or choose another folder with cache_dir=..., then run the same command."
    count = len(images)
    check_space(folder, count * math.prod(framing.shape), advice)
    bad: list[str] = []
    with atomic_write(folder, advice) as draft:
        draft.mkdir()
        digests = np.zeros(count, np.uint64)
        with (draft / "pixels.u8").open("wb") as file:
            for row, pixels in enumerate(track(frame_all(root, images, framing), "Decoding images", count)):
                if isinstance(pixels, str):
                    bad.append(pixels)
                else:
                    content = pixels.tobytes()
                    file.write(content)
                    digests[row] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        if bad:
            found = _by_reason(images, bad)
            asked = any(f"{key}=" in reason for key in ("channels", "bands", "hdu", "stretch") for reason in found)
            cure = "" if asked else " Fetch them again, or take them and their rows out."
            raise DataError(f"{root}: images cannot be read ({len(bad)} of {count}): {shorten(found, '; ')}.{cure}")
        np.save(draft / "digests.npy", digests)
        write_json(draft / "store.json", {"root": str(root), "images": count, "side": framing.side, **asdict(framing)})


def _by_reason(images: Sequence[str], bad: Sequence[str]) -> list[str]:
    """Sentences that begin with an image's name, those of images that have the same reason made one.

    >>> _by_reason(["a.png", "b.png", "c.png"], ["a.png: cut off", "b.png is not an image", "c.png: cut off"])
    ['a.png, c.png: cut off', 'b.png is not an image']
    """
    names: dict[str, list[str]] = {}
    known = set(images)
    for sentence in bad:
        name, colon, reason = sentence.partition(": ")
        names.setdefault(reason if colon and name in known else sentence, []).append(name)
    return [f"{shorten(of)}: {reason}" if reason not in bad else reason for reason, of in names.items()]


def frame_all(root: Path, images: Sequence[str], framing: Framing) -> Iterator[np.ndarray | str]:
    """Decodes and frames images in threads (Pillow works outside Python's lock), a bounded number ahead.

    Args:
        root: Folder of the images.
        images: Their paths in it, or addresses of rows of an HDF5 file there.
        framing: What is kept of each.

    Yields:
        For each image its pixels, uint8 of shape (side, side, C), or the reason why it cannot be read.
    """

    def read(named: tuple[str, np.ndarray | str | None]) -> np.ndarray | str:
        name, image = named
        if isinstance(image, str):
            return image
        try:
            return framing.frame(image) if image is not None else framing.read(root / name)
        except DataError as error:
            return name.removesuffix(Path(name).name) + str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in read_images(root, images, framing.decoding):
            for start in range(0, len(batch), _AHEAD):
                yield from pool.map(read, batch[start : start + _AHEAD])
