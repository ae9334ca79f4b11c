"""Which objects a person is asked about next."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import NearestNeighbors

from galaxyml.evaluation.unusual import REFERENCES, normal_scores
from galaxyml.inference.embedded import Embedded
from galaxyml.labelling.posterior import PENALTY, Posterior, fit_posterior
from galaxyml.labelling.strategies import SEEKING, STRATEGIES
from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.runs.seeds import derive

COMPONENTS = 30  # of the features that a fit sees
SOUGHT = 30.0  # precision of the weights' prior where there is a belief that few labels should not overrule
FITS = 8  # that may disagree
TREES = 100
CERTAIN, LEAST = 0.95, 0.1  # relevance of an object that is surely the target, and of one that is surely not
REACH = 1.0  # of a label, in mean distances between neighbours


class Chooser:
    """Orders the objects of a set by what a label of theirs would tell.

    Answers are predicted by a regression on the features of the objects, fitted to the labels so far. Where a target is
    looked for, it begins with how unusual an object is: before any label, the most unusual one is the most probable
    target, and labels have to speak against that.

    Args:
        objects: The set.
        answers: That a person may give, K of them.
        by: One of `STRATEGIES`.
        target: The answer that is looked for, as unusual; None for the last one of the orders that look for one
            (`SEEKING`), and for none of the others.
        seed: Of what is drawn.

    Attributes:
        probabilities: Of the answers, shape (N, K); None before the first label.
        ranking: How probable the target is, as a number that is higher for more, shape (N,).

    Raises:
        UserError: If there is no such strategy or answer.

    Example:
        The first ten of a set that are to be looked at, and what one knows then::

            chooser = Chooser(objects, ["ordinary", "odd"], "relevance")
            rows = chooser.order(without=[])[:10]
            chooser.learn({int(row): "ordinary" for row in rows})
    """

    def __init__(
        self,
        objects: Embedded,
        answers: Sequence[str],
        by: str = "uncertainty",
        target: str | None = None,
        seed: int = 0,
    ) -> None:
        if by not in STRATEGIES:
            raise UserError(f"by={by}: there is no such order. {did_you_mean(by, STRATEGIES)}")
        self.answers = list(answers)
        if target is not None and target not in self.answers:
            raise UserError(f"target={target}: it is none of the answers. {did_you_mean(target, self.answers)}")
        seeks = target is not None or by in SEEKING
        self.by, self.seed = by, seed
        self.target = self.answers.index(target) if target is not None else len(self.answers) - 1
        self.novelty = objects.unusual.score
        self.belief = self.novelty if seeks else np.zeros(len(objects))
        self.penalty = SOUGHT if seeks else PENALTY
        self.columns = _columns(objects.features, seed)
        self.probabilities: np.ndarray | None = None
        self.ranking = self.novelty
        self._random = np.random.default_rng(derive(seed, "order")).permutation(len(objects))
        self._scores = self.novelty

    def learn(self, labels: Mapping[int, str]) -> None:
        """Fits anew to all labels so far.

        Args:
            labels: The answer to each object that has one, by its row.
        """
        if not labels:
            self.probabilities, self.ranking, self._scores = None, self.novelty, self.novelty
            return
        rows = np.array(sorted(labels))
        given = np.array([self.answers.index(labels[row]) for row in rows.tolist()])
        posterior = self._fit(rows, given)
        self.probabilities = posterior.probabilities(self.columns, self.belief)
        odds = posterior.odds(self.columns, self.belief)
        self.ranking = odds[:, self.target] - logsumexp(np.delete(odds, self.target, axis=1), axis=1)
        if self.by == "uncertainty":
            ordered = np.sort(self.probabilities, axis=1)
            self._scores = ordered[:, -2] - ordered[:, -1]
        elif self.by == "disagreement":
            self._scores = self._disagreement(rows, given)
        elif self.by == "relevance":
            self._scores = self._relevance(rows, given)
        elif self.by == "likely":
            self._scores = self.ranking

    def order(self, without: Collection[int] = ()) -> np.ndarray:
        """Rows of the objects, the one to be asked about first; those of `without` are left out."""
        if self.by == "random":
            order = self._random
        else:
            order = self._random[np.argsort(-self._scores[self._random], kind="stable")]  # equal ones at random
        return order[~np.isin(order, list(without))]

    def _fit(self, rows: np.ndarray, given: np.ndarray) -> Posterior:
        several = len(self.answers)
        return fit_posterior(self.columns[rows], self.belief[rows], given, several, self.target, self.penalty)

    def _disagreement(self, rows: np.ndarray, given: np.ndarray) -> np.ndarray:
        """How far the probabilities of fits to bootstrap resamples of the labels are from their mean, shape (N,).

        The mean divergence of each fit from the mean of all (McCallum & Nigam 1998, ICML, section 4.2).
        """
        rng = np.random.default_rng(derive(self.seed, "disagreement"))
        fits = []
        for _ in range(FITS):
            some = rng.integers(len(rows), size=len(rows))
            fits.append(self._fit(rows[some], given[some]).probabilities(self.columns, self.belief))
        probabilities = np.stack(fits).clip(1e-9)
        return (probabilities * np.log(probabilities / probabilities.mean(axis=0))).sum(axis=2).mean(axis=0)

    def _relevance(self, rows: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Novelty weighted by the relevance that labels give it, near them (Lochner & Bassett 2021, eq. 1 to 3).

        Relevance is learnt by a random forest; far from all labels, novelty stays as it is.
        """
        forest = RandomForestRegressor(TREES, random_state=derive(self.seed, "relevance"), n_jobs=1)
        forest.fit(self.columns[rows], (given == self.target).astype(float))
        relevance = LEAST + (CERTAIN - LEAST) * forest.predict(self.columns)
        distance = NearestNeighbors(n_neighbors=1).fit(self.columns[rows]).kneighbors(self.columns)[0][:, 0]
        known = np.exp(REACH * distance / max(float(distance.mean()), 1e-9))
        rank = normal_scores(self.novelty)
        return (rank - rank.min()) * np.tanh(known - 1 + np.arctanh(relevance))


def _columns(features: np.ndarray, seed: int) -> np.ndarray:
    """What a fit sees of features: their first principal components, in units of their spread; (N, F) -> (N, D)."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(features))[:REFERENCES])
    values = np.asarray(features, np.float64)
    spread = values[rows].std(axis=0)
    scaled = (values - values[rows].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    most = min(COMPONENTS, len(rows) - 1, scaled.shape[1])
    if most < 1:
        return np.zeros((len(features), 1))
    components = PCA(most, svd_solver="randomized", random_state=seed).fit(scaled[rows]).transform(scaled)
    return components / max(float(components[rows, 0].std()), 1e-9)  # the first has spread 1, the others less
