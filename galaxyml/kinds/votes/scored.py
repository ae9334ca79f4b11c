"""Predicted fractions beside the votes on the questions that each galaxy was asked."""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.evaluation.correlation import LEAST, Resampled, asked
from galaxyml.evaluation.scored import ScoredPredictions
from galaxyml.evaluation.words import Words
from galaxyml.runs.errors import UsageError, UserError, did_you_mean, diverged, shorten
from galaxyml.runs.run_dir import RunDir

VOTES = "_votes"  # after a feature, the column of its question's votes
MEASURES = ("pearson", "mae", "rmse")

WORDS = Words(
    targets="votes",
    main="pearson",
    headline=("pearson", "mae", "r2"),
    known="with votes",
    column="feature",
    stratum="survey",
    labels={"pearson": "Pearson", "mae": "MAE", "rmse": "RMSE", "r2": "R2"},
    by_column={
        "pearson": "Pearson",
        "pearson_drop": "lost",
        "r2": "R2",
        "mae": "MAE",
        "rmse": "RMSE",
        "published_pearson": "flattened r, unasked as 0",
        "published_constant": "a constant's",
        "fraction_ece": "fractions' ECE",
        "argmax_accuracy": "top answer right",
        "argmax_ece": "its ECE",
    },
    variants={"mean_": "baseline (column mean)", "untrained_": "untrained", "head_": "head alone"},
    baselines=("mean_",),
    counts=("common_features",),
    notes={
        "untrained_": "Untrained: the net before its training.",
        "head_": "Head alone: the net when its head was trained and the rest was not yet.",
        "common_features": "Common features: those that enough galaxies of every survey were asked for, over which "
        "the other rows are means. Joined folds may have fewer than one fold, as surveys count that have too few "
        "galaxies in it.",
    },
)


@dataclass(frozen=True)
class ScoredVotes(ScoredPredictions):
    """Fractions of the votes of those questions that a galaxy was asked, in several surveys: its strata.

    Predictions are NaN where the galaxy's campaign lacks the answer, and targets where the question was not asked.

    Attributes:
        votes: Votes of each fraction's question, shape (N, K); 0 where not asked.
        rows: The galaxies' rows in the catalog, shape (N,).
        common: Features that are measured in every survey of every split, of which the mean over features is taken.
        least: Galaxies that must have been asked for a feature to be measured.
    """

    votes: np.ndarray
    rows: np.ndarray
    common: tuple[str, ...] = ()
    least: int = LEAST

    @classmethod
    def load(cls, run: RunDir, split: str, catalog: pd.DataFrame, by: str = "") -> Self | None:
        """The predictions of a split beside the votes; None if there are none, or nothing was asked.

        Args:
            run: Whose predictions.
            split: `val` or `test`.
            catalog: The run's.
            by: Whose, as for `RunDir.predictions`.

        Raises:
            UserError: If a feature or a galaxy is not there, or a prediction is not finite.
        """
        table = run.predictions(split, by)
        if table is None:
            return None
        names = [str(name) for name in catalog if f"{name}{VOTES}" in catalog]
        if not names:
            raise UsageError(f"{run.path} is not a run on votes: its catalog has no column that ends in {VOTES}.")
        if missing := [name for name in names if name not in table]:
            raise UserError(f"{run.path} predicts no '{missing[0]}'. {did_you_mean(missing[0], map(str, table))}")
        rows = pd.Index(catalog["id"]).get_indexer(table["id"])
        if strange := list(table["id"][rows < 0]):
            raise UserError(
                f"{run.path}: the catalog lacks galaxies that were predicted: {shorten(strange)}. Train it again."
            )
        target = catalog[names].to_numpy(np.float64)[rows]
        votes = np.nan_to_num(catalog[[f"{name}{VOTES}" for name in names]].to_numpy(np.float64)[rows])
        predicted = table[names].to_numpy(np.float64)
        counted = asked(target, votes)
        net = run.predictions(split, f"net_{by}".rstrip("_"))
        # Shares are made of anything, equal ones of NaN: what the model itself gave tells.
        outputs = predicted[counted] if net is None else net.drop(columns="id").to_numpy(np.float64)
        if not (np.isfinite(predicted[counted]).all() and np.isfinite(outputs).all()):
            raise diverged(run.path)
        if not counted.any():
            return None
        galaxies = cls(
            path=run.path,
            words=WORDS,
            columns=tuple(names),
            ids=table["id"].to_numpy(str),
            strata=catalog["survey"].to_numpy(str)[rows],
            predicted=predicted,
            target=target,
            votes=votes,
            rows=rows,
        )
        return galaxies.take(np.flatnonzero(counted.any(axis=1)))

    def surveys(self) -> list[str]:
        """Names of the surveys, in alphabetical order."""
        return sorted(map(str, set(self.strata)))

    def of(self, survey: str) -> Self:
        """The galaxies of one survey."""
        return self.take(np.flatnonzero(self.strata == survey))

    def resampled(self, predicted: Mapping[str, np.ndarray], resamples: int, least: int = LEAST) -> Resampled:
        """Outputs measured on these galaxies of one survey, whose resamples depend on its name alone."""
        seed = zlib.crc32(f"0 {self.strata[0]}".encode())
        return Resampled(predicted, self.target, self.votes, resamples, least, seed)

    def only(self, columns: Sequence[str]) -> Self:
        order = [self.columns.index(name) for name in columns]
        common = tuple(name for name in self.common if name in columns)
        chosen = replace(super().only(columns), votes=self.votes[:, order], common=common)
        return chosen.take(np.flatnonzero(asked(chosen.target, chosen.votes).any(axis=1)))

    def alongside(self, runs: Sequence[Self]) -> Self:
        return replace(self, common=tuple(name for name in self.columns if all(name in run.common for run in runs)))

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        names = [name for name in MEASURES if wanted is None or name in wanted]
        metrics: dict[str, np.ndarray] = {}
        surveys = {}
        for survey, rows in self._surveys():
            values = {"": self.predicted[rows]}, self.target[rows], self.votes[rows]
            resampled = Resampled(*values, np.ascontiguousarray(drawn[:, rows]), self.least)
            if not resampled.defined.any():
                continue
            surveys[survey] = resampled
            for name in names:
                metrics[f"{name}/{survey}"] = resampled.mean(name, resampled.defined)
                for k in np.flatnonzero(resampled.defined):
                    metrics[f"{name}/{survey}:{self.columns[k]}"] = resampled.column(name)[:, k]
        common = np.isin(self.columns, self.common)
        common &= np.logical_and.reduce([resampled.defined for resampled in surveys.values()] or [common])
        for name in names if surveys and common.any() else ():
            over = "mse" if name == "rmse" else name
            mean = np.mean([resampled.mean(over, common) for resampled in surveys.values()], axis=0)
            metrics[name] = np.sqrt(mean) if name == "rmse" else mean
        return metrics

    def counts(self) -> dict[str, int]:
        counts = {}
        for survey, rows in self._surveys():
            inside = asked(self.target[rows], self.votes[rows]).sum(axis=0)
            for name in MEASURES:
                counts[f"{name}/{survey}"] = len(rows)
                counts |= {f"{name}/{survey}:{feature}": int(inside[k]) for k, feature in enumerate(self.columns)}
        return counts

    def _gaps(self, other: Self) -> np.ndarray:
        return super()._gaps(other) | (self.votes != other.votes)

    def _shown(self, row: int, column: int) -> str:
        return f"{self.target[row, column]:.4f} of {self.votes[row, column]:g} votes"

    def _surveys(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and rows of each."""
        for survey in self.surveys():
            yield survey, np.flatnonzero(self.strata == survey)
