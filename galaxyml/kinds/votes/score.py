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
from galaxyml.kinds.votes.features import question_of, questions
from galaxyml.kinds.votes.metrics import BINS, fraction_reliability, majorities, published
from galaxyml.kinds.votes.scored import VOTES, ScoredVotes
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

log = logging.getLogger(__name__)

MEASURES = ("pearson", "r2", "mae", "rmse", "flattened_pearson")
BEFORE = ("head", "untrained")  # predictions of the same net at earlier stages of its training
STAGES = {
    "mean": "baseline (column mean)",
    "untrained": "untrained",
    "head": "head",
    "": "full",
}  # in the order of training


@dataclass(frozen=True)
class Group:
    """The galaxies of one survey in one split, and what was said of them.

    Attributes:
        split: `val` (in distribution) or `test` (out of it).
        survey: Name.
        galaxies: What is known of them.
        measured: The numbers.
    """

    split: str
    survey: str
    galaxies: ScoredVotes
    measured: Resampled


class ScoreVotes:
    """Correlation and errors by survey and feature, and what is lost from the surveys trained on to those never seen.

    A survey's number is the mean over features, a split's the mean over its surveys, of the features that are measured
    in every survey of both splits: so that splits can be compared. Surveys without any such feature are left out.

    Beside them stand the predictor that says the mean of the training galaxies of other folds, weighted by votes, and
    the net before training and with only its head trained, where the run has kept what those say.

    Args:
        resamples: Bootstrap resamples of the intervals; 0 for none.
        least: Galaxies that must have been asked for a survey's feature to be measured.
        seed: Of the resamples.

    Raises:
        UserError: If a number cannot be.
    """

    def __init__(self, resamples: int = 1000, least: int = LEAST, seed: int = 0) -> None:
        for name, value, lowest in (("resamples", resamples, 0), ("least", least, 2)):
            if not isinstance(value, int) or value < lowest:
                raise UserError(f"{name}={value}: it must be a whole number, {lowest} or more.")
        self.resamples = resamples
        self.least = least
        self.seed = seed

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
        found: dict[str, float] = {}
        for split in ("val", "test"):
            inside = [group for group in measurable if group.split == split]
            if not inside:
                continue
            found[f"{split}/common_features"] = float(common.sum())
            for key, values, ends in self._overall(inside, common):
                found |= under(split, _keyed(key, values, ends))
            for group in inside:
                found |= under(split, self._of_survey(group))
        found |= under("test", self._drops(measurable, common))
        run.write_table("shift", shift_table(measurable))
        run.write_table("progression", progression_table(measurable, common))
        for key in list(found):
            if key.split("/")[1] == "mean_pearson":
                found[key] = 0.0
        return {key: float(value) for key, value in found.items() if np.isfinite(value)}

    def _groups(self, run: RunDir, split: str, catalog: pd.DataFrame) -> Iterator[Group]:
        final = ScoredVotes.load(run, split, catalog=catalog)
        if final is None:
            return
        said = {"": final.predicted, "mean": column_means(catalog, final)}
        for stage in BEFORE:
            if (other := ScoredVotes.load(run, split, final.columns, stage, catalog)) is not None:
                said[stage] = other.predicted[_same_galaxies(run, final.ids, other.ids, stage)]
        for survey in final.surveys():
            galaxies = final.of(survey)
            inside = final.strata == survey
            parts = {stage: values[inside] for stage, values in said.items()}
            yield Group(split, survey, galaxies, galaxies.resampled(parts, self.resamples, self.least, self.seed))

    def _overall(self, groups: list[Group], common: np.ndarray) -> Iterator[tuple[str, np.ndarray, bool]]:
        """Key, values of sample and resamples, and whether their interval is wanted."""
        for stage in _stages(groups):
            prefix = f"{stage}_" if stage else ""
            for name in MEASURES:
                yield f"{prefix}{name}", _over_surveys(groups, name, common, stage), not stage
                for group in groups:
                    own = group.measured.mean(name, group.measured.defined, stage)
                    yield f"{prefix}{name}/{group.survey}", own, not stage
        for stage in [stage for stage in BEFORE if stage in _stages(groups)]:
            gain = _over_surveys(groups, "pearson", common) - _over_surveys(groups, "pearson", common, stage)
            yield f"gain_over_{stage}", gain, True
            for group in groups:
                full, before = (group.measured.mean("pearson", group.measured.defined, by) for by in ("", stage))
                yield f"gain_over_{stage}/{group.survey}", full - before, True

    def _of_survey(self, group: Group) -> dict[str, float]:
        """Numbers of each feature, and calibration."""
        found: dict[str, float] = {}
        galaxies = group.galaxies
        for place, feature in enumerate(galaxies.columns):
            for name in ("pearson", "r2", "mae"):
                values = group.measured.column(name)[:, place]
                found |= _keyed(f"{name}/{group.survey}:{feature}", values, name == "pearson")
        known = ~np.isnan(galaxies.predicted).any(0) & ~np.isnan(galaxies.target).all(0)
        if known.any():
            r, constant = published(galaxies.predicted[:, known], np.nan_to_num(galaxies.target[:, known]))
            found |= {f"published_pearson/{group.survey}": r, f"published_constant/{group.survey}": constant}
        fractions = fraction_reliability(galaxies.predicted, galaxies.target, galaxies.votes)
        found[f"fraction_ece/{group.survey}"] = fractions.ece
        columns = list(questions(galaxies.columns).values())
        chances, labels = majorities(galaxies.predicted, galaxies.target, galaxies.votes, columns)
        if len(labels):
            right = chances.argmax(1) == labels
            found[f"argmax_accuracy/{group.survey}"] = float(right.mean())
            found[f"argmax_ece/{group.survey}"] = reliability(chances, labels, BINS).ece
        return found

    def _drops(self, groups: list[Group], common: np.ndarray) -> dict[str, float]:
        """What is lost from the surveys trained on to those never seen, in `pearson`."""
        inside, outside = _in_and_out(groups)
        if not inside or not outside:
            return {}
        at_home = _over_surveys(inside, "pearson", common)
        found = with_ends("pearson_drop", at_home - _over_surveys(outside, "pearson", common))
        each = in_distribution(inside)
        for group in outside:
            lost = at_home - group.measured.mean("pearson", common)
            found |= with_ends(f"pearson_drop/{group.survey}", lost)
            by_feature = each - group.measured.column("pearson")
            for place, feature in enumerate(group.galaxies.columns):
                found |= with_ends(f"pearson_drop/{group.survey}:{feature}", by_feature[:, place])
        return found


def column_means(catalog: pd.DataFrame, galaxies: ScoredVotes) -> np.ndarray:
    """What a predictor that knows only averages says of some galaxies, shape (N, F).

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
    """One row a survey and feature; what it has in distribution, and the drop from there, for surveys never seen."""
    inside, outside = _in_and_out(groups)
    at_home = in_distribution(inside) if inside and outside else None
    rows = []
    for group in groups:
        own = {name: group.measured.column(name) for name in ("pearson", "r2", "mae")}
        for place, feature in enumerate(group.galaxies.columns):
            row: dict[str, object] = {
                "feature": feature,
                "question": question_of(feature),
                "survey": group.survey,
                "split": group.split,
                "galaxies": int(group.measured.asked[place]),
                "votes": int(group.measured.votes[place].round()),
                **with_ends("r", own["pearson"][:, place]),
                "R2": own["r2"][0, place],
                "MAE": own["mae"][0, place],
            }
            if at_home is not None and group.split == "test":
                row |= with_ends("in_r", at_home[:, place])
                row |= with_ends("drop", at_home[:, place] - own["pearson"][:, place])
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
            for title_of, measure in (
                ("r", "pearson"),
                ("flattened_r", "flattened_pearson"),
                ("R2", "r2"),
                ("MAE", "mae"),
                ("MSE", "mse"),
            ):
                values = _over_surveys(members, measure, common, stage)
                row |= with_ends(title_of, np.zeros(1) if (stage, measure) == ("mean", "pearson") else values)
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
    """Which of the stages said something of all galaxies, the full net first."""
    return [stage for stage in reversed(STAGES) if all(stage in group.measured.stages for group in groups)]


def _keyed(key: str, values: np.ndarray, ends: bool = True) -> dict[str, float]:
    """A value under its key and, where wanted, its ends under theirs."""
    return with_ends(key, values) if ends else {key: float(values[0])}


def _same_galaxies(run: RunDir, ids: np.ndarray, others: np.ndarray, stage: str) -> np.ndarray:
    """Where each of the galaxies is among those that an earlier stage was asked about."""
    at = pd.Index(others).get_indexer(ids)
    if (at < 0).any():
        raise UserError(f"{run.path}: predictions of '{stage}' lack the galaxy {ids[at < 0][0]}. Train it again.")
    return at
