"""Anomalies: objects unlike all known classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

from torch import Tensor, nn

from galaxyml.kinds.anomalies.detect import Detect, Sees
from galaxyml.kinds.anomalies.detectors import Blend, Forest, Neighbours
from galaxyml.kinds.anomalies.figures import AnomalyFigures
from galaxyml.kinds.anomalies.metrics import KS
from galaxyml.kinds.anomalies.rank import rank_anomalies
from galaxyml.kinds.anomalies.score import WORDS, ScoreAnomalies, ScoredAnomalies
from galaxyml.kinds.kind import Kind, Stage
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.light_curve_predictions import LightCurveTables

# What detectors that stand beside the ranking one are called; others go by the name of their column.
DETECTORS = {
    "features": "plain features",
    "class_features": "features by class",
    "latents": "latents alone",
    "forest": "one forest",
    "class_forests": "forest a class",
    "mahalanobis": "Mahalanobis",
}
SIMPLE = ("random", "features", "class_features")  # what no net is needed for


class Anomalies(Kind):
    """Objects that are unlike all known classes, ranked by detectors of what a model knows of them.

    What a model learns is not this but the objects themselves (`galaxyml.training.vae.VAEModule`), so that there are
    neither loss nor head here.

    Args:
        classes: Names of the known classes, in the order of the labels.
        detector: The one that ranks; None for an isolation forest blended with the distance to known neighbours.
        beside: Others that it is compared with, by the name of their column.
        ks: How many of the highest scores are looked at.
        false_alarms: Share of known objects that may lie above the threshold, in (0, 1).
        resamples: Bootstrap resamples of the intervals; 0 for none.
        top: How many of the highest scores are drawn as light curves; 0 for none.
        embedded: How many objects the figures of the latent space show at most; 0 for no such figures.
        seed: Of these figures.
    """

    name: ClassVar[str] = "anomalies"
    averaged: ClassVar[bool] = False

    def __init__(
        self,
        classes: Sequence[str],
        detector: Sees | None = None,
        beside: Mapping[str, Sees] | None = None,
        ks: Sequence[int] = KS,
        false_alarms: float = 0.05,
        resamples: int = 1000,
        top: int = 25,
        embedded: int = 10_000,
        seed: int = 0,
    ) -> None:
        for name, sees in [
            ("detector", detector),
            *((f"beside.{name}", sees) for name, sees in (beside or {}).items()),
        ]:
            if not isinstance(sees, Sees | None):
                raise UserError(f"{name}: {type(sees).__name__} ranks images alone. Choose another, such as blend.")
        self.classes, self.outputs = list(classes), ["score"]
        self.detector, self.beside = detector if detector is not None else blend(), dict(beside or {})
        self.labels = {name: DETECTORS.get(name, name.replace("_", " ")) for name in self.beside}
        variants = {"random": "random", "features": DETECTORS["features"]} | self.labels
        self.words = replace(
            WORDS,
            variants={f"{name}_": label for name, label in variants.items()},
            baselines=tuple(f"{name}_" for name in SIMPLE if name in variants),
        )
        self.ks, self.false_alarms, self.resamples = list(ks), false_alarms, resamples
        self.top, self.embedded, self.seed = top, embedded, seed

    @property
    def score_names(self) -> list[str]:
        return self.classes

    def loss(self, chosen: nn.Module | None = None) -> NoReturn:
        raise TypeError("Anomalies are found by detectors after the fit; a model of them brings a loss of its own.")

    def metrics(self) -> NoReturn:
        raise TypeError("Anomalies are found after the fit, so that there is no metric of an epoch.")

    def baseline(self, targets: Tensor) -> NoReturn:
        raise TypeError("Anomalies have no targets to predict; the baseline of their scores is chance.")

    def prediction_writer(self, run: RunDir) -> LightCurveTables:
        return LightCurveTables(run)

    def stages(self) -> list[Stage]:
        return [
            Detect(self.classes, self.detector, self.beside),
            ScoreAnomalies(self.ks, self.false_alarms, self.resamples),
            rank_anomalies,
            AnomalyFigures(self.labels, self.top, self.embedded, self.seed),
        ]

    def scored(self, run: RunDir, split: str, least: int | None = None) -> ScoredAnomalies | None:
        objects = ScoredAnomalies.load(run, split, run.catalog(), self.words)
        return objects if objects is not None and objects.both else None

    def caption(self, output: Any, target: Any) -> str:
        return f"score {float(output):.1f} nats"


def blend() -> Sees:
    """The detector of `conf/detector/blend.yaml`."""
    detectors = {"forest": Forest(trees=500), "neighbours": Neighbours(k=5)}
    return Sees(Blend(detectors), ["latent", "reconstruction"])
