import csv
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky import population, writers
from galaxyml.sky.population import LENGTHS, farther
from galaxyml.sky.positions import degrees, hours, object_ids
from galaxyml.sky.spirals import (
    BUTTONS,
    MAPPING,
    TABLE,
    assets,
    catalogue,
    expected_buttons,
    release,
    write_spirals,
)
from galaxyml.sky.visibility import seen_clearly

IMAGES = 60
HEADER = (
    "OBJID,RA,DEC,NVOTE,P_EL,P_CW,P_ACW,P_EDGE,P_DK,P_MG,P_CS,P_EL_DEBIASED,P_CS_DEBIASED,SPIRAL,ELLIPTICAL,UNCERTAIN"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "spirals"
    write_spirals(folder, IMAGES, seed=1, size=48)
    return folder


def lines(path):
    """The rows of a file as text, by csv alone."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_has_the_layout_of_the_releases(written):
    names = {TABLE, MAPPING, "images", "properties.csv", "truth.csv", "simulated.txt"}
    assert {path.name for path in written.iterdir()} == names
    assert (written / TABLE).read_text().splitlines()[0] == HEADER
    assert (written / MAPPING).read_text().splitlines()[0] == "objid,sample,asset_id"
    assert (written / "properties.csv").read_text().splitlines()[0] == "OBJID,petroR90_r,petroMag_r,redshift"
    for path in (written / "images").iterdir():
        with Image.open(path) as opened:
            assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (48, 48))


def test_numbers_are_written_as_in_the_release(written):
    row = re.compile(
        r"\d{18},[0-2]\d:[0-5]\d:[0-5]\d\.\d\d,[+-]\d\d:[0-5]\d:[0-5]\d\.\d,\d{1,3}(,(0\.\d{1,3}|1\.0)){9}(,[01]){3}"
    )
    text = (written / TABLE).read_text().splitlines()[1:]
    assert all(row.fullmatch(line) for line in text)


def test_object_ids_have_18_digits_and_survive_int64_but_not_a_float(written):
    text = [row["OBJID"] for row in lines(written / TABLE)]
    table = pd.read_csv(written / TABLE)
    assert table.OBJID.dtype == np.int64
    assert [str(number) for number in table.OBJID] == text
    assert len(set(text)) == len(text)
    assert [str(int(float(number))) for number in text] != text


def test_a_hundred_thousand_object_ids_are_distinct():
    ids = object_ids(100_000, 0)
    assert len(set(ids.tolist())) == 100_000
    assert {len(str(number)) for number in ids} == {18}
    # The highest bits are the version of the sky, 1, as in 587727178986356823.
    assert {int(number) >> 59 for number in ids} == {587727178986356823 >> 59}


def test_rows_are_sorted_by_right_ascension(written):
    ra = [row["RA"] for row in lines(written / TABLE)]
    assert ra == sorted(ra)


def test_sexagesimal_places_read_back_to_the_last_digit():
    ra, dec = np.array([0.0, 15.8600833, 359.999999]), np.array([-10.3738, 0.0001, -0.73596])
    assert hours(pd.Series(ra)) == ["00:00:00.00", "01:03:26.42", "00:00:00.00"]
    assert degrees(pd.Series(dec)) == ["-10:22:25.7", "+00:00:00.4", "-00:44:09.5"]


def test_votes_sum_to_one_and_combined_spirals_are_the_sum_of_three(written):
    table = pd.read_csv(written / TABLE)
    fractions = table[["P_EL", "P_CW", "P_ACW", "P_EDGE", "P_DK", "P_MG"]]
    # Six roundings of half a thousandth.
    assert np.abs(fractions.sum(axis=1) - 1).max() <= 0.0031
    assert np.abs(table.P_CW + table.P_ACW + table.P_EDGE - table.P_CS).max() <= 0.0021
    votes = fractions.mul(table.NVOTE, axis=0)
    assert (np.abs(votes - votes.round()).max(axis=1) <= 0.0005 * table.NVOTE + 1e-9).all()


def test_debiasing_moves_votes_from_elliptical_to_spiral(written):
    table = pd.read_csv(written / TABLE)
    assert (table.P_CS_DEBIASED >= table.P_CS - 0.0011).all()
    assert np.abs(table.P_CS + table.P_EL - table.P_CS_DEBIASED - table.P_EL_DEBIASED).max() <= 0.0021


def test_exactly_one_flag_is_set(written):
    table = pd.read_csv(written / TABLE)
    assert (table[["SPIRAL", "ELLIPTICAL", "UNCERTAIN"]].sum(axis=1) == 1).all()


def test_there_are_as_many_images_as_asked_for_and_the_mapping_knows_all(written):
    on_disk = {path.stem for path in (written / "images").iterdir()}
    mapped = [row["asset_id"] for row in lines(written / MAPPING)]
    assert len(on_disk) == IMAGES
    assert on_disk < set(mapped)
    assert len(set(mapped)) == len(mapped) == IMAGES + 1


def test_the_join_loses_what_it_loses_in_the_real_files(written):
    table, mapping = lines(written / TABLE), lines(written / MAPPING)
    on_disk = {path.stem for path in (written / "images").iterdir()}
    known = {row["OBJID"] for row in table}
    assert sum(row["objid"] in known and row["asset_id"] in on_disk for row in mapping) == IMAGES - 1
    assert sum(row["objid"] not in known for row in mapping) == 1
    assert sum(row["asset_id"] not in on_disk for row in mapping) == 1
    twice = [objid for objid, count in Counter(row["objid"] for row in mapping).items() if count == 2]
    assert len(twice) == 1
    assert {row["sample"] for row in mapping if row["objid"] == twice[0]} == {"original", "stripe82"}
    unmapped = known - {row["objid"] for row in mapping}
    assert len(unmapped) == IMAGES


def test_a_single_image_has_a_single_row_in_the_mapping():
    objects = catalogue(1, 0)
    assert len(assets(objects, 0)) == 1
    assert len(objects) == 2


def test_properties_are_those_of_the_objects_in_the_table(written):
    found, table = pd.read_csv(written / "properties.csv"), pd.read_csv(written / TABLE)
    truth = pd.read_csv(written / "truth.csv").set_index("OBJID").loc[found.OBJID]
    assert list(found.OBJID) == list(table.OBJID)
    assert np.abs(np.log(found.petroR90_r.to_numpy() / truth.r90.to_numpy())).max() < 0.2
    assert np.abs(found.petroMag_r.to_numpy() - truth.magnitude.to_numpy()).max() < 0.15
    assert found.redshift.between(0.003, 0.4).all()


def test_objects_without_an_image_are_smaller_and_fainter():
    objects = catalogue(500, 0)
    near, far = objects[objects["sample"] != ""], objects[objects["sample"] == ""]
    assert far.r90.median() < 0.7 * near.r90.median()
    assert far.magnitude.median() > near.magnitude.median() + 0.9


def test_what_is_farther_is_as_bright_a_square_arcsecond():
    near = population(20, 0)
    far = farther(near, 2.0)
    flux = 10 ** (-0.4 * (far.magnitude - near.magnitude))
    np.testing.assert_allclose(flux, 1 / 4)
    for name in LENGTHS:
        np.testing.assert_allclose(far[name], near[name] / 2)


def test_the_same_seed_writes_the_same_files(written, tmp_path):
    write_spirals(tmp_path / "again", IMAGES, seed=1, size=48)
    for path in written.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(written)).read_bytes()


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writers, "draw_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_spirals(tmp_path / "spirals", 5, seed=1, size=48)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0, 0, 64), "simulate.count=0"), ((5, -1, 64), "simulate.seed=-1"), ((5, 0, 7), "simulate.size=7")],
)
def test_numbers_that_are_too_small_are_refused(tmp_path, numbers, message):
    with pytest.raises(UserError, match=message):
        write_spirals(tmp_path / "spirals", *numbers)


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
