import io
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import minimize

from galaxyml.evaluation.conformal import (
    LEVELS,
    Intervals,
    conformal_quantiles,
    covered,
    error,
    fewest,
    fit_variance,
    shrinkage,
    widths,
)
from galaxyml.evaluation.plots import interval_figure

TRUE = np.array([2e-4, 0.02, 1.5])


def drawn(count: int, columns: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fractions, their spreads, and truths that differ by Gaussian errors of the variance `TRUE`, within [0, 1]."""
    rng = np.random.default_rng(seed)
    said = rng.uniform(0.001, 0.999, (count, columns))
    spread = rng.gamma(2, 0.02, (count, columns))
    noise = np.sqrt(TRUE[0] + TRUE[1] * said * (1 - said) + TRUE[2] * spread**2) * rng.standard_normal(said.shape)
    return said, spread, np.clip(said + noise, 0, 1)


def chance(count: int, other: int, level: float) -> float:
    """Four standard deviations of a share, of `count` galaxies, whose threshold was found on `other` ones."""
    return float(4 * np.sqrt(level * (1 - level) * (1 / count + 1 / other)))


@pytest.mark.parametrize(("number", "level"), list(enumerate(LEVELS)))
def test_intervals_hold_the_truth_as_often_as_asked(number: int, level: float) -> None:
    said, spread, true = drawn(20_000)
    low, high = Intervals.fit(said[:10_000], spread[:10_000], true[:10_000])(said[10_000:], spread[10_000:])
    inside = ((low <= true[10_000:]) & (true[10_000:] <= high))[number, :, 0]
    assert abs(inside.mean() - level) < chance(10_000, 10_000, level)
    for values in (spread[10_000:, 0], np.abs(said[10_000:, 0] - 0.5)):  # and so in each third of those that are hard
        for third in np.array_split(np.argsort(values), 3):
            assert abs(inside[third].mean() - level) < chance(3333, 10_000, level) + 0.01


@pytest.mark.parametrize("level", [0.05, 0.5, 0.55, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 3, 19, 20, 99])
def test_one_more_score_is_at_or_below_the_quantile_exactly_as_often_as_promised(count: int, level: float) -> None:
    scores = np.random.default_rng(count).permutation(count + 1).astype(float)
    held = [
        scores[left_out] <= conformal_quantiles(np.delete(scores, left_out), np.array([level]))[0]
        for left_out in range(count + 1)
    ]
    assert level - 1e-9 <= np.mean(held) < level + 1 / (count + 1) - 1e-9
    # Where many are equal it is held more often, never less.
    tied = scores // 4
    held = [
        tied[left_out] <= conformal_quantiles(np.delete(tied, left_out), np.array([level]))[0]
        for left_out in range(count + 1)
    ]
    assert np.mean(held) >= level - 1e-9


@pytest.mark.parametrize("count", [19, 30])
def test_of_few_galaxies_the_mean_coverage_over_many_draws_is_what_is_asked(count: int) -> None:
    draws = 3000
    said, spread = np.full((count + 1, draws), 0.5), np.zeros((count + 1, draws))  # an error that all have alike
    true = 0.5 + 0.05 * np.random.default_rng(0).standard_t(4, said.shape)
    low, high = Intervals.fit(said[:-1], spread[:-1], true[:-1])(said[-1:], spread[-1:])
    held = ((low <= true[-1:]) & (true[-1:] <= high))[:, 0].mean(axis=1)
    for level, share in zip(LEVELS, held, strict=True):
        noise = 4 * np.sqrt(level * (1 - level) / draws)
        assert level - noise <= share <= level + 1 / (count + 1) + noise


def test_of_few_galaxies_fitting_the_error_costs_little() -> None:
    said, spread, true = drawn(101, columns=3000)
    low, high = Intervals.fit(said[:100], spread[:100], true[:100])(said[100:], spread[100:])
    held = ((low <= true[100:]) & (true[100:] <= high))[:, 0].mean(axis=1)
    noise = 4 * np.sqrt(0.25 / 3000)
    np.testing.assert_array_less(np.array(LEVELS) - noise - 0.01, held)


def test_fit_recovers_the_variance_under_heavy_tails() -> None:
    said, spread, _ = drawn(200_000)
    s = np.sqrt(TRUE[0] + TRUE[1] * said * (1 - said) + TRUE[2] * spread**2)
    residuals = s * np.random.default_rng(1).standard_t(6, s.shape) * np.sqrt(4 / 6)
    found = fit_variance(said[:, 0], spread[:, 0], residuals[:, 0] ** 2)
    np.testing.assert_allclose(found[1:], TRUE[1:], rtol=0.05)
    assert found[0] == pytest.approx(TRUE[0], rel=0.3)
    np.testing.assert_allclose(error(said, spread, TRUE[:, None]), s)


def test_the_variance_is_that_of_greatest_gaussian_likelihood() -> None:
    rng = np.random.default_rng(0)
    p, u = rng.random(3000), rng.gamma(2, 0.02, 3000)
    squares = (0.002 + 0.02 * p * (1 - p) + 1.5 * u**2) * rng.standard_normal(3000) ** 2

    def loss(logs: np.ndarray) -> float:
        variance = np.exp(logs[0]) + np.exp(logs[1]) * p * (1 - p) + np.exp(logs[2]) * u**2
        return float((np.log(variance) + squares / variance).mean())

    best = minimize(
        loss, np.full(3, -3), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12, "maxiter": 5000}
    )
    np.testing.assert_allclose(fit_variance(p, u, squares), np.exp(best.x), rtol=0.01)


def test_no_coefficient_is_negative_and_no_error_is_zero() -> None:
    said, spread, _ = drawn(500)
    flat = fit_variance(said[:, 0], np.zeros(500), np.full(500, 0.01))
    assert flat[2] == 0
    assert flat[0] == pytest.approx(0.01, rel=1e-3)
    falling = fit_variance(said[:, 0], spread[:, 0], 0.3 - said[:, 0] * (1 - said[:, 0]))
    assert (falling >= 0).all()
    assert falling[0] > 0
    low, high = Intervals.fit(said, spread, said)(said, spread)  # a net that is never wrong
    np.testing.assert_array_equal(low, np.broadcast_to(said, low.shape))
    np.testing.assert_array_equal(high, low)


def zeros(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rare column: 70 % are exactly 0, as are the predictions of 90 % of these, and of a few others."""
    rng = np.random.default_rng(seed)
    true = np.where(rng.random((count, 1)) < 0.7, 0, rng.beta(1.5, 4, (count, 1)))
    said = np.clip(true + 0.05 * rng.standard_normal(true.shape), 0, 1)
    said = np.where((true == 0) & (rng.random(true.shape) < 0.9), 0, said)
    return said, np.zeros(said.shape), true


def test_exact_zeros_leave_the_others_their_width() -> None:
    fitted = Intervals.fit(*zeros(20_000, 0))
    said, spread, true = zeros(20_000, 1)
    low, high = fitted(said, spread)
    above = said[:, 0] > 0
    for number, level in enumerate(LEVELS):
        share = covered(low[:, above], high[:, above], true[above])[number, 0]
        assert abs(share - level) < chance(above.sum(), above.sum(), level)
    assert (high[0, ~above] == 0).all()  # at 50 %: more than half of them are 0 indeed
    assert (true[~above] == 0).mean() > 0.5
    assert (high - low)[0, above].min() > 0
    together = covered(low, high, true)[:, 0]
    assert together[0] > 0.75
    assert (together > np.array(LEVELS) - 0.01).all()


def test_too_few_zeros_have_the_quantiles_of_all() -> None:
    said, spread, true = drawn(400)
    said[:5], true[:5] = 0, 0
    fitted = Intervals.fit(said, spread, true)
    scores = np.abs(true - said) / error(said, spread, fitted.variance)
    assert fitted.quantiles[1, 2, 0] == conformal_quantiles(scores[:, 0], np.array([0.95]))[0]
    assert fitted.quantiles[1, 0, 0] == 0  # of five the median is known
    assert fitted.quantiles[0, 2, 0] == conformal_quantiles(scores[5:, 0], np.array([0.95]))[0]


def test_too_few_galaxies_for_a_level_give_all_that_is_possible() -> None:
    said, spread, true = drawn(10)
    low, high = Intervals.fit(said, spread, true)(said, spread, shrink=0.5)
    assert (high - low)[1].max() < 1
    assert (low[2] == 0).all()
    assert (high[2] == 1).all()
    low, high = Intervals.fit(said, spread, np.full(true.shape, np.nan))(said, spread)
    assert (low == 0).all()
    assert (high == 1).all()


def test_unknown_truth_counts_nowhere_and_columns_do_not_know_of_each_other() -> None:
    said, spread, true = drawn(300, columns=3)
    true[:100, 0] = true[200:, 2] = np.nan
    fitted = Intervals.fit(said, spread, true)
    for k, rows in enumerate((slice(100, None), slice(None), slice(None, 200))):
        alone = Intervals.fit(said[rows, k : k + 1], spread[rows, k : k + 1], true[rows, k : k + 1])
        np.testing.assert_array_equal(alone.variance[:, 0], fitted.variance[:, k])
        np.testing.assert_array_equal(alone.quantiles[..., 0], fitted.quantiles[..., k])
        np.testing.assert_array_equal(
            alone(said[:, k : k + 1], spread[:, k : k + 1]), [ends[..., k : k + 1] for ends in fitted(said, spread)]
        )


def test_intervals_lie_in_each_other_about_the_fraction_and_within_0_and_1() -> None:
    said, spread, true = drawn(500, columns=2)
    fitted = Intervals.fit(said, spread, true, levels=(0.2, 0.9, 0.99))
    off = said + np.array([-0.6, 0.6])
    low, high = fitted(off, spread)
    assert low.min() == 0
    assert high.max() == 1
    assert (low <= off.clip(0, 1)).all()
    assert (off.clip(0, 1) <= high).all()
    assert (np.diff(low, axis=0) <= 0).all()
    assert (np.diff(high, axis=0) >= 0).all()
    some = fitted.at(slice(1, 3))
    np.testing.assert_array_equal(some(off, spread), [low[1:], high[1:]])
    np.testing.assert_array_equal(some.levels, [0.9, 0.99])


def test_half_the_width_is_the_quantile_times_the_error_times_the_shrinkage() -> None:
    quantiles = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])
    made = Intervals(np.array([0.9]), np.array([[0.0001, 0.0004], [0.01, 0.0], [0.0, 1.0]]), quantiles, np.array(True))
    low, high = made(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([[0.1, 0.1], [0.0, 0.0]]), np.array([1.0, 0.5]))
    first, second = np.sqrt(0.0001 + 0.01 / 4), 2 * np.sqrt(0.0004 + 0.01) / 2
    np.testing.assert_allclose(low[0], [[0.5 - first, 0.5 - second], [0, 1 - 4 * 0.02 / 2]])
    np.testing.assert_allclose(high[0], [[0.5 + first, 0.5 + second], [3 * 0.01, 1]])


def test_one_row_alone_gets_the_bits_that_it_has_in_company() -> None:
    said, spread, true = drawn(200, columns=3)
    fitted = Intervals.fit(said, spread, true)
    low, high = fitted(said, spread)
    for row in range(200):
        alone = fitted(said[row : row + 1], spread[row : row + 1])
        np.testing.assert_array_equal(alone, [low[:, row : row + 1], high[:, row : row + 1]])


def test_arrays_are_all_that_is_needed() -> None:
    said, spread, true = drawn(50, columns=2)
    fitted = Intervals.fit(said, spread, true)
    again = Intervals.of_arrays(fitted.arrays() | {"other": np.zeros(1)})
    np.testing.assert_array_equal(again(said, spread), fitted(said, spread))


def nets(count: int, members: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What nets say, whose errors are alike in part, shape (F, N, 2), and the truth, shape (N, 2)."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.3, 0.7, (count, 2))
    said = true + 0.04 * rng.standard_normal(true.shape)
    return said + np.array([0.02, 0.06]) * rng.standard_normal((members, *true.shape)), true


def test_shrinkage_is_the_ratio_of_the_means_error_to_the_nets_own() -> None:
    said, true = nets(400, members=4)
    found = shrinkage(said.std(axis=0), (true - said).reshape(-1, 2))
    of_mean = np.sqrt(((true - said.mean(axis=0)) ** 2).mean(axis=0))
    of_one = np.sqrt(((true - said) ** 2).mean(axis=(0, 1)))
    np.testing.assert_allclose(found, of_mean / of_one, rtol=1e-12)


def test_shrinkage_is_within_bounds_and_leaves_out_what_is_not_known() -> None:
    between = np.full((10, 4), 0.1)
    residuals = np.stack([np.full(6, 0.2), np.full(6, 0.1), np.zeros(6), np.full(6, np.nan)], axis=1)
    residuals[1, 0] = np.nan
    np.testing.assert_allclose(shrinkage(between, residuals), [np.sqrt(0.75), 0.5, 1, 1])


def test_the_shrunk_intervals_of_a_mean_hold_what_they_should() -> None:
    said, true = nets(40_000, members=5)
    of_fold = np.arange(20_000) % 5
    own = np.take_along_axis(said[:, :20_000], of_fold[None, :, None], axis=0)[0]
    none = np.zeros_like(own)
    fitted = Intervals.fit(own, none, true[:20_000])
    mean, rest = said[:, 20_000:].mean(axis=0), true[20_000:]
    shrink = shrinkage(said[:, 20_000:].std(axis=0), true[:20_000] - own)
    shares = covered(*fitted(mean, none, shrink), rest)
    for level, share in zip(LEVELS, shares, strict=True):
        assert (np.abs(share - level) < chance(20_000, 20_000, level) + 0.005).all()
    assert (covered(*fitted(mean, none), rest)[:, 1] > np.array(LEVELS) + 0.02).all()


def test_shares_and_widths_are_those_counted_by_hand() -> None:
    low = np.array([[[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]]])
    high = low + np.array([[[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]]])
    true = np.array([[0.1, np.nan], [0.5, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(covered(low, high, true), [[0.5, np.nan]])
    np.testing.assert_allclose(widths(low, high), [[0.2, 0.5]])


@pytest.mark.parametrize("columns", [1, 37])
def test_figure_has_a_dot_and_a_bar_for_each_column_and_level(columns: int) -> None:
    names = [f"Class{number}.10" for number in range(columns)]
    rng = np.random.default_rng(0)
    shares, wide = rng.uniform(0.4, 1, (3, columns)), np.sort(rng.random((3, columns)), axis=0)
    shares[0, 0] = np.nan if columns > 1 else 0.5
    asked = np.array([0.1, 0.5, 0.9])
    figure = interval_figure(
        names, np.array(LEVELS), shares, wide, asked, {"all": asked, "some": asked**2}, "Intervals of test galaxies"
    )
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    held, width, over_all = figure.axes[:3]
    dots = [line.get_xdata() for line in held.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(dots, shares[::-1])
    bars = [patch.get_width() for patch in width.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose(bars, wide[::-1].flatten())
    np.testing.assert_array_equal(over_all.lines[2].get_ydata(), asked**2)
    assert [text.get_text() for text in held.get_yticklabels()] == names
    for one, other in itertools.combinations(held.get_yticklabels(), 2):
        assert not one.get_window_extent().padded(-1).overlaps(other.get_window_extent().padded(-1))


@pytest.mark.parametrize("unit", [1.0, 1e11, 1e-6])
def test_numbers_of_any_unit_have_intervals_without_ends(unit: float) -> None:
    rng = np.random.default_rng(5)
    said = unit * rng.normal(3, 4, (6000, 1))
    spread = unit * rng.gamma(2, 0.3, said.shape)
    true = said + np.sqrt((0.5 * unit) ** 2 + spread**2) * rng.standard_normal(said.shape)
    fit = Intervals.fit(said[:3000], spread[:3000], true[:3000], bounded=False)
    fit = Intervals.of_arrays(fit.arrays())
    low, high = fit(said[3000:], spread[3000:])
    inside = ((low <= true[3000:]) & (true[3000:] <= high))[:, :, 0]
    for number, level in enumerate(LEVELS):
        assert abs(inside[number].mean() - level) < chance(3000, 3000, level)
        for half in np.array_split(np.argsort(spread[3000:, 0]), 2):  # wide where the views differ
            assert abs(inside[number, half].mean() - level) < chance(1500, 3000, level) + 0.01
    np.testing.assert_allclose((low + high) / 2, np.broadcast_to(said[3000:], low.shape), rtol=1e-9)
    assert low.min() < 0 < high.max()


def test_without_anything_to_learn_from_an_interval_is_all_numbers() -> None:
    nothing = np.zeros((0, 1))
    low, high = Intervals.fit(nothing, nothing, nothing, bounded=False)(np.ones((2, 1)), np.zeros((2, 1)))
    assert (low == -np.inf).all()
    assert (high == np.inf).all()


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_fewest_scores_have_a_finite_quantile(level: float) -> None:
    count = fewest(level)
    levels = np.array([level])
    assert np.isfinite(conformal_quantiles(np.arange(count, dtype=float), levels)).all()
    assert not np.isfinite(conformal_quantiles(np.arange(count - 1, dtype=float), levels)).any()
