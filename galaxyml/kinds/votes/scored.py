"""Predicted fractions beside the votes on the questions that each galaxy was asked."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from galaxyml.evaluation.correlation import Resampled, asked
from galaxyml.evaluation.scored import ScoredPredictions

MEASURES = ("pearson", "mae", "rmse")


@dataclass(frozen=True)
class ScoredVotes(ScoredPredictions):
    """Fractions of the votes of those questions that a galaxy was asked, in several surveys: its strata.

    Attributes:
        votes: Votes of each fraction's question, shape (N, K); 0 where not asked.
        common: Features that are measured in every survey of every split, of which the mean over features is taken.
        least: Galaxies that must have been asked for a feature to be measured.
    """

    votes: np.ndarray
    common: tuple[str, ...]
    least: int

    def only(self, columns: Sequence[str]) -> Self:
        places = [self.columns.index(name) for name in columns]
        common = tuple(name for name in self.common if name in columns)
        chosen = replace(super().only(columns), votes=self.votes[:, places], common=common)
        return chosen.take(np.flatnonzero(asked(chosen.target, chosen.votes).any(axis=1)))

    def alongside(self, runs: Sequence[Self]) -> Self:
        return replace(self, common=tuple(name for name in self.columns if all(name in run.common for run in runs)))

    def measure(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        names = [name for name in MEASURES if wanted is None or name in wanted]
        metrics: dict[str, np.ndarray] = {}
        surveys = {}
        for survey, rows in self._surveys():
            resampled = Resampled(
                {"": self.predicted[rows]},
                self.target[rows],
                self.votes[rows],
                np.ascontiguousarray(drawn[:, rows]),
                self.least,
            )
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
            values = np.mean([resampled.mean(over, common) for resampled in surveys.values()], axis=0)
            metrics[name] = np.sqrt(values) if name == "rmse" else values
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
        for survey in sorted(set(self.strata)):
            yield str(survey), np.flatnonzero(self.strata == survey)
