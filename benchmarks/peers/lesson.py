"""What a peer of galaxyml is given to learn from, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image

# What a peer may know of an object that it predicts: no target, no class, no votes.
ALLOWED = ("id", "image", "survey", "ra", "dec", "ddf", "specz", "photoz", "photoz_err", "distmod", "mwebv")
NAMES = {"galaxyzoo": "fractions", "spirals": "classes", "galaxy10": "classes", "surveys": "votes"}


@dataclass(frozen=True)
class Lesson:
    """One fold of a task: objects to learn from, and others to predict, whose targets are not here.

    Attributes:
        task: Name of the task.
        columns: What is predicted: names of fractions, classes or features; of anomalies the known classes.
        seed: Of the folds, and of whatever a peer draws.
        fold: The one that is held out.
        train: Rows of the run's catalog to learn from, targets included.
        held: Rows to predict, without targets.
        data: Folder that file names of the catalog begin at.
        weights: Folder of ImageNet's weights, `<net>.pth`.
        work: Folder for what folds share, such as features of a frozen net.
        quick: Whether to try only that it works.
    """

    task: str
    columns: tuple[str, ...]
    seed: int
    fold: int
    train: pd.DataFrame
    held: pd.DataFrame
    data: Path
    weights: Path
    work: Path
    quick: bool = False

    @property
    def kind(self) -> str:
        """`fractions`, `classes`, `votes` or `anomalies`."""
        return NAMES.get(self.task, "anomalies")

    @property
    def draw(self) -> int:
        """A seed that differs from fold to fold."""
        return 100 * self.seed + self.fold

    def labels(self) -> np.ndarray:
        """Classes of the objects to learn from, 0 to K - 1, shape (N,)."""
        return np.array(self.train["label"], np.int64)

    def fractions(self) -> np.ndarray:
        """Fractions of the objects to learn from, shape (N, K); NaN where a question was not asked."""
        return np.array(self.train[list(self.columns)], np.float32)

    def votes(self) -> np.ndarray:
        """Votes of each fraction's question, shape (N, K); 0 where it was not asked."""
        return np.nan_to_num(self.train[[f"{name}_votes" for name in self.columns]].to_numpy(np.float32))

    def epochs(self, number: int) -> int:
        """Epochs of a fit, one where it is only tried."""
        return 1 if self.quick else number

    def crop(self) -> float:
        """Central part of an image that holds the galaxy: 212 of 424 px of SDSS, 144 of 256 px of Galaxy10."""
        return 144 / 256 if self.task == "galaxy10" else 0.5

    def files(self, rows: pd.DataFrame) -> list[Path]:
        """Image files of rows; those inside an HDF5 file are written as PNG first, once."""
        return [self._file(str(name)) for name in rows["image"]]

    def images(self, rows: pd.DataFrame) -> list[Image.Image]:
        """Images of rows, RGB, whole."""
        opened = []
        for file in self.files(rows):
            with Image.open(file) as image:
                opened.append(image.convert("RGB"))
        return opened

    def _file(self, name: str) -> Path:
        table, hash_sign, index = name.partition("#")
        if not hash_sign:
            return self.data / name
        png = self.work / "images" / self.task / f"{index}.png"
        if not png.is_file():
            png.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(self.data / table) as file:
                Image.fromarray(file["images"][int(index)]).save(png)
        return png


@dataclass(frozen=True)
class Peer:
    """What somebody would use instead of galaxyml, for one task.

    Attributes:
        name: In the table of results.
        task: What it is for.
        start: What its weights begin from: `nothing`, `ImageNet`, or in words.
        size: Side of the images that its net sees, in pixels; None where there are none.
        epochs: Of its fit; None where there are none.
        about: What it is, in a sentence.
        predict: Learns a lesson and predicts what is held out: fractions or probabilities of shape (N, K), or scores of
            shape (N,), higher for what is more unusual.
        seeds: How many seeds it is trained with at most: one where three would take many minutes.
    """

    name: str
    task: str
    start: str
    size: int | None
    epochs: int | None
    about: str
    predict: Callable[[Lesson], np.ndarray]
    seeds: int = 3

    @property
    def settings(self) -> dict[str, Any]:
        """What its predictions depend on, as far as it can be told; kept beside them."""
        named = getattr(self.predict, "keywords", {})
        return {"start": self.start, "size": self.size, "epochs": self.epochs, "about": self.about, "more": dict(named)}


def squares(images: list[Image.Image], crop: float, size: int) -> np.ndarray:
    """The central part of images as uint8 of shape (N, size, size, 3)."""
    found = []
    for image in images:
        width, height = image.size
        part = (width * (1 - crop) / 2, height * (1 - crop) / 2, width * (1 + crop) / 2, height * (1 + crop) / 2)
        found.append(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=part)))
    return np.stack(found)


def inner_part(count: int, share: float, seed: int) -> np.ndarray:
    """A random part of the objects to learn from that a peer may judge its own epochs by, bool of shape (N,)."""
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: max(int(share * count), 1)]] = True
    return chosen
