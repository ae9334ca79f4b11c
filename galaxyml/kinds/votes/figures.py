"""Figures of how well predicted fractions hold from the surveys trained on to those never seen."""

from typing import ClassVar

import numpy as np
import pandas as pd

from galaxyml.evaluation.calibration import Reliability, reliability
from galaxyml.evaluation.correlation import LEAST, asked
from galaxyml.evaluation.embedding import embedding
from galaxyml.evaluation.plots import LOSS_CURVES, loss_curves, without_duplicates, write_images
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

MAIN = ("smooth_or_features_smooth", "edge_on_yes", "bar_yes", "spiral_arms_yes")  # drawn against the truth
SMOOTH = "smooth_or_features_smooth"
EXAMPLES = 4  # images of each survey that were predicted worst, and as many of the best
MOST = 10_000  # galaxies in the figure of the feature space
FEWEST = 3  # of them
CAPTIONED = 3  # features in an image's caption


class ShiftFigures:
    """Draws what a person looks at first; follows `ScoreVotes`, whose tables it draws.

    Args:
        crop: Central part of an image that is shown, a fraction of its side.

    Raises:
        UserError: If it cannot be.
    """

    only_draws: ClassVar[bool] = True

    def __init__(self, crop: float = 0.7) -> None:
        if not 0 < crop <= 1:
            raise UserError(f"crop={crop}: it must be above 0 and at most 1.")
        self.crop = crop

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the figures; has no numbers of its own."""
        catalog = run.catalog()
        if rows := run.table_rows("shift"):
            _degradation(run, pd.DataFrame(rows))
        loaded = [ScoredVotes.load(run, split, catalog) for split in ("val", "test")]
        splits = [galaxies for galaxies in loaded if galaxies is not None]
        surveys = dict(sorted((survey, split.of(survey)) for split in splits for survey in split.surveys()))
        if surveys:
            _against_truth(run, surveys)
            _calibration(run, surveys)
        _space(run, catalog)
        for survey, galaxies in surveys.items():
            self._examples(run, catalog, survey, galaxies)
        if rows := run.table_rows("progression"):
            _progression(run, pd.DataFrame(rows))
        histories: dict[str, pd.DataFrame | None] = {}
        for child in run.nets():
            histories |= {f"{child.name}, head alone": child.phase("head").history(), child.name: child.history()}
        if written := {name: history for name, history in histories.items() if history is not None}:
            run.write_figure("7_loss_curves", loss_curves(written), LOSS_CURVES)
        return {}

    def _examples(self, run: RunDir, catalog: pd.DataFrame, survey: str, galaxies: ScoredVotes) -> None:
        """The galaxies with the largest squared error, each fraction counting by its votes, and those with the least.

        The latter by the mean over the votes, of galaxies that were asked at least as many features as half of them:
        whoever was asked little has little error.
        """
        counted = asked(galaxies.target, galaxies.votes)
        weight = np.where(counted, galaxies.votes, 0.0)
        gaps = np.where(counted, galaxies.predicted - galaxies.target, 0.0)
        errors = weight * gaps**2
        features = counted.sum(1)
        means = np.where(features >= np.median(features), errors.sum(1) / np.maximum(weight.sum(1), 1), np.inf)
        for name, title, description, order in (
            (
                f"5_worst_{survey}",
                f"{survey}: predicted worst, errors weighted by votes",
                f"The worst galaxies of {survey}: largest squared error, each fraction counting by its votes.",
                np.argsort(-errors.sum(1), kind="stable"),
            ),
            (
                f"5_best_{survey}",
                f"{survey}: predicted best",
                f"The best galaxies of {survey}: smallest squared error a vote, of those that were asked most.",
                np.argsort(means, kind="stable"),
            ),
        ):
            rows = without_duplicates(order, catalog, galaxies.rows)[:EXAMPLES]
            captions = [_caption(galaxies, row, errors[row], features[row]) for row in rows]
            images = catalog["image"].iloc[galaxies.rows[rows]]
            write_images(run, name, title, description, images, captions, self.crop)


def _caption(galaxies: ScoredVotes, row: int, errors: np.ndarray, features: int) -> str:
    """A galaxy's id, and predicted and voted fractions of the features with its largest errors."""
    lines = [
        f"{label(galaxies.columns[k])}: predicted {galaxies.predicted[row, k]:.2f}, "
        f"true {galaxies.target[row, k]:.2f} ({galaxies.votes[row, k]:.0f} votes)"
        for k in np.argsort(-errors, kind="stable")[: min(CAPTIONED, features)]
    ]
    return "\n".join([str(galaxies.ids[row]), *lines])


def _degradation(run: RunDir, table: pd.DataFrame) -> None:
    """In distribution against each survey never seen; the surveys trained on where there is none."""
    outside = table[table["split"] == "test"]
    measured = (outside if len(outside) else table).dropna(subset=["r"])
    first = measured.drop_duplicates("feature").set_index("feature")
    order = [name for name in dict.fromkeys(table["feature"]) if name in first.index]
    if not order:
        return
    values = {}
    if {"in_r", "in_r_low"} <= set(outside):
        values["trained on (held-out galaxies)"] = _with_ends(first.loc[order], "in_r")
    for survey, rows in measured.groupby("survey", sort=False):
        name = f"{survey}{', never seen' if len(outside) else ''}"
        values[name] = _with_ends(rows.set_index("feature").reindex(order), "r")
    run.write_figure(
        "1_degradation",
        degradation_figure([label(name) for name in order], list(first.loc[order, "question"]), values),
        "Correlation of predicted with voted fractions, feature by feature: on held-out galaxies of the surveys "
        "trained on, and on each survey never seen, with 95 % of bootstrap resamples.",
    )


def _against_truth(run: RunDir, surveys: dict[str, ScoredVotes]) -> None:
    features = next(iter(surveys.values())).columns
    shown = [name for name in MAIN if name in features] or features[:4]
    columns = [features.index(name) for name in shown]
    panels = {}
    for survey, galaxies in surveys.items():
        target = np.where(asked(galaxies.target, galaxies.votes), galaxies.target, np.nan)[:, columns]
        panels[survey] = (galaxies.predicted[:, columns], target)
    run.write_figure(
        "2_predicted_against_true",
        against_truth_figure([label(name) for name in shown], panels),
        "Predicted against voted fractions of the galaxies that were asked, survey by survey.",
    )


def _calibration(run: RunDir, surveys: dict[str, ScoredVotes]) -> None:
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


def _space(run: RunDir, catalog: pd.DataFrame) -> None:
    """Features of the galaxies in two dimensions, of a sweep those of the first member's net."""
    arrays = run.nets()[0].arrays("embedding")
    if arrays is None:
        return
    rows = pd.Index(catalog["id"].astype(str)).get_indexer(pd.Index(arrays["id"].astype(str)))
    usable = (rows >= 0) & np.isfinite(arrays["feature"]).all(axis=1)
    if usable.sum() < FEWEST:
        return
    chosen, points = embedding(arrays["feature"][usable], seed=0, most=MOST)
    shown = catalog.iloc[rows[usable][chosen]]
    values = shown[SMOOTH].to_numpy(float) if SMOOTH in shown else np.full(len(shown), np.nan)
    run.write_figure(
        "4_feature_space",
        space_figure(points, shown["survey"].to_numpy(str), values, "fraction of votes for smooth"),
        "What the net sees of galaxies, laid out in the plane so that those that look alike to it are near (UMAP): "
        "by survey, and by the votes for smooth. Surveys that lie apart look different to the net.",
    )


def _progression(run: RunDir, table: pd.DataFrame) -> None:
    surveys = list(dict.fromkeys(table["survey"]))
    stages = list(dict.fromkeys(table["stage"]))
    if len(stages) < 2:
        return
    of_stage = {stage: table[table["stage"] == stage].set_index("survey").reindex(surveys) for stage in stages}
    r = {stage: _with_ends(rows, "r") for stage, rows in of_stage.items() if stage != "baseline (column mean)"}
    mae = {stage: _with_ends(rows, "MAE") for stage, rows in of_stage.items()}
    run.write_figure(
        "6_progression",
        progression_figure(surveys, r, mae),
        "Correlation and error of the untrained net, of the head alone and of the whole net, survey by survey.",
    )


def _with_ends(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A value and the ends of its interval, shape (n, 3)."""
    return rows[[name, f"{name}_low", f"{name}_high"]].to_numpy(np.float64)
