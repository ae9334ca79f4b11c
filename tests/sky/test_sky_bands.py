from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from galaxyml.runs.errors import UserError
from galaxyml.sky import write_images
from galaxyml.sky.bands import MIDDLE, NAMES, UGRIZ
from galaxyml.sky.images import SIDES
from galaxyml.sky.survey import SDSS


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "five"
    write_images(folder, count=30, seed=2, bands=5)
    return folder


def magnitudes(survey, color):
    return -2.5 * np.log10(survey.fluxes(1.0, color))


def test_at_rest_the_colour_is_the_one_that_is_given_and_r_the_flux():
    for color in (0.3, 0.7, 0.9):
        u, g, r, i, z = magnitudes(UGRIZ, color)
        assert g - r == pytest.approx(color, abs=1e-6)
        assert r == pytest.approx(0)
        assert min(u - g, r - i, i - z) > 0
    assert magnitudes(UGRIZ, 0.65)[0] == pytest.approx(2.22, abs=0.05)  # u - r: Strateva et al. 2001


def test_old_galaxies_are_redder_in_g_minus_r_the_farther_they_are():
    colors = [np.diff(magnitudes(replace(UGRIZ, redshift=redshift), 0.77)) for redshift in (0.0, 0.1, 0.2, 0.3)]
    g_r = [-color[1] for color in colors]
    assert (np.diff(g_r) > 0.1).all()
    r_i = [-color[MIDDLE] for color in colors]
    assert (np.diff(r_i) >= 0).all()


def test_cubes_have_their_bands_by_name_and_the_light_of_their_galaxies(written):
    table = pd.read_csv(written / "labels.csv")
    path = written / table["path"][0]
    cube, header = fits.getdata(path, header=True)
    assert cube.shape == (5, SIDES[5], SIDES[5])
    assert header["BANDS"] == NAMES
    assert [header[f"BAND{number}"] for number in range(5)] == list(NAMES)
    middle = slice(SIDES[5] // 2 - 3, SIDES[5] // 2 + 3)
    centre = np.array([fits.getdata(written / path)[:, middle, middle].mean((1, 2)) for path in table["path"]])
    assert (centre[:, 1:4] > 0).all()
    noise = 1.4826 * np.median(np.abs(cube - np.median(cube, (1, 2), keepdims=True)), (1, 2))
    assert np.argsort(noise)[-1] == 4  # z is the noisiest


def test_the_colour_at_the_centre_tells_the_redshift_of_red_galaxies(tmp_path):
    write_images(tmp_path / "many", count=120, seed=4, bands=5)
    table = pd.read_csv(tmp_path / "many" / "labels.csv").query("kind == 'smooth'")
    side = SIDES[5] // 2
    light = np.array(
        [
            fits.getdata(tmp_path / "many" / path)[:, side - 2 : side + 2, side - 2 : side + 2].sum((1, 2))
            for path in table.path
        ]
    )
    g_r = -2.5 * np.log10(light[:, 1] / light[:, 2])
    assert np.corrcoef(g_r, table.redshift)[0, 1] > 0.6


def test_three_bands_are_drawn_as_ever(tmp_path):
    assert SDSS.bands == 3
    write_images(tmp_path / "a", count=3, seed=2, size=32)
    assert sorted(path.suffix for path in (tmp_path / "a" / "images").iterdir()) == [".jpg"] * 3


def test_another_number_of_bands_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"simulate\.bands=4"):
        write_images(tmp_path / "a", count=3, seed=2, bands=4)
    assert not (tmp_path / "a").exists()
