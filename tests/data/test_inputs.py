"""Predictions for what is there already: arrays, Pillow's images, DataFrames."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from galaxyml.data.images.decode import from_array, open_image
from galaxyml.data.inputs import find, several
from galaxyml.inference import load, predict
from galaxyml.runs.errors import UsageError, UserError

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def predictor(apart: None, page_run: Callable[[str], Path]) -> Any:
    return load(page_run("galaxyzoo"))


@pytest.fixture
def table(page_run: Callable[[str], Path], galaxies: list[Path], in_process: Command, tmp_path: Path) -> pd.DataFrame:
    """What `galaxyml predict` writes of some images."""
    out = tmp_path / "p.parquet"
    status, printed = in_process(predict.main, page_run("galaxyzoo"), *galaxies[:6], "--out", out, "--interval", "all")
    assert status == 0, printed
    return pd.read_parquet(out)


def test_the_same_images_get_the_same_numbers_in_whatever_form(
    predictor: Any, table: pd.DataFrame, galaxies: list[Path]
) -> None:
    paths = galaxies[:6]
    images = [Image.open(path) for path in paths]
    pixels = np.stack([np.asarray(image) for image in images])
    frame = pd.DataFrame({"id": range(6), "path": [str(path) for path in paths]}, index=list("abcdef"))
    forms: dict[str, Any] = {
        "a list of paths": paths,
        "a DataFrame": frame,
        "a column": frame["path"],
        "an array": pixels,
        "a list of arrays": list(pixels),
        "Pillow's images": images,
        "a tensor": torch.from_numpy(pixels),
        "floats": pixels / 255,
        "16 bits": pixels.astype(np.uint16) * 257,
        "int64": pixels.astype(np.int64),
        "opaque": np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=3),
    }
    for name, form in forms.items():
        found = predictor.predict(form)
        of_paths = {
            "a list of paths": table,
            "a column": table,
            "Pillow's images": table,
            "a DataFrame": table.assign(id=range(6)),
        }
        expected = of_paths.get(name, table.assign(id=range(6), path=range(6)))
        pd.testing.assert_frame_equal(found, expected, check_exact=True, obj=name)
    one = predictor.predict(pixels[2])
    pd.testing.assert_frame_equal(
        one.drop(columns=["id", "path"]),
        table.iloc[[2]].drop(columns=["id", "path"]).reset_index(drop=True),
        check_exact=True,
    )
    folder = predictor.predict(paths[0].parent).set_index("path")
    assert folder.loc[str(paths[0])].equals(table.set_index("path").loc[str(paths[0])])


def test_images_of_pillow_are_called_by_their_files(predictor: Any, galaxies: list[Path], tmp_path: Path) -> None:
    same = Path(shutil.copy(galaxies[1], tmp_path / galaxies[0].name))
    opened = [Image.open(path) for path in galaxies[:2]]
    found = predictor.predict([*opened, opened[0].convert("RGB")])
    assert found["id"].tolist() == [galaxies[0].name, galaxies[1].name, 2]
    assert found["path"].tolist() == [str(galaxies[0]), str(galaxies[1]), 2]
    twice = predictor.predict([opened[0], Image.open(same)])
    assert twice["id"].tolist() == twice["path"].tolist() == [str(galaxies[0]), str(same)]


def test_the_interval_is_chosen_in_python_as_by_the_command(predictor: Any, galaxies: list[Path]) -> None:
    output = predictor.columns[0]
    every = predictor.predict(galaxies[:2])
    assert {f"{output}_low{level}" for level in (50, 80, 95)} <= set(every.columns)
    pd.testing.assert_frame_equal(predictor.predict(galaxies[:2], interval="all"), every)
    for interval in (80, "80"):
        found = predictor.predict(galaxies[:2], interval=interval)
        assert [name for name in found if "_low" in name][:1] == [f"{output}_low80"]
        assert not [name for name in found if name.endswith(("low50", "high95"))]
        pd.testing.assert_frame_equal(found, every[list(found.columns)])
    assert not [name for name in predictor.predict(galaxies[:2], interval="none") if "_low" in name]
    with pytest.raises(UsageError, match=r"in Python interval=70: this run has intervals of 50, 80, 95 %; or give all"):
        predictor.predict(galaxies[:2], interval=70)


def test_the_columns_of_a_table_stay_beside_predictions_in_every_format(
    predictor: Any, galaxies: list[Path], page_run: Callable[[str], Path], in_process: Command, tmp_path: Path
) -> None:
    output = predictor.columns[0]
    rows = pd.DataFrame(
        {
            "objid": [587722981742084096 + number for number in range(4)],
            "file_loc": [*map(str, galaxies[:3]), str(tmp_path / "broken.jpg")],
            "RA": [10.25, 359.5, 0.0, 1.0],
            "tile": ["007", "012", "", "100"],
            output: [0.1, 0.2, 0.3, 0.4],
        }
    )
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    rows.to_csv(tmp_path / "mine.csv", index=False)
    for suffix in (".fits", ".vot", ".csv"):
        out = tmp_path / f"p{suffix}"
        status, printed = in_process(predict.main, page_run("galaxyzoo"), tmp_path / "mine.csv", "--out", out)
        assert status == 0, printed
        again = pd.read_csv(out, dtype={"tile": str}) if suffix == ".csv" else Table.read(out).to_pandas()
        assert [int(value) for value in again["objid"]] == [int(value) for value in again["id"]] == [*rows["objid"][:3]]
        assert again["RA"].to_list() == [10.25, 359.5, 0.0]
        assert [cell.decode() if isinstance(cell, bytes) else cell for cell in again["tile"].fillna("")] == [
            "007",
            "012",
            "",
        ]
        assert again[f"{output}_given"].to_list() == [0.1, 0.2, 0.3]
        expected = predictor.predict(galaxies[:3])[output]
        assert again[output].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)
    assert Table.read(tmp_path / "p.vot")["RA"].meta["ucd"] == "pos.eq.ra;meta.main"


def test_ids_do_not_depend_on_where_a_command_runs(
    predictor: Any, galaxies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for number, name in enumerate(("a/1.jpg", "a/b/1.jpg", "2.jpg")):
        shutil.copyfile(galaxies[number], tmp_path / name)
    found = predictor.predict(tmp_path)["id"].to_list()
    monkeypatch.chdir(tmp_path)
    assert predictor.predict(".")["id"].to_list() == found == ["2.jpg", "a/1.jpg", "a/b/1.jpg"]
    both = predictor.predict(["a/1.jpg", "a/b/1.jpg", "2.jpg"])
    assert both["id"].to_list() == ["a/1.jpg", "a/b/1.jpg", "2.jpg"]  # two files are called 1.jpg


def test_an_array_is_seen_as_the_file_that_holds_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (20, 30), np.uint8)
    floats = rng.normal(size=(20, 30)).astype(np.float32)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "sixteen.png")
    Image.fromarray(np.dstack([grey, grey, grey, 255 - grey])).save(tmp_path / "rgba.png")
    fits.writeto(tmp_path / "band.fits", floats)
    for name, values in (
        ("grey.png", grey),
        ("grey.png", grey[:, :, None]),
        ("grey.png", grey.astype(np.int64)),
        ("sixteen.png", grey.astype(np.uint16) * 200),
        ("rgba.png", np.dstack([grey, grey, grey, 255 - grey])),
        ("band.fits", floats),
        ("band.fits", floats.astype(np.float64)),
    ):
        assert (np.asarray(from_array(values)) == np.asarray(open_image(tmp_path / name))).all(), name


GOOD = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "int is nothing to predict. Give files, folders"),
        ([], "There is nothing to predict"),
        (np.zeros((0, 8, 8, 3), np.uint8), "There is nothing to predict"),
        ([GOOD, "a.jpg"], "Some of what is to be predicted are paths, and some images"),
        (
            [GOOD, np.zeros((30, 40, 50), np.uint8)],
            r"Image 1 cannot be used: its values are .* of shape \(30, 40, 50\)",
        ),
        (np.full((1, 8, 8, 3), "x"), "Image 0 cannot be used: its values are"),
        (np.full((8, 8, 3), 7.5), r"its colours, float64, go from 7.5 to 7.5; they must lie in \[0, 1\]"),
        (np.full((8, 8, 3), np.nan), r"its colours, float64, go from nan to nan; they must lie in \[0, 1\]"),
        (np.full((8, 8, 3), -1), r"its colours, int64, go from -1 to -1; they must lie in \[0, 255\]"),
        (pd.DataFrame({"name": ["a.jpg"]}), "The DataFrame has no column path or image .*; it has name"),
        (pd.DataFrame({"path": ["a.jpg", None]}), "The DataFrame, row 1: path is empty"),
        (pd.DataFrame({"path": ["gone.jpg"]}), "An image cannot be read: gone.jpg is not there"),
    ],
)
def test_what_is_no_image_is_told(predictor: Any, given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predictor.predict(given)


def test_bad_ones_can_be_left_out(predictor: Any) -> None:
    bad: list[str] = []
    found = predictor.predict([GOOD, np.zeros(3), GOOD], bad)
    assert found["path"].tolist() == [0, 2]
    assert len(bad) == 1
    assert bad[0].startswith("Image 1 cannot be used")


def test_one_image_and_many_are_told_apart() -> None:
    assert [len(several(np.zeros(shape))) for shape in ((5, 6), (5, 6, 3), (7, 5, 6), (7, 5, 6, 3))] == [1, 1, 7, 7]


def test_light_curves_in_tables_get_their_folders_scores(
    apart: None, page_run: Callable[[str], Path], plasticc_sky: Path, tmp_path: Path
) -> None:
    predictor = load(page_run("plasticc"))
    curves = pd.read_csv(plasticc_sky / "test_set.csv")
    metadata = pd.read_csv(plasticc_sky / "test_set_metadata.csv")
    some = metadata["object_id"].iloc[:9]
    curves, metadata = (table[table["object_id"].isin(some)] for table in (curves, metadata))
    curves.to_csv(tmp_path / "test_set.csv", index=False)
    metadata.to_csv(tmp_path / "test_set_metadata.csv", index=False)
    expected = predictor.predict(tmp_path)
    assert len(expected) == 9
    for tables in ((curves, metadata), curves.merge(metadata, on="object_id")):
        pd.testing.assert_frame_equal(predictor.predict(tables), expected, check_exact=True)
    for wrong, message in (
        (curves.drop(columns="object_id"), "the table: no column of the objects' names .*it has mjd"),
        ([tmp_path, tmp_path], "give one folder"),
        ([curves, "night"], "not DataFrame, night"),
        ((curves.assign(passband=7), metadata), r"test_set.csv, line 2, object \d+: passband is '7'"),
    ):
        with pytest.raises(UserError, match=message) as told:
            predictor.predict(wrong)
        assert "galaxyml-" not in str(told.value)  # the temporary folder


def test_tables_of_paths_of_any_format_name_the_same_images(tmp_path: Path) -> None:
    from astropy.table import Table

    frame = pd.DataFrame({"objid": [587722981742084097, 587722981742084098], "file_loc": ["a.png", "b/c.png"]})
    expected = {str(tmp_path / name): name for name in frame["file_loc"]}
    for name, write in (
        ("a.csv", lambda path: frame.to_csv(path)),
        ("b.csv", lambda path: frame.to_csv(path, sep=";", encoding="utf-16")),
        ("c.tsv", lambda path: frame.to_csv(path, sep="\t", index=False)),
        ("d.parquet", frame.to_parquet),
        ("e.fits", Table.from_pandas(frame).write),
        ("f.ecsv", Table.from_pandas(frame).write),
        ("g.vot", lambda path: Table.from_pandas(frame).write(path, format="votable")),
    ):
        write(tmp_path / name)
        assert find([tmp_path / name]).paths == expected, name
    fits.writeto(tmp_path / "image.fits", np.zeros((8, 8)))
    units = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((8, 8))), fits.BinTableHDU(Table({"path": ["a.png"]}))]
    fits.HDUList(units).writeto(tmp_path / "both.fits")
    assert list(find([tmp_path / "image.fits", tmp_path / "both.fits"]).paths) == [
        str(tmp_path / "image.fits"),
        str(tmp_path / "both.fits"),
    ]
    (tmp_path / "h.csv").write_text("path,z\na.png,1\n,2\n")
    with pytest.raises(UserError, match=r"h\.csv, line 3: path is empty"):
        find([tmp_path / "h.csv"])


def test_a_table_of_ids_finds_its_images_beside_it(tmp_path: Path) -> None:
    for name in ("2.png", "1.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "mine.csv").write_text("GalaxyID,z\n1,0.1\n2,0.2\n")
    found = find([tmp_path / "mine.csv"])
    assert list(found.paths.values()) == ["1.jpg", "2.png"]
    assert found.beside().to_dict("list") == {"id": ["1", "2"], "GalaxyID": [1, 2], "z": [0.1, 0.2]}


def test_of_many_images_each_gets_the_numbers_of_few(
    predictor: Any, galaxies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predictor.predict(galaxies[:3])
    monkeypatch.setattr("galaxyml.inference.image_predictor.MANY", 0)
    pd.testing.assert_frame_equal(predictor.predict(galaxies[:3]), expected, check_exact=True)
