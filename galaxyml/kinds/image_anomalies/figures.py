"""Figures of a ranking: how well it finds what is odd, the images themselves, and where they lie."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd

from galaxyml.evaluation.embedding import embedding
from galaxyml.evaluation.plots import LOSS_CURVES, CentralParts, loss_curves
from galaxyml.kinds.anomalies.metrics import roc_auc
from galaxyml.kinds.anomalies.plots import latent_figure, pr_figure, recall_figure, roc_figure
from galaxyml.kinds.anomalies.score import ScoredAnomalies
from galaxyml.kinds.image_anomalies.detect import SIMPLE
from galaxyml.kinds.image_anomalies.plots import contact_sheet, families_figure, features_figure, short
from galaxyml.kinds.image_anomalies.rank import COLUMNS, ranked
from galaxyml.kinds.image_anomalies.score import WORDS
from galaxyml.kinds.kind import check_whole
from galaxyml.runs.errors import DataError
from galaxyml.runs.run_dir import RunDir

MISSED = 16  # odd images with the lowest scores
EXPLAINED = 25  # images whose scores are taken apart
SHOWN = 3  # detectors, and numbers that need none, beside the score
BLANK = np.full((8, 8, 3), 160, np.uint8)  # in the place of an image that cannot be read


class ImageAnomalyFigures:
    """Draws the first of the list, where all images lie, and, where it is known, how well the odd ones are found.

    Args:
        labels: What scores are called, by the name of their column.
        top: How many of the first of the list are shown; 0 for none.
        embedded: How many images the figure of the features shows at most; 0 for no such figure.
        crop: Central part of an image that is shown, a fraction of its side.
        seed: Of the embedding.

    Raises:
        UserError: If a number is negative.
    """

    only_draws: ClassVar[bool] = True

    def __init__(self, labels: Mapping[str, str], top: int, embedded: int, crop: float, seed: int) -> None:
        check_whole(0, top=top, embedded=embedded)
        self.labels = {"score": "score", **labels}
        self.top, self.embedded, self.crop, self.seed = top, embedded, crop, seed

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Draws into the run's folder; has no numbers of its own."""
        ranking, catalog = ranked(run), run.catalog()
        objects = ScoredAnomalies.load(run, "survey", catalog, WORDS)
        if self.top:
            first = ranking.head(self.top)
            caption = f"The {len(first)} most unusual of {len(ranking):,} images, with score and reason."
            self._sheet(run, "1_most_unusual", first, caption)
            self._families(run, ranking)
        if objects is not None and objects.both:
            self._curves(run, objects)
            odd = catalog.set_index("id")["unknown"]
            missed = ranking[odd.loc[ranking["id"]].to_numpy()].tail(MISSED if self.top else 0).iloc[::-1]
            if len(missed):
                self._sheet(run, "7_worst", missed, "The worst: images known to be odd that rank lowest.")
        if self.embedded:
            self._features(run, ranking, catalog)
        run.write_figure("9_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        return {}

    def _sheet(self, run: RunDir, name: str, shown: pd.DataFrame, caption: str) -> None:
        images, central_part = [], CentralParts(run, self.crop)
        for path in shown["path"]:
            try:
                images.append(central_part(path))
            except (DataError, OSError):
                images.append(BLANK)
        rows = zip(shown["rank"], shown["id"], shown["score"], shown["reason"], strict=True)
        captions = [f"{rank}. {short(str(id))}\n{score:z.1f}, {reason}" for rank, id, score, reason in rows]
        run.write_figure(name, contact_sheet(images, captions), caption)

    def _curves(self, run: RunDir, objects: ScoredAnomalies) -> None:
        """The score beside the best detectors and the best of what needs none."""
        areas = {name: roc_auc(values, objects.target) for name, values in self._by_name(objects).items()}
        best = sorted(areas, key=lambda name: -areas[name])
        simple = [name for name in best if name in SIMPLE][:SHOWN]
        others = [name for name in best if name not in (*SIMPLE, "score")][:SHOWN]
        by_name = self._by_name(objects)
        scores = {self.labels.get(name, name): by_name[name] for name in ("score", *others, *simple)}
        kinds = "images known to be odd"
        run.write_figure(
            "2_roc_survey",
            roc_figure(scores, objects.target),
            f"Share of {kinds} that is found, against share of ordinary ones that is taken for odd.",
        )
        run.write_figure(
            "3_precision_recall_survey", pr_figure(scores, objects.target), f"Purity of the highest scores in {kinds}."
        )
        run.write_figure("4_recall_survey", recall_figure(scores, objects.target), f"Share of {kinds} among the first.")

    def _by_name(self, objects: ScoredAnomalies) -> dict[str, np.ndarray]:
        return dict(zip(objects.columns, objects.predicted.T, strict=True))

    def _families(self, run: RunDir, ranking: pd.DataFrame) -> None:
        """What adds to the first scores."""
        own = run if run.has_predictions("survey", by="reasons") else run.members()[0]
        reasons = own.predictions("survey", by="reasons")
        assert reasons is not None
        added = reasons.set_index("id").drop(columns=list(COLUMNS))
        first = ranking.head(EXPLAINED)
        beyond = (added - added.median()).loc[first["id"]]
        names = [f"{rank}. {short(str(id))}" for rank, id in zip(first["rank"], first["id"], strict=True)]
        run.write_figure(
            "5_families",
            families_figure(names, {str(name): beyond[name].to_numpy() for name in beyond}),
            "What is unusual about the first images: what the net itself answers, or how far its features lie from "
            "those of other images; how asymmetric the light is; how far the pixels are from those of other images."
            + (" The list is in the order of another detector." if "unusual" in self.labels else ""),
        )

    def _features(self, run: RunDir, ranking: pd.DataFrame, catalog: pd.DataFrame) -> None:
        """All images in two dimensions, as the (first) net sees them."""
        ids, features = [], []
        for table in run.nets()[0].predictions_in_batches("survey", by="encoded"):
            ids.append(table["id"].to_numpy())
            features.append(np.stack(list(table["features"])).astype(np.float32))
        rows, points = embedding(np.concatenate(features), self.seed, self.embedded)
        chosen = np.concatenate(ids)[rows]
        scores = ranking.set_index("id")["score"].loc[chosen].to_numpy()
        laid_out = "Features of the images, laid out in the plane so that near ones stay near (UMAP)"
        figure = features_figure(points, scores, "Features")
        run.write_figure("6_features", figure, f"{laid_out}, coloured by their score; the highest are ringed.")
        known = catalog.set_index("id").loc[chosen]
        told = (known["name"] != "").to_numpy()
        if known["unknown"].any():
            names, odd = known["name"].to_numpy()[told], known["unknown"].to_numpy(bool)[told]
            figure = latent_figure(points[told], names, odd, "Features")
            run.write_figure("6_features_known", figure, f"{laid_out}; what is known to be odd is drawn on top.")
