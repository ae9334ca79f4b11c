"""Images without labels, ranked by how unusual they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, nn

from galaxyml.data.catalog import as_text
from galaxyml.evaluation.morphology import THUMBNAIL_SIDE
from galaxyml.kinds.anomalies.detect import Sees
from galaxyml.kinds.anomalies.metrics import KS
from galaxyml.kinds.anomalies.score import ScoredAnomalies
from galaxyml.kinds.image_anomalies.detect import SIMPLE, DetectImages, Families
from galaxyml.kinds.image_anomalies.figures import ImageAnomalyFigures
from galaxyml.kinds.image_anomalies.metrics import PixelMetrics
from galaxyml.kinds.image_anomalies.rank import rank_images
from galaxyml.kinds.image_anomalies.score import WORDS, ScoreImageAnomalies
from galaxyml.kinds.kind import Kind, Stage
from galaxyml.kinds.losses import MSELoss
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.image_encodings import ImageEncodings

# What scores beside the ranking one are called; others go by the name of their column.
LABELS = {
    "bytes": "file size",
    "features": "plain features",
    "mahalanobis": "Mahalanobis",
    "unusual": "sum of families",
}


class ImageAnomalies(Kind):
    """Images that are ranked by how unusual they are among each other.

    What a model learns is to decode small grey images from its features, the outputs here; detectors of the features,
    of what is left undecoded and of the images' shapes rank them after the fit.

    Args:
        detector: The one that ranks; None for the sum of `galaxyml.evaluation.unusual.unusual`, `Families`.
        beside: Others that it is compared with, by the name of their column.
        ks: How many of the highest scores are looked at.
        parts: Of the cross-fit: an image is scored by detectors that have not learnt from it.
        resamples: Bootstrap resamples of the intervals; 0 for none.
        top: How many of the first of the list are shown; 0 for none.
        embedded: How many images the figure of the features shows at most; 0 for no such figure.
        crop: Central part of an image that figures show, a fraction of its side.
        seed: Of what is drawn.
    """

    name: ClassVar[str] = "image_anomalies"
    averaged: ClassVar[bool] = False

    def __init__(
        self,
        detector: Sees | Families | None = None,
        beside: Mapping[str, Sees] | None = None,
        ks: Sequence[int] = KS,
        parts: int = 5,
        resamples: int = 1000,
        top: int = 48,
        embedded: int = 10_000,
        crop: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.outputs = [f"pixel_{number}" for number in range(THUMBNAIL_SIDE**2)]
        self.detector: Sees | Families = detector if detector is not None else Families()
        self.beside = dict(beside or {})
        variants = {name: LABELS.get(name, name.replace("_", " ")) for name in self._columns()}
        self.labels = variants
        self.words = replace(
            WORDS,
            variants={"random_": "random"} | {f"{name}_": label for name, label in variants.items()},
            baselines=("random_", *(f"{name}_" for name in SIMPLE)),
            wide=tuple(f"{name}_" for name in variants if name not in ("brightness", "asymmetry")),
        )
        self.ks, self.parts, self.resamples = list(ks), parts, resamples
        self.top, self.embedded, self.crop, self.seed = top, embedded, crop, seed

    def _columns(self) -> list[str]:
        """Names of all scores but the ranking one."""
        return [*SIMPLE, *(["unusual"] if isinstance(self.detector, Sees) else []), *self.beside, "residual"]

    @property
    def score_names(self) -> None:
        """None: scores are pixels."""
        return None

    @property
    def target_columns(self) -> list[str]:
        return []

    def loss(self, chosen: nn.Module | None = None) -> nn.Module:
        return chosen if chosen is not None else MSELoss()

    def metrics(self) -> PixelMetrics:
        return PixelMetrics(len(self.outputs))

    def baseline(self, targets: Tensor) -> Tensor:
        """The mean image."""
        return targets.float().mean(dim=0)

    def example_targets(self) -> Tensor:
        return torch.linspace(0, 1, 2)[:, None].expand(-1, len(self.outputs))

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        return np.zeros((len(catalog), 1))

    def describe(self, catalog: pd.DataFrame) -> pd.DataFrame:
        return as_text(catalog, ["id", "name"])

    def prediction_writer(self, run: RunDir) -> BasePredictionWriter:
        return ImageEncodings(run)

    def stages(self) -> list[Stage]:
        return [
            DetectImages(self.detector, self.beside, self.parts, self.seed),
            ScoreImageAnomalies(self.ks, self.resamples),
            rank_images,
            ImageAnomalyFigures(self.labels, self.top, self.embedded, self.crop, self.seed),
        ]

    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredAnomalies | None:
        objects = ScoredAnomalies.load(run, split, run.catalog(), self.words)
        return objects if objects is not None and objects.both else None

    def odds_of_odd(self, table: pd.DataFrame) -> np.ndarray | None:
        return table["odds"].to_numpy(np.float64) if "odds" in table else None

    def known(self, row: Mapping[str, Any]) -> str:
        return str(row.get("name", ""))

    def caption(self, output: np.ndarray, target: np.ndarray) -> str:
        return f"residual {np.sqrt(np.square(output - target.astype(np.float32)).mean()):.3f}"
