import numpy as np
import pytest
import torch

from galaxyml.sky.camera import Frame, blur, expose, stretch
from galaxyml.sky.survey import DECALS, SDSS

STILL = np.zeros((3, 2))


def points(frame: Frame, x: float, y: float) -> None:
    frame.add_points(np.array([x]), np.array([y]), np.array([[1.0], [2.0], [3.0]]))


def test_seeing_conserves_the_flux_of_each_band():
    frame = Frame.of(60.0)
    points(frame, 1.7, -3.1)
    seen = blur(frame.light, frame.pixel, (1.4, 1.3, 1.2), STILL)
    np.testing.assert_allclose(seen.sum((1, 2)).numpy(), [1, 2, 3], rtol=1e-4)


def test_a_point_becomes_as_wide_as_the_seeing():
    frame = Frame.of(40.0)
    points(frame, float(frame.x[0, 60]), float(frame.y[60, 0]))
    seen = blur(frame.light, frame.pixel, (1.4, 1.4, 1.4), STILL)[1]
    row = seen[60] / seen[60].max()
    above = np.interp(0.5, row[60:70].flip(0).numpy(), (frame.x[0, 60:70] - frame.x[0, 60]).flip(0).numpy())
    assert 2 * above == pytest.approx(1.4, rel=0.06)


def test_registration_moves_a_band_and_no_other():
    frame = Frame.of(40.0)
    points(frame, 0.0, 0.0)
    seen = blur(frame.light, frame.pixel, (1.3, 1.3, 1.3), np.array([[0.8, -0.4], [0, 0], [0, 0]]))
    centres = [[float((band * line).sum() / band.sum()) for line in (frame.x, frame.y)] for band in seen]
    np.testing.assert_allclose(np.array(centres), [[0.8, -0.4], [0.0, 0.0], [0.0, 0.0]], atol=0.02)


def test_points_lie_where_they_are_put():
    frame = Frame.of(30.0)
    points(frame, 4.3, -2.6)
    light = frame.light[0]
    assert float((light * frame.x).sum()) == pytest.approx(4.3, abs=1e-3)
    assert float((light * frame.y).sum()) == pytest.approx(-2.6, abs=1e-3)


def test_points_outside_the_frame_add_nothing():
    frame = Frame.of(30.0)
    points(frame, 40.0, 0.0)
    assert frame.light.abs().sum() == 0


def test_noise_is_that_of_the_sky_where_it_is_dark():
    seen = expose(torch.zeros(3, 200, 200), 1.2, np.random.default_rng(0))
    np.testing.assert_allclose(seen.std((1, 2)).numpy(), 1.2 * np.array(SDSS.sky_noise), rtol=0.02)


def test_the_stretch_keeps_colours_and_stays_in_range():
    faint, bright = torch.tensor([0.6, 1.0, 1.4]), torch.tensor([0.6, 1.0, 1.4]) * 400
    seen = stretch(torch.stack([faint, bright], dim=1)[:, None])[0]
    assert seen.min() >= 0
    assert seen.max() <= 1
    np.testing.assert_allclose(seen[0] / seen[0, 0], seen[1] / seen[1, 0], atol=0.02)
    assert seen[1].sum() > seen[0].sum()


def viewer(g: np.ndarray, r: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The Legacy Survey viewer's image, as it documents its own arithmetic (sdss_rgb, dr2_rgb)."""
    planes = [np.maximum(0, band * scale + 0.03) for band, scale in ((z, 2.2), (r, 3.4), (g, 6.0))]
    mean = sum(planes) / 3
    return np.stack([np.clip(plane * np.arcsinh(20 * mean) / np.sqrt(20) / mean, 0, 1) for plane in planes], axis=-1)


def test_decals_has_the_colours_of_the_legacy_survey_viewer():
    light = np.random.default_rng(0).lognormal(-3, 2.5, (3, 40, 40))
    seen = stretch(torch.from_numpy(light), DECALS).numpy()
    np.testing.assert_allclose(seen, viewer(*light), atol=1e-5)
    assert (seen == 1).any()


def test_the_sky_of_decals_is_not_black():
    seen = stretch(torch.zeros(3, 2, 2), DECALS)
    assert (seen * 255).numpy() == pytest.approx(255 * np.arcsinh(0.6) / np.sqrt(20), abs=0.01)


def test_resampled_noise_is_shared_by_neighbours_and_as_strong():
    noise = expose(torch.zeros(3, 300, 300), 1.0, np.random.default_rng(0), DECALS)[1]
    share = DECALS.noise_mixed
    assert float(noise.std()) == pytest.approx(DECALS.sky_noise[1], rel=0.02)
    for beside in (noise.roll(1, 0), noise.roll(1, 1)):
        correlation = np.corrcoef(noise.ravel(), beside.ravel())[0, 1]
        assert correlation == pytest.approx(share * (1 - share) / (share**2 + (1 - share) ** 2), abs=0.02)


@pytest.mark.parametrize(("survey", "pixels"), [(SDSS, 424), (DECALS, 256)])
def test_the_frame_of_a_large_field_has_the_pixels_of_a_cutout(survey, pixels):
    frame = Frame.of(1000.0, survey)
    assert frame.side == pixels
    assert frame.pixel * frame.side == pytest.approx(1000)


def test_a_cutout_is_scaled_to_the_galaxy_or_is_not():
    assert SDSS.cutout_pixel(10.0) == pytest.approx(0.2)
    assert DECALS.cutout_pixel(10.0) == DECALS.cutout_pixel(3.0) == 0.262


def test_dust_reddens_in_every_survey():
    for survey in (SDSS, DECALS):
        blue, middle, red = survey.extinction
        assert blue > middle == 1.0 > red
