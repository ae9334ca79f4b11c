import numpy as np
import pytest
from astropy import units
from astropy.modeling.models import BlackBody
from scipy import integrate, optimize

from galaxyml.sky.light_curves import extragalactic, photometry
from galaxyml.sky.light_curves.extragalactic import EXPLOSIONS
from galaxyml.sky.light_curves.laws import draw, exponential, fixed, gamma, lognormal, normal, uniform
from galaxyml.sky.light_curves.photometry import WAVELENGTH, distance_modulus, flux
from galaxyml.sky.light_curves.population import KINDS

G, R, I = 1, 2, 3  # noqa: E741


def bands(number, length):
    return np.full(length, number, dtype=np.int64)


def drawn(model, redshift, seed=0, **changed):
    return model.draw(np.random.default_rng(seed)) | {"redshift": redshift, **changed}


def test_distances_are_the_integral_over_the_expansion():
    for redshift in (0.003, 0.1, 0.5, 1.3, 3.0):
        path = integrate.quad(lambda z: 1 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7), 0, redshift)[0]
        megaparsec = (1 + redshift) * 299_792.458 / 70 * path
        # astropy's universe has the radiation of the cosmic background too, if its temperature is given; this has none.
        assert distance_modulus(redshift) == pytest.approx(5 * np.log10(megaparsec) + 25, abs=1e-4)


def test_magnitudes_are_those_of_zero_point_27_5():
    np.testing.assert_allclose(flux(np.array([27.5, 22.5, 20.0])), [1, 100, 1000])


def test_a_black_body_is_that_of_astropy():
    wavelength = np.array([2000.0, 4000.0, 9000.0])
    for temperature in (2500.0, 9000.0, 30_000.0):
        other = BlackBody(temperature * units.K)(wavelength * units.AA).value
        ours = photometry.planck(wavelength, temperature)
        np.testing.assert_allclose(ours / ours[1], other / other[1], rtol=1e-5)


def test_metals_absorb_only_below_the_edge():
    wavelength = np.array([1950.0, 3900.0, 8000.0])
    ratio = photometry.thermal(wavelength, 9000.0, 3900.0, 3.0) / photometry.planck(wavelength, 9000.0)
    np.testing.assert_allclose(ratio, [0.125, 1, 1])


def test_the_dust_of_the_host_is_within_a_tenth_of_cardelli_1989():
    # Cardelli et al. 1989, table 3: A(lambda) / A(V) in U, B, V, R, I for R_V = 3.1.
    wavelength, expected = np.array([3650.0, 4400, 5500, 7000, 9000]), np.array([1.569, 1.337, 1.0, 0.751, 0.479])
    np.testing.assert_allclose(photometry.extinction(wavelength, 1 / 3.1), expected, rtol=0.105)


def test_an_envelope_cools_from_hot_to_cool():
    phase = np.array([0.0, 10.0, 1e4])
    expected = [9000, 4000 + 5000 / np.e, 4000]
    np.testing.assert_allclose(photometry.cooling(phase, 9000.0, 4000.0, 10.0), expected)
    before = photometry.cooling(np.array([-5.0, -500.0]), 9000.0, 4000.0, 10.0)
    assert before[0] == before[1] > 9000


def test_bazin_is_the_published_formula_moved_to_its_peak():
    rise, fall = 3.0, 25.0

    def published(t):
        return np.exp(-t / fall) / (1 + np.exp(-t / rise))

    found = optimize.minimize_scalar(
        lambda t: -published(t), bounds=(-20, 40), method="bounded", options={"xatol": 1e-9}
    )
    assert extragalactic.bazin_peak(rise, fall) == pytest.approx(found.x, abs=1e-4)
    phase = np.linspace(-30, 100, 60)
    np.testing.assert_allclose(
        extragalactic.bazin(phase, rise, fall), published(phase + found.x) / -found.fun, rtol=1e-4
    )


@pytest.mark.parametrize(
    "shape",
    [
        lambda phase: extragalactic.bazin(phase, 2.5, 9.0),
        lambda phase: extragalactic.spin_down(phase, 30.0, 40.0),
        lambda phase: extragalactic.disruption(phase, 10.0, 30.0),
        lambda phase: extragalactic.plateau(phase, 3.0, 90.0, 1.0, 2.0, 1.0),
    ],
)
def test_shapes_are_1_at_their_peak_and_0_long_before(shape):
    phase = np.linspace(-100, 300, 4001)
    light = shape(phase)
    assert light.max() == pytest.approx(1, abs=1e-3)
    assert abs(phase[light.argmax()]) < 0.1
    assert np.all(np.diff(light[phase < -0.1]) >= 0)
    assert shape(np.array([-5000.0]))[0] == 0


def test_late_falls_have_their_power_laws():
    late = np.array([1e6, 2e6])
    torn = extragalactic.disruption(late, 10.0, 30.0)
    assert np.log2(torn[1] / torn[0]) == pytest.approx(-5 / 3, abs=1e-3)
    spun = extragalactic.spin_down(late, 30.0, 40.0)
    assert np.log2(spun[1] / spun[0]) == pytest.approx(-2, abs=1e-3)


def test_a_plateau_declines_drops_and_leaves_a_tail():
    days = np.array([20.0, 50.0, 200.0, 300.0])
    magnitudes = -2.5 * np.log10(extragalactic.plateau(days, 3.0, 100.0, 0.6, 2.0, 1.1))
    assert magnitudes[1] - magnitudes[0] == pytest.approx(0.18, abs=2e-3)
    assert magnitudes[3] - magnitudes[2] == pytest.approx(1.1, abs=1e-3)
    assert magnitudes[2] == pytest.approx(0.6 + 2.0 + 1.1, abs=1e-3)


def test_redshift_stretches_time_and_squeezes_frequency():
    rest = np.linspace(-20, 60, 30)
    for redshift in (0.05, 0.8):
        p = drawn(EXPLOSIONS["TDE"], redshift, reddening=0.0, peak=60_000.0)
        seen, _ = EXPLOSIONS["TDE"].curve(p, 60_000 + (1 + redshift) * rest, bands(G, 30))
        np.testing.assert_allclose(
            seen / seen.max(), (shape := extragalactic.disruption(rest, p["rise"], p["fallback"])) / shape.max()
        )
    # At this redshift the band r sees what is g at rest, where the absolute magnitude holds.
    redshift = WAVELENGTH[R] / WAVELENGTH[G] - 1
    p = drawn(EXPLOSIONS["TDE"], redshift, reddening=0.0, peak=60_000.0)
    seen, template = EXPLOSIONS["TDE"].curve(p, np.array([60_000.0]), bands(R, 1))
    expected = p["magnitude"] + distance_modulus(redshift) - 2.5 * np.log10(1 + redshift)
    assert 27.5 - 2.5 * np.log10(seen[0]) == pytest.approx(expected, abs=1e-3)
    assert template[0] == 0


def test_dust_of_the_host_dims_the_blue_more():
    mjd = np.full(6, 60_000.0)
    clear, dusty = (
        EXPLOSIONS["SNIa"].curve(drawn(EXPLOSIONS["SNIa"], 0.1, reddening=dust, peak=60_000.0), mjd, np.arange(6))[0]
        for dust in (0.0, 0.5)
    )
    lost = -2.5 * np.log10(dusty / clear)
    assert np.all(np.diff(lost) < 0)
    np.testing.assert_allclose(lost, photometry.extinction(WAVELENGTH / 1.1, 0.5))


def test_type_ia_declines_by_about_a_magnitude_in_15_days_and_has_a_second_maximum_in_the_infrared():
    days = np.arange(0.0, 40.0)
    p = drawn(EXPLOSIONS["SNIa"], 0.003, peak=0.0, stretch=1.0, reddening=0.0, bump=0.16)
    blue = -2.5 * np.log10(EXPLOSIONS["SNIa"].curve(p, days, bands(G, 40))[0])
    assert 0.7 < blue[15] - blue[0] < 1.4
    red = EXPLOSIONS["SNIa"].curve(p, days, bands(I, 40))[0]
    assert np.any(np.diff(red[10:]) > 0)
    assert np.all(np.diff(EXPLOSIONS["SNIa"].curve(p, days, bands(G, 40))[0]) < 0)
    smooth = EXPLOSIONS["SNIa"].curve(p | {"bump": 0.0}, days, bands(I, 40))[0]
    assert red[27] / smooth[27] > 1.2
    assert red[0] / smooth[0] < 1.01


def test_slower_type_ia_are_brighter():
    p = [EXPLOSIONS["SNIa"].draw(np.random.default_rng(seed)) for seed in range(400)]
    stretch, magnitude = np.array([(one["stretch"], one["magnitude"]) for one in p]).T
    slope, at_one = np.polyfit(stretch - 1, magnitude, 1)
    assert slope == pytest.approx(-1.5, abs=0.3)
    assert at_one == pytest.approx(-19.35, abs=0.03)


def test_type_ii_stays_bright_longer_than_a_kilonova():
    def width(model):
        days = np.linspace(-50, 200, 2001)
        light = model.curve(drawn(model, 0.02, peak=0.0), days, bands(R, 2001))[0]
        return np.ptp(days[light > light.max() / 5])

    assert width(EXPLOSIONS["SNII"]) > 40
    assert width(EXPLOSIONS["KN"]) < 6


def test_a_kilonova_reddens_in_two_days():
    p = drawn(EXPLOSIONS["KN"], 0.02, peak=0.0)
    days = np.array([0.0, 2.0])
    green, red = (EXPLOSIONS["KN"].curve(p, days, bands(band, 2))[0] for band in (G, I))
    assert -2.5 * np.log10(green / red)[1] + 2.5 * np.log10(green / red)[0] > 1


def test_two_points_of_a_damped_walk_are_correlated_as_its_closed_form_says():
    days, timescale = np.array([0.0, 3.0, 10.0, 40.0, 300.0]), 30.0
    rng = np.random.default_rng(0)
    walks = np.array([extragalactic.damped_walk(days, timescale, rng) for _ in range(6000)])
    np.testing.assert_allclose(walks.mean(axis=0), 0, atol=0.1)
    apart = np.abs(days[:, None] - days)
    squares = ((walks[:, :, None] - walks[:, None, :]) ** 2).mean(axis=0)
    # Structure function of MacLeod et al. 2010, eq. 2, squared, for a variance of 1.
    np.testing.assert_allclose(squares, 2 * (1 - np.exp(-apart / timescale)), atol=0.1)


def test_the_long_term_structure_function_of_nuclei_is_that_of_macleod_2010():
    p = drawn(
        extragalactic.ActiveNucleus(),
        1.0,
        magnitude=-23.0,
        amplitude_scatter=0.0,
        timescale_scatter=0.0,
        mass_scatter=1.0,
    )
    # log SF = -0.51 - 0.479 log(lambda / 4000) + 0.131 (M_i + 23) + 0.18 log(M_BH / 1e9), log M_BH = 2.0 + 0.27 * 23.
    expected = 10 ** (-0.51 + 0.18 * (2.0 + 0.27 * 23 - 9) - 0.479 * np.array([0, np.log10(2)]))
    np.testing.assert_allclose(extragalactic.structure(p, np.array([4000.0, 8000.0])), expected)
    assert extragalactic.timescale(p) == pytest.approx(10 ** (2.4 + 0.21 * (2.0 + 0.27 * 23 - 9)))


def test_a_nucleus_varies_more_in_the_blue_around_a_template_that_is_one_exposure():
    nucleus = extragalactic.ActiveNucleus()
    mjd = np.sort(np.random.default_rng(0).uniform(59_580, 60_675, 300))
    ratios = []
    for seed in range(20):
        p = drawn(nucleus, 1.0, seed)
        curves = [np.add(*nucleus.curve(p, mjd, bands(band, 300))) for band in (0, 4)]
        assert min(curve.min() for curve in curves) > 0
        swings = [np.std(-2.5 * np.log10(curve)) for curve in curves]
        ratios.append(swings[0] / swings[1])
        # The same walk in all bands, in whatever order it is asked for.
        assert abs(np.corrcoef(np.log(curves[0]), np.log(curves[1]))[0, 1]) == pytest.approx(1)
        backwards, _ = nucleus.curve(p, mjd[::-1], bands(0, 300))
        np.testing.assert_allclose(backwards[::-1] + nucleus.curve(p, mjd[:1], bands(0, 1))[1], curves[0])
    np.testing.assert_allclose(ratios, (WAVELENGTH[0] / WAVELENGTH[4]) ** -0.479)


def test_laws_have_the_medians_that_they_are_given():
    laws = {
        "a": fixed(3.0),
        "b": uniform(1, 5),
        "c": normal(3, 1),
        "d": lognormal(3, 0.5),
        "e": gamma(3),
        "f": exponential(3),
    }
    rng = np.random.default_rng(0)
    table = np.array([list(draw(laws, rng).values()) for _ in range(8000)])
    np.testing.assert_allclose(np.median(table, axis=0), [3, 3, 3, 3, 3, 3 * np.log(2)], rtol=0.03)
    assert table.min(axis=0)[3:].min() > 0
    assert np.abs(table[:, 2] - 3).max() <= 3


@pytest.mark.parametrize("number", KINDS)
def test_every_class_has_finite_light_at_any_time_and_in_any_band(number):
    mjd, band = np.repeat(np.linspace(59_580, 60_675, 50), 6), np.tile(np.arange(6), 50)
    for seed in range(5):
        redshift = 0.0 if KINDS[number].redshift is None else 0.5
        light, template = KINDS[number].model.curve(drawn(KINDS[number].model, redshift, seed), mjd, band)
        assert np.all(np.isfinite(light))
        assert template.min() >= 0
        assert (light + template).min() >= 0
