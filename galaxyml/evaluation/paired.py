"""Whether one model is better than another, on the same objects: paired bootstrap (Efron & Tibshirani 1993, ch. 13).

All are measured on the same resamples of the objects that all predicted, so that what is hard for all does not count.
An interval says how far a difference would move with other objects of the same kind; and where a model was trained with
several seeds also with other seeds. With one seed nothing is known of that: a difference that is real on these objects
may be gone after another training.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from galaxyml.evaluation.bootstrap import interval, stratified
from galaxyml.evaluation.scored import ScoredPredictions, aligned, lower_is_better
from galaxyml.runs.errors import UserError, shorten


@dataclass(frozen=True)
class Difference:
    """A metric of one model less that of another.

    Attributes:
        value: Of the sample.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: How often chance alone would give a difference as far from 0, in (0, 1]: twice the share of resamples on the
            smaller side of 0, those at 0 counting half, and never less than two of the resamples (see `least_p`).
    """

    value: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> Self:
        """The second less the first, of the sample and its resamples, each of shape (1 + R,)."""
        gaps = second - first
        value, low, high = interval(gaps)
        drawn = gaps[1:][~np.isnan(gaps[1:])]
        if not len(drawn) or np.isnan(value):
            return cls(value, low, high, np.nan)
        below = (drawn < 0).sum() + (drawn == 0).sum() / 2
        return cls(value, low, high, min(2 * (min(below, len(drawn) - below) + 1) / (len(drawn) + 1), 1.0))

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def least_p(resamples: int) -> float:
    """The lowest p that a number of resamples can tell; it says that p is lower than that."""
    return 2 / (resamples + 1)


@dataclass(frozen=True)
class Ranked:
    """One model of a ranking.

    Attributes:
        name: What was swept besides fold and seed.
        seeds: How many trainings its numbers are the mean of.
        value: The metric, with the ends of its 95 % interval.
        low: Lower end.
        high: Upper end.
        behind: What it has more than the first model; None for that one.
        first: In which share of the resamples it is the best of all, in [0, 1].
    """

    name: str
    seeds: int
    value: float
    low: float
    high: float
    behind: Difference | None
    first: float


@dataclass(frozen=True)
class Ranking:
    """Models, the best first.

    Attributes:
        metric: By which, without its split.
        objects: How many all of them predicted, with every seed.
        called: What these are, such as `galaxies`.
        predicted: How many the model predicted that predicted most.
        seeds: Those that all models were trained with.
        left_out: Seeds that only some were trained with.
        rows: One a model.
    """

    metric: str
    objects: int
    called: str
    predicted: int
    seeds: list[int]
    left_out: list[int]
    rows: list[Ranked]


def measured(
    runs: Sequence[ScoredPredictions],
    wanted: Collection[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, np.ndarray]]:
    """The numbers of runs, and of resamples that are the same for all.

    Objects are known by their id, so that runs need not predict the same: what two have in common is drawn alike.

    Args:
        runs: Of one kind; the truth of what they have in common is the same.
        wanted: As for `ScoredPredictions.measure`.
        resamples: R.
        seed: Of the draws.

    Returns:
        For each run by metric, shape (1 + R,) each; the sample comes first.
    """
    ids, first = np.unique(np.concatenate([run.ids for run in runs]), return_index=True)
    strata = np.concatenate([run.strata for run in runs])[first]
    columns = [np.searchsorted(ids, run.ids) for run in runs]
    batches: list[list[dict[str, np.ndarray]]] = [[] for _ in runs]
    for drawn in stratified(strata, resamples, seed):
        for run, own, metrics in zip(runs, columns, batches, strict=True):
            metrics.append(run.measure(drawn if np.array_equal(own, np.arange(len(ids))) else drawn[:, own], wanted))
    return [{name: np.concatenate([batch[name] for batch in own]) for name in own[0]} for own in batches]


def rank(
    models: Mapping[str, Mapping[int, ScoredPredictions]],
    metric: str,
    split: str,
    order: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Ranking:
    """Ranks models, each against the first.

    A model's value is the mean over its seeds, of what each scores by itself. Seeds that only some models have are
    left out; with a seed all models are measured on the objects that all predicted with it. Where there are n seeds,
    each resample draws objects and n - 1 of the seeds, with replacement and the same for all models: by one less than
    there are, the spread comes out right for few of them (Rao & Wu 1988, doi:10.1080/01621459.1988.10478591).

    Args:
        models: By name and seed, their predictions of one split.
        metric: Without its split, such as `rmse`.
        split: Its name, for messages.
        order: Names, the first one first; None for the order of the metric.
        resamples: How many.
        seed: Of the draws.

    Raises:
        UserError: If the models cannot be compared (see `aligned`), or have no seed in common.
    """
    names = list(models)
    trained = sorted({number for seeds in models.values() for number in seeds})
    shared = [number for number in trained if all(number in seeds for seeds in models.values())]
    if not shared:
        raise UserError(
            f"The combinations were not trained with the same seeds ({shorten(trained)}): train all with one."
        )
    runs = [run for number in shared for run in aligned([models[name][number] for name in names], split)]
    if len({run.columns for run in runs}) > 1:  # seeds whose features differ
        raise UserError(f"The seeds {shorten(shared)} predicted other columns.")
    metrics = measured(runs, [metric.partition("/")[0]], resamples, seed)
    if any(metric not in numbers for numbers in metrics):
        raise UserError(f"No {split}/{metric} can be measured on the {runs[0].words.noun} that all predicted.")
    values = np.array([numbers[metric] for numbers in metrics]).reshape(len(shared), len(names), -1)
    weights = np.random.default_rng(seed).multinomial(
        max(len(shared) - 1, 1), [1 / len(shared)] * len(shared), values.shape[-1]
    )
    weights = weights / weights.sum(axis=1, keepdims=True)
    weights[0] = 1 / len(shared)
    over_seeds = np.einsum("snr,rs->nr", values, weights)  # models, 1 + resamples
    signed = -over_seeds if lower_is_better(metric) else over_seeds
    if order is None:
        ranked = np.argsort(-signed[:, 0], kind="stable")
    else:
        ranked = np.array([names.index(name) for name in order])
    best = signed[:, 1:] == signed[:, 1:].max(axis=0)
    firsts = (best / np.maximum(best.sum(axis=0), 1)).mean(axis=1)
    rows = [
        Ranked(
            names[model],
            len(shared),
            *interval(over_seeds[model]),
            Difference.of(over_seeds[ranked[0]], over_seeds[model]) if model != ranked[0] else None,
            float(firsts[model]),
        )
        for model in ranked
    ]
    return Ranking(
        metric,
        len(np.unique(np.concatenate([run.ids for run in runs]))),
        runs[0].words.noun,
        max(len(run.ids) for seeds in models.values() for run in seeds.values()),
        shared,
        [number for number in trained if number not in shared],
        rows,
    )
