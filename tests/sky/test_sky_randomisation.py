import numpy as np
import pandas as pd
import pytest
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky import population
from galaxyml.sky.galaxyzoo import write_galaxyzoo
from galaxyml.sky.randomisation import SPREADS, SURVEYS, assigned, randomise
from galaxyml.sky.render import draw_image
from galaxyml.sky.volunteers import expected_votes, vote

GALAXIES = population(4000, 3)
COLUMNS = {"noise": "depth", "seeing": "seeing", "neighbours": "crowding", "colour": "color", "distance": "r90"}


def test_without_spreads_nothing_changes():
    pd.testing.assert_frame_equal(randomise(GALAXIES, 0, {}), GALAXIES)
    pd.testing.assert_frame_equal(randomise(GALAXIES, 0, dict.fromkeys(SPREADS, 0.0)), GALAXIES)


@pytest.mark.parametrize("name", SPREADS)
def test_a_spread_is_that_of_its_own_column(name):
    changed = randomise(GALAXIES, 0, {name: 0.2})
    before, after = GALAXIES[COLUMNS[name]].to_numpy(), changed[COLUMNS[name]].to_numpy()
    steps = after - before if name == "colour" else np.log(after / before)
    if name != "seeing":  # which stays within what a telescope has
        assert steps.mean() == pytest.approx(0, abs=0.01)
        assert steps.std() == pytest.approx(0.2, rel=0.03)
    touched = {"colour": {"color", "young_color"}, "distance": {*SIZES, "magnitude"}}.get(name, {COLUMNS[name]})
    assert {column for column in GALAXIES if not changed[column].equals(GALAXIES[column])} == touched


SIZES = {"r90", "pixel", "scale", "bulge_radius", "bar_length", "ring_radius", "separation", "arc_radius"}


def test_more_galaxies_leave_the_first_as_they_are():
    spreads = dict.fromkeys(SPREADS, 0.3)
    pd.testing.assert_frame_equal(randomise(GALAXIES.head(9), 5, spreads), randomise(GALAXIES, 5, spreads).head(9))
    np.testing.assert_array_equal(assigned(9, 5, ("sdss", "ukidss")), assigned(99, 5, ("sdss", "ukidss"))[:9])


def test_each_survey_sees_its_share_as_its_camera_does(tmp_path):
    write_galaxyzoo(tmp_path / "sky", 30, seed=2, test_galaxies=2, size=64, surveys=["sdss", "decals", "ukidss"])
    truth = pd.read_csv(tmp_path / "sky" / "truth.csv", keep_default_na=False)
    assert set(truth.survey) == set(SURVEYS)
    for name in SURVEYS:
        row = next(truth[(truth.survey == name) & (truth.split == "training")].itertuples(index=False))
        with Image.open(tmp_path / "sky" / "images_training_rev1" / f"{row.GalaxyID}.jpg") as written:
            off = np.asarray(written, float) - np.asarray(draw_image(row, 64, 2, SURVEYS[name]), float)
            others = [draw_image(row, 64, 2, survey) for key, survey in SURVEYS.items() if key != name]
            farthest = min(np.abs(np.asarray(written, float) - np.asarray(other, float)).mean() for other in others)
        assert np.abs(off).mean() < 0.5 * farthest  # but for the JPEG


def test_expected_votes_are_the_mean_of_many_crowds():
    few = GALAXIES.head(4)
    crowds = pd.concat([few] * 400, ignore_index=True)
    crowds = crowds.assign(texture=np.arange(len(crowds)))  # by which each galaxy has volunteers of its own
    many = vote(crowds, 0).to_numpy().reshape(400, len(few), -1).mean(axis=0)
    np.testing.assert_allclose(expected_votes(few), many, atol=5 * 0.5 / np.sqrt(400 * 41))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vary": {"nois": 0.1}}, r"simulate\.vary has no 'nois'\. .*noise"),
        ({"vary": {"noise": -1}}, r"simulate\.vary\.noise=-1: it must be a number in \[0, 2\)"),
        ({"surveys": ["sdss", "decal"]}, r"simulate\.surveys has 'decal'\. .*decals"),
        ({"surveys": []}, r"simulate\.surveys is empty"),
        ({"votes": "expect"}, r"simulate\.votes=expect: .*expected"),
    ],
)
def test_what_there_is_not_is_refused(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_galaxyzoo(tmp_path / "sky", 10, seed=0, size=16, **arguments)
    assert not list(tmp_path.iterdir())
