import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from galaxyml.data.images.folders import ImageFolders
from galaxyml.data.tables.reading import NAME
from galaxyml.data.tables.wide import WideTable
from galaxyml.runs.errors import DataError

FORMATS = ("t.csv", "t.csv.gz", "t.fits", "t.fits.gz", "t.parquet")


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


def written(path: Path, frame: pd.DataFrame) -> Path:
    """A table in the format of its name."""
    if ".fits" in path.name:
        columns = {name: column.to_numpy() for name, column in frame.items()}
        Table({name: np.array(list(c)) if c.dtype == object else c for name, c in columns.items()}).write(path)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_give_the_same_columns_with_all_digits(tmp_path: Path, name: str) -> None:
    ids = [587727178986356823, 587727178986356824, 587727178986356822]
    frame = pd.DataFrame({"z": [0.1, np.nan, 0.3], "objid": ids, "n": [1, 2, 3], "sample": ["a", "bb", "c"]})
    rows = WideTable(written(tmp_path / name, frame)).read("objid", ["sample"], ["n", "z"])
    assert rows.ids.tolist() == [str(number) for number in ids]
    assert rows.frame["sample"].tolist() == ["a", "bb", "c"]
    np.testing.assert_array_equal(rows.numbers(["n"], 0, 9, ""), [[1], [2], [3]])
    np.testing.assert_array_equal(rows.numbers(["z", "n"], 0, 9, "", empty=True), [[0.1, 1], [np.nan, 2], [0.3, 3]])
    with pytest.raises(DataError, match=rf"{name}, (line 3|row 2), galaxy 587727178986356824: z is empty or nan"):
        rows.numbers(["z"], 0, 9, "0 to 9")


@pytest.mark.parametrize("name", FORMATS)
def test_ids_that_were_floats_are_refused_in_all_formats(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"objid": [5.87727178986356823e17], "n": [1]})
    with pytest.raises(DataError, match=r"(line 2|row 1): objid is '.*'; it must be a whole number; as a float it has"):
        WideTable(written(tmp_path / name, frame)).read("objid", (), ["n"])


def test_ids_of_bytes_and_masked_numbers_are_read_from_fits(tmp_path: Path) -> None:
    table = Table({"objid": [b"17", b"18"], "n": [4, 5], "x": np.array([1.5, 2.5], np.float32)}, masked=True)
    table["n"].mask = [False, True]
    table["x"].mask = [True, False]
    table.write(tmp_path / "t.fits")
    rows = WideTable(tmp_path / "t.fits").read("objid", (), ["n", "x"])
    assert rows.ids.tolist() == ["17", "18"]
    np.testing.assert_array_equal(rows.numbers(["n", "x"], 0, np.inf, "", empty=True), [[4, np.nan], [np.nan, 2.5]])


def test_ids_beside_gaps_keep_their_digits_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"objid": pd.array([587727178986356823, None, 3], "Int64"), "n": [1, 2, 3]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="row 2: objid is empty or nan; it must be a whole number"):
        WideTable(tmp_path / "t.parquet").read("objid", (), ["n"])
    frame.drop(index=1).to_parquet(tmp_path / "t.parquet")
    assert WideTable(tmp_path / "t.parquet").read("objid").ids.tolist() == ["587727178986356823", "3"]


def test_lines_are_counted_with_empty_ones(tmp_path: Path) -> None:
    path = csv(tmp_path, "\ufeffid,x,\n1,0.5,\n\n2,0.5,\n,,\n3,1.5,\n  \n,\n4,1,\n\n")
    rows = WideTable(path).read("id", (), ["x"])
    assert rows.ids.tolist() == ["1", "2", "3", "4"]
    assert [rows.line(row) for row in range(4)] == ["line 2", "line 4", "line 6", "line 9"]
    with pytest.raises(DataError, match=r"t\.csv, line 6, galaxy 3: x is 1\.5; in \[0, 1\]\. Correct"):
        rows.numbers(["x"], 0, 1, "in [0, 1]")


@pytest.mark.parametrize("line", ["2,0,5", "2", '2,"0,5",7'])
def test_lines_that_do_not_fit_the_header_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"t\.csv, line 3 has \d values and the header 2\. Decimals take points"):
        WideTable(csv(tmp_path, f"id,x\n1,0.5\n{line}\n")).read("id", (), ["x"])


@pytest.mark.parametrize(
    ("value", "found"),
    [("abc", "'abc'"), ("1e400", "inf"), ("-1", "-1"), ("inf", "inf"), ("2020-01-01", "'2020-01-01'"), ("", "empty")],
)
def test_what_is_no_number_in_range_is_named(tmp_path: Path, value: str, found: str) -> None:
    rows = WideTable(csv(tmp_path, f"id,x\n1,0.5\n2,{value}\n3,{value}\n")).read("id", (), ["x"])
    with pytest.raises(
        DataError, match=rf"line 3, galaxy 2: x is {found}( or nan)?; votes are counts \(2 such places in all\)"
    ):
        rows.numbers(["x"], 0, np.inf, "votes are counts")


def test_the_first_of_several_faults_is_named_whichever_column_it_is_in(tmp_path: Path) -> None:
    rows = WideTable(csv(tmp_path, "id,x,y\n1,0,0\n2,0,7\n3,8,0\n")).read("id", (), ["x", "y"])
    for names in (["x", "y"], ["y", "x"]):
        with pytest.raises(DataError, match=r"line 3, galaxy 2: y is 7; in \[0, 1\] \(2 such places in all\)"):
            rows.numbers(names, 0, 1, "in [0, 1]")


def test_empty_cells_above_a_text_are_not_what_is_wrong(tmp_path: Path) -> None:
    rows = WideTable(csv(tmp_path, "id,x\n1,\n2,0\n3,abc\n")).read("id", (), ["x"])
    with pytest.raises(DataError, match=r"line 4, galaxy 3: x is 'abc'; in \[0, 1\]\. "):
        rows.numbers(["x"], 0, 1, "in [0, 1]", empty=True)


def test_rounding_in_single_precision_is_no_fault(tmp_path: Path) -> None:
    rows = WideTable(csv(tmp_path, "id,x\n1,1.0000001\n2,-0.0000001\n")).read("id", (), ["x"])
    np.testing.assert_array_equal(rows.numbers(["x"], 0, 1, ""), [[1], [0]])


def test_a_second_row_of_a_galaxy_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = csv(tmp_path, "id,x\n1,1\n2,2\n1,3\n")
    with pytest.raises(DataError, match=r"t\.csv, line 4, galaxy 1 has a row already, in line 2"):
        WideTable(path).read("id", (), ["x"])
    assert len(WideTable(path).read("id", (), ["x"], repeats=True).frame) == 3


@pytest.mark.parametrize("value", ["J1 2", "J1/2", ""])
def test_names_that_cannot_be_an_image_s_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(DataError, match=r"line 2: iauname is .*; it must be a name without spaces and slashes"):
        WideTable(csv(tmp_path, f"iauname,x\n{value},1\n")).read("iauname", (), ["x"], NAME)


def test_missing_columns_are_told_with_near_ones(tmp_path: Path) -> None:
    table = WideTable(csv(tmp_path, "id,bar_yess,ra\n1,1,1\n"))
    with pytest.raises(DataError, match=r"missing columns \(1\): bar_yes\. The table has bar_yess, .* mean bar_yess\?"):
        table.check(["id", "bar_yes"], ["ra"])
    table.check(["id", "ra"])


def test_columns_that_occur_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns that occur twice \(1\): x"):
        WideTable(csv(tmp_path, "id,x,x\n1,1,2\n"))


def test_broken_files_are_told_in_one_sentence(tmp_path: Path) -> None:
    rows = "\n".join(f"{number},{number / 7}" for number in range(9000))
    whole = gzip.compress(f"id,x\n{rows}\n".encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    written(tmp_path / "t.fits", pd.DataFrame({"id": np.arange(9000), "x": 0.5}))
    (tmp_path / "cut.fits").write_bytes((tmp_path / "t.fits").read_bytes()[:9000])
    for name in ("no.fits", "no.parquet", "no.csv.gz"):
        (tmp_path / name).write_bytes(b"<html>not found</html>")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("id,x\n")
    (tmp_path / "latin.csv").write_bytes(b"id,x\n\xe9,1\n")
    for name in ("cut.csv.gz", "cut.fits", "no.fits", "no.parquet", "no.csv.gz", "empty.csv", "latin.csv"):
        with pytest.raises(
            DataError, match=rf"{name} is not an? \w+ table that can be read: .*Fetch it again. From X."
        ):
            WideTable(tmp_path / name, "From X.").read("id", (), ["x"])
    with pytest.raises(DataError, match="has a header and no rows"):
        WideTable(tmp_path / "header.csv").read("id", (), ["x"])
    with pytest.raises(DataError, match=r"gone\.csv is missing\. From X\."):
        WideTable(tmp_path / "gone.csv", "From X.")


def test_images_are_found_below_folders_and_patterns(tmp_path: Path) -> None:
    for name in (
        "part1/J00/J00.1+2.png",
        "part2/J00.1+2.jpg",
        "part2/J01/7.FITS.GZ",
        "part2/readme.txt",
        "other/8.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = ImageFolders.below(tmp_path, ["part*"])
    assert found.by_path == {
        "J00/J00.1+2": "part1/J00/J00.1+2.png",
        "J00.1+2": "part2/J00.1+2.jpg",
        "J01/7": "part2/J01/7.FITS.GZ",
    }
    assert found.by_name == {"J00.1+2": "part1/J00/J00.1+2.png", "7": "part2/J01/7.FITS.GZ"}
    for end in ("b/7.png", "a/7.png", "a/7.jpg", "c/7.png", "a/7.tif"):
        (tmp_path / "several" / end).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "several" / end).touch()
    assert ImageFolders.below(tmp_path, ["several"]).by_name == {"7": "several/a/7.jpg"}
    assert ImageFolders.below(tmp_path / "part1", ["../other"]).by_name == {"8": "../other/8.png"}
    with pytest.raises(DataError, match=r"There is no folder .*/parts and no .*/x\*\. From X\."):
        ImageFolders.below(tmp_path, ["parts", "x*"], "From X.")
