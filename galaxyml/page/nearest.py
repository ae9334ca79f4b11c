"""The galaxies of a run's training set that are most like an image, to its net or by their looks."""

import io
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from galaxyml.data.images.views import plain
from galaxyml.data.images.visible import visible
from galaxyml.evaluation.nearest import Nearest
from galaxyml.evaluation.out_of_distribution import appearance
from galaxyml.inference.image_predictor import ImagePredictor, Member, frames_in_batches
from galaxyml.kinds import Kind
from galaxyml.models.backbone_with_head import PART, BackboneWithHead
from galaxyml.runs.errors import DataError
from galaxyml.runs.files import atomic_write, digest
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

MOST = 1000  # training galaxies that are compared
THUMBNAIL = 112  # pixels
FILE = "alike.parquet"  # beside a bundle
VERSION = 2  # of the file; raise it when the same run would give other numbers or images


@dataclass(frozen=True)
class TrainingSet:
    """Some of a run's training galaxies.

    Attributes:
        features: What is compared, shape (M, F).
        thumbnails: JPEG files.
        labels: What is known of each galaxy, in words.
    """

    features: np.ndarray
    thumbnails: list[bytes]
    labels: list[str]

    def nearest(self, features: np.ndarray, count: int) -> list[tuple[int, float]]:
        """The most alike galaxies, by the cosine of their standardised features.

        Args:
            features: Of the image, shape (F,).
            count: How many are wanted.

        Returns:
            Row and cosine, in [-1, 1], of each; the most alike first.
        """
        (rows,), (cosines,) = self._nearest.query(features[None], count)
        return list(zip(rows.tolist(), cosines.tolist(), strict=True))

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.features)

    def write(self, path: Path) -> None:
        """Writes it to a file, whole or not at all."""
        columns = {"label": self.labels, "thumbnail": self.thumbnails, "features": list(self.features)}
        with atomic_write(path) as draft:
            pd.DataFrame(columns).to_parquet(draft, index=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The counterpart of `write`.

        Raises:
            DataError: If the file is damaged.
        """
        try:
            table = pd.read_parquet(path)
            return cls(np.stack(list(table["features"])), list(table["thumbnail"]), list(table["label"]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} cannot be read ({type(error).__name__}). Delete it, or make it anew.") from None


def has_features(member: Member) -> bool:
    """Whether images are compared by what the net's head sees of them; else by their looks."""
    return isinstance(member.model.net, BackboneWithHead)


def compared(member: Member, image: Tensor) -> np.ndarray:
    """Numbers that images are compared by: what the net's head sees of them, or their looks where the net has no head.

    Args:
        member: One net of a run.
        image: In [0, 1], shape (N, C, H, W).

    Returns:
        Shape (N, F).
    """
    net = member.model.net
    if not isinstance(net, BackboneWithHead):
        return appearance((image * 255).round().to(torch.uint8).permute(0, 2, 3, 1))
    device = next(net.parameters()).device
    with torch.inference_mode():
        return net.features(image.to(device)).float().cpu().numpy().astype(np.float64)


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
        return "The run came here as one file, which has no images of the galaxies that it learnt from."
    net = predictor.run.nets()[0]
    folder = Path(net.provenance()["data"]["folder"])
    # Another file for each net and each catalog of it.
    times = [path.stat().st_mtime_ns for path in (net.path / "metrics.json", net.path / "catalog.parquet")]
    name = digest([VERSION, MOST, THUMBNAIL, net.path.resolve(), *times])
    path = Path(str(net.config.cache_dir)).expanduser() / "page" / f"{name}.parquet"
    if path.is_file():
        return TrainingSet.read(path)
    if not folder.is_dir():
        log.warning("note: %s is gone, so that the page shows no galaxies of the training set.", folder)
        return "The images of the galaxies that the run learnt from are not on this machine any more."
    training = _collect(net, predictor.members[0], folder, predictor.kind)
    if training is None:
        return "The images of the galaxies that the run learnt from cannot be read any more."
    training.write(path)
    return training


def _collect(net: RunDir, member: Member, folder: Path, kind: Kind) -> TrainingSet | None:
    catalog = net.catalog()
    train = catalog[catalog["split"] == "train"]
    chosen = train.iloc[np.sort(np.random.default_rng(0).permutation(len(train))[:MOST])]
    records = [{str(name): value for name, value in row.items()} for row in chosen.to_dict("records")]
    features, thumbnails, labels = [], [], []
    title = "Looking at training galaxies"
    for rows, (pixels,) in frames_in_batches(folder, list(chosen["image"]), [member.framing], PART, title, bad=[]):
        images = plain(pixels, member.framing.size)
        features.append(compared(member, images))
        thumbnails += [_thumbnail(image) for image in images]
        labels += [kind.known(records[row]) for row in rows]
    return TrainingSet(np.concatenate(features), thumbnails, labels) if features else None


def _thumbnail(image: Tensor) -> bytes:
    pixels = visible((image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
    file = io.BytesIO()
    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
