"""What a run said of the objects of a split, beside what is known of them: the kinds that runs are of.

Which kind a run is follows from its tables, so that runs of different tasks can be judged alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from galaxyml.evaluation.correlation import LEAST, TIE, Resampled, asked, measures, resampled_sums
from galaxyml.kinds.anomalies import metrics as anomaly_metrics
from galaxyml.kinds.anomalies import scores
from galaxyml.kinds.classes import labelled
from galaxyml.kinds.classes import metrics as class_metrics
from galaxyml.kinds.numbers import metrics as number_metrics
from galaxyml.kinds.votes import answered
from galaxyml.runs.errors import UserError, diverged, shorten
from galaxyml.runs.run_dir import RunDir

LOWER = ("rmse", "nrmse", "mae", "mse", "nll", "brier", "ece")  # measures whose best value is 0
SPLITS = ("val", "test", "survey")


def lower_is_better(metric: str) -> bool:
    """Whether a metric such as `rmse` or `f1/Merging` is best at its lowest."""
    return metric.partition("/")[0] in LOWER


@dataclass(frozen=True)
class ScoredPredictions(ABC):
    """Objects of a split whose truth is known, N of them, and what one run said of them.

    Attributes:
        where: The run's folder.
        columns: What is predicted: names of K fractions, classes, or of the score.
        ids: Of the objects, as text, shape (N,).
        strata: What is resampled apart, shape (N,).
        said: Shape (N, K).
        true: Shape (N, K), or (N,) for classes and anomalies.
    """

    where: Path
    columns: tuple[str, ...]
    ids: np.ndarray
    strata: np.ndarray
    said: np.ndarray
    true: np.ndarray

    kind: ClassVar[str]
    objects: ClassVar[str] = "galaxies"
    known: ClassVar[str]  # what can be judged, after the word for objects
    column: ClassVar[str] = "column"  # what one of the columns is
    truths: ClassVar[str] = "fractions"  # what the truth consists of
    main: ClassVar[str]  # the metric that tells most

    @classmethod
    @abstractmethod
    def of(cls, run: RunDir, split: str, catalog: pd.DataFrame, least: int) -> Self | None:
        """Reads a run's tables; None if it said nothing of the split, or its truth is not known."""

    @abstractmethod
    def numbers(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The measures of resamples.

        Args:
            drawn: How often each object is drawn, shape (R, N).
            wanted: Measures that are needed, without their columns, such as `rmse`; None for all.

        Returns:
            By metric, as in `metrics.json` without the split, shape (R,) each; NaN where it is not defined.
        """

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many objects each metric of `numbers` that does not count all of them is measured on."""

    def take(self, at: np.ndarray) -> Self:
        """Some of the objects, by position."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[at] for name, value in every.items() if isinstance(value, np.ndarray)})

    def together(self, others: Sequence[Self]) -> Self:
        """These objects and those of other runs, such as the other folds, each object once.

        Raises:
            UserError: If an object is there twice.
        """
        parts = [self, *others]
        every = {field.name: [getattr(part, field.name) for part in parts] for field in fields(self)}
        arrays: dict[str, Any] = {
            name: np.concatenate(each) for name, each in every.items() if isinstance(each[0], np.ndarray)
        }
        found = replace(self, **arrays)
        if len(np.unique(found.ids)) < len(found.ids):
            raise UserError(f"{self.where} and {others[0].where} hold out the same objects.")
        return found

    def only(self, columns: Sequence[str]) -> Self:
        """Some of the columns, in this order."""
        at = [self.columns.index(name) for name in columns]
        return replace(self, columns=tuple(columns), said=self.said[:, at], true=self.true[:, at])

    def disagreement(self, other: Self) -> str | None:
        """How the truth differs from another run's of the same objects and columns, in words; None if it does not."""
        gap = self._gaps(other)
        if not gap.any():
            return None
        row, column = np.argwhere(gap)[0]
        there, here = (each._told(row, column) for each in (self, other))
        return (
            f"different {self.truths} of {gap.any(axis=1).sum():,} of {len(gap):,} {self.objects}: of {self.ids[row]}, "
            f"{self.columns[column]} is {there} there and {here} here"
        )

    def _gaps(self, other: Self) -> np.ndarray:
        """Where the truth is not another run's, bool of shape (N, K)."""
        return (np.abs(self.true - other.true) > TIE) | (np.isnan(self.true) != np.isnan(other.true))

    def _told(self, row: int, column: int) -> str:
        """One value of the truth, for people."""
        return f"{self.true[row, column]:.4f}"


@dataclass(frozen=True)
class Fractions(ScoredPredictions):
    """Fractions of all volunteers' votes, all columns known of each galaxy."""

    kind: ClassVar[str] = "vote fractions"
    known: ClassVar[str] = "with votes"
    main: ClassVar[str] = "rmse"

    @classmethod
    def of(cls, run: RunDir, split: str, catalog: pd.DataFrame, least: int) -> Self | None:
        table = run.predictions(split)
        if table is None:
            return None
        columns = [str(name) for name in table if name != "id"]
        rows = pd.Index(catalog["id"]).get_indexer(table["id"])
        true = catalog[columns].to_numpy(np.float64)[rows]
        known = ~np.isnan(true).any(axis=1)
        if not known.any():
            return None
        said = table[columns].to_numpy(np.float64)[known]
        if not np.isfinite(said).all():
            raise diverged(run.path)
        ids = table["id"].to_numpy()[known].astype(str)
        return cls(run.path, tuple(columns), ids, np.zeros(len(ids), np.int8), said, true[known])

    def numbers(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        if wanted is not None and set(wanted) == {"rmse"}:  # one number a galaxy instead of seven a column
            weights = drawn.astype(np.float64)
            squared = weights @ ((self.said - self.true) ** 2).mean(axis=1) / weights.sum(axis=1)
            return {"rmse": np.sqrt(squared)}
        found = measures(resampled_sums(self.said, self.true, np.ones_like(self.true), drawn))
        pearson = np.nan_to_num(found["pearson"])  # as `galaxyml.kinds.fractions.metrics.pearson` has it
        numbers = {"rmse": np.sqrt(found["mse"].mean(axis=1)), "pearson": pearson.mean(axis=1)}
        for name, values in (("rmse", np.sqrt(found["mse"])), ("pearson", pearson)):
            numbers |= {f"{name}/{column}": values[:, at] for at, column in enumerate(self.columns)}
        return {key: values for key, values in numbers.items() if wanted is None or key.partition("/")[0] in wanted}

    def counts(self) -> dict[str, int]:
        return {}


@dataclass(frozen=True)
class Numbers(Fractions):
    """Numbers of any unit, all known of each galaxy."""

    kind: ClassVar[str] = "numbers"
    truths: ClassVar[str] = "numbers"
    known: ClassVar[str] = "with numbers"
    main: ClassVar[str] = "r2"

    def numbers(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        found = number_metrics.resampled(self.said, self.true, drawn)
        numbers = number_metrics.over_columns(found)
        for name, values in found.items():
            if name != "nrmse":
                numbers |= {f"{name}/{column}": values[:, at] for at, column in enumerate(self.columns)}
        return {key: values for key, values in numbers.items() if wanted is None or key.partition("/")[0] in wanted}

    def _gaps(self, other: Self) -> np.ndarray:
        return np.abs(self.true - other.true) > TIE * np.maximum(np.abs(self.true), np.abs(other.true))

    def _told(self, row: int, column: int) -> str:
        return f"{self.true[row, column]:.6g}"


@dataclass(frozen=True)
class Votes(ScoredPredictions):
    """Fractions of the votes of those questions that a galaxy was asked, in several surveys.

    Attributes:
        votes: Votes of each fraction's question, shape (N, K); 0 where not asked.
        common: Features that are measured in every survey of every split, of which the mean over features is taken.
        least: Galaxies that must have been asked for a feature to be measured.
    """

    votes: np.ndarray
    common: tuple[str, ...]
    least: int

    kind: ClassVar[str] = "votes"
    truths: ClassVar[str] = "votes"
    column: ClassVar[str] = "feature"
    known: ClassVar[str] = "with votes"
    main: ClassVar[str] = "pearson"

    @classmethod
    def of(cls, run: RunDir, split: str, catalog: pd.DataFrame, least: int) -> Self | None:
        there = {name: found for name in ("val", "test") if (found := answered.judged(run, name, catalog=catalog))}
        if split not in there:
            return None
        groups = [found.of(survey) for found in there.values() for survey in found.surveys()]
        defined = [_defined(group.true, group.votes, least) for group in groups]
        common = np.logical_and.reduce([each for each in defined if each.any()] or [np.zeros(0, bool)])
        found = there[split]
        names = tuple(name for name, inside in zip(found.features, common, strict=False) if inside)
        columns, ids = tuple(found.features), found.ids.astype(str)
        return cls(run.path, columns, ids, found.survey, found.said, found.true, found.votes, names, least)

    def only(self, columns: Sequence[str]) -> Self:
        at = [self.columns.index(name) for name in columns]
        common = tuple(name for name in self.common if name in columns)
        found = replace(super().only(columns), votes=self.votes[:, at], common=common)
        return found.take(np.flatnonzero(asked(found.true, found.votes).any(axis=1)))

    def _gaps(self, other: Self) -> np.ndarray:
        return super()._gaps(other) | (self.votes != other.votes)

    def _told(self, row: int, column: int) -> str:
        return f"{self.true[row, column]:.4f} of {self.votes[row, column]:g} votes"

    def numbers(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        names = [name for name in ("pearson", "mae", "rmse") if wanted is None or name in wanted]
        numbers: dict[str, np.ndarray] = {}
        measured = {}
        for survey, rows in self._surveys():
            parts = Resampled(
                {"": self.said[rows]},
                self.true[rows],
                self.votes[rows],
                np.ascontiguousarray(drawn[:, rows]),
                self.least,
            )
            if not parts.defined.any():
                continue
            measured[survey] = parts
            for name in names:
                numbers[f"{name}/{survey}"] = parts.mean(name, parts.defined)
                for at in np.flatnonzero(parts.defined):
                    numbers[f"{name}/{survey}:{self.columns[at]}"] = parts.column(name)[:, at]
        common = np.isin(self.columns, self.common)
        common &= np.logical_and.reduce([parts.defined for parts in measured.values()] or [common])
        for name in names if measured and common.any() else ():
            over = "mse" if name == "rmse" else name
            values = np.mean([parts.mean(over, common) for parts in measured.values()], axis=0)
            numbers[name] = np.sqrt(values) if name == "rmse" else values
        return numbers

    def counts(self) -> dict[str, int]:
        found = {}
        for survey, rows in self._surveys():
            inside = asked(self.true[rows], self.votes[rows]).sum(axis=0)
            for name in ("pearson", "mae", "rmse"):
                found[f"{name}/{survey}"] = len(rows)
                found |= {f"{name}/{survey}:{feature}": int(inside[at]) for at, feature in enumerate(self.columns)}
        return found

    def _surveys(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and rows of each."""
        for survey in sorted(set(self.strata)):
            yield str(survey), np.flatnonzero(self.strata == survey)


@dataclass(frozen=True)
class Classes(ScoredPredictions):
    """Probabilities of classes that exclude each other; `true` is the class' place, 0 to K - 1."""

    kind: ClassVar[str] = "classes"
    column: ClassVar[str] = "class"
    known: ClassVar[str] = "of known class"
    main: ClassVar[str] = "macro_f1"

    @classmethod
    def of(cls, run: RunDir, split: str, catalog: pd.DataFrame, least: int) -> Self | None:
        net = run.predictions(split, by="net")
        if net is None:
            return None
        names = [str(name) for name in net if name != "id"]
        said = labelled.judged(run, split, names, catalog)
        if said is None:
            return None
        ids = catalog["id"].to_numpy()[said.rows].astype(str)
        return cls(run.path, tuple(names), ids, np.zeros(len(ids), np.int8), said.probabilities, said.labels)

    def only(self, columns: Sequence[str]) -> Self:
        if set(columns) != set(self.columns):
            raise UserError(
                f"{self.where} tells other classes apart than the others: {shorten(self.columns)}. "
                "Compare runs with the same classes."
            )
        order = np.array([self.columns.index(name) for name in columns])
        place = np.argsort(order)[self.true]
        return replace(self, columns=tuple(columns), said=self.said[:, order], true=place)

    def disagreement(self, other: Self) -> str | None:
        gap = self.true != other.true
        if not gap.any():
            return None
        row = gap.argmax()
        there, here = self.columns[self.true[row]], self.columns[other.true[row]]
        few = f"{gap.sum():,} of {len(gap):,} galaxies"
        return f"different classes of {few}: {self.ids[row]} is {there} there and {here} here"

    def numbers(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        numbers: dict[str, np.ndarray] = {}
        for name, values in class_metrics.weighted(self.true, self.said, drawn, wanted).items():
            if values.ndim == 1:
                numbers[name] = values
            else:
                numbers |= {f"{name}/{column}": values[:, at] for at, column in enumerate(self.columns)}
        return numbers

    def counts(self) -> dict[str, int]:
        support = np.bincount(self.true, minlength=len(self.columns))
        return {
            f"{name}/{column}": int(support[at])
            for name in ("precision", "recall", "f1", "auc")
            for at, column in enumerate(self.columns)
        }


@dataclass(frozen=True)
class Anomalies(ScoredPredictions):
    """Scores of objects of known and of unknown classes; `true` says whether an object is of an unknown one.

    Unknown and known objects are resampled apart (see `galaxyml.kinds.anomalies.metrics.bootstrap`).

    Attributes:
        names: True class of each object, shape (N,).
    """

    names: np.ndarray

    kind: ClassVar[str] = "anomalies"
    column: ClassVar[str] = "class"
    objects: ClassVar[str] = "objects"
    known: ClassVar[str] = "of known and of unknown classes"
    main: ClassVar[str] = "roc_auc"

    @classmethod
    def of(cls, run: RunDir, split: str, catalog: pd.DataFrame, least: int) -> Self | None:
        found = scores.scored(run, split, catalog)
        if found is None or not found.unknown.any() or found.unknown.all():
            return None
        score = found.scores["score"][:, None]
        return cls(run.path, ("score",), found.ids.astype(str), found.unknown, score, found.unknown, found.names)

    def only(self, columns: Sequence[str]) -> Self:
        return self

    def disagreement(self, other: Self) -> str | None:
        gap = (self.true != other.true) | (self.names != other.names)
        if not gap.any():
            return None
        row = gap.argmax()
        there, here = (f"{each.names[row]} ({'unknown' if each.true[row] else 'known'})" for each in (self, other))
        few = f"{gap.sum():,} of {len(gap):,} objects"
        return f"different classes of {few}: {self.ids[row]} is {there} there and {here} here"

    def numbers(self, drawn: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        names = wanted if wanted is not None else ("roc_auc", "pr_auc", *(f"purity_{k}" for k in anomaly_metrics.KS))
        ks = [int(name.removeprefix("purity_")) for name in names if name.startswith("purity_")]
        every = anomaly_metrics.weighted(self.said[:, 0], self.true, drawn, self.names, ks)
        return {key: values for key, values in every.items() if key.partition("/")[0] in names}

    def counts(self) -> dict[str, int]:
        support = pd.Series(self.names[self.true]).value_counts()
        return {f"{key}/{name}": int(count) for key in ("roc_auc", "pr_auc") for name, count in support.items()}


def load_scored(run: RunDir, split: str, least: int | None = None) -> ScoredPredictions | None:
    """What a finished run said of a split, beside the truth; None if it said nothing, or the truth is not known.

    Args:
        run: The run, or the sweep whose folds were joined.
        split: One of `SPLITS`.
        least: Galaxies that must have been asked for a feature to be measured; None for what the run was judged by.

    Raises:
        UserError: If the run is not finished, or of no kind that can be judged, or said something that is not finite.
    """
    if not run.finished and (parts := sorted(path.name for path in (run.path / "joined").glob("*") if path.is_dir())):
        raise UserError(
            f"{run.path} holds several combinations ({shorten(parts)}): name one or more of them, such as "
            f"{run.path / 'joined' / parts[0]}."
        )
    run.metrics()  # only of a finished run
    catalog = run.catalog()
    kind = _kind(run, catalog)
    if least is None:
        least = int(run.config.get("least") or LEAST) if run.started else LEAST
    return kind.of(run, split, catalog, least)


def aligned(runs: Sequence[ScoredPredictions], split: str) -> list[ScoredPredictions]:
    """The objects and columns that all predicted, in the same order.

    Args:
        runs: Of one split.
        split: Its name, for messages.

    Raises:
        UserError: If the runs are of different kinds, or share no object or column, or differ in the truth.
    """
    first = runs[0]
    for other in runs:
        if type(other) is not type(first):
            raise UserError(
                f"{first.where} is a run on {first.kind}, {other.where} one on {other.kind}: compare runs of one kind."
            )
    columns = [name for name in first.columns if all(name in other.columns for other in runs)]
    if not columns:
        other = next(each for each in runs if not set(each.columns) & set(first.columns))
        advice = "Train them with the same features=…." if isinstance(first, Votes) else "Compare runs of one question."
        raise UserError(
            f"{first.where} and {other.where} share no {first.column}: {shorten(first.columns)} there, "
            f"{shorten(other.columns)} here. {advice}"
        )
    found = [run if run.columns == tuple(columns) else run.only(columns) for run in runs]
    ids = found[0].ids
    for other in found[1:]:
        ids = np.intersect1d(ids, other.ids)
        if not len(ids):
            raise UserError(
                f"{first.where} and {other.where} predicted no {split} {_one(first)} alike: "
                f"{shorten(list(found[0].ids), shown=2)} there, {shorten(list(other.ids), shown=2)} here. "
                "Compare runs that were tested on the same survey and split."
            )
    ids = np.sort(ids)
    found = [run.take(pd.Index(run.ids).get_indexer(ids)) for run in found]
    common = [name for name in columns if all(name in run.common for run in found if isinstance(run, Votes))]
    found = [replace(run, common=tuple(common)) if isinstance(run, Votes) else run for run in found]
    for other in found[1:]:
        if differs := found[0].disagreement(other):
            raise UserError(
                f"{first.where} and {other.where} know {differs}. Compare runs that were made from the same tables."
            )
    return found


def _one(evidence: ScoredPredictions) -> str:
    return "galaxy" if evidence.objects == "galaxies" else "object"


def holds_numbers(run: RunDir) -> bool:
    """Whether a run predicts numbers, each in a unit of its own."""
    return run.started and str(OmegaConf.select(run.config, "module.metrics._target_")).endswith("NumberMetrics")


def _kind(run: RunDir, catalog: pd.DataFrame) -> type[ScoredPredictions]:
    """Which kind a run is, by the columns of its tables."""
    columns = set(map(str, catalog))
    if any(f"{name}{answered.VOTES}" in columns for name in columns):
        return Votes
    if {"unknown", "known", "name"} <= columns:
        return Anomalies
    if "label" in columns:
        return Classes
    said = next((table for split in SPLITS if (table := run.predictions(split)) is not None), None)
    if said is not None and set(map(str, said)) <= columns and len(said.columns) > 1:
        return Numbers if holds_numbers(run) else Fractions
    raise UserError(
        f"{run.path} is not a run on votes, classes, numbers or anomalies: its catalog has neither votes nor "
        "fractions, labels, numbers or unknown classes that predictions are judged by."
    )


def _defined(true: np.ndarray, counted: np.ndarray, least: int) -> np.ndarray:
    """Which features can be measured, bool of shape (K,)."""
    return Resampled({}, true, counted, 0, least).defined
