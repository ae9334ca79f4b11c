"""Predicted fractions beside the volunteers', and how good they are, each beside the trivial predictor's."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.bootstrap import ends, interval
from galaxyml.evaluation.correlation import measures, resampled_sums
from galaxyml.evaluation.paired import measured
from galaxyml.evaluation.scored import ScoredPredictions, only_wanted, per_column, under
from galaxyml.evaluation.words import Words
from galaxyml.kinds.fractions.constrain import constrained
from galaxyml.kinds.fractions.metrics import column_rmse, pearson, rmse
from galaxyml.kinds.kind import scored_columns
from galaxyml.runs.errors import diverged
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, violation

OVERALL = ("rmse", "pearson")  # that have intervals
RESAMPLES = 1000

WORDS = Words(
    targets="vote fractions",
    main="rmse",
    judged=("val", "test"),
    headline=("rmse", "pearson", "coverage_95"),
    known="with votes",
    labels={"rmse": "RMSE", "pearson": "Pearson", "coverage_95": "share in the 95 % intervals"},
    by_column={
        "rmse": "RMSE",
        "mean_rmse": "baseline (column mean)",
        "pearson": "Pearson",
        "coverage_50": "in 50 % interval",
        "coverage_80": "in 80 %",
        "coverage_95": "in 95 %",
    },
    variants={
        "net_": "model output",
        "normalised_": "after normalising",
        "projected_": "after projecting",
        "mean_": "baseline (column mean)",
    },
    baselines=("mean_",),
    wide=("normalised_", "projected_"),
    notes={
        "net_": "Model output: the fractions as the net says them.",
        "normalised_": "After normalising: the answers of each question scaled to sum to the answer that leads to it.",
        "projected_": "After projecting: the nearest fractions that agree with the whole decision tree.",
    },
)


@dataclass(frozen=True)
class ScoredFractions(ScoredPredictions):
    """Fractions of all volunteers' votes, all columns known of each galaxy."""

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        if wanted is not None and set(wanted) == {"rmse"}:  # one number a galaxy instead of seven a column
            weights = drawn.astype(np.float64)
            squared = weights @ ((self.predicted - self.target) ** 2).mean(axis=1) / weights.sum(axis=1)
            return {"rmse": np.sqrt(squared)}
        columns = measures(resampled_sums(self.predicted, self.target, np.ones_like(self.target), drawn))
        r = np.nan_to_num(columns["pearson"])  # of a constant target
        metrics = {"rmse": np.sqrt(columns["mse"].mean(axis=1)), "pearson": r.mean(axis=1)}
        metrics |= per_column({"rmse": np.sqrt(columns["mse"]), "pearson": r}, self.columns)
        return only_wanted(metrics, wanted)


@dataclass(frozen=True)
class ScoreFractions:
    """RMSE, Pearson's correlation and tree violation: as predicted, under each constraint, and of the column means.

    Attributes:
        tree: The decision tree whose columns were predicted.
    """

    tree: DecisionTree

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split whose truth is known.

        Returns:
            Numbers by `<split>/<metric>[/<column>]`; `net_` marks a metric without constraint, `normalised_` and
            `projected_` one after divisive normalisation and after projection, `mean_` that of the column means, and
            `_low` and `_high` the ends of 95 % of bootstrap resamples.

        Raises:
            UserError: If a prediction is not finite.
        """
        scores: dict[str, float] = {}
        columns = self.tree.columns
        catalog = run.catalog()
        for split in ("val", "test"):
            final, net = run.predictions(split), run.predictions(split, by="net")
            if final is None or net is None:
                continue
            rows = pd.Index(catalog["id"]).get_indexer(final["id"])
            targets = catalog[columns].to_numpy()[rows]
            if np.isnan(targets).all():
                continue  # the challenge keeps the test set's fractions to itself
            outputs = net[columns].to_numpy()
            if not np.isfinite(outputs).all():
                raise diverged(run.path)
            for prefix, predicted in (
                ("", final[columns].to_numpy()),
                ("net_", outputs),
                ("normalised_", constrained(outputs, self.tree, "normalise")),
                ("projected_", constrained(outputs, self.tree, "project")),
                ("mean_", out_of_fold_means(catalog[columns].to_numpy(), catalog["fold"].to_numpy(), rows)),
            ):
                scores |= {
                    f"{split}/{prefix}{name}": value
                    for name, value in self._score(predicted, targets).items()
                    if "/" not in name or prefix in ("", "net_", "mean_")
                }
            scored = scored_columns(ScoredFractions, run, split, WORDS, columns)
            assert scored is not None
            for name, drawn in measured([scored], OVERALL, RESAMPLES)[0].items():
                scores |= under(split, ends(name, *interval(drawn)[1:]) if "/" not in name else {})
            # Within a fold means are constant; joined over folds they only anticorrelate with what they leave out.
            scores |= {key: 0.0 for key in scores if key.startswith(f"{split}/mean_pearson")}
        return scores

    def _score(self, predicted: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        r = pearson(predicted, targets)
        gap = float(violation(torch.from_numpy(predicted.astype(np.float64)), self.tree))
        scores = {"rmse": rmse(predicted, targets), "pearson": float(r.mean()), "violation": gap}
        for name, values in (("rmse", column_rmse(predicted, targets)), ("pearson", r)):
            scores |= {
                f"{name}/{column}": float(value) for column, value in zip(self.tree.columns, values, strict=True)
            }
        return scores
