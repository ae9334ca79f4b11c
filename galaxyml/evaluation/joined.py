"""Several runs made into one: folds joined to out-of-fold predictions, models averaged, test predictions averaged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

NET, SPREAD, BETWEEN = "net", "spread", "between"  # tables of predictions that are made of nets' own


@dataclass(frozen=True)
class Said:
    """What the nets of a run say of the same pictures.

    Attributes:
        outputs: One table a net, one column an output (and `id`, where the pictures have one).
        shares: How much each net counts, summing to 1.
        folds: The fold that each net was fitted without.
        spreads: Standard deviations over the views of each picture, one table a net; none where each sees one view.
    """

    outputs: Sequence[pd.DataFrame]
    shares: Sequence[float]
    folds: Sequence[int]
    spreads: Sequence[pd.DataFrame] = field(default_factory=list)

    @classmethod
    def by(cls, outputs: Sequence[pd.DataFrame]) -> "Said":
        """What nets say that count the same, each of a fold of its own."""
        return cls(outputs, [1 / len(outputs)] * len(outputs), range(len(outputs)))

    @cached_property
    def mean(self) -> pd.DataFrame:
        """Mean over the nets."""
        return mean_table(self.outputs, self.shares)

    @property
    def spread(self) -> np.ndarray | None:
        """Standard deviation over the views of a picture, root mean square over the nets, shape (N, K)."""
        if not self.spreads:
            return None
        # In single precision, as it is kept with a run.
        return root_mean_square([_values(table) for table in self.spreads], self.shares).astype(np.float32)

    @property
    def between(self) -> np.ndarray | None:
        """Standard deviation over the folds of what their models say, shape (N, K); None for nets of one fold."""
        return between([_values(table) for table in self.outputs], self.shares, self.folds)


def join(
    groups: Sequence[Sequence[RunDir]],
    into: RunDir,
    weights: np.ndarray | None = None,
    held_out_weights: np.ndarray | None = None,
) -> None:
    """Writes the catalog and the predictions of all runs together.

    Within a group validation predictions are joined, each object predicted by the run that has not seen it; test and
    survey predictions are averaged. Of several groups, models, the mean is taken. They are what the nets said, and the
    stages follow; where nets do not speak of the same (latents), they are what the runs' own stages made of it.

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
    first, folds = _catalog(groups, into)
    into.write_catalog(first)
    made = runs[0].provenance()
    into.write_provenance(made["seed"], made["device"], made["data"], joined=runs)
    shares = [float(weights[at]) / len(group) for at, group in enumerate(groups) for _ in group]
    if len(groups) > 1:
        into.write_fitted("shares", {"nets": shares})
    for split in ("val", "test", "survey"):
        for by in _tables(runs[0], split):
            inside = (first["split"] == split).to_numpy()
            order = first.loc[inside, "id"]
            tables = [table for run in runs if (table := run.predictions(split, by=by)) is not None]
            weighed_apart = split == "val" and held_out_weights is not None
            if len(tables) == len(runs) and _alike(tables) and not weighed_apart:
                # All nets at once, as where they are asked about other pictures.
                table = _ordered(mean_table(tables, shares, squared=by == SPREAD), order)
                if by == NET and (values := between([_values(table) for table in tables], shares, folds)) is not None:
                    names = [name for name in table.columns if name != "id"]
                    apart = tables[0].assign(**dict(zip(names, values.T, strict=True)))
                    into.write_predictions(split, _ordered(apart, order), by=BETWEEN)
            else:
                parts = [_of_group(group, split, by, order) for group in groups]
                if any(part is None for part in parts):
                    continue
                each = weights if held_out_weights is None else held_out_weights[inside].T
                table = mean_table([part for part in parts if part is not None], list(each), squared=by == SPREAD)
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
    """Which tables of nets there are; the plain one where nets do not speak of the same."""
    found = [by for by in run.tables_of_predictions(split) if by.startswith(NET) or by == SPREAD]
    return found if any(by.startswith(NET) for by in found) else [""]


def _of_group(group: Sequence[RunDir], split: str, by: str, order: pd.Series) -> pd.DataFrame | None:
    """One table of what the runs of a group say, in the given order; None if they say nothing."""
    tables = [table for run in group if (table := run.predictions(split, by=by)) is not None]
    if not tables:
        return None
    return _ordered(mean_table(tables, squared=by == SPREAD) if _alike(tables) else pd.concat(tables), order)


def _alike(tables: Sequence[pd.DataFrame]) -> bool:
    """Whether all tables speak of the same objects."""
    return all(table["id"].equals(tables[0]["id"]) for table in tables)


def _ordered(table: pd.DataFrame, order: pd.Series) -> pd.DataFrame:
    return table.set_index("id").loc[order].reset_index()


def mean_table(
    tables: Sequence[pd.DataFrame], shares: Sequence[float | np.ndarray] | None = None, squared: bool = False
) -> pd.DataFrame:
    """Mean over nets of what they say of the same objects, in single precision; `id` stays where there is one.

    Args:
        tables: One a net, with equal rows.
        shares: How much each counts, summing to 1: numbers, or one for each row; None for equal shares.
        squared: Whether the root of the mean of squares is taken, as of standard deviations.
    """
    shares = [1 / len(tables)] * len(tables) if shares is None else shares
    values = [_values(table) for table in tables]
    found = root_mean_square(values, shares) if squared else _weighted(values, shares)
    columns = [name for name in tables[0].columns if name != "id"]
    return tables[0].assign(**dict(zip(columns, found.astype(np.float32).T, strict=True)))


def root_mean_square(values: Sequence[np.ndarray], shares: Sequence[float | np.ndarray]) -> np.ndarray:
    """Root of the weighted mean of squares; arrays of shape (N, K) -> (N, K)."""
    return np.sqrt(_weighted([array**2 for array in values], shares))


def between(values: Sequence[np.ndarray], shares: Sequence[float], folds: Sequence[int]) -> np.ndarray | None:
    """Standard deviation over folds of what their models say together.

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
        members = [at for at, number in enumerate(folds) if number == fold]
        total = sum(shares[at] for at in members)
        if total > 0:
            of_fold = _weighted([values[at] for at in members], [shares[at] / total for at in members])
            variance += total * (of_fold - mean) ** 2
    return np.sqrt(variance).astype(np.float32)


def _weighted(values: Sequence[np.ndarray], shares: Sequence[float | np.ndarray]) -> np.ndarray:
    """Weighted sum in double precision, one after the other, so that a row does not depend on its neighbours."""
    total = np.zeros(values[0].shape)
    for array, share in zip(values, shares, strict=True):
        total += array.astype(np.float64) * np.reshape(share, (-1, *[1] * (array.ndim - 1)))
    return total


def _values(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table.columns if name != "id"]].to_numpy(np.float64)


def spread(runs: Sequence[RunDir]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over runs of every metric that they share; the latter is 0 for one run."""
    metrics = [run.metrics() for run in runs]
    shared = [name for name in metrics[0] if all(name in other for other in metrics)]
    return {
        name: {
            "mean": float(np.mean(values := [found[name] for found in metrics])),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "runs": len(values),
        }
        for name in shared
    }
