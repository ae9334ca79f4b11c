"""Gives every predicted fraction or number the intervals that hold the truth in 50, 80 and 95 % of cases."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from galaxyml.evaluation.conformal import LEVELS, Intervals, covered, fewest, shrinkage, widths
from galaxyml.evaluation.joined import BETWEEN, NET, SPREAD, NetOutputs
from galaxyml.evaluation.plots import interval_figure
from galaxyml.runs.errors import UserError, diverged
from galaxyml.runs.run_dir import NAMED, RunDir

NAME = "intervals"  # of what is fitted, and of the tables of predictions
CURVE = np.append(np.arange(5, 100, 5), 99) / 100  # more levels, at which the figure shows what is covered
ALL_LEVELS = np.concatenate([LEVELS, CURVE])
log = logging.getLogger(__name__)
WRITTEN = slice(0, len(LEVELS))  # of these


@dataclass(frozen=True)
class Galaxies:
    """Predictions and targets of the N galaxies of a split.

    Attributes:
        ids: Shape (N,).
        rows: Their rows in the catalog, shape (N,).
        predicted: Fractions as the stages before have them, shape (N, K).
        net: The nets' own outputs, shape (N, K).
        spread: Standard deviations over the views of an image, shape (N, K); 0 where there is one.
        between: Standard deviations over the nets of the folds, shape (N, K); None where one net predicts.
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
        fits: Intervals at `ALL_LEVELS`, each after the galaxies that have them, bool of shape (N,).
        spread: As the intervals take it, shape (N, K).
        shrink: Factor on the widths, one for all or of shape (K,).
    """

    galaxies: Galaxies
    fits: Sequence[tuple[np.ndarray, Intervals]]
    spread: np.ndarray
    shrink: float | np.ndarray = 1.0

    def ends(self, levels: slice) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends at some of the levels, shape (L, N, K) each."""
        low, high = np.empty((2, len(ALL_LEVELS[levels]), *self.spread.shape))
        for inside, fit in self.fits:
            predicted, spread = self.galaxies.predicted[inside], self.spread[inside]
            low[:, inside], high[:, inside] = fit.at(levels)(predicted, spread, self.shrink)
        return low, high


class PredictIntervals:
    """Conformal intervals of the fractions that the stages before have made, fitted on the validation split.

    No galaxy calibrates its own intervals: those of a validation galaxy are fitted on the other folds, of a single fold
    on its other half. Those of test galaxies and of new images are fitted on all validation galaxies.

    Test galaxies have the mean of the nets of all folds, which errs less than each of them; but residuals are known of
    single nets. So widths are shrunk by what the nets' disagreement on test galaxies shows (`conformal.shrinkage`), and
    where they disagree more than is usual, the surplus counts as disagreement between the views of an image does:
    u^2 = spread^2 + (between^2 - its mean over the test galaxies, at least 0). What is less than usual counts for
    nothing, as galaxies that are easy would lose what their own views show. Where there are no test galaxies both are
    left out, and intervals are those of a single net: rather too wide.

    Args:
        columns: The fractions, or numbers.
        bounded: Whether they are fractions in [0, 1]; numbers of any size otherwise, each in a unit of its own.
        labels: What the figure calls them; None for their names.
    """

    def __init__(self, columns: Sequence[str], bounded: bool = True, labels: Sequence[str] | None = None) -> None:
        self.columns = list(columns)
        self.bounded = bounded
        self.labels = list(labels or columns)

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
        val, test = self._load(run, "val", catalog), self._load(run, "test", catalog)
        if val is None:
            return {}
        calibrated = {"val": _cross_fitted(val, catalog["fold"].to_numpy()[val.rows], self.bounded)}
        fit = Intervals.fit(val.predicted, val.spread, val.target, ALL_LEVELS, self.bounded)
        fitted = fit.at(WRITTEN).arrays()
        if test is not None:
            if test.between is not None:
                fitted["usual"] = np.square(test.between).mean(axis=0)
                fitted["shrink"] = shrinkage(test.between, val.target - val.net)
            spread, shrink = _of_mean(test.spread, test.between, fitted)
            calibrated["test"] = Calibrated(test, [(np.ones(len(test.ids), bool), fit)], spread, shrink)
        run.write_arrays(NAME, fitted)
        few, needed, level = len(val.ids), fewest(max(LEVELS)), f"{100 * max(LEVELS):.0f} %"
        if few < needed and run.members():  # at the end of a command
            log.warning(
                f"note: {level} intervals take {needed} validation objects, of which there are {few}: they hold "
                "everything. split=folds -m fold=0,1,2,3,4 validates on all; narrower ones are in --interval all."
            )
        metrics: dict[str, float] = {}
        for split, own in calibrated.items():
            low, high = own.ends(WRITTEN)
            table = self._table(low, high)
            table.insert(0, "id", own.galaxies.ids.to_numpy())
            run.write_predictions(split, table, by=NAME)
            metrics |= self._metrics(split, low, high, own.galaxies.target)
        second = (
            " The second curve leaves out fractions predicted as 0 or 1; the two coincide where there are hardly any."
        )
        curves = second if self.bounded else ""
        for split in ("test", "val"):
            if f"{split}/coverage_95" in metrics and run.draws:
                run.write_figure(
                    "6_intervals",
                    self._figure(calibrated[split], split),
                    f"Intervals of {NAMED[split]} galaxies: how often they hold the truth, how wide they are, and what "
                    f"they hold at any level asked. Calibrated intervals lie on the dashed lines.{curves}",
                )
                break
        return metrics

    def combine(self, run: RunDir, nets: NetOutputs, table: pd.DataFrame) -> pd.DataFrame:
        """Adds the intervals to what the stages before made of the same images.

        Args:
            run: The run, or the sweep.
            nets: The outputs of its nets.
            table: With the fractions.

        Returns:
            The table, and behind it `<column>_low50`, `<column>_high50` and so on.

        Raises:
            UserError: If the run has no intervals.
        """
        fitted = run.arrays(NAME)
        if fitted is None:
            raise UserError(
                f"{run.path} has no fitted/{NAME}.npz: only a part of its folder was copied. Copy all of fitted/."
            )
        names = [name for name in nets.mean.columns if name != "id"]
        order = [names.index(column) for column in self.columns]
        fractions = table[self.columns].to_numpy(np.float64)
        over_views = np.zeros(fractions.shape) if nets.spread is None else nets.spread[:, order]
        over_nets = None if nets.between is None else nets.between[:, order]
        ends = Intervals.of_arrays(fitted)(fractions, *_of_mean(over_views, over_nets, fitted))
        return pd.concat([table, self._table(*ends).set_axis(table.index)], axis=1)

    def _load(self, run: RunDir, split: str, catalog: pd.DataFrame) -> Galaxies | None:
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
        return Galaxies(
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

    def _metrics(self, split: str, low: np.ndarray, high: np.ndarray, target: np.ndarray) -> dict[str, float]:
        known = (~np.isnan(target)).sum(axis=0)
        shares, wide = covered(low, high, target), widths(low, high)
        metrics: dict[str, float] = {}
        for number, level in enumerate(map(_percent, LEVELS)):
            if known.any():
                metrics[f"{split}/coverage_{level}"] = _over_columns(shares[number], target)
            if self.bounded:
                metrics[f"{split}/width_{level}"] = float(wide[number].mean())
            else:
                by_column = zip(self.columns, wide[number], strict=True)
                metrics |= {f"{split}/width_{level}/{column}": width for column, width in by_column}
        metrics = {key: float(value) for key, value in metrics.items() if np.isfinite(value)}
        return metrics | {
            f"{split}/coverage_{_percent(level)}/{column}": float(shares[number, k])
            for number, level in enumerate(LEVELS)
            for k, column in enumerate(self.columns)
            if known[k]
        }

    def _figure(self, calibrated: Calibrated, split: str) -> Figure:
        target, predicted = calibrated.galaxies.target, calibrated.galaxies.predicted
        targets = {"all fractions" if self.bounded else "all numbers": target}
        if self.bounded:
            targets["predicted within (0, 1)"] = np.where((predicted > 0) & (predicted < 1), target, np.nan)
        curves: dict[str, list[float]] = {name: [] for name in targets}
        for index in range(len(LEVELS), len(ALL_LEVELS)):
            ends = calibrated.ends(slice(index, index + 1))
            for name, values in targets.items():
                curves[name].append(_over_columns(covered(*ends, values)[0], values))
        ends = calibrated.ends(WRITTEN)
        wide = widths(*ends)
        if not self.bounded:
            deviation = np.nanstd(target, axis=0)
            wide = np.where(np.isfinite(wide), wide, np.nan) / np.where(deviation > 0, deviation, 1)
        return interval_figure(
            names=self.labels,
            levels=np.array(LEVELS),
            shares=covered(*ends, target),
            wide=wide,
            asked=CURVE,
            curves={name: np.array(shares) for name, shares in curves.items()},
            title=f"Intervals of {NAMED[split]} galaxies",
            unit="" if self.bounded else " / standard deviation",
        )


def _cross_fitted(val: Galaxies, fold: np.ndarray, bounded: bool) -> Calibrated:
    """Validation galaxies, with intervals that were fitted on others; folds of shape (N,)."""
    parts = fold
    if (fold == fold[:1]).all():
        parts = val.rows.argsort().argsort() % 2  # the even and the odd ones, whatever the order of the table
    fits = []
    for part in np.unique(parts):
        others = parts != part
        fit = Intervals.fit(val.predicted[others], val.spread[others], val.target[others], ALL_LEVELS, bounded)
        fits.append((~others, fit))
    return Calibrated(val, fits, val.spread)


def _of_mean(
    spread: np.ndarray, between: np.ndarray | None, fitted: dict[str, np.ndarray]
) -> tuple[np.ndarray, float | np.ndarray]:
    """Spread and shrinkage of the mean over nets; see `PredictIntervals`."""
    if between is None or "usual" not in fitted:
        return spread, 1.0
    surplus = np.maximum(np.square(between, dtype=np.float64) - fitted["usual"], 0)
    return np.sqrt(np.square(spread, dtype=np.float64) + surplus), fitted["shrink"]


def _over_columns(shares: np.ndarray, target: np.ndarray) -> float:
    """Share of all known fractions, from that of each column, shapes (K,) and (N, K); NaN if none is known."""
    known = (~np.isnan(target)).sum(axis=0)
    return float(np.nansum(shares * known) / known.sum()) if known.any() else np.nan


def _percent(level: float) -> str:
    return f"{100 * level:.0f}"
