"""The galaxies of a run's training set that are most like a picture, to its net or by their looks."""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from galaxyml.data.images.store import frame_all
from galaxyml.data.images.views import plain
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.inference.image_predictor import ImagePredictor, Member
from galaxyml.kinds import Kind
from galaxyml.models.backbone_with_head import PART, BackboneWithHead
from galaxyml.runs.errors import DataError
from galaxyml.runs.files import atomic_write, digest
from galaxyml.runs.progress import track
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

MOST = 1000  # training galaxies that are compared
THUMBNAIL = 112  # pixels
FILE = "alike.npz"  # beside a bundle
VERSION = 1  # of what is kept; raise it when the same run would give other numbers or pictures


@dataclass(frozen=True)
class TrainingSet:
    """Some of a run's training galaxies.

    Attributes:
        vectors: What is compared, standardised and of length 1, shape (M, F).
        mean: Of each number before that, shape (F,).
        spread: Its standard deviation, shape (F,).
        thumbnails: JPEG files.
        labels: What is known of each galaxy, in words.
    """

    vectors: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    thumbnails: list[bytes]
    labels: list[str]

    @classmethod
    def of(cls, values: np.ndarray, thumbnails: list[bytes], labels: list[str]) -> Self:
        """From what is compared before it is standardised, shape (M, F)."""
        mean, spread = values.mean(axis=0), values.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        return cls(_unit((values - mean) / spread), mean, spread, thumbnails, labels)

    def nearest(self, values: np.ndarray, count: int) -> list[tuple[int, float]]:
        """The most alike galaxies.

        Args:
            values: Of the picture, shape (F,).
            count: How many are wanted.

        Returns:
            Of each its place and its likeness, the cosine in [-1, 1]; the most alike first.
        """
        likeness = self.vectors @ _unit(((values - self.mean) / self.spread)[None])[0]
        order = np.argsort(-likeness, kind="stable")[:count]
        return [(int(place), float(likeness[place])) for place in order]

    def write(self, path: Path) -> None:
        """Keeps it in a file, whole or not at all."""
        ends = np.cumsum([len(content) for content in self.thumbnails], dtype=np.int64)
        with atomic_write(path) as draft, draft.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                vectors=self.vectors.astype(np.float32),
                mean=self.mean,
                spread=self.spread,
                pictures=np.frombuffer(b"".join(self.thumbnails), np.uint8),
                ends=ends,
                labels=np.array(self.labels, dtype=str),
            )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The counterpart of `write`.

        Raises:
            DataError: If the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                ends = file["ends"].tolist()
                content = file["pictures"].tobytes()
                thumbnails = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
                found = cls(file["vectors"], file["mean"], file["spread"], thumbnails, file["labels"].tolist())
        except Exception as error:  # numpy and zipfile raise anything on broken files
            raise DataError(f"{path} cannot be read ({type(error).__name__}). Delete it, or make it anew.") from None
        if not len(found.vectors) == len(thumbnails) == len(found.labels):
            raise DataError(f"{path} is damaged: its parts differ in length. Delete it, or make it anew.")
        return found


def compared(member: Member, image: Tensor) -> np.ndarray:
    """What pictures are compared by: what the net's head sees of them, or their looks where the net has no head.

    Args:
        member: One net of a run.
        image: In [0, 1], shape (N, 3, H, W).

    Returns:
        Shape (N, F).
    """
    net = member.model.net
    if not isinstance(net, BackboneWithHead):
        return appearance(image)
    device = next(net.parameters()).device
    with torch.inference_mode():
        return net.features(image.to(device)).float().cpu().numpy().astype(np.float64)


def by_features(member: Member) -> bool:
    """Whether pictures are compared by what the net's head sees."""
    return isinstance(member.model.net, BackboneWithHead)


def training_set(predictor: ImagePredictor, source: Path) -> TrainingSet | str:
    """The training galaxies of a run's first net, made once and kept in the run's cache folder.

    Args:
        predictor: The run.
        source: Its folder or bundle; a bundle has it in a file beside.

    Returns:
        It, or a sentence why there is none.
    """
    if source.is_file():
        beside = source.with_name(FILE)
        if beside.is_file():
            return TrainingSet.read(beside)
        return "The run came here as one file, which has no pictures of the galaxies that it learnt from."
    net = predictor.run.nets()[0]
    folder = Path(net.provenance()["data"]["folder"])
    path = Path(str(net.config.cache_dir)).expanduser() / "page" / f"{_name(net)}.npz"
    if path.is_file():
        return TrainingSet.read(path)
    if not folder.is_dir():
        log.warning("note: %s is gone, so that the page shows no galaxies of the training set.", folder)
        return "The pictures of the galaxies that the run learnt from are not on this machine any more."
    made = _made(net, predictor.members[0], folder, predictor.kind)
    if isinstance(made, TrainingSet):
        made.write(path)
    return made


def _made(net: RunDir, member: Member, folder: Path, kind: Kind) -> TrainingSet | str:
    catalog = net.catalog()
    train = catalog[catalog["split"] == "train"]
    chosen = train.iloc[np.sort(np.random.default_rng(0).permutation(len(train))[:MOST])]
    values, thumbnails, labels = [], [], []
    for rows, pixels in _parts(folder, chosen, member):
        image = plain(pixels, member.framing.size)
        values.append(compared(member, image))
        thumbnails += [_thumbnail(each) for each in image]
        labels += [kind.known(row) for row in rows]
    if not values:
        return "The pictures of the galaxies that the run learnt from cannot be read any more."
    return TrainingSet.of(np.concatenate(values), thumbnails, labels)


def _parts(folder: Path, chosen: pd.DataFrame, member: Member) -> Iterator[tuple[list[dict[str, Any]], Tensor]]:
    """Rows of the catalog whose pictures can be read, and their pixels, some at a time."""
    framed = frame_all(folder, chosen["image"].tolist(), member.framing)
    rows: list[dict[str, Any]] = []
    frames: list[np.ndarray] = []
    records = [{str(name): value for name, value in row.items()} for row in chosen.to_dict("records")]
    for row, pixels in zip(records, track(framed, "Looking at training galaxies", len(records)), strict=True):
        if isinstance(pixels, str):
            continue
        rows.append(row)
        frames.append(pixels)
        if len(rows) == PART:
            yield rows, torch.from_numpy(np.stack(frames))
            rows, frames = [], []
    if rows:
        yield rows, torch.from_numpy(np.stack(frames))


def _thumbnail(image: Tensor) -> bytes:
    pixels = (image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    file = io.BytesIO()
    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    small.save(file, "JPEG", quality=85)
    return file.getvalue()


def _name(net: RunDir) -> str:
    """Another one for each net and each catalog of it."""
    files = (net.fitted, net.path / "catalog.parquet")
    return digest([VERSION, MOST, THUMBNAIL, net.path.resolve(), *(path.stat().st_mtime_ns for path in files)])


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
