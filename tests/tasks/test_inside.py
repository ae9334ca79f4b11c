"""Runs on a data set with its images inside equal runs on the same images as files, to the last bit."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inside import parquet_of, write_parts
from PIL import Image

from galaxyml.data.source import Real
from galaxyml.data.splits import Folds
from galaxyml.data.tables import contents
from galaxyml.data.tables.galaxy10 import settings
from galaxyml.inference import predict
from galaxyml.runs.errors import DataError
from galaxyml.tasks.galaxy10 import Galaxy10
from galaxyml.tasks.images import Images
from galaxyml.tasks.surveys import Surveys

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def folders(images_sky: Path, tmp_path: Path) -> dict[str, Path]:
    """The same galaxies as files with `labels.csv`, which says what is to test on, and as a data set of the hub."""
    table = pd.read_csv(images_sky / "labels.csv", dtype={"id": str})[["id", "path", "kind", "ra", "dec"]]
    split = ["train"] * 90 + ["test"] * 30
    files = tmp_path / "files"
    files.mkdir()
    paths = [str(images_sky / path) for path in table["path"]]
    table.assign(path=paths, split=split).to_csv(files / "labels.csv", index=False)
    return {"files": files, "hub": write_parts(tmp_path / "hub", images_sky, table.rename(columns={"id": "id_str"}))}


def test_training_and_prediction_are_those_of_files(
    folders: dict[str, Path], images_sky: Path, command: Command, in_process: Command, tmp_path: Path
) -> None:
    metrics, tables = {}, {}
    for name, folder in folders.items():
        status, printed = command("task=images", f"data_dir={folder}", f"name={name}", "loss=cross_entropy")
        assert status == 0, printed
        run = tmp_path / "multirun" / "images" / name
        metrics[name] = json.loads((run / "metrics.json").read_text())
        tables[name] = pd.read_parquet(next(run.rglob("predictions/test.parquet")))
    assert metrics["hub"] == metrics["files"]
    pd.testing.assert_frame_equal(tables["hub"], tables["files"])

    run = tmp_path / "multirun" / "images" / "hub"
    names = sorted((images_sky / "images").iterdir())[:6]
    one = parquet_of(
        tmp_path / "one.parquet", [path.read_bytes() for path in names], pd.DataFrame({"id_str": list("abcdef")})
    )
    asked = {"files": names, "file": [one], "folder": [folders["hub"] / "tiny"], "whole": [folders["hub"]]}
    found = {}
    for name, paths in asked.items():
        status, printed = in_process(predict.main, run, *paths, "--out", tmp_path / f"{name}.csv")
        assert status == 0, printed
        found[name] = pd.read_csv(tmp_path / f"{name}.csv")
    columns = [name for name in found["files"] if name not in ("id", "path")]
    pd.testing.assert_frame_equal(found["file"][columns], found["files"][columns])
    assert found["file"]["id"].tolist() == list("abcdef")
    assert found["file"]["path"].tolist() == [f"{one}#{row}" for row in range(6)]
    assert (len(found["folder"]), len(found["whole"])) == (20, 120)
    pd.testing.assert_frame_equal(found["folder"][columns], found["whole"][columns][:20])


def test_a_broken_image_of_a_data_set_is_named_by_predict(
    page_run: Callable[[str], Path], apart: None, sky: Path, in_process: Command, tmp_path: Path
) -> None:
    images = [path.read_bytes() for path in sorted((sky / "images_training_rev1").iterdir())[:3]]
    table = parquet_of(
        tmp_path / "t.parquet", [images[0], images[1][:99], None, images[2]], pd.DataFrame({"x": range(4)})
    )
    status, printed = in_process(predict.main, page_run("galaxyzoo"), table, "--out", tmp_path / "p.csv")
    assert status == 0, printed
    assert f"{table}#1: " in printed
    assert f"{table}#2: there is no image in this row" in printed
    assert pd.read_csv(tmp_path / "p.csv")["id"].tolist() == ["t.parquet#0", "t.parquet#3"]


# --- surveys


@pytest.fixture
def ukidss(surveys_sky: Path, tmp_path: Path) -> Path:
    """The simulated surveys, whose UKIDSS is the hub's data set: its votes by `id_str`, some of which SDSS has, too."""
    folder = Path(shutil.copytree(surveys_sky, tmp_path / "surveys"))
    shutil.move(folder / "ukidss", tmp_path / "ukidss")
    catalog = pd.read_csv(tmp_path / "ukidss" / "ukidss_catalog.csv", dtype={"subject_id": str})
    sdss = pd.read_csv(folder / "sdss" / "gz2_hart16.csv", dtype={"dr7objid": str})["dr7objid"]
    names = catalog["subfolder"] + "/" + catalog["filename"]
    paths = [str(next(iter((tmp_path / "ukidss" / "images").rglob(Path(name).name)))) for name in names]
    ids = [*sdss[:6], *catalog["subject_id"][6:]]
    table = catalog.drop(columns=["subject_id", "subfolder", "url", "filename"]).assign(id_str=ids, path=paths)
    return write_parts(folder / "ukidss", Path(), table).parent


def surveys(folder: Path, **options: Any) -> Surveys:
    given: dict[str, Any] = {
        "train": ["sdss"],
        "test": ["ukidss"],
        "size": 16,
        "workers": 0,
        "cache_dir": str(folder.parent / "cache"),
    }
    return Surveys(Real("surveys", str(folder.parent)), **given | options)


def test_surveys_reads_the_data_set_of_the_hub_as_its_ukidss(ukidss: Path, surveys_sky: Path, tmp_path: Path) -> None:
    found, files = surveys(ukidss), surveys(surveys_sky, cache_dir=str(tmp_path / "c"))
    found.check_files()
    for data in (found, files):
        data.setup()
    assert found.catalog is not None
    assert files.catalog is not None
    own, theirs = (
        data.catalog[data.catalog["survey"] == "ukidss"] for data in (found, files) if data.catalog is not None
    )
    same = own[own["id"].isin(theirs["id"])].set_index("id")
    columns = [*found.vocabulary.features, "votes"]
    pd.testing.assert_frame_equal(same[columns], theirs.set_index("id")[columns].loc[same.index])
    pixels = [data.store.pixels.numpy() for data in (found, files)]
    rows = [catalog.reset_index().set_index("id").loc[same.index, "index"].to_numpy() for catalog in (own, theirs)]
    np.testing.assert_array_equal(pixels[0][rows[0]], pixels[1][rows[1]])
    assert set(own["image"].str.partition("#")[0]) == {
        f"ukidss/data/{name}.parquet"
        for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")
    }
    assert sum(file.startswith("ukidss/data/") for file in found.digests()) == 3

    known = own["ra"].notna()
    assert known.sum() == 6  # the positions that SDSS has under the same ids
    notes = "\n".join(found.notes)
    assert f"audit: ukidss has no positions: those of 6 of its {len(own)} galaxies are those of the same id in" in notes
    assert f"audit: galaxies have no position ({len(own) - 6} of ukidss)" in notes
    assert len(found.audit) >= 6  # which are left out of training


def test_votes_that_a_galaxy_lacks_are_none(ukidss: Path) -> None:
    """As in a table of several campaigns, of which most have not seen a galaxy."""
    path = ukidss / "ukidss" / "data" / "test-00000-of-00001.parquet"
    part = pq.read_table(path)
    for name in part.column_names:
        if name not in ("image", "id_str"):
            values = [None, *part[name].to_pylist()[1:]]
            part = part.set_column(part.column_names.index(name), name, pa.array(values))
    pq.write_table(part, path)
    first = part["id_str"][0].as_py()
    found = surveys(ukidss)
    found.setup()
    assert found.catalog is not None
    assert f"ukidss:{first}" not in set(found.catalog["id"])


def test_images_learns_the_votes_of_a_data_set_and_leaves_out_galaxies_without(ukidss: Path) -> None:
    """As of gz_evo, most of whose galaxies another campaign has seen."""
    folder = ukidss / "ukidss"
    for path in folder.rglob("*.parquet"):
        part = pq.read_table(path)
        names = [name.replace("-ukidss", "-gz2") for name in part.column_names]
        part = part.rename_columns(names)
        other = pa.array([None, *range(1, len(part))], pa.int32())
        pq.write_table(part.append_column("smooth-or-featured-hubble_smooth", other), path)
    given = contents.settings({"data_dir": str(folder)})
    assert (given["kind"], given["tree"], given["split"]) == ("fractions", "gz2_hub", "folds")
    data = Images(Real("images", str(folder), own=True), size=16, workers=0, cache_dir=str(folder.parent.parent / "c"))
    data.setup()
    assert data.catalog is not None
    assert {"smooth-or-featured-gz2_smooth"} <= set(data.catalog)


# --- galaxy10


def test_galaxy10_reads_the_data_set_of_the_hub(galaxy10_sky: Path, tmp_path: Path) -> None:
    with h5py.File(galaxy10_sky / "Galaxy10_DECals.h5") as file:
        images, labels = file["images"][:], file["ans"][:].astype(int)
    pictures = []
    for image in images:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG")
        pictures.append(content.getvalue())
    for name, rows in (("train", slice(0, 120)), ("test", slice(120, None))):
        path = tmp_path / "galaxy10" / "data" / f"{name}-00000-of-00001-3ac4e3b3fa8df68d.parquet"
        parquet_of(path, pictures[rows], pd.DataFrame({"label": labels[rows]}))
    given: dict[str, Any] = {"size": 16, "workers": 0}
    found = Galaxy10(Real("galaxy10", str(tmp_path)), cache_dir=str(tmp_path / "c"), **given)
    files = Galaxy10(Real("galaxy10", str(galaxy10_sky.parent)), cache_dir=str(tmp_path / "c"), **given)
    assert found.split == Folds()
    found.check_files()
    found.setup()
    files.setup()
    assert found.catalog is not None
    assert found.catalog["label"].tolist() == labels.tolist()
    assert (found.catalog["split"] == "test").sum() == len(labels) - 120
    np.testing.assert_array_equal(found.store.pixels.numpy(), files.store.pixels.numpy())
    assert settings({"data_dir": str(tmp_path)}) == {"split": "folds"}

    path = tmp_path / "galaxy10" / "data" / "train-00000-of-00001-3ac4e3b3fa8df68d.parquet"
    parquet_of(path, pictures[:120], pd.DataFrame({"label": [10, *labels[1:120]]}))
    with pytest.raises(
        DataError, match=r"train.*parquet#0, image .*: label is '10'; labels are whole numbers from 0 to 9"
    ):
        Galaxy10(Real("galaxy10", str(tmp_path)), cache_dir=str(tmp_path / "c"), **given).check_files()
