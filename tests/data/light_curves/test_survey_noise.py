from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from galaxyml.data.light_curves.columns import LightCurves
from galaxyml.data.light_curves.survey_noise import PUBLISHED_ERRORS, Survey


def objects_of(count: int, **columns: Any) -> pd.DataFrame:
    plain = {"photoz": 0.3, "specz": 0.3, "photoz_err": 0.02, "mwebv": 0.1, "galactic": False, "ddf": False}
    return pd.DataFrame({"id": np.arange(count), **{name: columns.get(name, value) for name, value in plain.items()}})


def curves_of(lengths: np.ndarray, band: np.ndarray, flux: np.ndarray, error: np.ndarray) -> LightCurves:
    total = int(lengths.sum())
    return LightCurves(
        ids=np.arange(len(lengths)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        mjd=np.concatenate([np.sort(np.random.default_rng(9).uniform(59600, 60600, length)) for length in lengths]),
        band=band.astype(np.int8),
        flux=flux.astype(np.float32),
        error=error.astype(np.float32),
        detected=np.zeros(total, bool),
    )


@pytest.fixture
def survey() -> Survey:
    hosts = np.stack([np.linspace(0.05, 2, 200), np.linspace(0.05, 2, 200) + 0.1, np.full(200, 0.2)], 1)
    return Survey(PUBLISHED_ERRORS, (np.array([100, 120]), np.array([300])), hosts)


def test_the_errors_of_each_field_and_band_are_measured_on_the_sky() -> None:
    dice = np.random.default_rng(0)
    deep = np.arange(60) % 2 == 0
    lengths = np.full(60, 200)
    band = dice.integers(0, 5, lengths.sum())  # none in y
    error = dice.lognormal(np.where(np.repeat(deep, 200), 0.0, 1.5) + 0.2 * band, 0.3)
    flux = dice.normal(0, error)
    bright = dice.random(len(flux)) < 0.2
    flux[bright], error[bright] = 1e4, 300.0  # their error is their own
    found = Survey.measured(curves_of(lengths, band, flux, error), objects_of(60, ddf=deep))
    expected = np.array([1.5, 0.0])[:, None] + 0.2 * np.arange(5)
    np.testing.assert_allclose(found.errors[:, :5, 0], expected, atol=0.06)
    np.testing.assert_allclose(found.errors[:, :5, 1], 0.3, atol=0.05)
    np.testing.assert_array_equal(found.errors[:, 5], PUBLISHED_ERRORS[:, 5])


def test_galactic_objects_tell_nothing_of_the_sky() -> None:
    galactic = np.arange(40) < 20
    lengths = np.where(galactic, 300, 50)
    error = np.where(np.repeat(galactic, lengths), 1000.0, 2.0)
    total = lengths.sum()
    curves = curves_of(lengths, np.zeros(total), np.zeros(total), error)
    found = Survey.measured(curves, objects_of(40, galactic=galactic, photoz=np.where(galactic, 0, 0.3)))
    assert found.errors[0, 0, 0] == pytest.approx(np.log(2), abs=1e-6)
    assert set(found.counts[0]) == {50}
    assert len(found.hosts) == 20


@pytest.mark.parametrize("name", ["photoz", "photoz_err", "specz"])
def test_hosts_of_which_a_redshift_is_missing_tell_nothing_of_photometric_redshifts(name: str) -> None:
    known = np.arange(30) % 3 > 0
    values = np.where(known, np.linspace(0.2, 0.4, 30), np.nan)
    total = np.full(30, 10)
    curves = curves_of(total, np.zeros(300), np.zeros(300), np.ones(300))
    found = Survey.measured(curves, objects_of(30, **{name: values}))
    column = ("specz", "photoz", "photoz_err").index(name)
    np.testing.assert_array_equal(found.hosts[:, column], values[known])
    assert np.isfinite(found.hosts).all()
    assert set(found.counts[0]) == {10}
    assert len(found.counts[0]) == 30  # they tell the cadence as the others do
    dice = np.random.default_rng(0)
    assert np.isfinite([found.photoz(0.3, dice) for _ in range(100)]).all()


def test_the_sky_is_log_normal(survey: Survey) -> None:
    drawn = survey.sky(np.full(4000, 2), True, np.random.default_rng(1))
    assert stats.kstest(np.log(drawn), stats.norm(0.16, 0.36).cdf).pvalue > 1e-3
    plain = survey.sky(np.full(4000, 2), False, np.random.default_rng(1))
    assert np.median(plain) == pytest.approx(np.exp(1.30), rel=0.05)


def test_photometric_redshifts_err_as_those_of_hosts_nearby() -> None:
    true = np.linspace(0.1, 2.0, 400)
    hosts = np.stack([true, np.where(true < 1, true * 1.1, true - 0.3), np.where(true < 1, 0.05, 0.5)], 1)
    survey = Survey(PUBLISHED_ERRORS, (np.array([100]), np.array([300])), hosts)
    dice = np.random.default_rng(0)
    near, far = (np.array([survey.photoz(redshift, dice) for _ in range(300)]) for redshift in (0.5, 1.7))
    assert near[:, 0].mean() == pytest.approx(0.55, abs=0.01)
    assert near[:, 1].mean() == pytest.approx(0.05, rel=0.05)
    assert near[:, 1].std() == pytest.approx(0.05 * 0.05, rel=0.5)
    assert far[:, 0].mean() == pytest.approx(1.4, abs=0.02)
    assert far[:, 1].mean() == pytest.approx(0.5, rel=0.05)
    beyond = np.array([survey.photoz(3.0, dice) for _ in range(50)])
    assert (np.abs(beyond[:, 0] - 2.6) < 0.15).all()  # its neighbours' errors grow as 1 + z


def test_a_photometric_redshift_is_never_that_of_a_galactic_object() -> None:
    survey = Survey(PUBLISHED_ERRORS, (np.array([100]), np.array([300])), np.array([[1.0, 0.2, 0.4]]))
    assert survey.photoz(0.1, np.random.default_rng(0))[0] == 0.01


def test_visits_are_stretched_about_the_pivot_and_moved_together(survey: Survey) -> None:
    mjd = np.sort(np.random.default_rng(3).uniform(59600, 60600, 400))
    band = np.arange(400) % 6
    for seed in range(20):
        seen, bands, moment = survey.visits(mjd, band, 60000.0, 1.3, True, np.random.default_rng(seed))
        moved = seen - (60000 + 1.3 * (moment - 60000))
        assert np.ptp(moved) < 1e-6
        assert abs(moved[0]) <= 50
        assert np.isin(moment, mjd).all()
        assert (np.diff(seen) >= 0).all()
        assert seen[0] > mjd[0] - 100
        assert seen[-1] < mjd[-1] + 100
        assert len(seen) <= 300
        repeated = len(moment) - len(np.unique(moment))
        assert repeated > 0
        other = bands != band[np.searchsorted(mjd, moment)]
        assert 0.3 * repeated < other.sum() < 1.5 * repeated  # repeated in any passband, or alone left of a pair


def test_visits_that_are_not_stretched_lose_a_tenth_and_a_season(survey: Survey) -> None:
    mjd = np.sort(np.random.default_rng(3).uniform(59600, 60600, 200))
    band = np.arange(200) % 6
    counts = []
    for seed in range(200):
        seen, bands, moment = survey.visits(mjd, band, 60000.0, 1.0, True, np.random.default_rng(seed))
        assert len(np.unique(moment)) == len(moment)
        np.testing.assert_array_equal(bands, band[np.searchsorted(mjd, moment)])
        counts.append(len(seen))
    assert max(counts) <= 180
    assert min(counts) < 150  # 250 of 1,000 days are gone
    assert np.mean(counts) < 165


def test_there_are_no_more_visits_than_the_field_has(survey: Survey) -> None:
    mjd = np.linspace(59600, 60600, 400)
    found = [
        len(survey.visits(mjd, np.arange(400) % 6, 60000.0, 1.5, False, np.random.default_rng(seed))[0])
        for seed in range(30)
    ]
    assert max(found) == 120
    assert set(found) <= {100, 120}
