import dataclasses

import numpy as np
import pytest
from astropy.timeseries import LombScargle

from galaxyml.sky.light_curves import galactic
from galaxyml.sky.light_curves.galactic import binary_lens, point_lens
from galaxyml.sky.light_curves.observation import deep, observe, wide


def bands(number, length):
    return np.full(length, number, dtype=np.int64)


def test_a_point_lens_magnifies_as_in_closed_form():
    np.testing.assert_allclose(point_lens(np.array([1.0, 2.0])), [3 / np.sqrt(5), 6 / (2 * np.sqrt(8))])
    # Far away 1 + 2 / u^4, near 1 / u.
    assert point_lens(np.array([20.0]))[0] - 1 == pytest.approx(2 / 20**4, rel=0.02)
    assert point_lens(np.array([1e-3]))[0] == pytest.approx(1e3, rel=1e-3)


@pytest.mark.parametrize(("ratio", "separation"), [(1e-9, 0.7), (0.5, 1e-4), (1.0, 1e-4)])
def test_a_binary_lens_without_a_companion_or_without_separation_is_a_point_lens(ratio, separation):
    # Off the companion's own tiny caustic.
    source = np.random.default_rng(0).uniform(0.2, 2, 200) * np.exp(1j * np.linspace(0.3, 2.8, 200))
    np.testing.assert_allclose(binary_lens(source, ratio, separation), point_lens(np.abs(source)), rtol=1e-4)


@pytest.mark.parametrize(
    ("ratio", "separation", "centre"), [(1.0, 1.0, 0.0), (0.5, 0.8, 0.3 + 0.2j), (0.3, 1.6, -0.1 + 0.1j)]
)
def test_a_binary_lens_magnifies_as_much_as_rays_say(ratio, separation, centre):
    # Rays are shot from the observer through an even grid; how many hit a source says how often it is imaged.
    side, radius = 1500, 0.15
    edge = np.linspace(-3, 3, side)
    image = edge[:, None] + 1j * edge
    masses = np.array([1, ratio]) / (1 + ratio)
    places = separation * np.array([-masses[1], masses[0]])
    hit = image - sum(mass / np.conj(image - place) for mass, place in zip(masses, places, strict=True))
    rays = (np.abs(hit - centre) < radius).sum() * (edge[1] - edge[0]) ** 2 / (np.pi * radius**2)
    rng = np.random.default_rng(0)
    source = centre + radius * np.sqrt(rng.random(8000)) * np.exp(2j * np.pi * rng.random(8000))
    assert binary_lens(source, ratio, separation).mean() == pytest.approx(rays, rel=0.03)


def test_a_binary_lens_has_three_images_outside_its_caustics_and_five_within_and_never_dims():
    source = np.asarray(np.linspace(-3, 3, 400) + 0.05j, dtype=np.complex128)
    masses, places = np.array([0.5, 0.5]), np.array([-0.5, 0.5])
    roots = galactic._roots(galactic._image_polynomial(source, masses, places))
    back = roots - (masses / np.conj(roots[..., None] - places)).sum(axis=-1)
    images = (np.abs(back - source[:, None]) < 1e-6).sum(axis=1)
    assert set(images) == {3, 5}
    assert images[0] == images[-1] == 3
    assert images[200] == 5
    magnification = binary_lens(source, 1.0, 1.0)
    assert magnification.min() >= 1
    # Where a pair of images appears, the light jumps.
    at = np.flatnonzero(np.diff(images))
    assert (
        magnification[at + (images[at + 1] > images[at])].max()
        > 2 * magnification[at + (images[at + 1] < images[at])].max()
    )


def test_roots_are_those_of_numpy():
    parts = np.random.default_rng(0).normal(size=(2, 5, 6))
    polynomials = np.asarray(parts[0] + 1j * parts[1], dtype=np.complex128)
    for found, polynomial in zip(galactic._roots(polynomials), polynomials, strict=True):
        np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(np.roots(polynomial)), rtol=1e-8)


@pytest.mark.parametrize("lens", [galactic.SingleLens(), galactic.BinaryLens()])
def test_microlensing_is_achromatic(lens):
    p = lens.draw(np.random.default_rng(2))
    mjd = p["peak"] + np.linspace(-60, 60, 40)
    magnified = []
    for band in range(6):
        light, star = lens.curve(p, mjd, bands(band, 40))
        magnified.append(light / star)
    np.testing.assert_allclose(magnified, np.tile(magnified[0], (6, 1)))
    assert max(magnified[0]) > 0.3


def test_a_single_event_peaks_at_its_impact_parameter_and_is_symmetric():
    lens = galactic.SingleLens()
    p = lens.draw(np.random.default_rng(0))
    days = np.linspace(-50, 50, 101)
    light, star = lens.curve(p, p["peak"] + days, bands(2, 101))
    np.testing.assert_allclose(light, light[::-1], rtol=1e-6)
    assert light[50] / star[50] + 1 == pytest.approx(point_lens(np.array([p["impact"]]))[0])
    edge = np.hypot(1, p["impact"])
    at = lens.curve(p, np.array([p["peak"] + p["crossing"]]), bands(2, 1))
    assert at[0][0] / at[1][0] + 1 == pytest.approx(point_lens(np.array([edge]))[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_period_of_an_rr_lyrae_is_found_in_its_measurements(seed):
    rng = np.random.default_rng(seed)
    star, visits = galactic.RRLyrae(), wide(150.0, rng)
    visits = dataclasses.replace(visits, band=bands(2, len(visits.mjd)))  # as if all visits were in r
    period = (p := star.draw(rng))["period"]
    curve = observe(*star.curve(p, visits.mjd, visits.band), visits, 0.02, rng)
    frequency = np.linspace(1 / 1.2, 1 / 0.2, 30_000)
    power = LombScargle(curve.mjd, curve.flux, curve.flux_err, nterms=2).power(frequency, assume_regular_frequency=True)
    best = 1 / frequency[np.argmax(power)]
    # Half and double the period have the same harmonics.
    assert min(abs(best * k / period - 1) for k in (0.5, 1, 2)) < 1e-3


def test_rr_lyrae_of_type_ab_rise_faster_than_they_fall_and_swing_most_in_g():
    star = galactic.RRLyrae()
    p = next(p for p in (star.draw(np.random.default_rng(seed)) for seed in range(50)) if not p["overtone"])
    mjd = 60_000 + np.linspace(0, p["period"], 500)
    swings = []
    for band in range(6):
        total = np.add(*star.curve(p, mjd, bands(band, 500)))
        swings.append(np.ptp(-2.5 * np.log10(total)))
        assert (np.diff(total) > 0).mean() < 0.4
    assert np.argmax(swings) == 1
    assert swings[1] == pytest.approx(p["swing"], rel=0.01)
    assert np.all(np.diff(swings[1:]) < 0)


def test_bailey_diagram():
    drawn = [galactic.RRLyrae().draw(np.random.default_rng(seed)) for seed in range(400)]
    ab = np.array([(p["period"], p["swing"]) for p in drawn if not p["overtone"]])
    c = np.array([(p["period"], p["swing"]) for p in drawn if p["overtone"]])
    assert np.corrcoef(ab.T)[0, 1] < -0.7
    assert np.median(c[:, 0]) < 0.4 < np.median(ab[:, 0])
    assert 0.15 < len(c) / 400 < 0.35


def test_a_mira_repeats_itself_and_swings_more_in_the_blue():
    star = galactic.Mira()
    p = star.draw(np.random.default_rng(1)) | {"unrest": 0.0}
    mjd = 60_000 + np.linspace(0, p["period"], 400)
    swings = []
    for band in range(6):
        light, template = star.curve(p, mjd, bands(band, 400))
        again, _ = star.curve(p, mjd + 3 * p["period"], bands(band, 400))
        np.testing.assert_allclose(light, again, rtol=1e-6)
        swings.append(np.ptp(-2.5 * np.log10(light + template)))
        assert (light + template).min() * 0.999 <= template[0] <= (light + template).max() * 1.001
    np.testing.assert_allclose(swings, p["swing"] * galactic.MIRA_SWING, rtol=1e-3)
    assert swings[2] > 1.5


def test_a_flare_is_the_template_of_davenport_2014():
    time = np.linspace(-2, 30, 32_001)
    light = galactic.flare(time)
    assert light.max() == pytest.approx(1, abs=1e-3)
    assert np.all(light[time < -1] == 0)
    # Times are in units of the width at half of the peak.
    assert np.ptp(time[light > 0.5]) == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(
        galactic.flare(np.array([1.0, 5.0])),
        [0.6890 * np.exp(-1.6) + 0.3030 * np.exp(-0.2783), 0.6890 * np.exp(-8) + 0.3030 * np.exp(-1.3915)],
    )
    assert np.abs(np.diff(light)).max() < 0.02


def test_flares_are_blue_and_rare():
    star = galactic.MDwarf()
    p = star.draw(np.random.default_rng(3))
    mjd = np.linspace(59_600, 60_600, 20_000)
    blue, red = (star.curve(p, mjd, bands(band, 20_000)) for band in (0, 4))
    assert np.median(blue[0]) < 0.05 * blue[0].max()
    bright = blue[0] > 0.1 * blue[0].max()
    assert 0 < bright.mean() < 0.1
    # The star is faint in u, the flare is not.
    np.testing.assert_array_less(3 * (red[0] / red[1])[bright], (blue[0] / blue[1])[bright])
    assert blue[1][0] < 0.1 * red[1][0]


def test_the_overlap_of_disks_is_what_is_counted():
    points = np.random.default_rng(0).uniform(-1, 1, (400_000, 2)) @ [1, 1j]
    for apart, radius, other in [
        (0.5, 0.4, 0.3),
        (0.25, 0.4, 0.3),
        (0.05, 0.4, 0.3),
        (0.75, 0.4, 0.3),
        (0.2, 0.3, 0.45),
    ]:
        counted = 4 * ((np.abs(points) < radius) & (np.abs(points - apart) < other)).mean()
        assert galactic.overlap(np.array([apart]), radius, other)[0] == pytest.approx(counted, abs=4e-3)
    assert galactic.overlap(np.array([0.0]), 0.4, 0.3)[0] == pytest.approx(np.pi * 0.09)
    assert galactic.overlap(np.array([0.7001]), 0.4, 0.3)[0] == pytest.approx(0, abs=1e-6)


def test_a_binary_eclipses_twice_a_period_and_deeper_where_the_hotter_star_is_behind():
    binary = galactic.EclipsingBinary()
    p = binary.draw(np.random.default_rng(0))
    p |= {"impact": 0.0, "at": 0.0, "radius": 0.2, "radius_ratio": 0.5, "temperature_ratio": 0.7}
    turn = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    light, template = binary.curve(p, 59_580 + turn * p["period"], bands(2, 5))
    primary, side, secondary, other_side, again = light / template
    assert primary < secondary < side
    assert side == pytest.approx(other_side)
    assert primary == pytest.approx(again)
    # The smaller star is a quarter of the disk of the larger one, and hides just that.
    alike = p | {"temperature_ratio": 1.0}
    light, template = binary.curve(alike, np.array([59_580.0]), bands(2, 1))
    tides = 1 - 0.9 * 0.2**3 / 2
    assert light[0] / template[0] == pytest.approx(tides * (1 - 0.25 / 1.25) - 1)
    # In the blue the cool star is darker still, so that its eclipse is shallower.
    depth = [
        np.divide(*binary.curve(p, np.array([59_580 + 0.5 * p["period"]]), bands(band, 1)))[0] for band in range(6)
    ]
    assert np.all(np.diff(depth) < 0)


def test_stars_vary_as_much_as_their_magnitudes_say():
    visits = deep(150.0, np.random.default_rng(0))
    for star in (galactic.RRLyrae(), galactic.EclipsingBinary(), galactic.SingleLens()):
        p = star.draw(np.random.default_rng(0))
        one, _ = star.curve(p, visits.mjd, visits.band)
        fainter, _ = star.curve(p | {"magnitude": p["magnitude"] + 2.5}, visits.mjd, visits.band)
        np.testing.assert_allclose(fainter, one / 10, atol=1e-9)
