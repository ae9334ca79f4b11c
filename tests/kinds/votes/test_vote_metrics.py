import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as sk

from galaxyml.evaluation import correlation
from galaxyml.evaluation.bootstrap import interval
from galaxyml.evaluation.calibration import reliability
from galaxyml.evaluation.correlation import Resampled, by_column, flattened, mean_defined, summed
from galaxyml.kinds.votes.metrics import VoteMetrics, fraction_reliability, majorities, published

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def sample(count: int = 400, columns: int = 4, seed: int = 0) -> Sample:
    """Fractions from integer votes, a third of them not asked, and predictions that know something of them."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(1.5, 2.5, (count, columns))
    votes = rng.integers(1, 30, (count, columns)).astype(float)
    true = rng.binomial(votes.astype(int), chance) / votes
    said = np.clip(0.7 * chance + 0.1 + 0.1 * rng.standard_normal((count, columns)), 0, 1)
    unasked = rng.random((count, columns)) < np.linspace(0.1, 0.6, columns)
    return said, np.where(unasked, np.nan, true), np.where(unasked, 0.0, votes)


def repeated(said: np.ndarray, true: np.ndarray, votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One column with a row for each vote."""
    known = ~np.isnan(true)
    times = votes[known].astype(int)
    return np.repeat(said[known], times), np.repeat(true[known], times)


def test_votes_weigh_as_repeated_rows_do() -> None:
    said, true, votes = sample()
    found = by_column(said, true, votes)
    for k in range(4):
        x, y = repeated(said[:, k], true[:, k], votes[:, k])
        assert found["pearson"][k] == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
        assert found["r2"][k] == pytest.approx(sk.r2_score(y, x), abs=1e-12)
        assert found["mae"][k] == pytest.approx(sk.mean_absolute_error(y, x), abs=1e-12)
        assert found["mse"][k] == pytest.approx(sk.mean_squared_error(y, x), abs=1e-12)
        assert found["rmse"][k] == pytest.approx(sk.root_mean_squared_error(y, x), abs=1e-12)


def test_votes_need_not_be_whole() -> None:
    said, true, votes = sample()
    votes = votes * 0.37
    found = by_column(said, true, votes)
    for k in range(4):
        known = ~np.isnan(true[:, k])
        given = {"sample_weight": votes[known, k]}
        assert found["r2"][k] == pytest.approx(sk.r2_score(true[known, k], said[known, k], **given), abs=1e-12)
        covariance = np.cov(said[known, k], true[known, k], aweights=votes[known, k])
        r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        assert found["pearson"][k] == pytest.approx(r, abs=1e-12)


def test_what_was_said_as_nan_has_no_measure() -> None:
    said, true, votes = sample()
    said[np.flatnonzero(votes[:, 1])[0], 1] = np.nan
    for values in by_column(said, true, votes).values():
        assert np.isnan(values).tolist() == [False, True, False, False]


def test_flattened_is_scipys_over_all_known_values() -> None:
    said, true, votes = sample()
    pairs = [repeated(said[:, k], true[:, k], votes[:, k]) for k in range(4)]
    x, y = (np.concatenate(each) for each in zip(*pairs, strict=True))
    assert flattened(summed(said, true, votes)) == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)


def test_what_was_not_asked_counts_nowhere() -> None:
    said, true, votes = sample()
    spoilt = np.where(np.isnan(true), np.nan, said)  # nor is it looked at what was said there
    unvoted = np.where(np.isnan(true), 0.9, true)  # a fraction without a vote is none
    for other in (by_column(spoilt, true, votes), by_column(said, unvoted, votes)):
        for name, values in by_column(said, true, votes).items():
            np.testing.assert_array_equal(other[name], values)
    count = int((votes[:, 0] > 0).sum())
    assert np.isfinite(by_column(said, unvoted, votes, least=count)["mae"][0])
    assert np.isnan(by_column(said, unvoted, votes, least=count + 1)["mae"][0])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 3), st.floats(-1, 1))
def test_correlation_knows_no_scale_and_no_offset(seed: int, scale: float, offset: float) -> None:
    said, true, votes = sample(60, 2, seed)
    moved = by_column(scale * said + offset, true, votes)["pearson"]
    np.testing.assert_allclose(moved, by_column(said, true, votes)["pearson"], atol=1e-9)
    np.testing.assert_allclose(by_column(-said, true, votes)["pearson"], -by_column(said, true, votes)["pearson"])


def test_the_truth_itself_is_perfect_and_its_mean_explains_nothing() -> None:
    _, true, votes = sample()
    perfect = by_column(np.nan_to_num(true), true, votes)
    for name, best in (("pearson", 1), ("r2", 1), ("mae", 0), ("rmse", 0)):
        np.testing.assert_allclose(perfect[name], best, atol=1e-12)
    mean = np.nansum(true * votes, axis=0) / votes.sum(0)
    constant = by_column(np.broadcast_to(mean, true.shape), true, votes)
    np.testing.assert_allclose(constant["r2"], 0, atol=1e-12)
    np.testing.assert_array_equal(constant["pearson"], 0)
    assert by_column(1 - np.nan_to_num(true), true, votes)["r2"].max() < 0


def test_columns_without_enough_galaxies_or_without_variety_are_nan() -> None:
    said, true, votes = sample(50, 4)
    true[:, 0] = np.where(np.isnan(true[:, 0]), np.nan, 0.3)
    true[3:, 1], votes[3:, 1] = np.nan, 0
    true[:, 2], votes[:, 2] = np.nan, 0
    found = by_column(said, true, votes, least=5)
    assert np.isnan(found["pearson"]).tolist() == [True, True, True, False]
    assert np.isnan(found["mae"]).tolist() == [False, True, True, False]
    assert mean_defined(found["pearson"]) == found["pearson"][3]
    assert np.isnan(mean_defined(np.full(3, np.nan)))
    nothing = by_column(said[:0], true[:0], votes[:0])
    assert all(np.isnan(values).all() for values in nothing.values())


def test_published_numbers_are_those_of_the_published_table(real: Path) -> None:
    with np.load(real / "surveys" / "ukidss" / "published_predictions_1000.npz") as file:
        said, true = file["predictions"].astype(float), file["true_labels"].astype(float)
        columns = list(file["label_columns"])
    r, constant = published(said, true)
    ones = np.ones_like(true)
    flat = by_column(*(values.reshape(-1, 1) for values in (said, true, ones)))
    found = {
        "flattened_pearson": r,
        "flattened_r2": r**2,
        "variance_explained": flat["r2"][0],
        "mae": flat["mae"][0],
        "pearson": mean_defined(by_column(said, true, ones)["pearson"]),
        "constant_flattened_pearson": constant,
    }
    expected = {
        "flattened_pearson": 0.839,
        "flattened_r2": 0.704,  # the square of it: what the table calls R2
        "variance_explained": 0.689,  # and R2 as scikit-learn has it
        "mae": 0.141,
        "pearson": 0.650,
        "constant_flattened_pearson": 0.744,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-3), name
    assert found["variance_explained"] == pytest.approx(sk.r2_score(true.ravel(), said.ravel()))
    # Honest: those who were asked alone. The columns of a question all are 0 where it was not.
    question = np.array([name[:3] for name in columns])
    totals = np.stack([true[:, question == name].sum(1) for name in question], axis=1)
    masked = np.where(totals > 0, true, np.nan)
    honest = by_column(said, masked, np.ones_like(masked), least=20)
    asked = totals[:, columns.index("t02_edgeon_a04_yes_fraction")] > 0
    at = columns.index("t02_edgeon_a04_yes_fraction")
    assert honest["pearson"][at] == pytest.approx(pearsonr(said[asked, at], true[asked, at]).statistic)
    assert asked.sum() == 967
    assert 0.5 < mean_defined(honest["pearson"]) < 0.8


def test_resamples_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    said, true, votes = sample(90, 3)
    other = np.clip(said + 0.1, 0, 1) ** 2
    monkeypatch.setattr(correlation, "GALAXIES_AT_ONCE", 32)  # several blocks, the last one smaller
    found = Resampled({"": said, "head": other}, true, votes, resamples=7, least=5, seed=4)
    rng = np.random.default_rng(4)
    for number in range(8):
        rows = np.arange(90) if number == 0 else rng.integers(0, 90, 90)
        for by, outputs in (("", said), ("head", other)):
            expected = by_column(outputs[rows], true[rows], votes[rows])
            for name, values in expected.items():
                np.testing.assert_allclose(found.column(name, by)[number], values, atol=1e-12, err_msg=name)
            chosen = np.array([True, False, True])
            assert found.mean("pearson", chosen, by)[number] == pytest.approx(expected["pearson"][chosen].mean())
            rmse = np.sqrt(expected["mse"][chosen].mean())
            assert found.mean("rmse", chosen, by)[number] == pytest.approx(rmse)
            flat = flattened(summed(outputs[rows][:, chosen], true[rows][:, chosen], votes[rows][:, chosen]))
            assert found.mean("flattened_pearson", chosen, by)[number] == pytest.approx(flat)
    assert found.asked.tolist() == (~np.isnan(true)).sum(0).tolist()
    assert found.votes.tolist() == votes.sum(0).tolist()


def test_columns_of_few_galaxies_are_not_measured() -> None:
    said, true, votes = sample(60, 3)
    true[10:, 1], votes[10:, 1] = np.nan, 0
    true[:, 2] = np.where(np.isnan(true[:, 2]), np.nan, 0.5)
    found = Resampled({"": said}, true, votes, resamples=3, least=20)
    assert found.defined.tolist() == [True, False, False]
    assert np.isnan(found.column("mae")[:, 1:]).all()
    every = np.ones(3, bool)
    np.testing.assert_array_equal(found.mean("pearson", every), found.column("pearson")[:, 0])
    assert np.isnan(found.mean("mae", ~found.defined)).all()


def test_interval_holds_the_middle_of_the_resamples() -> None:
    values = np.append(0.5, np.random.default_rng(0).standard_normal(1000))
    value, low, high = interval(values)
    assert value == 0.5
    assert [low, high] == pytest.approx(np.percentile(values[1:], [2.5, 97.5]))
    assert np.mean((values[1:] >= low) & (values[1:] <= high)) == pytest.approx(0.95, abs=0.002)
    values[1::2] = np.nan  # resamples in which the truth did not vary
    assert interval(values)[1] == pytest.approx(np.percentile(values[2::2], 2.5))
    assert np.isnan(interval(values[:1])[1:]).all()
    assert np.isnan(interval(np.append(np.nan, values[2:]))).all()


def test_intervals_have_the_width_that_theory_says() -> None:
    # Fisher 1915: arctanh r of a bivariate normal has a standard deviation of 1 / sqrt(n - 3).
    rng = np.random.default_rng(0)
    count, rho = 2000, 0.6
    x = rng.standard_normal((count, 1))
    y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((count, 1))
    found = Resampled({"": x}, y, np.ones_like(y), resamples=2000)
    value, low, high = interval(found.column("pearson")[:, 0])
    width = np.arctanh(high) - np.arctanh(low)
    assert width == pytest.approx(2 * 1.96 / np.sqrt(count - 3), rel=0.06)
    assert low < value < high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        x = rng.standard_normal((150, 1))
        y = 0.5 * x + np.sqrt(0.75) * rng.standard_normal((150, 1))
        drawn = Resampled({"": x}, y, np.ones_like(y), resamples=200, seed=trial)
        _, low, high = interval(drawn.column("pearson")[:, 0])
        held += low <= 0.5 <= high
    assert 0.89 < held / 200 <= 0.99


def test_paired_differences_are_narrower_than_those_of_two_samples() -> None:
    said, true, votes = sample(600, 1)
    better = np.where(np.isnan(true), said, 0.9 * said + 0.1 * np.nan_to_num(true))
    drawn = Resampled({"": said, "better": better}, true, votes, resamples=400)
    apart = Resampled({"better": better}, true, votes, resamples=400, seed=9)
    value, low, high = interval(drawn.column("mae", "better")[:, 0] - drawn.column("mae")[:, 0])
    unpaired = interval(apart.column("mae", "better")[:, 0] - drawn.column("mae")[:, 0])
    assert value == unpaired[0] < 0
    assert high < 0  # told apart, where two samples would not be
    assert high - low < 0.3 * (unpaired[2] - unpaired[1])
    same = Resampled({"": said, "again": said}, true, votes, resamples=20)
    np.testing.assert_array_equal(same.column("pearson", "again"), same.column("pearson"))


def test_seventy_thousand_galaxies_take_seconds() -> None:
    said, true, votes = sample(70_000, 9)
    start = time.perf_counter()
    Resampled({"": said}, true, votes, resamples=1000)
    assert time.perf_counter() - start < 60  # 3 s on a core of its own


def test_true_probabilities_are_calibrated_and_stretched_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random((20_000, 3))
    votes = rng.integers(1, 40, (20_000, 3)).astype(float)
    true = rng.binomial(votes.astype(int), chance) / votes
    assert fraction_reliability(chance, true, votes).ece < 0.003
    # Said p / 2 of p uniform in [0, 1]: the mean gap is the mean of p / 2.
    assert fraction_reliability(chance / 2, true, votes).ece == pytest.approx(0.25, abs=0.005)
    curve = fraction_reliability(chance, true, votes)
    within = (chance > 0.1) & (chance <= 0.2)
    assert curve.count[1] == votes[within].sum()
    assert curve.accuracy[1] == pytest.approx(np.average(true[within], weights=votes[within]))
    assert curve.confidence[1] == pytest.approx(np.average(chance[within], weights=votes[within]))


def test_majorities_are_what_most_volunteers_say() -> None:
    nan = np.nan
    true = np.array([[0.2, 0.8, 0.0, 0.5, 0.5], [0.6, 0.3, 0.1, nan, nan], [0.1, 0.9, nan, 0.3, 0.7]])
    votes = np.where(np.isnan(true), 0.0, 10.0)
    said = np.array([[0.7, 0.2, 0.1, 0.4, 0.6], [0.5, 0.4, 0.1, nan, nan], [0.2, 0.8, nan, 0.9, 0.1]])
    chances, labels = majorities(said, true, votes, [[0, 1, 2], [3, 4]])
    # The tie of the first galaxy and the question that the second was not asked are left out.
    assert labels.tolist() == [1, 0, 1, 1]
    np.testing.assert_allclose(chances, [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.2, 0.8, 0], [0.9, 0.1, 0]])
    assert reliability(chances, labels).count.sum() == 4
    nothing = majorities(said[:0], true[:0], votes[:0], [[0, 1, 2], [3, 4]])
    assert len(nothing[1]) == 0
    assert majorities(said, true, votes, [[0]])[1].tolist() == []  # one answer is no choice


@dataclass
class Answers:
    """What the metric needs of a vocabulary: two questions."""

    columns: tuple[str, ...] = ("smooth", "featured", "artifact", "yes", "no")
    question_of: tuple[int, ...] = (0, 0, 0, 1, 1)


def batch(count: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of five outputs, and targets with a question that some were not asked and an answer that some lack."""
    rng = np.random.default_rng(seed)
    outputs = rng.gamma(2, 1, (count, 5))
    fractions = np.concatenate([rng.dirichlet(np.ones(3), count), rng.dirichlet(np.ones(2), count)], axis=1)
    votes = np.repeat(rng.integers(1, 30, (count, 2)), [3, 2], axis=1).astype(float)
    fractions[: count // 3, 3:] = np.nan
    fractions[count // 2 :, 2] = np.nan
    votes[np.isnan(fractions)] = 0
    return torch.tensor(outputs), torch.tensor(np.stack([fractions, votes], axis=-1))


def metric() -> VoteMetrics:
    vocabulary: object = Answers()
    return VoteMetrics(vocabulary)  # type: ignore[arg-type]


def test_metric_over_batches_is_the_measure_of_all() -> None:
    outputs, targets = batch()
    collected = metric()
    for part in (slice(0, 10), slice(10, 40), slice(40, 64)):
        collected.update(outputs[part].requires_grad_(), targets[part])
    fractions, votes = targets.numpy()[..., 0], targets.numpy()[..., 1]
    known = ~np.isnan(fractions)
    said = np.empty((64, 5))
    for row in range(64):
        for columns in ([0, 1, 2], [3, 4]):
            values = np.where(known[row, columns], outputs.detach().numpy()[row, columns], 0)
            said[row, columns] = values / values.sum() if values.sum() else 0
    expected = by_column(said, fractions, votes)
    found = collected.compute()
    assert found["pearson"] == pytest.approx(expected["pearson"].mean())
    assert found["mae"] == pytest.approx(expected["mae"].mean())
    assert found["rmse"] == pytest.approx(np.sqrt(expected["mse"].mean()))
    for k, name in enumerate(Answers().columns):
        assert found[f"pearson/{name}"] == pytest.approx(expected["pearson"][k])
    assert not collected.sums.requires_grad
    assert set(collected.figures()) == {"pearson by column"}


def test_metric_is_finite_without_galaxies_and_without_votes() -> None:
    collected = metric()
    outputs, targets = batch()
    collected.update(outputs[:0], targets[:0])
    assert set(collected.compute().values()) == {0.0}
    targets[..., 0], targets[..., 1] = torch.nan, 0
    collected.update(outputs, targets)
    assert set(collected.compute().values()) == {0.0}
    collected.figures()


def test_a_diverged_net_correlates_with_nothing() -> None:
    collected = metric()
    outputs, targets = batch()
    outputs[3, 1] = torch.nan
    collected.update(outputs, targets)
    found = collected.compute()
    assert found["pearson/featured"] == 0
    assert found["mae"] == found["rmse"] == np.inf
    assert not np.isnan(list(found.values())).any()


def test_a_net_that_says_the_same_of_all_correlates_with_nothing() -> None:
    collected = metric()
    _, targets = batch()
    targets = targets[20:32]  # which all have all answers
    collected.update(torch.ones(12, 5), targets)
    found = collected.compute()
    assert found["pearson"] == 0
    assert 0 < found["mae"] < 1


def test_metric_takes_half_precision() -> None:
    outputs, targets = batch()
    collected, exact = metric(), metric()
    collected.update(outputs.bfloat16(), targets.float())
    exact.update(outputs.bfloat16().double(), targets)
    assert collected.compute() == pytest.approx(exact.compute(), abs=1e-6)
