import re

import numpy as np
import pandas as pd
import pytest
from scipy import integrate

from galaxyml.runs.errors import UserError
from galaxyml.sky import plasticc, write_plasticc
from galaxyml.sky.light_curves.population import KINDS, KNOWN, UNKNOWN
from galaxyml.sky.positions import galactic_latitude

OBJECTS, TEST_OBJECTS = 80, 70
FILES = {
    "training_set.csv",
    "training_set_metadata.csv",
    "test_set.csv",
    "test_set_metadata.csv",
    "test_set_truth.csv",
    "truth.csv",
}
# How the challenge writes its numbers.
CURVE_LINE = r"\d+,\d{5}\.\d{4},[0-5],-?\d+\.\d{6,},\d+\.\d{6,},[01]"
OBJECT_LINE = (
    r"\d+,\d+\.\d{6},-?\d+\.\d{6},\d+\.\d{6},-?\d+\.\d{6},[01],(\d+\.\d{4}|nan),\d+\.\d{4},\d+\.\d{4},(\d+\.\d{4}|nan),"
    r"\d+\.\d{3}"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "plasticc"
    write_plasticc(folder, OBJECTS, 1, TEST_OBJECTS, unknown=0.1)
    return folder


def lines(path, most=2000):
    with path.open(encoding="utf-8") as file:
        return [line.rstrip("\n") for line, _ in zip(file, range(most), strict=False)]


def tables(folder):
    return {name: pd.read_csv(folder / name) for name in FILES}


@pytest.fixture(scope="module")
def table(written):
    return tables(written)


def check_format(folder, test_line=CURVE_LINE):
    for name, line in (("training_set", CURVE_LINE), ("test_set", test_line)):
        header, *rows = lines(folder / f"{name}.csv")
        assert header == "object_id,mjd,passband,flux,flux_err,detected"
        assert all(re.fullmatch(line, row) for row in rows)
    for name, target in (("training_set", ",target"), ("test_set", "")):
        header, *rows = lines(folder / f"{name}_metadata.csv")
        assert (
            header
            == "object_id,ra,decl,gal_l,gal_b,ddf,hostgal_specz,hostgal_photoz,hostgal_photoz_err,distmod,mwebv"
            + target
        )
        assert all(re.fullmatch(OBJECT_LINE + (r",\d+" if target else ""), row) for row in rows)
    assert lines(folder / "test_set_truth.csv")[0] == "object_id,true_target"


def test_files_have_the_columns_and_number_formats_of_the_challenge(written):
    assert {path.name for path in written.iterdir()} == {*FILES, "simulated.txt"}
    check_format(written)


def test_the_formats_are_those_of_the_real_files(real):
    # The sample of the test set has lost trailing zeros.
    check_format(real / "plasticc", CURVE_LINE.replace("{4}", "{1,4}").replace("{6,}", "+"))


def test_every_object_has_its_curve_its_row_and_its_truth(table):
    for name in ("training_set", "test_set"):
        ids = table[f"{name}_metadata.csv"].object_id
        assert ids.is_monotonic_increasing
        assert ids.is_unique
        curves = table[f"{name}.csv"]
        assert list(curves.object_id.unique()) == list(ids)
        assert np.all(curves.groupby("object_id").mjd.diff().dropna() > 0)
        assert curves.groupby("object_id").detected.sum().min() >= 2
    assert not set(table["training_set.csv"].object_id) & set(table["test_set.csv"].object_id)
    truth = table["truth.csv"].set_index("object_id")
    train, test = (
        table["training_set_metadata.csv"].set_index("object_id"),
        table["test_set_truth.csv"].set_index("object_id"),
    )
    assert len(truth) == OBJECTS + TEST_OBJECTS
    assert (truth.loc[train.index].true_target == train.target).all()
    assert (truth.loc[test.index].true_target == test.true_target).all()
    assert set(truth.loc[train.index].file) == {"train"}
    assert set(truth.loc[test.index].file) == {"test"}
    assert list(test.index) == list(table["test_set_metadata.csv"].object_id)


def test_the_truth_has_the_parameters_of_each_objects_own_model(table):
    truth = table["truth.csv"].set_index("true_target").drop(columns=["object_id", "file"])
    for target in set(truth.index):
        own = truth.loc[[target]]
        there = {name for name in own if own[name].notna().any()}
        assert there - {"overtone"} == set(KINDS[target].model.draw(np.random.default_rng(0))) - {"overtone"} | {
            "redshift"
        }
        assert own[sorted(there)].notna().all(axis=None)


def test_classes_are_as_frequent_as_in_the_challenge_and_each_is_there(table):
    assert sorted(table["training_set_metadata.csv"].target.unique()) == sorted(KNOWN)
    assert table["training_set_metadata.csv"].target.value_counts().min() >= 2
    large = plasticc.catalogue(7846, 1000, 0.08, 0)
    train = large[large.file == "train"].true_target.value_counts()
    assert {target: train[target] for target in KNOWN} == {target: KINDS[target].training for target in KNOWN}
    test = large[large.file == "test"].true_target.value_counts()
    assert [test[target] for target in UNKNOWN] == [20] * 4
    assert test[90] == pytest.approx(920 * 2313 / 7846, abs=1)
    assert not set(large[large.file == "train"].true_target) & set(UNKNOWN)


@pytest.mark.parametrize(
    ("objects", "unknown", "expected"), [(100, 0.05, 12), (30, 0.05, 6), (100, 0.0, 0), (100, 1.0, 100)]
)
def test_the_unknown_are_at_least_a_few_of_each_class_unless_none_is_wanted(objects, unknown, expected):
    plan = plasticc.catalogue(20, objects, unknown, 0)
    of_test = plan[plan.file == "test"].true_target
    assert len(of_test) == objects
    strange = of_test[of_test > 990].value_counts()
    assert strange.sum() == expected
    if expected:
        assert np.ptp([strange.get(target, 0) for target in UNKNOWN]) <= 1


def test_ids_tell_nothing_of_the_class_or_the_file():
    plan = plasticc.catalogue(2000, 2000, 0.2, 0)
    assert plan.object_id.is_monotonic_increasing
    for column in (plan.true_target > 990, plan.file == "test", plan.true_target == 90):
        assert abs(np.corrcoef(np.arange(len(plan)), column)[0, 1]) < 0.05


def test_there_are_twice_as_many_test_objects_if_not_told_otherwise(tmp_path):
    write_plasticc(tmp_path / "plasticc", 5, 0)
    assert len(pd.read_csv(tmp_path / "plasticc" / "training_set_metadata.csv")) == 5
    assert len(pd.read_csv(tmp_path / "plasticc" / "test_set_metadata.csv")) == 10


def test_hosts_have_redshifts_and_distances_and_galactic_objects_have_none(table):
    truth = table["truth.csv"].set_index("object_id")
    for name in ("training_set", "test_set"):
        rows = table[f"{name}_metadata.csv"].set_index("object_id")
        redshift = truth.loc[rows.index].redshift
        inside = redshift == 0
        assert (rows.hostgal_photoz[inside] == 0).all()
        assert (rows.hostgal_photoz_err[inside] == 0).all()
        assert rows.distmod[inside].isna().all()
        assert (rows.hostgal_photoz[~inside] > 0).all()
        assert rows.distmod[~inside].notna().all()
        known = rows.hostgal_specz.notna()
        assert known.all() if name == "training_set" else known.mean() < 0.2
        np.testing.assert_allclose(rows.hostgal_specz[known], redshift[known], atol=1e-4)
    one = rows[~inside].iloc[0]
    path = integrate.quad(lambda z: 1 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7), 0, one.hostgal_photoz)[0]
    modulus = 5 * np.log10((1 + one.hostgal_photoz) * 299_792.458 / 70 * path) + 25
    assert one.distmod == pytest.approx(modulus, abs=0.01)


def test_photometric_redshifts_scatter_by_their_errors_and_a_few_are_far_off():
    redshift = np.full(20_000, 0.4)
    photoz, error, unseen = plasticc.photometric(redshift, 0)
    pulls = (photoz - redshift) / error
    near = error < 0.12
    assert pulls[near].std() == pytest.approx(1, abs=0.03)
    assert 0.08 < (~near).mean() < 0.12
    assert (np.abs(photoz - 0.4) > 0.3).mean() == pytest.approx(0.08, abs=0.02)
    assert unseen.mean() == pytest.approx(0.97, abs=0.01)


def test_galactic_coordinates_are_those_of_the_places(table):
    rows = table["test_set_metadata.csv"]
    np.testing.assert_allclose(rows.gal_b, galactic_latitude(rows.ra, rows.decl), atol=0.01)
    assert rows.gal_l.between(0, 360).all()


def test_about_a_quarter_is_in_the_deep_fields_with_more_observations(table):
    rows = table["training_set_metadata.csv"].set_index("object_id")
    assert 0.1 < rows.ddf.mean() < 0.45
    numbers = table["training_set.csv"].groupby("object_id").size()
    assert numbers[rows.ddf == 1].median() > 1.8 * numbers[rows.ddf == 0].median()


def test_the_same_seed_writes_the_same_files_and_another_one_others(tmp_path):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        write_plasticc(tmp_path / name, 16, seed, 8)
    one, same, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "same", "other")
    )
    assert one == same
    assert all(one[name] != other[name] for name in FILES)


def test_more_objects_do_not_change_the_first_of_each_class(tmp_path):
    write_plasticc(tmp_path / "few", 20, 0, 10)
    write_plasticc(tmp_path / "more", 40, 0, 10)
    few, more = (pd.read_csv(tmp_path / name / "truth.csv").query("file == 'train'") for name in ("few", "more"))
    columns = [name for name in few if name not in ("object_id", "file")]
    merged = few[columns].round(9).merge(more[columns].round(9).drop_duplicates(), how="left", indicator=True)
    assert (merged["_merge"] == "both").all()


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    real_member = plasticc.member
    drawn: list[object] = []

    def interrupted(*args):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(args)
        return real_member(*args)

    monkeypatch.setattr(plasticc, "member", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_plasticc(tmp_path / "plasticc", 12, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"count": 0}, r"simulate\.count=0: it must be a whole number, 1 or more"),
        ({"seed": -1}, r"simulate\.seed=-1"),
        ({"test_count": 0}, r"simulate\.test_count=0"),
        ({"unknown": 1.5}, r"simulate\.unknown=1\.5: it must be a share, 0 to 1"),
        ({"unknown": float("nan")}, r"simulate\.unknown=nan"),
    ],
)
def test_wrong_numbers_are_refused(tmp_path, numbers, message):
    with pytest.raises(UserError, match=message):
        write_plasticc(tmp_path / "plasticc", **({"count": 5, "seed": 0} | numbers))
    assert list(tmp_path.iterdir()) == []
