"""Several runs made into one: folds joined to out-of-fold predictions, models averaged, test predictions averaged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

NET, SPREAD, BETWEEN = "net", "spread", "between"  # tables of predictions that are made of nets' own


@dataclass(frozen=True)
class NetOutputs:
    """Outputs of the nets of a run for the same objects.

    Attributes:
        outputs: One table a net, one column an output (and `id`, where the objects have one).
        shares: How much each net counts, summing to 1.
        folds: The fold that each net was fitted without.
        spreads: Standard deviations over the views of each image, one table a net; none where each sees one view.
    """

    outputs: Sequence[pd.DataFrame]
    shares: Sequence[float]
    folds: Sequence[int]
    spreads: Sequence[pd.DataFrame] = field(default_factory=list)

    @classmethod
    def equal(cls, outputs: Sequence[pd.DataFrame]) -> Self:
        """Outputs of nets that count the same, each of a fold of its own."""
        return cls(outputs, [1 / len(outputs)] * len(outputs), range(len(outputs)))

    @cached_property
    def mean(self) -> pd.DataFrame:
        """Mean over the nets."""
        return mean_table(self.outputs, self.shares)

    @property
    def spread(self) -> np.ndarray | None:
        """Standard deviation over the views of an image, root mean square over the nets, shape (N, K)."""
        if not self.spreads:
            return None
        # In single precision, as it is kept with a run.
        return root_mean_square([_values(table) for table in self.spreads], self.shares).astype(np.float32)

    @property
    def between(self) -> np.ndarray | None:
        """Standard deviation over the folds of their models' mean, shape (N, K); None for nets of one fold."""
        return between([_values(table) for table in self.outputs], self.shares, self.folds)


def join(
    groups: Sequence[Sequence[RunDir]],
    into: RunDir,
    weights: np.ndarray | None = None,
    held_out_weights: np.ndarray | None = None,
) -> None:
    """Writes the catalog and the predictions of all runs together.

    Within a group validation predictions are joined, each object predicted by the run that has not seen it; test and
    survey predictions are averaged. Of several groups, models, the mean is taken. They are the nets' outputs, and the
    stages follow; where outputs of nets cannot be averaged (latents), they are what the runs' own stages made of them.

    Args:
        groups: For each model finished runs that differ in their fold alone.
        into: Where the joined files go.
        weights: How much each model counts, summing to 1, shape (G,); None for equal weights.
        held_out_weights: The same for validation objects, for each row of the catalog, shape (N, G).

    Raises:
        UserError: If the runs hold different objects or folds, or hold an object out twice.
    """
    runs = [run for group in groups for run in group]
    weights = np.full(len(groups), 1 / len(groups)) if weights is None else weights
    catalog, folds = _catalog(groups, into)
    into.write_catalog(catalog)
    provenance = runs[0].provenance()
    into.write_provenance(provenance["seed"], provenance["device"], provenance["data"], joined=runs)
    shares = [float(weight) / len(group) for weight, group in zip(weights, groups, strict=True) for _ in group]
    if len(groups) > 1:
        into.write_fitted("shares", {"nets": shares})
    for split in ("val", "test", "survey"):
        inside = (catalog["split"] == split).to_numpy()
        ids = catalog.loc[inside, "id"]
        weighed_apart = split == "val" and held_out_weights is not None
        for by in _tables(runs[0], split):
            by_group = [_predictions(group, split, by) for group in groups]
            tables = [table for own in by_group for table in own]
            if len(tables) == len(runs) and _same_objects(tables) and not weighed_apart:
                # All nets at once, as where they predict other images.
                table = _ordered(mean_table(tables, shares, squared=by == SPREAD), ids)
                if by == NET and (values := between([_values(table) for table in tables], shares, folds)) is not None:
                    into.write_predictions(split, _ordered(_with_values(tables[0], values), ids), by=BETWEEN)
            else:
                if not all(by_group):
                    continue
                means = [
                    _ordered(mean_table(own, squared=by == SPREAD) if _same_objects(own) else pd.concat(own), ids)
                    for own in by_group
                ]
                own_weights = weights if held_out_weights is None else held_out_weights[inside].T
                table = mean_table(means, list(own_weights), squared=by == SPREAD)
            into.write_predictions(split, table, by=by)
            if by == NET:
                into.write_predictions(split, table)


def _catalog(groups: Sequence[Sequence[RunDir]], into: RunDir) -> tuple[pd.DataFrame, list[int]]:
    """The catalog of all runs, in which an object is `val` that some run holds out; and the fold that each held out."""
    first = groups[0][0].catalog()
    held_out, folds = np.zeros(len(first), bool), []
    for group in groups:
        counts = np.zeros(len(first), int)
        for run in group:
            catalog = run.catalog()
            if not (catalog["id"].equals(first["id"]) and catalog["fold"].equals(first["fold"])):
                raise UserError(
                    f"{run.path} has other objects or other folds than {groups[0][0].path}; they cannot be joined."
                )
            inside = (catalog["split"] == "val").to_numpy()
            folds.append(int(first["fold"].to_numpy()[inside.argmax()]))
            counts += inside
        if (counts > 1).any():
            raise UserError(f"{into.path}: two runs hold out the same objects; a sweep joins each fold once.")
        held_out |= counts > 0
    unseen = first["split"].where(~first["split"].isin(["train", "val"]), "train")
    return first.assign(split=np.where(held_out, "val", unseen)), folds


def _tables(run: RunDir, split: str) -> list[str]:
    """Tables of nets' outputs that there are; the plain one where outputs of nets cannot be averaged."""
    tables = [by for by in run.tables_of_predictions(split) if by.startswith(NET) or by == SPREAD]
    return tables if any(by.startswith(NET) for by in tables) else [""]


def _predictions(runs: Sequence[RunDir], split: str, by: str) -> list[pd.DataFrame]:
    return [table for run in runs if (table := run.predictions(split, by=by)) is not None]


def _same_objects(tables: Sequence[pd.DataFrame]) -> bool:
    return all(table["id"].equals(tables[0]["id"]) for table in tables)


def _ordered(table: pd.DataFrame, ids: pd.Series) -> pd.DataFrame:
    return table.set_index("id").loc[ids].reset_index()


def mean_table(
    tables: Sequence[pd.DataFrame], shares: Sequence[float | np.ndarray] | None = None, squared: bool = False
) -> pd.DataFrame:
    """Mean of nets' outputs for the same objects, in single precision; `id` stays where there is one.

    Args:
        tables: One a net, with equal rows.
        shares: How much each counts, summing to 1: numbers, or one for each row; None for equal shares.
        squared: Whether the root of the mean of squares is taken, as of standard deviations.
    """
    shares = [1 / len(tables)] * len(tables) if shares is None else shares
    values = [_values(table) for table in tables]
    mean = root_mean_square(values, shares) if squared else _weighted(values, shares)
    return _with_values(tables[0], mean.astype(np.float32))


def root_mean_square(values: Sequence[np.ndarray], shares: Sequence[float | np.ndarray]) -> np.ndarray:
    """Root of the weighted mean of squares; arrays of shape (N, K) -> (N, K)."""
    return np.sqrt(_weighted([array**2 for array in values], shares))


def between(values: Sequence[np.ndarray], shares: Sequence[float], folds: Sequence[int]) -> np.ndarray | None:
    """Standard deviation over folds of the mean of their models' outputs.

    Args:
        values: Of each net, shape (N, K).
        shares: How much each net counts, summing to 1.
        folds: The fold that each net was fitted without.

    Returns:
        Shape (N, K); None if all are of one fold.
    """
    if len(set(folds)) < 2:
        return None
    mean = _weighted(values, shares)
    variance = np.zeros_like(mean)
    for fold in sorted(set(folds)):
        nets = [net for net, number in enumerate(folds) if number == fold]
        total = sum(shares[net] for net in nets)
        if total > 0:
            of_fold = _weighted([values[net] for net in nets], [shares[net] / total for net in nets])
            variance += total * (of_fold - mean) ** 2
    return np.sqrt(variance).astype(np.float32)


def _weighted(values: Sequence[np.ndarray], shares: Sequence[float | np.ndarray]) -> np.ndarray:
    """Weighted sum in double precision, one after the other, so that a row does not depend on its neighbours."""
    total = np.zeros(values[0].shape)
    for array, share in zip(values, shares, strict=True):
        total += array.astype(np.float64) * np.reshape(share, (-1, *[1] * (array.ndim - 1)))
    return total


def _values(table: pd.DataFrame) -> np.ndarray:
    return table.drop(columns="id", errors="ignore").to_numpy(np.float64)


def _with_values(table: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    """A table with other values, shape (N, K), in its columns besides `id`."""
    return table.assign(**dict(zip((name for name in table.columns if name != "id"), values.T, strict=True)))


def spread(runs: Sequence[RunDir]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over runs of every number that they share; the latter is 0 for one run."""
    metrics = [run.metrics() for run in runs]
    numbers = [name for name, value in metrics[0].items() if isinstance(value, int | float)]
    shared = [name for name in numbers if all(name in other for other in metrics)]
    return {
        name: {
            "mean": float(np.mean(values := [own[name] for own in metrics])),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "runs": len(values),
        }
        for name in shared
    }
