"""Gives every predicted fraction or number the intervals that hold the truth in 50, 80 and 95 % of cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from galaxyml.evaluation.conformal import LEVELS, Intervals, covered, shrinkage, widths
from galaxyml.evaluation.joined import BETWEEN, NET, SPREAD, NetOutputs
from galaxyml.evaluation.plots import interval_figure
from galaxyml.runs.errors import UserError, diverged
from galaxyml.runs.run_dir import NAMED, RunDir

LEARNT = "intervals"
CURVE = np.append(np.arange(5, 100, 5), 99) / 100  # more levels, at which the figure tells what is covered
EVERY = np.concatenate([LEVELS, CURVE])
TOLD = slice(0, len(LEVELS))


@dataclass(frozen=True)
class Predicted:
    """What is said of the N galaxies of a split, and what is known of them.

    Attributes:
        ids: Shape (N,).
        rows: Their rows in the catalog, shape (N,).
        predicted: Fractions as the stages before have them, shape (N, K).
        net: What the nets themselves said, shape (N, K).
        spread: Standard deviations over the views of a picture, shape (N, K); 0 where there is one.
        between: Standard deviations over the nets of the folds, shape (N, K); None where one net speaks.
        target: Shape (N, K); NaN where it is not known.
    """

    ids: pd.Series
    rows: np.ndarray
    predicted: np.ndarray
    net: np.ndarray
    spread: np.ndarray
    between: np.ndarray | None
    target: np.ndarray


@dataclass(frozen=True)
class Calibrated:
    """Galaxies with the intervals that were fitted for them.

    Attributes:
        galaxies: N of them.
        fits: Intervals at the levels of `EVERY`.
        fit_of: Which of these each galaxy has, shape (N,).
        spread: As the intervals take it, shape (N, K).
        shrink: Factor on the widths, one for all or of shape (K,).
    """

    galaxies: Predicted
    fits: Sequence[Intervals]
    fit_of: np.ndarray
    spread: np.ndarray
    shrink: float | np.ndarray = 1.0

    def ends(self, levels: slice) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends at some of the levels, shape (L, N, K) each."""
        low, high = np.empty((2, len(EVERY[levels]), *self.spread.shape))
        for number, fit in enumerate(self.fits):
            inside = self.fit_of == number
            predicted, spread = self.galaxies.predicted[inside], self.spread[inside]
            low[:, inside], high[:, inside] = fit.at(levels)(predicted, spread, self.shrink)
        return low, high


class PredictIntervals:
    """Conformal intervals of the fractions that the stages before have made, fitted on the validation split.

    No galaxy calibrates its own intervals: those of a validation galaxy are fitted on the other folds, of a single fold
    on its other half. Those of test galaxies and of new pictures are fitted on all validation galaxies.

    Of test galaxies the nets of all folds say the mean, which errs less than each of them; but residuals are known of
    single nets. So widths are shrunk by what the nets' disagreement on test galaxies tells (`intervals.shrinkage`), and
    where they disagree more than is usual, the surplus counts as disagreement between the views of a picture does:
    u^2 = spread^2 + (between^2 - its mean over the test galaxies, at least 0). What is less than usual counts for
    nothing, as galaxies that are easy would lose what their own views tell. Where there are no test galaxies both are
    left out, and intervals are those of a single net: rather too wide.

    Args:
        columns: The fractions, or numbers.
        bounded: Whether they are fractions in [0, 1]; numbers of any size otherwise, each in a unit of its own.
    """

    def __init__(self, columns: Sequence[str], bounded: bool = True) -> None:
        self.columns = list(columns)
        self.bounded = bounded

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the intervals of every split as the predictions by `intervals`, and a figure.

        Returns:
            For each split and level the mean width, `<split>/width_95`, and where the truth is known the share that is
            covered, `<split>/coverage_95` over all columns and `<split>/coverage_95/<column>`. Numbers have widths by
            column, where they are finite.

        Raises:
            UserError: If a prediction is not finite.
        """
        catalog = run.catalog()
        val, test = self._predicted(run, "val", catalog), self._predicted(run, "test", catalog)
        if val is None:
            return {}
        calibrated = {"val": _cross_fitted(val, catalog["fold"].to_numpy()[val.rows], self.bounded)}
        fit = Intervals.fit(val.predicted, val.spread, val.target, EVERY, self.bounded)
        learnt = fit.at(TOLD).arrays()
        if test is not None:
            if test.between is not None:
                learnt["usual"] = np.square(test.between).mean(axis=0)
                learnt["shrink"] = shrinkage(test.between, val.target - val.net)
            spread, shrink = _of_mean(test.spread, test.between, learnt)
            calibrated["test"] = Calibrated(test, [fit], np.zeros(len(test.ids), int), spread, shrink)
        run.write_arrays(LEARNT, learnt)
        found: dict[str, float] = {}
        for split, each in calibrated.items():
            low, high = each.ends(TOLD)
            table = self._table(low, high)
            table.insert(0, "id", each.galaxies.ids.to_numpy())
            run.write_predictions(split, table, by=LEARNT)
            found |= self._measured(split, low, high, each.galaxies.target)
        for split in ("test", "val"):
            if f"{split}/coverage_95" in found:
                run.write_figure(
                    "6_intervals",
                    self._figure(calibrated[split], split),
                    f"Intervals of {NAMED[split]} galaxies: how often they hold the truth, how wide they are, and what "
                    "they hold at any level asked. Calibrated intervals lie on the dashed lines.",
                )
                break
        return found

    def combine(self, run: RunDir, said: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Adds the intervals to what the stages before made of the same pictures.

        Args:
            run: The run, or the sweep.
            said: What its nets said.
            table: With the fractions.

        Returns:
            The table, and behind it `<column>_low50`, `<column>_high50` and so on.

        Raises:
            UserError: If the run has no intervals.
        """
        learnt = run.arrays(LEARNT)
        if learnt is None:
            raise UserError(
                f"{run.path} has no fitted/{LEARNT}.npz: only a part of its folder was copied. Copy all of fitted/."
            )
        names = [name for name in said.mean.columns if name != "id"]
        order = [names.index(column) for column in self.columns]
        fractions = table[self.columns].to_numpy(np.float64)
        over_views = np.zeros(fractions.shape) if said.spread is None else said.spread[:, order]
        over_nets = None if said.between is None else said.between[:, order]
        ends = Intervals.of_arrays(learnt)(fractions, *_of_mean(over_views, over_nets, learnt))
        return pd.concat([table, self._table(*ends).set_axis(table.index)], axis=1)

    def _predicted(self, run: RunDir, split: str, catalog: pd.DataFrame) -> Predicted | None:
        table = run.predictions(split)
        if table is None:
            return None

        def values(by: str) -> np.ndarray | None:
            """Another table of the same galaxies, in the same order."""
            other = run.predictions(split, by=by)
            return None if other is None else other.set_index("id").loc[table["id"], self.columns].to_numpy(np.float64)

        predicted, net, spread = table[self.columns].to_numpy(np.float64), values(NET), values(SPREAD)
        if not np.isfinite(predicted).all():
            raise diverged(run.path)
        rows = pd.Index(catalog["id"]).get_indexer(table["id"])
        return Predicted(
            ids=table["id"],
            rows=rows,
            predicted=predicted,
            net=predicted if net is None else net,
            spread=np.zeros(predicted.shape) if spread is None else spread,
            between=values(BETWEEN),
            target=catalog[self.columns].to_numpy(np.float64)[rows],
        )

    def _table(self, low: np.ndarray, high: np.ndarray) -> pd.DataFrame:
        """One column an end, in single precision, from ends of shape (L, N, K)."""
        ends = {
            f"{column}_{end}{_percent(level)}": values[number, :, k].astype(np.float32)
            for k, column in enumerate(self.columns)
            for number, level in enumerate(LEVELS)
            for end, values in (("low", low), ("high", high))
        }
        return pd.DataFrame(ends)

    def _measured(self, split: str, low: np.ndarray, high: np.ndarray, target: np.ndarray) -> dict[str, float]:
        known = (~np.isnan(target)).sum(axis=0)
        shares, wide = covered(low, high, target), widths(low, high)
        found: dict[str, float] = {}
        for number, level in enumerate(LEVELS):
            if known.any():
                found[f"{split}/coverage_{_percent(level)}"] = _over_columns(shares[number], target)
            if self.bounded:
                found[f"{split}/width_{_percent(level)}"] = float(wide[number].mean())
            else:
                each = zip(self.columns, wide[number], strict=True)
                found |= {f"{split}/width_{_percent(level)}/{column}": width for column, width in each}
        found = {key: float(value) for key, value in found.items() if np.isfinite(value)}
        return found | {
            f"{split}/coverage_{_percent(level)}/{column}": float(shares[number, k])
            for number, level in enumerate(LEVELS)
            for k, column in enumerate(self.columns)
            if known[k]
        }

    def _figure(self, calibrated: Calibrated, split: str) -> Figure:
        target, predicted = calibrated.galaxies.target, calibrated.galaxies.predicted
        judged = {"all fractions" if self.bounded else "all numbers": target}
        if self.bounded:
            judged["predicted within (0, 1)"] = np.where((predicted > 0) & (predicted < 1), target, np.nan)
        curves: dict[str, list[float]] = {name: [] for name in judged}
        for at in range(len(LEVELS), len(EVERY)):
            ends = calibrated.ends(slice(at, at + 1))
            for name, values in judged.items():
                curves[name].append(_over_columns(covered(*ends, values)[0], values))
        ends = calibrated.ends(TOLD)
        wide = widths(*ends)
        if not self.bounded:
            deviation = np.nanstd(target, axis=0)
            wide = np.where(np.isfinite(wide), wide, np.nan) / np.where(deviation > 0, deviation, 1)
        return interval_figure(
            names=self.columns,
            levels=np.array(LEVELS),
            shares=covered(*ends, target),
            wide=wide,
            asked=CURVE,
            curves={name: np.array(shares) for name, shares in curves.items()},
            title=f"Intervals of {NAMED[split]} galaxies",
            unit="" if self.bounded else " / standard deviation",
        )


def _cross_fitted(val: Predicted, fold: np.ndarray, bounded: bool) -> Calibrated:
    """Validation galaxies, with intervals that were fitted on others; folds of shape (N,)."""
    parts = fold
    if (fold == fold[:1]).all():
        parts = val.rows.argsort().argsort() % 2  # the even and the odd ones, whatever the order of the table
    fits, fit_of = [], np.empty(len(parts), int)
    for number, part in enumerate(np.unique(parts)):
        others = parts != part
        fits.append(Intervals.fit(val.predicted[others], val.spread[others], val.target[others], EVERY, bounded))
        fit_of[~others] = number
    return Calibrated(val, fits, fit_of, val.spread)


def _of_mean(
    spread: np.ndarray, between: np.ndarray | None, learnt: dict[str, np.ndarray]
) -> tuple[np.ndarray, float | np.ndarray]:
    """Spread and shrinkage of what nets say together; see `PredictIntervals`."""
    if between is None or "usual" not in learnt:
        return spread, 1.0
    surplus = np.maximum(np.square(between, dtype=np.float64) - learnt["usual"], 0)
    return np.sqrt(np.square(spread, dtype=np.float64) + surplus), learnt["shrink"]


def _over_columns(shares: np.ndarray, target: np.ndarray) -> float:
    """Share of all known fractions, from that of each column, shapes (K,) and (N, K); NaN if none is known."""
    known = (~np.isnan(target)).sum(axis=0)
    return float(np.nansum(shares * known) / known.sum()) if known.any() else np.nan


def _percent(level: float) -> str:
    return f"{100 * level:.0f}"
