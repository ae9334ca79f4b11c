import numpy as np
import pandas as pd
import pytest
from scipy import stats

from galaxyml.sky.light_curves.observation import DEEP_FIELDS, Visits, deep, efficiency, moon_phase, observe, wide
from galaxyml.sky.light_curves.photometry import DUST
from galaxyml.sky.light_curves.population import KINDS, KNOWN, UNKNOWN, member
from galaxyml.sky.positions import galactic_latitude
from galaxyml.sky.sheet import light_curve_sheet


def many(cadence, n=60):
    return [cadence(360 * k / n, np.random.default_rng(k)) for k in range(n)]


def visits(n, sky=5.0, band=2):
    return Visits(np.arange(n, dtype=float), np.full(n, band, dtype=np.int64), np.full(n, sky), np.ones(n))


@pytest.mark.parametrize(
    ("cadence", "fewest", "most", "gap"), [(wide, 100, 160, (110, 170)), (deep, 210, 390, (225, 250))]
)
def test_places_are_seen_in_three_seasons_with_gaps(cadence, fewest, most, gap):
    drawn = many(cadence)
    numbers = [len(one.mjd) for one in drawn]
    assert fewest < np.quantile(numbers, 0.1) < np.quantile(numbers, 0.9) < most
    longest = [np.sort(np.diff(one.mjd))[-2] for one in drawn]
    assert gap[0] < np.median(longest) < gap[1]
    for one in drawn:
        assert one.mjd.min() >= 59_580
        assert one.mjd.max() < 60_676
        assert np.all(np.diff(one.mjd) > 0)
        assert set(one.band) == set(range(6))
        np.testing.assert_array_equal(one.mjd, np.round(one.mjd, 4))


def test_a_place_is_seen_when_it_is_opposite_the_sun():
    # Right ascension 0 culminates at midnight in late September, 180 in late March (MJD 59580 is 1 January 2022).
    for ra, day in ((0.0, 264.0), (180.0, 81.0)):
        season = np.concatenate([deep(ra, np.random.default_rng(k)).mjd for k in range(10)])
        assert np.angle(
            np.exp(2j * np.pi * (season - 59_580) / 365.25).mean()
        ) * 365.25 / 2 / np.pi % 365.25 == pytest.approx(day, abs=8)


def test_ultraviolet_is_taken_in_dark_nights_and_deep_nights_have_five_bands():
    for one in many(deep, 10):
        night = np.floor(one.mjd + 0.3)
        phase = moon_phase(one.mjd)
        assert np.minimum(phase, 1 - phase)[one.band == 0].max() < 0.16
        others = pd.Series(one.band[one.band > 0]).groupby(night[one.band > 0]).agg(list)
        assert all(bands == [2, 1, 3, 4, 5] for bands in others)
        assert not set(night[one.band == 0]) & set(others.index)


def test_a_place_is_up_in_the_morning_when_its_season_begins_and_in_the_evening_when_it_ends():
    for one in many(deep, 10):
        hour = (one.mjd + 0.3) % 1 - 0.3
        season = np.cumsum(np.diff(one.mjd, prepend=one.mjd[0]) > 100)
        for number in range(1, season.max()):
            own = hour[season == number]
            # The stars come back 24 hours / 365.25 earlier each day.
            slope = np.polyfit(one.mjd[season == number], own, 1)[0]
            assert slope == pytest.approx(-1 / 365.25, rel=0.2)


def test_the_wide_survey_takes_mostly_one_band_a_night_and_more_of_the_red():
    drawn = many(wide)
    share = np.mean([np.bincount(one.band, minlength=6) / len(one.band) for one in drawn], axis=0)
    # Observations an object by band in the training set of PLAsTiCC, over their sum.
    np.testing.assert_allclose(share, [0.097, 0.087, 0.170, 0.165, 0.226, 0.256], atol=0.03)
    nights = np.mean([len(np.unique(np.floor(one.mjd))) / len(one.mjd) for one in drawn])
    assert 0.85 < nights < 0.97


def test_the_moon_brightens_the_sky_in_green_and_many_visits_darken_it():
    drawn = many(wide)
    band, sky, phase = (
        np.concatenate(part)
        for part in ([o.band for o in drawn], [o.sky for o in drawn], [moon_phase(o.mjd) for o in drawn])
    )
    bright, dark = np.abs(phase - 0.5) < 0.15, np.abs(phase - 0.5) > 0.35
    red, infrared = band == 2, band == 4
    assert np.median(sky[red & bright]) > 1.3 * np.median(sky[red & dark])
    assert np.median(sky[infrared & bright]) < 1.15 * np.median(sky[infrared & dark])
    nightly = many(deep, 10)
    for number in range(6):
        one, sums = (np.median(np.concatenate([o.sky[o.band == number] for o in part])) for part in (drawn, nightly))
        assert sums < one / 1.7


def test_noise_has_the_standard_deviation_that_is_given():
    rng = np.random.default_rng(0)
    light = np.full(20_000, 300.0)
    curve = observe(light, 10 * light, visits(20_000), 0.3, rng)
    pulls = (curve.flux - light) / curve.flux_err
    assert stats.kstest(pulls, "norm").pvalue > 0.01


def test_errors_are_sky_and_photons_corrected_for_dust():
    def error(light, template, mwebv, band=2):
        n = 4
        return observe(
            np.full(n, light), np.full(n, template), visits(n, band=band), mwebv, np.random.default_rng(0)
        ).flux_err[0]

    assert error(0.0, 0.0, 0.0) == 5
    for band in range(6):
        assert error(0.0, 0.0, 1.0, band) == pytest.approx(5 * 10 ** (0.4 * DUST[band]))
    # 30 s with an electron a second at magnitude 28.2 in r: a flux of 1 is 10^(0.4 (28.2 - 27.5)) * 30 electrons.
    electrons = 30 * 10 ** (0.4 * 0.7)
    assert error(0.0, 1000.0, 0.0) ** 2 - 25 == pytest.approx(1000 / electrons)
    systematic = (1000 * 0.005 * np.log(10) / 2.5) ** 2
    assert error(1000.0, 0.0, 0.0) ** 2 - 25 - 1000 / electrons == pytest.approx(systematic)
    assert error(-1000.0, 1000.0, 0.0) ** 2 - 25 == pytest.approx(systematic)


def test_detections_are_as_frequent_as_in_the_training_set_of_plasticc():
    # Shares of detections by |flux| / error there.
    significance = np.array([0.5, 2.5, 3.5, 4.25, 5.25, 6.5, 7.5, 9.0, 12.0, -7.5])
    np.testing.assert_allclose(
        efficiency(significance), [0, 0.01, 0.10, 0.23, 0.45, 0.73, 0.87, 0.95, 0.98, 0.87], atol=0.04
    )
    quiet = observe(np.zeros(100_000), np.zeros(100_000), visits(100_000), 0.0, np.random.default_rng(1))
    assert quiet.detected.mean() < 3e-4


@pytest.mark.parametrize("number", KINDS)
def test_members_are_detected_twice_and_where_their_class_is(number):
    found = [member(number, np.random.default_rng([number, k])) for k in range(12)]
    for one in found:
        assert one.curve.detected.sum() >= 2
        assert np.all(one.curve.flux_err > 0)
        assert -70 < one.decl < 8
        assert 0 <= one.ra < 360
        assert one.mwebv > 0
        assert (one.parameters["redshift"] > 0) == (KINDS[number].redshift is not None)
    flat = np.abs([galactic_latitude(np.array(one.ra), np.array(one.decl)) for one in found if not one.deep])
    if KINDS[number].redshift is None:
        assert np.median(flat) < 45
    else:
        assert min(flat) > 1
    for one in found:
        if one.deep:
            assert np.hypot(*(DEEP_FIELDS - [one.ra, one.decl]).T).min() < 5 or one.ra > 355


def test_members_are_those_of_their_random_numbers():
    one, same, other = (member(90, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.curve.flux, same.curve.flux)
    assert one.parameters == same.parameters
    assert one.parameters != other.parameters


def test_farther_objects_are_fainter():
    near, far = ([member(92, np.random.default_rng(k), farther) for k in range(40)] for farther in (1.0, 1.5))
    fainter = [
        there.parameters["magnitude"] - here.parameters["magnitude"] for here, there in zip(near, far, strict=True)
    ]
    assert np.median(fainter) == pytest.approx(5 * np.log10(1.5))
    near, far = ([member(90, np.random.default_rng(k), farther) for k in range(80)] for farther in (1.0, 1.5))
    # Fewer of the farther ones are detected, so that those which are stand out less than they are away.
    redshifts = [np.median([one.parameters["redshift"] for one in part]) for part in (near, far)]
    assert 1.1 < redshifts[1] / redshifts[0] < 1.6


def test_known_classes_are_the_fourteen_of_the_challenge():
    assert set(KNOWN) == {90, 67, 52, 42, 62, 95, 15, 64, 88, 92, 65, 16, 53, 6}
    assert set(UNKNOWN) == {991, 992, 993, 994}
    # Public release of the training set: 7848 objects, 7846 of them in the counts by class that are used here.
    assert sum(kind.training for kind in KINDS.values()) == 7846


def test_the_sheet_has_a_row_for_each_class_with_points_in_every_image():
    figure = light_curve_sheet(3)
    assert len(figure.axes) == 3 * len(KINDS)
    titles = [axis.get_title() for axis in figure.axes]
    assert [title.split()[0] for title in titles[::3]] == [str(number) for number in KINDS]
    assert all(axis.containers for axis in figure.axes)


def test_light_curves_have_the_sizes_and_errors_of_the_real_ones(real):
    folder = real / "plasticc"
    curves = pd.read_csv(folder / "training_set.csv")
    objects = pd.read_csv(folder / "training_set_metadata.csv").set_index("object_id")
    curves = curves.join(objects[["ddf", "target"]], on="object_id")
    curves = curves[curves.target.isin([90, 42, 62]) & (curves.flux.abs() < 2 * curves.flux_err)]
    ours = [member((90, 42, 62)[k % 3], np.random.default_rng(k)) for k in range(240)]
    for is_deep in (False, True):
        own = [one.curve for one in ours if one.deep == is_deep]
        error = np.concatenate([one.flux_err for one in own])
        quiet = np.concatenate([np.abs(one.flux) < 2 * one.flux_err for one in own])
        band = np.concatenate([one.band for one in own])
        theirs = curves[curves.ddf == is_deep].groupby("passband").flux_err.median()
        for number in range(6):
            assert np.median(error[quiet & (band == number)]) == pytest.approx(theirs[number], rel=0.25)
