"""Sets of objects that are searched for those most like others: in memory, or in a folder of predictions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from galaxyml.data.inputs import Listing
from galaxyml.evaluation.nearest import Nearest
from galaxyml.inference.embedded import (
    Embedded,
    cache_of,
    embed,
    images_of,
    is_prediction_folder,
    of_curves,
    of_images,
    open_features,
    seen_by,
)
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.nearest_index import NearestIndex
from galaxyml.inference.prediction_features import PredictionFeatures
from galaxyml.inference.predictor import Predictor
from galaxyml.runs.errors import UsageError

MOST = 1_000_000  # objects that are compared one by one
CANDIDATES = 4  # times as many as are wanted are taken from an index, and compared exactly
INDEX = "nearest"  # folder of the index, in that of the predictions


class SearchedSet(ABC):
    """Objects among which those most like others are found.

    Attributes:
        name: What it is called.
        by: What objects are compared by, in words.
    """

    name: str
    by: str

    @abstractmethod
    def __len__(self) -> int:
        """How many objects it has."""

    @abstractmethod
    def row(self, name: str) -> int:
        """Where an object is, by its id; UsageError if it is not there."""

    @abstractmethod
    def features(self, rows: np.ndarray) -> np.ndarray:
        """What some objects are compared by, float32 of shape (n, F)."""

    @abstractmethod
    def table(self, rows: np.ndarray) -> pd.DataFrame:
        """What is known of some objects, one row each."""

    @abstractmethod
    def picture(self, row: int, side: int) -> Image.Image:
        """An object as an image of so many pixels a side."""

    @abstractmethod
    def nearest(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The objects that are most like others; as `Nearest.query`."""


class InMemory(SearchedSet):
    """Objects that a run has looked at.

    Args:
        name: What the set is called.
        embedded: The objects.
    """

    def __init__(self, name: str, embedded: Embedded) -> None:
        self.name, self.embedded, self.by = name, embedded, embedded.by

    def __len__(self) -> int:
        return len(self.embedded)

    def row(self, name: str) -> int:
        return self.embedded.row(name)

    def features(self, rows: np.ndarray) -> np.ndarray:
        return self.embedded.features[rows]

    def table(self, rows: np.ndarray) -> pd.DataFrame:
        return self.embedded.table.iloc[rows].reset_index(drop=True)

    def picture(self, row: int, side: int) -> Image.Image:
        return self.embedded.gallery.picture(row, side)

    def nearest(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        return self._nearest.query(features, count)

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.embedded.features)


class InFolder(SearchedSet):
    """Objects of a folder of predictions, which stay there; of more than a million by an index beside them.

    Args:
        opened: The folder.
        predictor: Of its run.
        exact: Whether all of them are compared, however many there are.
    """

    def __init__(self, opened: PredictionFeatures, predictor: ImagePredictor, exact: bool = False) -> None:
        self.opened, self.predictor, self.exact = opened, predictor, exact
        self.name, self.by = str(opened.folder.path), seen_by(predictor)

    def __len__(self) -> int:
        return len(self.opened)

    def row(self, name: str) -> int:
        return self.opened.row(name)

    def features(self, rows: np.ndarray) -> np.ndarray:
        return self.opened.features(rows)

    def table(self, rows: np.ndarray) -> pd.DataFrame:
        return self.opened.table(rows)

    def picture(self, row: int, side: int) -> Image.Image:
        return images_of(self.predictor, self.opened.locations(np.array([row]))).picture(0, side)

    def nearest(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self._nearest, Nearest):
            return self._nearest.query(features, count)
        near = self._nearest.query(features, CANDIDATES * count)
        wanted = [
            (rows, self._nearest.standard.cosines(self.features(rows), query))
            for rows, query in zip(near, features, strict=True)
        ]
        orders = [np.lexsort((rows, -cosines))[:count] for rows, cosines in wanted]
        rows = np.stack([rows[order] for (rows, _), order in zip(wanted, orders, strict=True)])
        return rows, np.stack([cosines[order] for (_, cosines), order in zip(wanted, orders, strict=True)])

    @cached_property
    def _nearest(self) -> Nearest | NearestIndex:
        if self.exact or len(self) <= MOST:
            return Nearest(self.opened.blocks)
        return NearestIndex.open(self.opened.folder.path / INDEX, self.opened.state(), self.opened.blocks)


def open_set(
    predictor: Predictor, source: Path, among: Sequence[str], bad: list[str] | None = None, exact: bool = False
) -> SearchedSet:
    """A set of objects, with what a run makes of them.

    Args:
        predictor: The run's.
        source: Its folder, or the bundle.
        among: What names the set, as for `galaxyml predict`, or a folder of predictions with features; nothing for the
            objects that the run has learnt from.
        bad: Gets a sentence for each image that cannot be read, which is then left out; None to raise.
        exact: Whether all objects are compared, however many there are.

    Raises:
        UserError: If there is nothing there, nothing can be read, features are another run's, or there are too many
            images to be looked at.
    """
    if not among:
        return InMemory("its training set", _learnt_from(predictor, source, bad))
    if is_prediction_folder(among):
        opened = open_features(predictor, source, Path(among[0]).expanduser())
        assert isinstance(predictor, ImagePredictor)
        return InFolder(opened, predictor, exact)
    return InMemory(" ".join(among), embed(predictor, source, among, cache_of(predictor), bad))


def _learnt_from(predictor: Predictor, source: Path, bad: list[str] | None) -> Embedded:
    """The objects that a run has learnt from; of a sweep those of its first net."""
    advice = "Say among which objects to search: --among FOLDER"
    if source.is_file():
        raise UsageError(f"{source} came as one file, without the images that it has learnt from. {advice}")
    net = predictor.run.nets()[0]
    folder = Path(net.provenance()["data"]["folder"])
    if not folder.is_dir():
        raise UsageError(f"{folder}, the folder of what {source} has learnt from, is not there any more. {advice}")
    if isinstance(predictor, LightCurvePredictor):
        return of_curves(predictor, *predictor.open_training(net, folder))
    assert isinstance(predictor, ImagePredictor)
    catalog = net.catalog()
    ranks_all = (catalog["split"] == "survey").all()
    train = catalog if ranks_all else catalog[catalog["split"] == "train"]
    where = [str(folder / image) for image in train["image"]]
    known = [
        predictor.kind.known({str(name): value for name, value in row.items()}) for row in train.to_dict("records")
    ]
    listing = Listing(tables=[pd.DataFrame({"known": known}, index=where)])
    for place, name in zip(where, train["id"], strict=True):
        listing.add(place, place, str(name))
    return of_images(predictor, source, listing, cache_of(predictor), bad)
