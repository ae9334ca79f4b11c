import numpy as np
import pytest

from galaxyml.sky import population
from galaxyml.sky.galaxyzoo1 import BUTTONS, expected_buttons, release, seen_clearly
from galaxyml.sky.population import farther


def means(kind: str) -> dict[str, float]:
    return dict(zip(BUTTONS, expected_buttons(population(300, 0, kind)).mean(0), strict=True))


def test_shares_of_the_buttons_sum_to_one():
    shares = expected_buttons(population(2000, 0))
    assert shares.min() > 0
    np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize(
    ("kind", "button"), [("smooth", "P_EL"), ("edge-on", "P_EDGE"), ("merger", "P_MG"), ("artifact", "P_DK")]
)
def test_the_button_of_a_kind_is_pressed_most(kind, button):
    found = means(kind)
    assert max(found, key=found.__getitem__) == button


def test_a_mirrored_spiral_turns_the_other_way():
    galaxies = population(300, 0, "spiral")
    shares, mirrored = (expected_buttons(drawn) for drawn in (galaxies, galaxies.assign(pitch=-galaxies.pitch)))
    np.testing.assert_allclose(shares[:, [0, 2, 1, 3, 4, 5]], mirrored)
    clear = galaxies.query("inclination < 40 and contrast > 0.6 and r90 > 12")
    turning = expected_buttons(clear)
    assert ((turning[:, 2] > turning[:, 1]) == (clear.pitch > 0)).all()


def test_poorly_seen_spirals_are_called_elliptical_and_debiasing_knows():
    galaxies = farther(population(3000, 0, "spiral"), 2.0)
    seen, clear = expected_buttons(galaxies)[:, 0], expected_buttons(seen_clearly(galaxies))[:, 0]
    assert seen.mean() > clear.mean() + 0.15
    table = release(galaxies, 0)
    assert abs(table.P_EL_DEBIASED.mean() - clear.mean()) < abs(table.P_EL.mean() - clear.mean())


def test_votes_converge_to_their_expectation():
    galaxies = population(1, 5, "spiral")
    copies = galaxies.loc[galaxies.index.repeat(4000)].reset_index(drop=True)
    fractions = release(copies, 3)[list(BUTTONS)].mean()
    expected = expected_buttons(galaxies)[0]
    error = np.sqrt(expected * (1 - expected) / 30 / 4000)
    assert (np.abs(fractions - expected) < 5 * error + 0.0003).all()


def test_flags_follow_the_debiased_fractions_as_loosely_as_in_the_release():
    table = release(population(4000, 1), 1)
    assert 0.87 < ((table.P_CS_DEBIASED >= 0.8) == table.SPIRAL).mean() < 0.97
    assert 0.87 < ((table.P_EL_DEBIASED >= 0.8) == table.ELLIPTICAL).mean() < 0.97
    assert table.P_CS_DEBIASED[table.SPIRAL == 1].min() < 0.7


def test_flags_are_as_frequent_as_among_the_images_of_galaxy_zoo_2():
    table = release(population(4000, 1), 1)
    assert table.SPIRAL.mean() == pytest.approx(106 / 400, abs=0.04)
    assert table.ELLIPTICAL.mean() == pytest.approx(76 / 400, abs=0.04)


def test_as_many_volunteers_as_in_the_release():
    crowd = release(population(3000, 1), 1).NVOTE
    assert crowd.mean() == pytest.approx(38.4, abs=2)
    assert crowd.between(12, 85).all()
