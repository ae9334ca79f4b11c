"""Numbers that say how good predicted fractions of votes are, where a net was trained and on surveys it never saw."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.evaluation.baselines import out_of_fold_means
from galaxyml.evaluation.bootstrap import with_ends
from galaxyml.evaluation.calibration import reliability
from galaxyml.evaluation.correlation import LEAST, Resampled, asked, mean_defined
from galaxyml.evaluation.scored import under
from galaxyml.kinds.kind import check_whole
from galaxyml.kinds.votes.features import question_of, questions
from galaxyml.kinds.votes.metrics import BINS, fraction_reliability, majorities, published
from galaxyml.kinds.votes.scored import VOTES, ScoredVotes
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

MEASURES = ("pearson", "r2", "mae", "rmse", "flattened_pearson")
BEFORE = ("head", "untrained")  # predictions of the same net at earlier stages of its training
# In the order of training.
STAGES = {"mean": "baseline (column mean)", "untrained": "untrained", "head": "head", "": "full"}
COLUMNS = {"r": "pearson", "flattened_r": "flattened_pearson", "R2": "r2", "MAE": "mae", "MSE": "mse"}  # of progression


@dataclass(frozen=True)
class Group:
    """The galaxies of one survey in one split, and how well they were predicted.

    Attributes:
        split: `val` (in distribution) or `test` (out of it).
        survey: Name.
        galaxies: Their votes and predictions.
        measured: The numbers.
    """

    split: str
    survey: str
    galaxies: ScoredVotes
    measured: Resampled

    def mean(self, measure: str, by: str = "") -> np.ndarray:
        """Mean of a measure over the features that the survey measures, shape (1 + R,)."""
        return self.measured.mean(measure, self.measured.defined, by)


class ScoreVotes:
    """Correlation and errors by survey and feature, and what is lost from the surveys trained on to those never seen.

    A survey's number is the mean over features, a split's the mean over its surveys, of the features that are measured
    in every survey of both splits: so that splits can be compared. Surveys without any such feature are left out.

    Beside them stand the predictor that says the mean of the training galaxies of other folds, weighted by votes, and
    the net before training and with only its head trained, where the run has kept what those say.

    Args:
        resamples: Bootstrap resamples of the intervals; 0 for none.
        least: Galaxies that must have been asked for a survey's feature to be measured.

    Raises:
        UserError: If a number cannot be.
    """

    def __init__(self, resamples: int = 1000, least: int = LEAST) -> None:
        check_whole(0, resamples=resamples)
        check_whole(2, least=least)
        self.resamples, self.least = resamples, least

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Measures the predictions of every split whose truth is known; writes the tables `shift` and `progression`.

        Returns:
            Numbers by `<split>/<metric>[/<survey>]`, features by `/<survey>:<feature>`; `mean_`, `untrained_` and
            `head_` mark those of simpler predictors, `_low` and `_high` the ends of a 95 % bootstrap interval over
            galaxies. A `mean_pearson` is 0: within a fold means say nothing of a galaxy. `test/pearson_drop` is what is
            lost out of distribution, `gain_over_<stage>` the paired gain in `pearson`, `fraction_ece` the mean gap
            between predicted and observed fractions in bins of the former, `published_pearson` the correlation
            over all values at once with unasked ones as zeros, as published comparisons have it, beside
            `published_constant`, that of the true column means; `argmax_accuracy` how often the likeliest
            answer is that of most volunteers, and `argmax_ece` how far its fraction is from that. What is not defined
            is left out.

        Raises:
            UserError: If a prediction is not finite, or earlier stages were asked about other galaxies.
        """
        catalog = run.catalog()
        groups = [group for split in ("val", "test") for group in self._groups(run, split, catalog)]
        measurable = [group for group in groups if group.measured.defined.any()]
        if not measurable:
            log.info("note: %s: no feature was asked of %d galaxies; give a smaller least=….", run.name, self.least)
            return {}
        common = np.logical_and.reduce([group.measured.defined for group in measurable])
        if not common.any():
            log.info("note: %s: no feature was asked of %d galaxies of each survey.", run.name, self.least)
        metrics: dict[str, float] = {}
        for split in ("val", "test"):
            inside = [group for group in measurable if group.split == split]
            if not inside:
                continue
            metrics[f"{split}/common_features"] = float(common.sum())
            metrics |= under(split, _overall(inside, common))
            for group in inside:
                metrics |= under(split, _of_survey(group))
        metrics |= under("test", _drops(measurable, common))
        run.write_table("shift", shift_table(measurable))
        run.write_table("progression", progression_table(measurable, common))
        metrics |= {key: 0.0 for key in metrics if key.split("/")[1] == "mean_pearson"}
        return {key: float(value) for key, value in metrics.items() if np.isfinite(value)}

    def _groups(self, run: RunDir, split: str, catalog: pd.DataFrame) -> Iterator[Group]:
        final = ScoredVotes.load(run, split, catalog)
        if final is None:
            return
        by_stage = {"": final.predicted, "mean": column_means(catalog, final)}
        for stage in BEFORE:
            if (other := ScoredVotes.load(run, split, catalog, stage)) is not None:
                rows = pd.Index(other.ids).get_indexer(final.ids)
                if (rows < 0).any():
                    missing = final.ids[rows < 0][0]
                    raise UserError(f"{run.path}: predictions of '{stage}' lack the galaxy {missing}. Train it again.")
                by_stage[stage] = other.predicted[rows]
        for survey in final.surveys():
            galaxies = final.of(survey)
            predicted = {stage: values[final.strata == survey] for stage, values in by_stage.items()}
            yield Group(split, survey, galaxies, galaxies.resampled(predicted, self.resamples, self.least))


def _overall(groups: list[Group], common: np.ndarray) -> dict[str, float]:
    """Numbers of all surveys together and of each, of the net and of simpler predictors."""
    metrics: dict[str, float] = {}
    stages = _stages(groups)
    for stage in stages:
        prefix, ends = (f"{stage}_", False) if stage else ("", True)
        for name in MEASURES:
            metrics |= _keyed(f"{prefix}{name}", _over_surveys(groups, name, common, stage), ends)
            for group in groups:
                metrics |= _keyed(f"{prefix}{name}/{group.survey}", group.mean(name, stage), ends)
    for stage in [stage for stage in BEFORE if stage in stages]:
        gain = _over_surveys(groups, "pearson", common) - _over_surveys(groups, "pearson", common, stage)
        metrics |= with_ends(f"gain_over_{stage}", gain)
        for group in groups:
            gain = group.mean("pearson") - group.mean("pearson", stage)
            metrics |= with_ends(f"gain_over_{stage}/{group.survey}", gain)
    return metrics


def _of_survey(group: Group) -> dict[str, float]:
    """Numbers of each feature, and calibration."""
    metrics: dict[str, float] = {}
    galaxies, survey = group.galaxies, group.survey
    for k, feature in enumerate(galaxies.columns):
        for name in ("pearson", "r2", "mae"):
            metrics |= _keyed(f"{name}/{survey}:{feature}", group.measured.column(name)[:, k], name == "pearson")
    known = ~np.isnan(galaxies.predicted).any(0) & ~np.isnan(galaxies.target).all(0)
    if known.any():
        r, constant = published(galaxies.predicted[:, known], np.nan_to_num(galaxies.target[:, known]))
        metrics |= {f"published_pearson/{survey}": r, f"published_constant/{survey}": constant}
    fractions = fraction_reliability(galaxies.predicted, galaxies.target, galaxies.votes)
    metrics[f"fraction_ece/{survey}"] = fractions.ece
    columns = list(questions(galaxies.columns).values())
    chances, labels = majorities(galaxies.predicted, galaxies.target, galaxies.votes, columns)
    if len(labels):
        metrics[f"argmax_accuracy/{survey}"] = float((chances.argmax(1) == labels).mean())
        metrics[f"argmax_ece/{survey}"] = reliability(chances, labels, BINS).ece
    return metrics


def _drops(groups: list[Group], common: np.ndarray) -> dict[str, float]:
    """Loss in `pearson` from the surveys trained on to those never seen."""
    inside, outside = _in_and_out(groups)
    if not inside or not outside:
        return {}
    at_home, of_features = _over_surveys(inside, "pearson", common), in_distribution(inside)
    metrics = with_ends("pearson_drop", at_home - _over_surveys(outside, "pearson", common))
    for group in outside:
        metrics |= with_ends(f"pearson_drop/{group.survey}", at_home - group.measured.mean("pearson", common))
        lost = of_features - group.measured.column("pearson")
        for k, feature in enumerate(group.galaxies.columns):
            metrics |= with_ends(f"pearson_drop/{group.survey}:{feature}", lost[:, k])
    return metrics


def column_means(catalog: pd.DataFrame, galaxies: ScoredVotes) -> np.ndarray:
    """Predictions of some galaxies by averages alone, shape (N, F).

    Returns:
        For each galaxy the mean over the galaxies of all other folds, weighted by votes; 0.5 where none was asked.
    """
    target = catalog[list(galaxies.columns)].to_numpy(np.float64)
    votes = catalog[[f"{name}{VOTES}" for name in galaxies.columns]].to_numpy(np.float64)
    weights = np.where(asked(target, votes), votes, 0.0)
    return out_of_fold_means(target, catalog["fold"].to_numpy(), galaxies.rows, weights)


def in_distribution(groups: list[Group]) -> np.ndarray:
    """Correlation of each feature, the mean over the surveys that measure it, shape (1 + R, F)."""
    return mean_defined(np.stack([group.measured.column("pearson") for group in groups], axis=-1))


def shift_table(groups: list[Group]) -> pd.DataFrame:
    """One row a survey and feature; for surveys never seen with its value in distribution and the drop from there."""
    inside, outside = _in_and_out(groups)
    at_home = in_distribution(inside) if inside and outside else None
    rows = []
    for group in groups:
        own = {name: group.measured.column(name) for name in ("pearson", "r2", "mae")}
        for k, feature in enumerate(group.galaxies.columns):
            row: dict[str, object] = {
                "feature": feature,
                "question": question_of(feature),
                "survey": group.survey,
                "split": group.split,
                "galaxies": int(group.measured.asked[k]),
                "votes": int(group.measured.votes[k].round()),
                **with_ends("r", own["pearson"][:, k]),
                "R2": own["r2"][0, k],
                "MAE": own["mae"][0, k],
            }
            if at_home is not None and group.split == "test":
                row |= with_ends("in_r", at_home[:, k])
                row |= with_ends("drop", at_home[:, k] - own["pearson"][:, k])
            rows.append(row)
    return pd.DataFrame(rows)


def progression_table(groups: list[Group], common: np.ndarray) -> pd.DataFrame:
    """From the column means to the full net: one row a stage, for the surveys trained on and each that was not."""
    inside, outside = _in_and_out(groups)
    rows = []
    for name, members in ([("trained on", inside)] if inside else []) + [(each.survey, [each]) for each in outside]:
        for stage, title in STAGES.items():
            if stage not in _stages(members):
                continue
            row: dict[str, object] = {"survey": name, "split": members[0].split, "stage": title}
            row["galaxies"] = sum(len(group.galaxies.ids) for group in members)
            for column, measure in COLUMNS.items():
                values = _over_surveys(members, measure, common, stage)
                row |= with_ends(column, np.zeros(1) if (stage, measure) == ("mean", "pearson") else values)
            rows.append(row)
    return pd.DataFrame(rows)


def _over_surveys(groups: list[Group], measure: str, columns: np.ndarray, by: str = "") -> np.ndarray:
    """Mean of a measure over surveys, shape (1 + R,)."""
    if measure == "rmse":
        return np.sqrt(_over_surveys(groups, "mse", columns, by))
    return np.mean([group.measured.mean(measure, columns, by) for group in groups], axis=0)


def _in_and_out(groups: list[Group]) -> tuple[list[Group], list[Group]]:
    """Surveys trained on, and surveys never seen."""
    return [group for group in groups if group.split == "val"], [group for group in groups if group.split == "test"]


def _stages(groups: list[Group]) -> list[str]:
    """Stages that predicted all galaxies, the full net first."""
    return [stage for stage in reversed(STAGES) if all(stage in group.measured.stages for group in groups)]


def _keyed(key: str, values: np.ndarray, ends: bool = True) -> dict[str, float]:
    """A value under its key and, where wanted, its ends under theirs."""
    return with_ends(key, values) if ends else {key: float(values[0])}
