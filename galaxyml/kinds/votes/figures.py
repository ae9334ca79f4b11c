"""Figures of how well predicted fractions hold from the surveys trained on to those never seen."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from galaxyml.evaluation.calibration import Reliability, reliability
from galaxyml.evaluation.correlation import LEAST, asked
from galaxyml.evaluation.embedding import embedding
from galaxyml.evaluation.plots import LOSS_CURVES, loss_curves, write_images
from galaxyml.kinds.votes.features import label, questions
from galaxyml.kinds.votes.metrics import BINS, fraction_reliability, majorities
from galaxyml.kinds.votes.plots import (
    against_truth_figure,
    calibration_figure,
    degradation_figure,
    progression_figure,
    space_figure,
)
from galaxyml.kinds.votes.scored import ScoredVotes
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

MAIN = ("smooth_or_features_smooth", "edge_on_yes", "bar_yes", "spiral_arms_yes")
SMOOTH = "smooth_or_features_smooth"
FEWEST = 3  # galaxies that make a figure of the feature space
SAID = 3  # features in a picture's caption


class ShiftFigures:
    """Draws what a person looks at first; follows `ScoreVotes`, whose tables it draws.

    Args:
        main: Features whose predictions are drawn against the truth, where the run has them.
        failures: Pictures of each survey that were predicted worst, and as many of the best; 0 for none.
        embedded: How many galaxies the figure of the feature space shows at most; 0 for no such figure.
        crop: Central part of a picture that is shown, a fraction of its side.
        seed: Of the embedding.

    Raises:
        UserError: If a number cannot be.
    """

    def __init__(
        self,
        main: Sequence[str] = MAIN,
        failures: int = 4,
        embedded: int = 10_000,
        crop: float = 0.7,
        seed: int = 0,
    ) -> None:
        for name, value in (("failures", failures), ("embedded", embedded)):
            if not isinstance(value, int) or value < 0:
                raise UserError(f"{name}={value}: it must be a whole number, 0 or more.")
        if not 0 < crop <= 1:
            raise UserError(f"crop={crop}: it must be above 0 and at most 1.")
        self.main = list(main)
        self.failures = failures
        self.embedded = embedded
        self.crop = crop
        self.seed = seed

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures; has no numbers of its own."""
        catalog = run.catalog()
        if rows := run.table_rows("shift"):
            self._degradation(run, pd.DataFrame(rows))
        said = [
            found for split in ("val", "test") if (found := ScoredVotes.load(run, split, catalog=catalog)) is not None
        ]
        surveys = dict(sorted((survey, each.of(survey)) for each in said for survey in each.surveys()))
        if surveys:
            self._against_truth(run, surveys)
            self._calibration(run, surveys)
        if self.embedded:
            self._space(run, catalog)
        if self.failures:
            for survey, galaxies in surveys.items():
                self._examples(run, catalog, survey, galaxies)
        if rows := run.table_rows("progression"):
            self._progression(run, pd.DataFrame(rows))
        every: dict[str, pd.DataFrame | None] = {}
        for child in run.nets():
            every |= {f"{child.name}, head alone": child.phase("head").history(), child.name: child.history()}
        if histories := {name: history for name, history in every.items() if history is not None}:
            run.write_figure("7_loss_curves", loss_curves(histories), LOSS_CURVES)
        return {}

    def _degradation(self, run: RunDir, table: pd.DataFrame) -> None:
        """In distribution against each survey never seen; the surveys trained on where there is none."""
        outside = table[table["split"] == "test"]
        measured = (outside if len(outside) else table).dropna(subset=["r"])
        first = measured.drop_duplicates("feature").set_index("feature")
        order = [name for name in dict.fromkeys(table["feature"]) if name in first.index]
        if not order:
            return
        values = {}
        if {"in_r", "in_r_low"} <= set(outside):
            values["trained on (held-out galaxies)"] = _ends(first.loc[order], "in_r")
        for survey, rows in measured.groupby("survey", sort=False):
            name = f"{survey}{', never seen' if len(outside) else ''}"
            values[name] = _ends(rows.set_index("feature").reindex(order), "r")
        labels = [label(name) for name in order]
        run.write_figure(
            "1_degradation",
            degradation_figure(labels, list(first.loc[order, "question"]), values),
            "Correlation of predicted with voted fractions, feature by feature: on held-out galaxies of the surveys "
            "trained on, and on each survey never seen, with 95 % of bootstrap resamples.",
        )

    def _against_truth(self, run: RunDir, surveys: dict[str, ScoredVotes]) -> None:
        features = list(next(iter(surveys.values())).columns)
        shown = [name for name in self.main if name in features] or features[:4]
        places = [features.index(name) for name in shown]
        panels, notes = {}, {}
        for survey, galaxies in surveys.items():
            true = np.where(asked(galaxies.target, galaxies.votes), galaxies.target, np.nan)[:, places]
            panels[survey] = (galaxies.predicted[:, places], true)
            notes[survey] = [f"{count:,} galaxies" for count in (~np.isnan(true)).sum(0)]
        labels = [label(name) for name in shown]
        run.write_figure(
            "2_predicted_against_true",
            against_truth_figure(labels, panels, notes),
            "Predicted against voted fractions of the galaxies that were asked, survey by survey.",
        )

    def _calibration(self, run: RunDir, surveys: dict[str, ScoredVotes]) -> None:
        fractions: dict[str, Reliability] = {}
        answers: dict[str, Reliability] = {}
        for survey, galaxies in surveys.items():
            fractions[survey] = fraction_reliability(galaxies.predicted, galaxies.target, galaxies.votes)
            columns = list(questions(galaxies.columns).values())
            chances, labels = majorities(galaxies.predicted, galaxies.target, galaxies.votes, columns)
            if len(labels) >= LEAST:
                answers[survey] = reliability(chances, labels, BINS)
        run.write_figure(
            "3_calibration",
            calibration_figure(fractions, answers),
            "Left: mean voted fraction against the predicted one. Right: how often the answer that is predicted to win "
            "has most votes, against how sure the model is. Calibrated predictions lie on the diagonal.",
        )

    def _space(self, run: RunDir, catalog: pd.DataFrame) -> None:
        """What the net sees of the galaxies, of a sweep the first member's net, in two dimensions."""
        arrays = run.nets()[0].arrays("embedding")
        if arrays is None:
            return
        rows = pd.Index(catalog["id"].astype(str)).get_indexer(pd.Index(arrays["id"].astype(str)))
        usable = (rows >= 0) & np.isfinite(arrays["feature"]).all(axis=1)
        if usable.sum() < FEWEST:
            return
        at, points = embedding(arrays["feature"][usable], self.seed, self.embedded)
        shown = catalog.iloc[rows[usable][at]]
        values = shown[SMOOTH].to_numpy(float) if SMOOTH in shown else np.full(len(shown), np.nan)
        figure = space_figure(points, shown["survey"].to_numpy(str), values, "fraction of votes for smooth")
        run.write_figure(
            "4_feature_space",
            figure,
            "What the net sees of galaxies, laid out in the plane so that those that look alike to it are near (UMAP): "
            "by survey, and by the votes for smooth. Surveys that lie apart look different to the net.",
        )

    def _examples(self, run: RunDir, catalog: pd.DataFrame, survey: str, galaxies: ScoredVotes) -> None:
        """The galaxies with the largest squared error, each fraction counting by its votes, and those with the least.

        The latter by the mean over the votes, of galaxies that were asked at least as many features as half of them:
        whoever was asked little has little error.
        """
        counted = asked(galaxies.target, galaxies.votes)
        gaps = np.where(counted, galaxies.predicted - galaxies.target, 0.0)
        weight = np.where(counted, galaxies.votes, 0.0)
        errors = (weight * gaps**2).sum(1)
        features = counted.sum(1)
        means = np.where(features >= np.median(features), errors / np.maximum(weight.sum(1), 1), np.inf)
        for name, title, told, order in (
            (
                f"5_failures_{survey}",
                f"{survey}: predicted worst, errors weighted by votes",
                f"The worst galaxies of {survey}: largest squared error, each fraction counting by its votes.",
                np.argsort(-errors, kind="stable"),
            ),
            (
                f"5_best_{survey}",
                f"{survey}: predicted best",
                f"The best galaxies of {survey}: smallest squared error a vote, of those that were asked most.",
                np.argsort(means, kind="stable"),
            ),
        ):
            shown = order[: self.failures]
            captions = [self._told(galaxies, at, counted[at], weight[at] * gaps[at] ** 2) for at in shown]
            write_images(run, name, title, told, catalog["image"].iloc[galaxies.rows[shown]], captions, self.crop)

    def _told(self, galaxies: ScoredVotes, at: int, counted: np.ndarray, errors: np.ndarray) -> str:
        """A galaxy's id, and what was said and voted of the features with its largest errors."""
        most = np.argsort(-errors, kind="stable")[: min(SAID, counted.sum())]
        lines = [
            f"{label(galaxies.columns[place])}: predicted {galaxies.predicted[at, place]:.2f}, "
            f"true {galaxies.target[at, place]:.2f} ({galaxies.votes[at, place]:.0f} votes)"
            for place in most
        ]
        return "\n".join([str(galaxies.ids[at]), *lines])

    def _progression(self, run: RunDir, table: pd.DataFrame) -> None:
        surveys = list(dict.fromkeys(table["survey"]))
        stages = list(dict.fromkeys(table["stage"]))
        if len(stages) < 2:
            return
        of_stage = {stage: table[table["stage"] == stage].set_index("survey").reindex(surveys) for stage in stages}
        r = {stage: _ends(rows, "r") for stage, rows in of_stage.items() if stage != "baseline (column mean)"}
        mae = {stage: _ends(rows, "MAE") for stage, rows in of_stage.items()}
        run.write_figure(
            "6_progression",
            progression_figure(surveys, r, mae),
            "Correlation and error of the untrained net, of the head alone and of the whole net, survey by survey.",
        )


def _ends(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A value and the ends of its interval, shape (n, 3)."""
    return rows[[name, f"{name}_low", f"{name}_high"]].to_numpy(np.float64)
