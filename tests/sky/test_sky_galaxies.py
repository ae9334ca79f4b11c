import math

import numpy as np
import pandas as pd
import pytest
import torch

from galaxyml.runs.errors import UserError
from galaxyml.sky import population, render
from galaxyml.sky.camera import Frame
from galaxyml.sky.population import MIX, Galaxy, farther, rows
from galaxyml.sky.profiles import arm_pattern, arm_phase, bar, disk_axis_ratio, disk_plane
from galaxyml.sky.render import scene
from galaxyml.sky.survey import DECALS, SDSS


@pytest.fixture(autouse=True)
def _one_thread():
    # Frames are too small for torch's threads to help.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def light_of(galaxy: Galaxy) -> tuple[torch.Tensor, Frame]:
    """The galaxy alone in r, without seeing and noise."""
    frame = scene(galaxy, np.random.default_rng([0, galaxy.texture]))
    return frame.light[1], frame


def axis_ratio_by_moments(galaxy: Galaxy) -> float:
    """Axis ratio of the isophote that holds half of the light, from the second moments of its inside."""
    light, frame = light_of(galaxy)
    ordered = light.flatten().sort(descending=True).values
    level = ordered[int((ordered.cumsum(0) < 0.5 * ordered.sum()).sum())]
    weight = (light > level).double().numpy().ravel()
    moments = np.cov(np.stack([frame.x.numpy().ravel(), frame.y.numpy().ravel()]), aweights=weight)
    small, large = np.linalg.eigvalsh(moments)
    return math.sqrt(small / large)


def fourier_amplitudes(number: int, pitch: float) -> np.ndarray:
    """Amplitudes of the azimuthal modes 1 to 6 of an arm pattern at one radius."""
    azimuth = torch.arange(720, dtype=torch.float64) * 2 * math.pi / 720
    pattern = arm_pattern(arm_phase(torch.full_like(azimuth, 6.0), azimuth, number, pitch, 2.0), 2.2)
    return np.abs(np.fft.rfft(pattern.numpy()))[1:7]


def test_the_first_galaxies_do_not_depend_on_how_many_are_drawn():
    pd.testing.assert_frame_equal(population(20, 3), population(500, 3).head(20))


def test_seeds_differ():
    assert not population(20, 3).equals(population(20, 4))


def test_kinds_come_in_their_shares():
    shares = population(20_000, 0).kind.value_counts(normalize=True)
    for kind, share in MIX.items():
        expected = share / sum(MIX.values())
        assert shares[kind] == pytest.approx(expected, abs=4 * math.sqrt(expected / 20_000))


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="Did you mean ring"):
        population(3, 0, kind="rings")


@pytest.mark.parametrize("kind", MIX)
def test_every_kind_can_be_drawn_and_is_seen_in_the_middle(kind):
    images = render(population(3, 1, kind), size=64).float().mean(-1)
    middle, corners = images[:, 26:38, 26:38].mean(), images[:, :8, :8].mean()
    assert middle > corners + 12


def test_same_seed_same_pixels_whatever_the_batch():
    galaxies = population(9, 5)
    together = render(galaxies, size=96, seed=2)
    apart = torch.cat([render(galaxies.iloc[:4], 96, 2), render(galaxies.iloc[4:], 96, 2)])
    assert torch.equal(together, apart)
    assert not torch.equal(together, render(galaxies, 96, seed=3))


def test_sdss_sees_what_it_saw_when_it_was_the_only_survey():
    # Mean red, green and blue of each image, recorded then.
    before = [
        [7.86, 6.43, 5.88],
        [13.31, 10.26, 7.42],
        [7.20, 5.80, 5.13],
        [14.26, 10.90, 7.75],
        [10.55, 8.57, 7.80],
        [7.42, 5.79, 4.97],
        [9.78, 7.31, 5.53],
        [6.18, 4.82, 4.17],
    ]
    means = render(population(8, 0), 128, 0).double().mean((1, 2))
    np.testing.assert_allclose(means.numpy(), before, atol=0.02)


@pytest.mark.parametrize("kind", MIX)
def test_a_small_galaxy_in_a_wide_field_has_finite_light(kind):
    for galaxy in rows(farther(population(12, 6, kind), 4.0)):
        light = scene(galaxy, np.random.default_rng(0), DECALS).light
        assert light.isfinite().all()
        assert light.min() >= 0


def test_surveys_see_the_same_galaxy_in_the_same_place():
    galaxies = population(4, 3, "smooth")
    for survey in (SDSS, DECALS):
        images = render(galaxies, survey.cutout, 0, survey).float().mean(-1)
        middle = survey.cutout // 2
        assert (images[:, middle - 3 : middle + 3, middle - 3 : middle + 3].mean((1, 2)) > 120).all()


def test_all_sizes_show_the_same_sky():
    galaxies = population(4, 5)
    coarse = render(galaxies, size=64).float()
    fine = torch.nn.functional.interpolate(render(galaxies, size=192).permute(0, 3, 1, 2).float(), size=64, mode="area")
    difference = (coarse - fine.permute(0, 2, 3, 1)).abs().mean()
    assert difference < 2.5


def test_smooth_galaxies_have_the_axis_ratio_of_their_parameters():
    galaxies = population(40, 8, "smooth").query("sersic < 2.5 and r90 > 6").head(10)
    measured = [axis_ratio_by_moments(galaxy) for galaxy in rows(galaxies)]
    np.testing.assert_allclose(measured, galaxies.axis_ratio, atol=0.05)


def test_edge_on_disks_are_flatter_than_face_on_ones():
    edge = [axis_ratio_by_moments(galaxy) for galaxy in rows(population(8, 2, "edge-on"))]
    face = population(80, 2, "disk").query("inclination < 35").head(8)
    assert max(edge) < min(axis_ratio_by_moments(galaxy) for galaxy in rows(face))


def test_disks_keep_their_flux():
    for galaxy in rows(population(6, 4, "spiral").query("r90 > 4")):
        light, _ = light_of(galaxy)
        assert float(light.sum()) == pytest.approx(10 ** (0.4 * (22.5 - galaxy.magnitude)), rel=0.08)


@pytest.mark.parametrize("kind", ["smooth", "disk", "spiral"])
def test_circles_of_r90_hold_ninety_percent_of_the_petrosian_light(kind):
    # Two Petrosian radii hold 99 percent of an exponential and 82 of a de Vaucouleurs profile (Blanton et al. 2001).
    galaxies = population(60, 9, kind).query("sersic < 4.2 and bar == 0 and r90 > 6").head(8)
    for galaxy in rows(galaxies):
        light, frame = light_of(galaxy)
        flux = 10 ** (0.4 * (22.5 - galaxy.magnitude))
        inside = float(light[torch.hypot(frame.x, frame.y) < galaxy.r90].sum()) / flux
        assert 0.9 * 0.82 - 0.05 < inside < 0.9 * 0.993 + 0.08


def test_ellipticals_are_redder_than_irregulars():
    def g_minus_r(kind: str) -> float:
        fluxes = [scene(galaxy, np.random.default_rng(0)).light.sum((1, 2)) for galaxy in rows(population(8, 0, kind))]
        return float(np.median([-2.5 * math.log10(g / r) for g, r, _ in fluxes]))

    assert g_minus_r("smooth") > g_minus_r("spiral") + 0.1 > g_minus_r("irregular") + 0.2


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("pitch", [10.0, -25.0])
def test_the_strongest_azimuthal_mode_is_the_number_of_arms(number, pitch):
    assert int(fourier_amplitudes(number, pitch).argmax()) + 1 == number


@pytest.mark.parametrize("number", [2, 3, 4])
def test_arms_can_be_counted_in_a_drawn_face_on_galaxy(number):
    drawn = population(400, 6, "spiral").query("contrast > 0.6 and bar == 0 and patchiness < 0.4 and r90 > 8")
    galaxy = next(rows(drawn.head(1).assign(arms=number, inclination=0.0, knots=0, pitch=20.0, sharpness=2.5)))
    light, frame = light_of(galaxy)
    radius, azimuth = torch.hypot(frame.x, frame.y), torch.atan2(frame.y, frame.x)
    power = np.zeros(6)
    for inner in np.arange(0.45, 0.85, 0.05) * galaxy.r90:
        band = (radius >= inner) & (radius < inner + 0.05 * galaxy.r90)
        modes = torch.arange(1, 7)[:, None]
        power += (light[band] * torch.exp(1j * modes * azimuth[band])).sum(1).abs().numpy() / float(light[band].sum())
    assert int(power.argmax()) + 1 == number


def test_the_mean_over_the_phase_of_an_arm_pattern_is_one():
    phase = torch.linspace(0, 2 * math.pi, 1001, dtype=torch.float64)[:-1]
    assert float(arm_pattern(phase, 3.0).mean()) == pytest.approx(1)


def test_arms_have_their_pitch():
    # Along a ridge, d ln R / d azimuth is the tangent of the pitch angle.
    radius = torch.tensor([2.0, 5.0], dtype=torch.float64)
    azimuth = torch.log(radius / 2.0) / math.tan(math.radians(17.0))
    assert torch.allclose(arm_phase(radius, azimuth, 2, 17.0, 2.0), torch.zeros(2, dtype=torch.float64))


def test_arms_begin_where_the_bar_ends():
    length, angle = 4.0, 0.7
    end = torch.tensor(length), torch.tensor(angle)
    assert arm_phase(end[0], end[1] - angle, 2, 15.0, length) == pytest.approx(0, abs=1e-5)
    along = bar(torch.tensor([0.5, 1.0, 1.3]) * length, torch.full((3,), angle), angle, length, 0.3)
    assert along[0] > 0.7
    assert along[2] < 0.02


def test_inclination_foreshortens_the_minor_axis():
    radius, _ = disk_plane(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), 0.0, 60.0, 0.0)
    np.testing.assert_allclose(radius.numpy(), [2.0, 1.0], rtol=1e-5)
    assert disk_axis_ratio(90.0, 0.2) == pytest.approx(0.2)
