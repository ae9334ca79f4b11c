from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord

from galaxyml.data.tables.reading import Rows, degrees, read_table
from galaxyml.runs.errors import DataError


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


def test_eighteen_digits_are_kept(tmp_path: Path) -> None:
    path = table(tmp_path, "OBJID,x\n587727178986356823,1\n587727178986356824,2\n")
    assert read_table(path, "OBJID", ["x"]).ids.tolist() == [587727178986356823, 587727178986356824]


@pytest.mark.parametrize("value", ["5.87727178986356823e+17", "587727178986356800.0"])
def test_ids_that_were_floats_are_refused(tmp_path: Path, value: str) -> None:
    path = table(tmp_path, f"OBJID,x\n{value},1\n")
    with pytest.raises(
        DataError, match=r"t\.csv, line 2: OBJID is '.*'; it must be a whole number; as a float it has lost"
    ):
        read_table(path, "OBJID", ["x"])


def test_repeated_ids_are_refused_unless_they_may(tmp_path: Path) -> None:
    path = table(tmp_path, "id,x\n1,1\n1,2\n")
    with pytest.raises(DataError, match="line 3, galaxy 1 has a row already, in line 2"):
        read_table(path, "id", ["x"])
    assert len(read_table(path, "id", ["x"], repeats=True).frame) == 2


def test_optional_columns_are_taken_where_they_are(tmp_path: Path) -> None:
    path = table(tmp_path, "id,x,RA\n1,1,00:00:01\n")
    assert list(read_table(path, "id", ["x"], optional=["RA", "DEC"]).frame.columns) == ["id", "x", "RA"]


def test_sexagesimal_positions_are_astropys() -> None:
    rng = np.random.default_rng(0)
    places = SkyCoord(rng.uniform(0, 360, 200), rng.uniform(-90, 90, 200), unit="deg")
    ra = places.ra.to_string("hour", sep=":", pad=True, precision=2)
    dec = places.dec.to_string("deg", sep=":", pad=True, alwayssign=True, precision=1)
    found = pd.DataFrame({"id": range(200), "RA": ra, "DEC": dec})
    expected = SkyCoord(ra, dec, unit=("hourangle", "deg"))
    for values, angle in zip(
        degrees(Rows(Path("t.csv"), "id", found), "RA", "DEC"), (expected.ra, expected.dec), strict=True
    ):
        np.testing.assert_allclose(values, angle.deg, atol=1e-9)


def test_the_sign_of_small_declinations_is_kept() -> None:
    found = pd.DataFrame({"id": [1], "RA": ["00:00:00"], "DEC": ["-00:30:00.0"]})
    assert degrees(Rows(Path("t.csv"), "id", found), "RA", "DEC")[1][0] == -0.5


def test_decimal_degrees_are_taken_as_they_are() -> None:
    found = pd.DataFrame({"id": [1, 2], "RA": ["187.25", "00:00:04"], "DEC": ["-1.5", "+10:00:00"]})
    ra, dec = degrees(Rows(Path("t.csv"), "id", found), "RA", "DEC")
    np.testing.assert_allclose([ra, dec], [[187.25, 1 / 60], [-1.5, 10.0]])


@pytest.mark.parametrize(
    ("ra", "dec", "message"),
    [
        (
            "24:10:00",
            "0",
            r"RA is '24:10:00'; it must be sexagesimal, such as 00:00:00.41 \(hours\), or degrees from 0",
        ),
        ("361", "0", "RA is '361'"),
        ("1", "-91", "DEC is '-91'; it must be sexagesimal, such as -10:22:25.7, or degrees from -90 to 90"),
        ("1", "00:61:00", "DEC is '00:61:00'"),
        ("east", "0", "t.csv, line 2, galaxy 7: RA is 'east'"),
        (None, "0", "RA is empty or nan"),
    ],
)
def test_impossible_positions_are_refused(ra: str | None, dec: str, message: str) -> None:
    found = pd.DataFrame({"id": [7], "RA": [ra], "DEC": [dec]}, dtype=object)
    with pytest.raises(DataError, match=message):
        degrees(Rows(Path("t.csv"), "id", found), "RA", "DEC")
