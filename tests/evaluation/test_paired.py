"""Paired differences against closed forms, brute force and known truths."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from galaxyml.evaluation.paired import Difference, measured, rank
from galaxyml.evaluation.scored import ScoredPredictions, aligned
from galaxyml.kinds.anomalies.score import WORDS as ANOMALIES
from galaxyml.kinds.anomalies.score import ScoredAnomalies
from galaxyml.kinds.classes.score import WORDS as CLASSES
from galaxyml.kinds.classes.score import ScoredClasses
from galaxyml.kinds.fractions.score import WORDS as FRACTIONS
from galaxyml.kinds.fractions.score import ScoredFractions
from galaxyml.kinds.votes.scored import WORDS as VOTES
from galaxyml.kinds.votes.scored import ScoredVotes
from galaxyml.runs.errors import UserError


def names(count: int) -> np.ndarray:
    return np.array([f"g{k:05}" for k in range(count)])


def fractions(count: int = 400, noise: float = 0.1, seed: int = 0, hard: np.ndarray | None = None) -> ScoredFractions:
    """What a model says of galaxies whose truth is always the same, some of which are harder for all models."""
    truth = np.random.default_rng(99).random((count, 3))
    error = noise * np.random.default_rng(seed).standard_normal((count, 3))
    said = truth + error + (0 if hard is None else hard[:, None])
    return ScoredFractions(
        Path(f"run-{seed}"), FRACTIONS, ("a", "b", "c"), names(count), np.zeros(count, np.int8), said, truth
    )


def classes(count: int = 300, signal: float = 1.5, seed: int = 0) -> ScoredClasses:
    labels = np.random.default_rng(99).integers(0, 3, count)
    logits = np.random.default_rng(seed).standard_normal((count, 3))
    logits[np.arange(count), labels] += signal
    said = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows, zeros = np.arange(count), np.zeros(count, np.int8)
    path = Path(f"run-{seed}")
    return ScoredClasses(path, CLASSES, ("x", "y", "z"), names(count), zeros, said, labels, rows, logits, zeros)


def anomalies(count: int = 400, signal: float = 1.0, seed: int = 0, shared: float = 0.7) -> ScoredAnomalies:
    """Scores with ties, of which a part is the same for all models."""
    rng = np.random.default_rng(99)
    unknown = rng.random(count) < 0.15
    common = rng.standard_normal(count)
    own = np.random.default_rng(seed).standard_normal(count)
    scores = np.round(shared * common + np.sqrt(1 - shared**2) * own + signal * unknown, 1)
    kinds = np.where(unknown, np.where(rng.random(count) < 0.5, "KN", "TDE"), "SNIa")
    return ScoredAnomalies(
        Path(f"run-{seed}"), ANOMALIES, ("score",), names(count), unknown, scores[:, None], unknown, kinds
    )


def votes(count: int = 300, noise: float = 0.2, seed: int = 0) -> ScoredVotes:
    rng = np.random.default_rng(99)
    number = np.where(rng.random((count, 2)) < 0.2, 0, rng.integers(5, 40, (count, 2))).astype(float)
    true = np.where(number > 0, rng.random((count, 2)), np.nan)
    survey = np.where(np.arange(count) % 3 == 0, "sdss", "ukidss")
    said = np.nan_to_num(true) + noise * np.random.default_rng(seed).standard_normal((count, 2))
    both = ("bar_yes", "edge_on_yes")
    path, rows = Path(f"run-{seed}"), np.arange(count)
    return ScoredVotes(path, VOTES, both, names(count), survey, said, true, number, rows, both)


KINDS: list[Callable[..., ScoredPredictions]] = [fractions, classes, anomalies, votes]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_the_same_as_repeated_objects(kind: Callable[..., ScoredPredictions]) -> None:
    run = kind(seed=1)
    found = measured([run], resamples=3, seed=5)[0]
    from galaxyml.evaluation.bootstrap import stratified

    (drawn,) = stratified(run.strata, 3, seed=5)
    for row in range(4):
        repeated = run.take(np.repeat(np.arange(len(run.ids)), drawn[row]))
        alone = repeated.measure(np.ones((1, len(repeated.ids)), np.uint8))
        for key, values in found.items():
            assert values[row] == pytest.approx(alone[key][0], rel=1e-9, nan_ok=True), key


def test_the_numbers_are_those_of_other_libraries() -> None:
    run = classes()
    found = {key: values[0] for key, values in measured([run], resamples=1)[0].items()}
    assert found["macro_f1"] == pytest.approx(f1_score(run.target, run.predicted.argmax(1), average="macro"))
    assert found["auc/y"] == pytest.approx(roc_auc_score(run.target == 1, run.predicted[:, 1]))
    assert found["nll"] == pytest.approx(-np.log(run.predicted[np.arange(300), run.target]).mean())
    other = anomalies()
    found = {key: values[0] for key, values in measured([other], resamples=1)[0].items()}
    assert found["roc_auc"] == pytest.approx(roc_auc_score(other.target, other.predicted[:, 0]))
    assert found["pr_auc"] == pytest.approx(average_precision_score(other.target, other.predicted[:, 0]))
    rows = ~other.target | (other.names == "KN")
    assert found["roc_auc/KN"] == pytest.approx(roc_auc_score(other.target[rows], other.predicted[rows, 0]))
    plain = fractions()
    found = {key: values[0] for key, values in measured([plain], resamples=1)[0].items()}
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((plain.predicted - plain.target) ** 2)))
    assert found["pearson/b"] == pytest.approx(np.corrcoef(plain.predicted[:, 1], plain.target[:, 1])[0, 1])


def test_a_mean_difference_has_the_interval_and_p_of_normal_theory() -> None:
    one, other = classes(600, 1.5, 1), classes(600, 1.6, 2)
    found = measured([one, other], ["brier"], resamples=4000)
    gap = Difference.of(found[0]["brier"], found[1]["brier"])
    squared = [((run.predicted - np.eye(3)[run.target]) ** 2).sum(1) for run in (one, other)]
    each = squared[1] - squared[0]
    error = each.std(ddof=1) / np.sqrt(600)
    assert gap.value == pytest.approx(each.mean())
    assert [gap.low, gap.high] == pytest.approx(
        [each.mean() - 1.96 * error, each.mean() + 1.96 * error], abs=0.15 * error
    )
    assert gap.p == pytest.approx(2 * norm.sf(abs(each.mean()) / error), abs=0.03)


def test_a_difference_of_roc_areas_varies_as_delong_says() -> None:
    one, other = anomalies(800, 1.0, 1), anomalies(800, 1.2, 2)
    found = measured([one, other], ["roc_auc"], resamples=3000)
    drawn = (found[1]["roc_auc"] - found[0]["roc_auc"])[1:]
    wins = []  # DeLong, DeLong & Clarke-Pearson 1988: placement of each object among those of the other kind
    for run in (one, other):
        score = run.predicted[:, 0]
        above = score[run.target][:, None] - score[~run.target][None]
        wins.append((above > 0) + 0.5 * (above == 0))
    unknown, known = (np.stack([each.mean(axis) for each in wins]) for axis in (1, 0))
    spread = np.cov(unknown) / unknown.shape[1] + np.cov(known) / known.shape[1]
    variance = spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]
    assert drawn.std() == pytest.approx(np.sqrt(variance), rel=0.06)


def test_pairs_matter() -> None:
    """What is hard for all models says nothing of their difference."""
    hard = 0.3 * np.random.default_rng(7).standard_normal(500) ** 2
    one, other = fractions(500, 0.10, 1, hard), fractions(500, 0.11, 2, hard)
    found = measured([one, other], ["rmse"])
    paired = Difference.of(found[0]["rmse"], found[1]["rmse"])
    apart = Difference.of(found[0]["rmse"], measured([other], ["rmse"], seed=1)[0]["rmse"])
    assert paired.high - paired.low < 0.3 * (apart.high - apart.low)
    assert paired.value == apart.value


@pytest.mark.parametrize(("noise", "found_at_least", "found_at_most"), [(0.1, 0.0, 0.05), (0.115, 0.95, 1.0)])
def test_equal_models_are_rarely_told_apart_and_a_better_one_nearly_always(
    noise: float, found_at_least: float, found_at_most: float
) -> None:
    times, clear, held = 120, 0, 0
    truth = noise - 0.1
    for time in range(times):
        one, other = fractions(300, 0.1, 2 * time), fractions(300, noise, 2 * time + 1)
        found = measured([one, other], ["rmse"], resamples=300, seed=time)
        gap = Difference.of(found[0]["rmse"], found[1]["rmse"])
        clear += gap.p < 0.05
        held += gap.low <= truth <= gap.high
    assert binom.ppf(0.001, times, found_at_least) <= clear <= binom.ppf(0.999, times, found_at_most)
    assert held >= binom.ppf(0.001, times, 0.94)


def test_models_are_ranked_against_the_first() -> None:
    models = {"worst": 0.2, "best": 0.1, "middle": 0.105}
    runs = {name: {0: fractions(300, noise, at)} for at, (name, noise) in enumerate(models.items())}
    found = rank(runs, "rmse", "val")
    assert [row.name for row in found.rows] == ["best", "middle", "worst"]
    first, second, last = found.rows
    assert first.behind is None
    assert second.behind is not None
    assert last.behind is not None
    assert 0 < second.behind.value < last.behind.value
    assert last.behind.p == pytest.approx(2 / 1001)
    assert sum(row.first for row in found.rows) == pytest.approx(1)
    assert first.first > second.first > last.first == 0
    assert found.objects == 300
    again = rank(runs, "rmse", "test", ["worst", "best", "middle"])
    assert [row.name for row in again.rows] == ["worst", "best", "middle"]
    assert again.rows[1].behind is not None
    assert again.rows[1].behind.value == pytest.approx(-last.behind.value)


def test_the_spread_over_seeds_is_that_of_their_mean() -> None:
    """With so many galaxies that these say nothing of it, the interval is that of the seeds."""
    levels = np.array([0.10, 0.13, 0.11, 0.16])
    one = {seed: fractions(4000, 0.001, seed) for seed in range(4)}
    other = {seed: fractions(4000, level, 10 + seed) for seed, level in enumerate(levels)}
    found = rank({"one": one, "other": other}, "rmse", "val", resamples=4000)
    behind = found.rows[1].behind
    assert behind is not None
    error = levels.std(ddof=1) / 2
    assert behind.value == pytest.approx(levels.mean() - 0.001, rel=0.02)
    assert (behind.high - behind.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)
    alone = rank({"one": {0: one[0]}, "other": {0: other[0]}}, "rmse", "val").rows[1].behind
    assert alone is not None
    assert alone.high - alone.low < 0.3 * (behind.high - behind.low)


def test_seeds_that_hold_out_other_objects_are_measured_on_their_own() -> None:
    parts = {0: np.arange(0, 200), 1: np.arange(100, 300)}
    models = {
        name: {seed: fractions(300, noise, 5).take(rows) for seed, rows in parts.items()}
        for name, noise in (("good", 0.1), ("bad", 0.2))
    }
    found = rank({**models, "also": {**models["good"], 2: fractions(300)}}, "rmse", "val")
    assert found.objects == 300
    assert found.seeds == [0, 1]
    assert found.left_out == [2]
    each = [measured([run], ["rmse"], 1)[0]["rmse"][0] for run in models["good"].values()]
    assert found.rows[0].value == pytest.approx(np.mean(each))
    assert found.rows[1].behind is not None
    assert found.rows[1].behind.value == found.rows[1].behind.low == 0  # the same model twice
    assert found.rows[1].behind.p == 1


def test_runs_are_brought_into_one_order_on_what_all_predicted() -> None:
    one, other = classes(seed=1), classes(seed=2)
    mixed = other.take(np.random.default_rng(0).permutation(300)[:200]).only(["z", "x", "y"])
    found = aligned([one, mixed], "test")
    assert found[0].ids.tolist() == found[1].ids.tolist() == sorted(mixed.ids)
    assert found[1].columns == ("x", "y", "z")
    where = np.searchsorted(other.ids, found[1].ids)
    np.testing.assert_array_equal(found[1].predicted, other.predicted[where])
    np.testing.assert_array_equal(found[1].target, other.target[where])


def test_only_galaxies_that_all_were_asked_about_are_paired() -> None:
    both = votes()
    one, other = both.take(np.arange(200)), both.only(["bar_yes"])
    asked = both.votes[:200, 0] > 0
    assert not asked.all()
    found = aligned([one, other], "test")
    assert found[0].ids.tolist() == found[1].ids.tolist() == both.ids[:200][asked].tolist()
    np.testing.assert_array_equal(found[0].predicted, both.predicted[:200, :1][asked])


def test_of_too_few_galaxies_of_a_survey_nothing_is_measured() -> None:
    few = {name: {0: votes(seed=at).take(np.arange(30))} for at, name in enumerate(("a", "b"))}
    assert measured([few["a"][0]], resamples=3) == [{}]
    with pytest.raises(UserError, match="No val/pearson can be measured on the galaxies that all predicted"):
        rank(few, "pearson", "val")


def test_what_cannot_be_compared_is_told() -> None:
    one = fractions()
    cases: list[tuple[ScoredPredictions, str]] = [
        (classes(), "run-0 predicts vote fractions, run-0 classes: compare runs of one kind"),
        (one.take(np.arange(0)), "have no test galaxy in common"),
    ]
    for other, message in cases:
        with pytest.raises(UserError, match=message):
            aligned([one, other], "test")
    moved = fractions()
    moved.target[3, 1] = 0.5
    with pytest.raises(
        UserError, match=r"targets for 1 of 400 galaxies: b of g00003 is 0\.\d+ in the first and 0\.5 in"
    ):
        aligned([one, moved], "test")
    relabelled = classes()
    relabelled.target[7] = (relabelled.target[7] + 1) % 3
    with pytest.raises(UserError, match=r"different targets for 1 of 300 galaxies: g00007 is . in the first and . in"):
        aligned([classes(), relabelled], "test")
    told = anomalies()
    told.names[told.target.argmax()] = "AGN"
    with pytest.raises(UserError, match=r"is \w+ \(unknown\) in the first and AGN \(unknown\) in"):
        aligned([anomalies(), told], "test")
    with pytest.raises(UserError, match="not trained with the same seeds"):
        rank({"a": {0: one}, "b": {1: one}}, "rmse", "val")
    with pytest.raises(UserError, match="their validation folds overlap"):
        one.concat([fractions(seed=1)])
