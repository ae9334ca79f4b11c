import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galaxyml.data.tables.plasticc import CLASSES, Files, find_files, read_objects
from galaxyml.runs.errors import DataError

GALACTIC = {92, 65, 16, 53, 6, 991, 995}  # codes of the classes of our Galaxy
COLUMNS = ["id", "file", "ra", "dec", "ddf", "specz", "photoz", "photoz_err", "distmod", "mwebv", "galactic", "target"]
CURVES = "object_id,mjd,passband,flux,flux_err,detected\n"
KAGGLE = "object_id,ra,decl,gal_l,gal_b,ddf,hostgal_specz,hostgal_photoz,hostgal_photoz_err,distmod,mwebv,target\n"
TRAIN = KAGGLE + (
    "730,26.7,-6.5,170.9,-65.4,1,0.2320,0.2262,0.0157,40.2561,0.021,42\n"
    "615,349.0,-61.9,320.7,-51.7,1,0.0000,0.0000,0.0000,nan,0.017,92\n"
)
TEST = KAGGLE.replace(",target", "") + (
    "13,34.4,-5.2,169.9,-61.9,1,0.3048,0.3193,0.0542,41.1123,0.019\n"
    "800,33.6,-6.1,170.4,-63.3,0,nan,0.6323,0.0179,42.8774,0.018\n"
)
ZENODO = (
    "object_id,ra,decl,ddf_bool,hostgal_specz,hostgal_photoz,hostgal_photoz_err,distmod,mwebv,target,true_target,"
    "true_z\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder in Kaggle's layout."""
    folder = tmp_path / "plasticc"
    folder.mkdir()
    (folder / "training_set.csv").write_text(CURVES)
    (folder / "test_set.csv").write_text(CURVES)
    (folder / "training_set_metadata.csv").write_text(TRAIN)
    (folder / "test_set_metadata.csv").write_text(TEST)
    (folder / "sample_submission.csv").write_text("")
    (folder / "test_set_sample.csv").write_text(CURVES)
    return folder


@pytest.fixture
def zenodo(tmp_path: Path) -> Path:
    """A folder in Zenodo's layout, packed, with three of the eleven parts."""
    folder = tmp_path / "plasticc"
    folder.mkdir()
    names = ["train_lightcurves", "test_lightcurves_01", "test_lightcurves_02", "test_lightcurves_10"]
    for name in names:
        (folder / f"plasticc_{name}.csv.gz").write_bytes(gzip.compress(CURVES.encode()))
    train = ZENODO + "615,349.0,-61.9,1,0.0,0.0,0.0,-9.0,0.017,92,92,0.0\n"
    test = ZENODO + (
        "13,34.4,-5.2,1,0.3048,0.3193,0.0542,41.1123,0.019,99,993,0.3\n"
        "14,34.4,-5.2,0,-9.0,0.5,0.0542,41.1123,0.019,90,67,0.3\n"
    )
    (folder / "plasticc_train_metadata.csv.gz").write_bytes(gzip.compress(train.encode()))
    (folder / "plasticc_test_metadata.csv.gz").write_bytes(gzip.compress(test.encode()))
    return folder


def test_classes_are_the_published_ones() -> None:
    assert len(CLASSES) == 19
    assert len([code for code in CLASSES if code < 99]) == 14  # of the challenge's data note, for training
    assert GALACTIC.issubset(CLASSES)


def test_real_metadata_are_read_as_pandas_reads_them(real: Path) -> None:
    folder = real / "plasticc"
    files = find_files(folder)
    assert [path.name for path in (*files.train_curves, *files.test_curves)] == ["training_set.csv", "test_set.csv"]
    objects = read_objects(files)
    train, test, truth = (
        pd.read_csv(folder / f"{name}.csv") for name in ("training_set_metadata", "test_set_metadata", "test_set_truth")
    )
    wanted = pd.concat([train, test.merge(truth.rename(columns={"true_target": "target"}))]).sort_values("object_id")
    assert list(objects.columns) == COLUMNS
    pairs = {"id": "object_id", "dec": "decl", "photoz": "hostgal_photoz", "specz": "hostgal_specz"}
    pairs |= {name: name for name in ("ra", "ddf", "distmod", "mwebv", "target")}
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(objects[ours].to_numpy(float), wanted[theirs].to_numpy(float))
    np.testing.assert_array_equal(objects["galactic"], objects["target"].isin(GALACTIC))
    assert (objects["file"] == "test").sum() == 300
    assert files.notes == ()


def test_kaggles_names_are_found(root: Path) -> None:
    assert find_files(root) == Files(
        [root / "training_set.csv"],
        root / "training_set_metadata.csv",
        [root / "test_set.csv"],
        root / "test_set_metadata.csv",
        None,
    )
    (root / "test_set_truth.csv").touch()
    assert find_files(root).truth == root / "test_set_truth.csv"


def test_packed_files_are_found_and_plain_ones_come_first(root: Path) -> None:
    (root / "training_set.csv").rename(root / "training_set.csv.gz")
    (root / "test_set.csv.gz").touch()
    files = find_files(root)
    assert files.train_curves == [root / "training_set.csv.gz"]
    assert files.test_curves == [root / "test_set.csv"]


def test_parts_come_in_the_order_of_their_numbers(root: Path) -> None:
    (root / "test_set.csv").unlink()
    for number in (10, 9, 11):
        (root / f"test_set_batch{number}.csv").touch()
    files = find_files(root)
    assert [path.name for path in files.test_curves] == [f"test_set_batch{number}.csv" for number in (9, 10, 11)]
    assert files.notes == ()


def test_parts_beside_the_whole_are_left_out_and_noted(root: Path) -> None:
    (root / "test_set_batch1.csv").touch()
    files = find_files(root)
    assert files.test_curves == [root / "test_set.csv"]
    assert files.notes == ("test_set.csv is used, and not the parts of it (1).",)


def test_zenodos_names_are_found_and_gaps_are_noted(zenodo: Path) -> None:
    files = find_files(zenodo)
    assert files.train_curves == [zenodo / "plasticc_train_lightcurves.csv.gz"]
    assert [path.name[-9:] for path in files.test_curves] == ["01.csv.gz", "02.csv.gz", "10.csv.gz"]
    assert files.notes == ("parts of the test set's light curves are not there: 3, 4, 5, 6, 7 and 2 more.",)


def test_kaggles_files_are_taken_where_both_are(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "training_set.csv", root / "plasticc_train_lightcurves.csv")
    files = find_files(root)
    assert files.train_curves == [root / "training_set.csv"]
    assert files.notes == ("plasticc/ has files under Kaggle's and under Zenodo's names; Kaggle's are used.",)


def test_a_test_set_may_be_missing(root: Path) -> None:
    (root / "test_set.csv").unlink()
    assert find_files(root).test_curves == []
    (root / "test_set_metadata.csv").unlink()
    files = find_files(root)
    assert files.test_metadata is None
    assert read_objects(files)["file"].tolist() == ["train", "train"]


@pytest.mark.parametrize("gone", ["training_set", "training_set_metadata", "test_set_metadata"])
def test_a_missing_file_is_told_with_where_it_comes_from(gone: str, root: Path) -> None:
    (root / f"{gone}.csv").unlink()
    with pytest.raises(
        DataError, match=rf"missing.*: {gone}\.csv.*kaggle.*zenodo\.2539456.*data_dir=.*source=simulated"
    ):
        find_files(root)


def test_an_empty_folder_and_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing \(as .*\): training_set\.csv, training_set_metadata\.csv"):
        find_files(tmp_path)
    (tmp_path / "training_set.csv.zip").touch()
    with pytest.raises(DataError, match=r"There is training_set\.csv\.zip: unpack it"):
        find_files(tmp_path)
    with pytest.raises(DataError, match=r"There is no folder .*nope"):
        find_files(tmp_path / "nope")


def test_objects_are_in_the_order_of_their_ids(root: Path) -> None:
    objects = read_objects(find_files(root))
    assert objects["id"].tolist() == [13, 615, 730, 800]
    assert objects.index.tolist() == [0, 1, 2, 3]
    assert objects["file"].tolist() == ["test", "train", "train", "test"]
    assert objects["target"].tolist() == [pd.NA, 92, 42, pd.NA]
    assert objects["galactic"].tolist() == [False, True, False, False]
    assert objects["ddf"].tolist() == [True, True, True, False]
    np.testing.assert_array_equal(objects["distmod"], [41.1123, np.nan, 40.2561, 42.8774])
    np.testing.assert_array_equal(objects["specz"], [0.3048, 0.0, 0.2320, np.nan])
    assert objects["target"].dtype == "Int64"
    assert objects["id"].dtype == np.int64


def test_truth_tells_targets_of_the_test_set(root: Path) -> None:
    (root / "test_set_truth.csv").write_text("object_id,true_target\n800,992\n")
    objects = read_objects(find_files(root))
    assert objects["target"].tolist() == [pd.NA, 92, 42, 992]


def test_zenodos_columns_are_read_and_the_true_target_wins(zenodo: Path) -> None:
    objects = read_objects(find_files(zenodo))
    assert objects["target"].tolist() == [993, 67, 92]
    np.testing.assert_array_equal(objects["distmod"], [41.1123, 41.1123, np.nan])
    np.testing.assert_array_equal(objects["specz"], [0.3048, np.nan, 0.0])
    assert objects["ddf"].tolist() == [True, False, True]


def test_forms_of_a_table_give_the_same(root: Path) -> None:
    wanted = read_objects(find_files(root))
    path = root / "training_set_metadata.csv"
    forms: list[Callable[[str], str]] = [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace(",ra,", ", ra ,"),
        lambda text: text.replace("615,", "615.0,").replace(",92\n", ",92.0\n"),
        lambda text: text.replace(",nan,", ",,"),
    ]
    for form in forms:
        path.write_text(form(TRAIN))
        pd.testing.assert_frame_equal(read_objects(find_files(root)), wanted)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("42\n", "43\n", r"line 2, object 730: target is 43; it must be one of 6, 15, .*, 99, 991,"),
        ("42\n", "\n", "line 2, object 730: target is empty or nan; it must be one of"),
        ("42\n", "SNII\n", "line 2, object 730: target is 'SNII'; it must be a number"),
        ("0.2262", "-0.2", "line 2, object 730: hostgal_photoz is -0.2; it must be 0 or above, or empty, nan or -9"),
        ("0.2262", "inf", "line 2, object 730: hostgal_photoz is inf; it must be 0 or above"),
        ("0.0157", "-1", "line 2, object 730: hostgal_photoz_err is -1"),
        ("40.2561", "far", "line 2, object 730: distmod is 'far'; it must be a number"),
        ("0.017", "", "line 3, object 615: mwebv is empty or nan; it must be 0 or above"),
        ("0.017", "-9", "line 3, object 615: mwebv is -9"),
        ("349.0", "361", "line 3, object 615: ra is 361; it must be from 0 to 360"),
        ("-61.9", "-91", "line 3, object 615: decl is -91; it must be from -90 to 90"),
        (",1,0.2320", ",2,0.2320", "line 2, object 730: ddf is 2; it must be 0 or 1"),
        (",1,0.2320", ",0.5,0.2320", "line 2, object 730: ddf is 0.5; it must be 0 or 1"),
        ("615,", "615.5,", r"line 3: object_id is '615\.5'; it must be a whole number"),
        ("615,", "1e300,", r"line 3: object_id is '1e300'; it must be a whole number"),
        ("615,", ",", "line 3: object_id is empty or nan; it must be a whole number"),
        ("615,", "x,", "line 3: object_id is 'x'; it must be a whole number"),
        ("615,", "730,", "line 3, object 730 has a row already, in line 2"),
        ("615,", "730.0,", "line 3, object 730 has a row already, in line 2"),
        ("615,", "13,", r"test_set_metadata.csv: object 13 is in training_set_metadata\.csv too \(1 such"),
        (",target\n", ",targt\n", r"missing columns \(1\): target\."),
        (",decl,", ",dec,", r"missing columns \(1\): decl\..*Did you mean dec"),
        (TRAIN, "", "is not a CSV table that can be read"),
        (TRAIN[len(KAGGLE) :], "", "has a header and no rows"),
        (",nan,0.017,92\n", "", "line 3, object 615: mwebv is empty or nan"),
    ],
)
def test_what_is_wrong_in_the_metadata_is_told(old: str, new: str, message: str, root: Path) -> None:
    assert old in TRAIN
    (root / "training_set_metadata.csv").write_text(TRAIN.replace(old, new))
    with pytest.raises(DataError, match=message) as error:
        read_objects(find_files(root))
    assert str(root) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("object_id,true_target\n13,990\n730,42\n", r"truth\.csv, .*object 13: true_target is 990; it must be one of"),
        ("object_id,true_target\n13,90\n730,42\n", r"line 3, object 730 has no row in the test set's metadata"),
        ("object_id,true_target\n13,90\n14,42\n15,42\n", r"object 14 has no row .*\(2 such places in all\)"),
        ("object_id,true_target\n13,\n", "line 2, object 13: true_target is empty or nan"),
        ("object_id,true_target\n13,90\n13,90\n", "line 3, object 13 has a row already, in line 2"),
        ("object_id,target\n13,90\n", r"missing columns \(1\): true_target"),
    ],
)
def test_what_is_wrong_in_the_truth_is_told(content: str, message: str, root: Path) -> None:
    (root / "test_set_truth.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_objects(find_files(root))


def test_how_many_places_are_wrong_is_told(root: Path) -> None:
    (root / "training_set_metadata.csv").write_text(TRAIN.replace("42\n", "1\n").replace("92\n", "2\n"))
    with pytest.raises(DataError, match=r"target is 1; .* \(2 such places in all\)"):
        read_objects(find_files(root))


def test_a_packed_table_that_is_cut_is_told(zenodo: Path) -> None:
    path = zenodo / "plasticc_test_metadata.csv.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"test_metadata\.csv\.gz is not a CSV table that can be read: .*end"):
        read_objects(find_files(zenodo))
