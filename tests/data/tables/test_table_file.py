"""Tables of any format: the same cells from all of them, and one error for whatever is no table."""

import gzip
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galaxyml.data.tables.contents import table_contents
from galaxyml.data.tables.table_file import read_table_file
from galaxyml.runs.errors import UserError

TABLE = pd.DataFrame(
    {
        "objid": 587722981742084096 + np.arange(12),
        "path": [f"images/{row}.png" for row in range(12)],
        "kind": ["spiral", "smooth", "", "é"] * 3,
        "z": [0.1, np.nan, 1e-3, 2.5] * 3,
        "flag": [True, False] * 6,
    }
)


def votable(table: pd.DataFrame, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Table.from_pandas(table).write(path, format="votable")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "CSV": lambda table, path: table.to_csv(path, index=False),
    "semicolons": lambda table, path: table.to_csv(path, index=False, sep=";", decimal=","),
    "tabs": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "bars": lambda table, path: table.to_csv(path, index=False, sep="|"),
    "gzip": lambda table, path: path.write_bytes(gzip.compress(table.to_csv(index=False).encode())),
    "Latin-1": lambda table, path: table.to_csv(path, index=False, encoding="latin-1"),
    "UTF-8 with a mark": lambda table, path: table.to_csv(path, index=False, encoding="utf-8-sig"),
    "UTF-16": lambda table, path: table.to_csv(path, index=False, encoding="utf-16"),
    "a comment above": lambda table, path: path.write_text("# made by hand\n\n" + table.to_csv(index=False)),
    "a commented header": lambda table, path: path.write_text("# " + table.to_csv(index=False)),
    "parquet": lambda table, path: table.to_parquet(path),
    "parquet of categories": lambda table, path: table.astype({"kind": "category"}).to_parquet(path),
    "ECSV": lambda table, path: Table.from_pandas(table).write(path, format="ascii.ecsv"),
    "VOTable": votable,
}


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_gives_the_same_cells(form: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"  # a table is what it begins with, not what it is called
    WRITERS[form](TABLE, path)
    expected = pd.read_csv(io.StringIO(TABLE.to_csv(index=False)), dtype=str).fillna("")
    pd.testing.assert_frame_equal(
        read_table_file(path).frame.reset_index(drop=True).astype(object), expected.astype(object)
    )


@pytest.mark.parametrize("single", [False, True])
def test_fits_gives_the_same_cells_in_single_precision_too(single: bool, tmp_path: Path) -> None:
    table = TABLE.assign(kind=["spiral", "smooth", "", "E"] * 3)
    columns = [
        fits.Column("objid", "K", array=table["objid"]),
        fits.Column("path", "20A", array=table["path"].tolist()),
        fits.Column("kind", "6A", array=table["kind"].tolist()),
        fits.Column("z", "E" if single else "D", array=table["z"]),
        fits.Column("flag", "L", array=table["flag"]),
        fits.Column("n", "J", null=-1, array=[-1, *range(11)]),
        fits.Column("spectrum", "3D", array=np.zeros((12, 3))),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "labels.fits")
    found = read_table_file(tmp_path / "labels.fits")
    expected = table.assign(n=["", *map(str, range(11))])
    expected = pd.read_csv(io.StringIO(expected.to_csv(index=False)), dtype=str).fillna("")
    pd.testing.assert_frame_equal(found.frame.astype(object), expected.astype(object))
    assert found.nested == ["spectrum"]


def test_images_inside_a_parquet_file_are_left_where_they_are(tmp_path: Path) -> None:
    images = pa.array([{"bytes": b"\x89PNG", "path": None}] * 12)
    table = pa.table({"image": images, "id_str": pa.array(list("abcdefghijkl")), "n": pa.array(range(12))})
    pq.write_table(table, tmp_path / "train.parquet")
    found = read_table_file(tmp_path / "train.parquet")
    assert (found.images, found.nested) == ("image", [])
    assert found.frame["image"].tolist()[:2] == ["train.parquet#0", "train.parquet#1"]
    assert found.place(1) == f"{tmp_path / 'train.parquet'}#1"


def test_what_had_to_be_interpreted_is_said(tmp_path: Path) -> None:
    def notes(text: str, encoding: str = "utf-8") -> str:
        (tmp_path / "a.csv").write_bytes(text.encode(encoding))
        return " ".join(read_table_file(tmp_path / "a.csv").notes)

    assert notes("path,z\na,1\n") == ""
    assert notes("path;z\na;1\n") == "a.csv: its columns are parted by semicolons."
    assert "parted by tabs" in notes("path\tz\na\t1\n")
    assert "parted by spaces" in notes("path   z\na.png  1.0\n")
    assert "decimal commas in z are read as points" in notes("path;z;names\na;1,5;x,y\nb;2;z\n")
    assert "decimal" not in notes("path;pair\na;1,5\nb;2,3 or 4\n")
    assert notes("path,kind\na,Sérsic\n", "latin-1") == "a.csv: not UTF-8, read as Latin-1."
    assert notes("path,kind\na,“E”\n", "cp1252") == "a.csv: not UTF-8, read as Windows-1252."


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('# about\npath,remark\n"a\nb",x\n\nc,y\nd,e,f\n')
    with pytest.raises(UserError, match=r"a\.csv, line 7: 3 values, but the header has 2 columns"):
        read_table_file(path)
    path.write_text('# about\npath,remark\n"a\nb",x\n\nc,y\n')
    table = read_table_file(path)
    assert [table.place(label) for label in table.frame.index] == [f"{path}, line 4", f"{path}, line 6"]


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\n\n"), "is empty"),
        (lambda path: path.write_bytes(b"a\0b"), "holds bytes that no text has"),
        (lambda path: path.write_bytes(gzip.compress(b"path,z\na,1\n" * 99)[:-20]), "cannot be read|be read"),
        (lambda path: path.write_bytes(b"PAR1" + bytes(50)), "is not a parquet table that can be read"),
        (lambda path: path.write_bytes(b"SIMPLE  =" + bytes(50)), "is not a FITS table"),
        (lambda path: fits.PrimaryHDU(np.zeros((3, 3))).writeto(path), "is a FITS image, without a table"),
        (lambda path: path.write_text("<?xml version='1.0'?><VOTABLE>"), "is not a VOTable"),
        (lambda path: path.write_text("# %ECSV 1.0\n# ---\n# {}\na b\n"), "is not a ECSV"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50)), "is a zip archive or a workbook of Excel"),
        (hdf5, r"is an HDF5 file without images\. A table must be CSV"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n"), "is an image"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text('path,"z\na,1\n' + "x" * 200_000), "is not a table that can be read"),
        (lambda path: path.write_text("path,z,z\na,1,2\n"), "has two columns 'z'"),
    ],
)
def test_what_is_no_table_is_named(write: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    write(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=message):
        read_table_file(tmp_path / "labels.csv")


WORDS = ["", "NA", "null", "None", "--", "-", "nan", "0", "0.0", "1", "1e3", "-999", "0,5", "inf", "E", "e ", "S0", "é"]
WORDS += ['"', ";", "\t", "a,b", "#", "01", "+5", "1_0", "٣", "x\ny", "\u2028", "Infinity", "1e999", "0x1"]
HEADERS = ["path", "Path", "file_loc", "id", "objid", "ra", "dec", "RAJ2000", "split", "", "Unnamed: 0", "kind", "z"]
HEADERS += ["bar_yes", "smooth-or-featured_smooth", "Class1.1", "é", "a;b", "image", "redshift", "fold"]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file that may be a table of labels: any header, cells, delimiter and encoding, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        begin = draw(
            st.sampled_from([b"", b"PAR1", b"SIMPLE  =", b"<?xml ", b"# %ECSV 1.0\n", b"\x1f\x8b", b"\xff\xfe"])
        )
        return begin + draw(st.binary(max_size=300))
    header = draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=5, unique=draw(st.booleans())))
    if "path" not in header and draw(st.integers(0, 4)):
        header = ["path", *header]
    cells = st.one_of(st.sampled_from(WORDS), st.integers(-5, 5).map(str), st.text(max_size=4))
    lines = [[draw(cells) for _ in header] for _ in range(draw(st.integers(0, 6)))]
    rows = [list(line) for _ in range(draw(st.sampled_from([1, 4]))) for line in lines]  # enough to be learnt from
    for number, name in enumerate(header):
        if name.lower() in ("path", "image", "file_loc"):
            rows = [[*row[:number], f"{at}.png", *row[number + 1 :]] for at, row in enumerate(rows)]
    if draw(st.booleans()):  # as a program writes them; else as somebody types them
        import csv

        text = io.StringIO()
        delimiter = draw(st.sampled_from(",;\t|"))
        csv.writer(text, delimiter=delimiter).writerows([header, *rows])
        content = text.getvalue()
    else:
        content = "\n".join(draw(st.sampled_from(",; ")).join(row) for row in [header, *rows])
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"]))
    packed = content.encode(encoding, "replace")
    return gzip.compress(packed) if draw(st.integers(0, 9)) == 0 else packed


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "chosen": st.lists(st.sampled_from(HEADERS), min_size=1, max_size=2),
        "kind": st.sampled_from(["classes", "numbers", "fractions"]),
        "classes": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
        "tree": st.sampled_from(["kaggle", "gzd5"]),
        "missing": st.lists(st.sampled_from(["-999", "E", "é", "0"]), max_size=2),
        "join_spellings": st.booleans(),
    },
)


def refused_or_read(content: bytes, options: dict[str, object], number: int = 0) -> str:
    """Reads a file as a run would: what happens; anything but a `UserError` is raised."""
    from galaxyml.tasks.images import Images

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        (Path(folder) / "labels.csv").write_bytes(content)
        for name in range(24):
            (Path(folder) / f"{name}.png").touch()
        try:
            table_contents(Path(folder) / "labels.csv", **options)  # type: ignore[arg-type]
            given = {"columns" if key == "chosen" else key: value for key, value in options.items() if key != "kind"}
            data = Images(folder, **given)  # type: ignore[arg-type]
            data.check_folder(Path(folder))
        except UserError as error:
            return f"refused: {error}"
        return "read"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files(), OPTIONS)
def test_whatever_lies_there_is_read_or_refused_in_one_message(content: bytes, options: dict[str, object]) -> None:
    outcome = refused_or_read(content, options)
    assert outcome == "read" or "labels.csv" in outcome or "=" in outcome
