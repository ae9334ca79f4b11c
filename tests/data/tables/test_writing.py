"""Tables for other programs: read back by astropy, pyarrow and pandas."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from galaxyml.data.tables.writing import FORMATS, Field, check_format, write_table
from galaxyml.runs.errors import UsageError

ROWS = pd.DataFrame(
    {
        "id": ["J1", "J2", "J3"],
        "objid": np.array([587722981742084096, 2, 3]),
        "ra": [10.5, 359.0, np.nan],
        "count": pd.array([1, None, 3], "Int64"),
        "smooth": np.array([0.25, 0.5, 1.0], np.float32),
        "ood": [True, False, True],
        "note": ["a, b", None, "Zürich"],
    }
)
FIELDS = {
    "id": Field("name of the object", ucd="meta.id;meta.main"),
    "ra": Field("right ascension", "deg", "pos.eq.ra;meta.main"),
    "smooth": Field("Is it smooth? yes", ucd="stat.probability"),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_back_the_same_values(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    notes = write_table(ROWS, path, FIELDS, suffix)
    if suffix == ".csv":
        again = pd.read_csv(path)
    elif suffix == ".parquet":
        again = pd.read_parquet(path)
    else:
        again = Table.read(path).to_pandas()
    assert list(again.columns) == list(ROWS.columns)
    texts = {
        name: [cell.decode() if isinstance(cell, bytes) else cell for cell in again[name]] for name in ("id", "note")
    }
    assert texts["id"] == ["J1", "J2", "J3"]
    assert [int(value) for value in again["objid"]] == [587722981742084096, 2, 3]
    assert again["ra"].to_numpy(float) == pytest.approx([10.5, 359.0, np.nan], nan_ok=True)
    assert again["count"].astype("Int64").to_list() == [1, pd.NA, 3]
    assert again["smooth"].to_list() == [0.25, 0.5, 1.0]
    assert again["ood"].astype(bool).to_list() == [True, False, True]
    assert texts["note"][0] == "a, b"
    assert texts["note"][2] == ("Z\\xfcrich" if suffix == ".fits" else "Zürich")
    assert bool(notes) == (suffix == ".fits")


def test_names_with_spaces_are_written_to_votable_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "table.vot"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_table(pd.DataFrame({"Edge on, no bulge": [0.5]}), path, {}, ".vot")
    assert Table.read(path, use_names_over_ids=True).colnames == ["Edge on, no bulge"]


@pytest.mark.parametrize("suffix", [".vot", ".ecsv"])
def test_units_and_descriptions_are_astropys(suffix: str, tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / f"table{suffix}", FIELDS, suffix)
    again = Table.read(tmp_path / f"table{suffix}")
    assert str(again["ra"].unit) == "deg"
    assert again["smooth"].description == "Is it smooth? yes"
    assert again["id"].meta["ucd"] == "meta.id;meta.main"


def test_fits_has_them_where_topcat_looks(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "table.fits", FIELDS, ".fits")
    header = fits.getheader(tmp_path / "table.fits", 1)
    assert header["TUNIT3"] == "deg"
    assert header["TUCD3"] == "pos.eq.ra;meta.main"
    assert header["TCOMM5"] == "Is it smooth? yes"


def test_parquet_has_them_in_its_schema(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "table.parquet", FIELDS, ".parquet")
    assert pq.read_schema(tmp_path / "table.parquet").field("ra").metadata[b"unit"] == b"deg"


def test_another_suffix_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"x.txt: it must end in .csv, .parquet, .fits, .vot or .ecsv"):
        check_format(Path("x.txt"))
