"""What the stages of votes share: what was said of a split's galaxies and what is known of them, side by side."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxyml.evaluation.correlation import LEAST, Resampled, asked
from galaxyml.runs.errors import UserError, did_you_mean, diverged, shorten
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.ontology import Ontology

KINDS = ("_debiased", "_weighted_fraction")  # of fractions, by the end of a feature's name; none for the votes' own
VOTES = "_votes"  # after a feature, the column of its question's votes


@dataclass(frozen=True)
class Judged:
    """Galaxies of a split of which some fraction is known, N of them.

    Attributes:
        features: Names of the F features.
        rows: The galaxies' rows in the catalog, shape (N,).
        ids: Their ids, shape (N,).
        survey: The survey that each comes from, shape (N,).
        fold: The fold that each belongs to, -1 for none, shape (N,).
        said: Predicted fractions, shape (N, F); NaN where the galaxy's campaign lacks the answer.
        true: Fractions of votes, shape (N, F); NaN where not asked.
        votes: Votes of each fraction's question, shape (N, F); 0 where not asked.
    """

    features: list[str]
    rows: np.ndarray
    ids: np.ndarray
    survey: np.ndarray
    fold: np.ndarray
    said: np.ndarray
    true: np.ndarray
    votes: np.ndarray

    def of(self, survey: str) -> "Judged":
        """The galaxies of one survey."""
        return self.take(np.flatnonzero(self.survey == survey))

    def take(self, at: np.ndarray) -> "Judged":
        """Some of the galaxies, by position."""
        return Judged(
            self.features,
            self.rows[at],
            self.ids[at],
            self.survey[at],
            self.fold[at],
            self.said[at],
            self.true[at],
            self.votes[at],
        )

    def surveys(self) -> list[str]:
        """Names of the surveys, in alphabetical order."""
        return sorted(set(self.survey))


def judged(
    run: RunDir,
    split: str,
    features: Sequence[str] | None = None,
    by: str = "",
    catalog: pd.DataFrame | None = None,
) -> Judged | None:
    """The predictions of a split beside the truth; None if there are none, or nothing is known.

    Args:
        run: Whose predictions.
        split: `val` or `test`.
        features: Which, or None for all that the catalog knows votes of.
        by: Whose, as for `RunDir.predictions`.
        catalog: The run's, where it was read already.

    Raises:
        UserError: If a feature or a galaxy is not there, or a prediction is not finite.
    """
    table = run.predictions(split, by)
    if table is None:
        return None
    catalog = run.catalog() if catalog is None else catalog
    names = known_features(catalog, run) if features is None else list(features)
    for what, there in (("knows no votes of", known_features(catalog, run)), ("predicts no", list(map(str, table)))):
        if missing := [name for name in names if name not in there]:
            raise UserError(f"{run.path} {what} '{missing[0]}'. {did_you_mean(missing[0], there)}")
    rows = pd.Index(catalog["id"]).get_indexer(table["id"])
    if strange := list(table["id"][rows < 0]):
        raise UserError(
            f"{run.path}: the catalog lacks galaxies that were predicted: {shorten(strange)}. Train it again."
        )
    true = catalog[names].to_numpy(np.float64)[rows]
    votes = np.nan_to_num(catalog[[f"{name}{VOTES}" for name in names]].to_numpy(np.float64)[rows])
    said = table[names].to_numpy(np.float64)
    counted = asked(true, votes)
    net = run.predictions(split, f"net_{by}".rstrip("_"))
    # Shares are made of anything, equal ones of NaN: what the net itself said tells.
    outputs = said[counted] if net is None else net.drop(columns="id").to_numpy(np.float64)
    if not (np.isfinite(said[counted]).all() and np.isfinite(outputs).all()):
        raise diverged(run.path)
    if not counted.any():
        return None
    found = Judged(
        names,
        rows,
        table["id"].to_numpy(),
        catalog["survey"].to_numpy(str)[rows],
        catalog["fold"].to_numpy()[rows],
        said,
        true,
        votes,
    )
    return found.take(np.flatnonzero(counted.any(axis=1)))


def known_features(catalog: pd.DataFrame, run: RunDir) -> list[str]:
    """The columns of a catalog that have the votes of their question beside them.

    Raises:
        UserError: If there are none.
    """
    if found := [str(name) for name in catalog if f"{name}{VOTES}" in catalog]:
        return found
    raise UserError(f"{run.path} is not a run on votes: its catalog has no column that ends in {VOTES}.")


def resampled(
    galaxies: Judged, said: Mapping[str, np.ndarray], resamples: int, least: int = LEAST, seed: int = 0
) -> Resampled:
    """Outputs measured on galaxies of one survey, whose resamples depend on its name and the seed alone."""
    draws = zlib.crc32(f"{seed} {galaxies.survey[0]}".encode())
    return Resampled(said, galaxies.true, galaxies.votes, resamples, least, draws)


def question_of(feature: str) -> str:
    """The question that a feature answers, with the kind of its fractions where it is not the votes' own.

    >>> question_of("bar_yes"), question_of("bar_yes_debiased")
    ('bar', 'bar, debiased')
    """
    name, kind = _apart(feature)
    return Ontology.load().question_of(name).name + kind


def label(feature: str) -> str:
    """What figures call a feature, such as `edge-on`."""
    name, kind = _apart(feature)
    return Ontology.load().label(name) + kind


def questions(features: Sequence[str]) -> dict[str, list[int]]:
    """By question, in the order of the features, which of them answer it."""
    found: dict[str, list[int]] = {}
    for place, feature in enumerate(features):
        found.setdefault(question_of(feature), []).append(place)
    return found


def _apart(feature: str) -> tuple[str, str]:
    """A feature's plain name, and the kind of its fractions as figures add it."""
    for kind in KINDS:
        if feature.endswith(kind):
            return feature.removesuffix(kind), f", {kind[1:].replace('_', ' ')}"
    return feature, ""
