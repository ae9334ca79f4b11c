"""What a finished run predicts for new images, as users ask it."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from galaxyml.inference import predict
from galaxyml.sky.galaxy10 import CLASSES

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(in_process: Command) -> Command:
    """Runs `python -m galaxyml predict` in this process; gives its status and all that it printed."""
    return partial(in_process, predict.main)


def spirals(command: Command, *more: str) -> Path:
    status, said = command("task=spirals", "model=test_resnet", "epochs=1", "name=run", *more)
    assert status == 0, said
    return Path("multirun/spirals/run")


@pytest.fixture
def run(command: Command, page_run: Callable[[str], Path]) -> Path:
    """A run of spirals, asked in an empty folder; to be read only."""
    return page_run("spirals")


def test_the_same_images_get_the_same_numbers_to_the_last_bit(
    command: Command, ask: Command, spirals_sky: Path, tmp_path: Path
) -> None:
    sweep = spirals(command, "-m", "fold=0,1")
    for run in (sweep, sweep / "fold-1"):
        status, said = ask(run, spirals_sky / "images", "--out", tmp_path / "p.parquet")
        assert status == 0, said
        found = pd.read_parquet(tmp_path / "p.parquet").set_index("path")
        expected = pd.read_parquet(run / "predictions" / "test.parquet").set_index("id")
        image_of = pd.read_parquet(run / "catalog.parquet").set_index("id")["image"]
        again = found.loc[[str(spirals_sky / image_of[number]) for number in expected.index]]
        assert (again[["elliptical", "spiral"]].to_numpy() == expected.to_numpy()).all()
        catalog = pd.read_parquet(run / "catalog.parquet")
        learnt = catalog["split"].isin(["train", "val"] if run == sweep else ["train"]).sum()
        assert f"has learnt from {learnt} of these {len(found)} images, whose predictions are better for it" in said
        few = [spirals_sky / image_of[number] for number in expected.index[[3, 1]]]  # whatever else is asked
        status, said = ask(run, *few, "--out", tmp_path / "few.parquet")
        assert (status, "has learnt from" in said) == (0, False), said
        one_by_one = pd.read_parquet(tmp_path / "few.parquet").set_index("path")
        pd.testing.assert_frame_equal(one_by_one, found.loc[[str(path) for path in few]], check_exact=True)


@pytest.mark.parametrize(
    "views",
    [
        ("views=3", "predict_views=2"),
        ("views=2", "predict_views=3"),  # more than there are features of
        ("views=1", "predict_views={rotations:[30,0],zooms:[1.1]}"),
    ],
)
def test_a_tuned_head_predicts_from_images_what_it_did_in_its_run(
    command: Command, ask: Command, spirals_sky: Path, tmp_path: Path, views: tuple[str, str]
) -> None:
    run = spirals(command, "tune=head", *views) / "fold-0"
    assert ask(run, spirals_sky / "images", "--out", tmp_path / "p.csv")[0] == 0
    found = pd.read_csv(tmp_path / "p.csv").set_index("path")
    expected = pd.read_parquet(run / "predictions" / "test.parquet").set_index("id")
    image_of = pd.read_parquet(run / "catalog.parquet").set_index("id")["image"]
    again = found.loc[[str(spirals_sky / image_of[number]) for number in expected.index]]
    assert (again[["elliptical", "spiral"]].to_numpy() == expected.to_numpy()).all()


def test_rows_of_galaxy10s_file_get_the_same_numbers(
    command: Command, ask: Command, galaxy10_sky: Path, tmp_path: Path
) -> None:
    assert command("task=galaxy10", "epochs=1", "name=run", "model=astrocnn")[0] == 0
    run = Path("multirun/galaxy10/run")
    path = galaxy10_sky / "Galaxy10_DECals.h5"
    assert ask(run, path, "--out", tmp_path / "p.parquet")[0] == 0
    found = pd.read_parquet(tmp_path / "p.parquet")
    assert found["path"].tolist() == [f"{path}#{row}" for row in range(160)]
    expected = pd.read_parquet(run / "predictions" / "test.parquet")
    names = list(CLASSES)
    assert (found[names].to_numpy()[expected["id"]] == expected[names].to_numpy()).all()
    with h5py.File(path) as file:  # and the images themselves, as PNG
        for row in (3, 99):
            Image.fromarray(file["images"][row]).save(tmp_path / f"{row}.png")
    assert ask(run, tmp_path / "3.png", tmp_path / "99.png", "--out", tmp_path / "png.parquet")[0] == 0
    png = pd.read_parquet(tmp_path / "png.parquet")
    assert (png[names].to_numpy() == found[names].to_numpy()[[3, 99]]).all()


def test_galaxyzoo_answers_obey_the_tree(command: Command, ask: Command, sky: Path, tmp_path: Path) -> None:
    assert command("epochs=1", "name=run")[0] == 0
    run = Path("multirun/galaxyzoo/run/fold-0")
    assert ask(run, sky / "images_test_rev1", "--out", tmp_path / "p.parquet")[0] == 0
    found = pd.read_parquet(tmp_path / "p.parquet")
    found.index = found["path"].map(lambda path: int(Path(path).stem))
    expected = pd.read_parquet(run / "predictions" / "test.parquet").set_index("id")
    assert (found.loc[expected.index, expected.columns] == expected).all(axis=None)


def test_images_of_any_kind_and_bad_ones(run: Path, ask: Command, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "deep"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (50, 70), np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(folder / "sixteen.png")
    Image.fromarray(np.dstack([grey] * 4)).save(folder / "rgba.png")
    fits.writeto(folder / "one.fits", rng.normal(size=(40, 40)).astype(np.float32))
    fits.writeto(folder / "three.fits.gz", rng.normal(size=(3, 40, 40)).astype(np.float32))
    (folder / "broken.jpg").write_text("<html>")
    (folder / "notes.txt").write_text("not looked at in a folder")
    (tmp_path / "paths.csv").write_text("path\nmine/deep/grey.png\nmine/gone.jpg\n")
    status, said = ask(run, tmp_path / "mine", tmp_path / "paths.csv", "--out", tmp_path / "out" / "p.csv")
    assert status == 0, said
    assert "2 of 7 images cannot be read: " in said
    assert "broken.jpg is not an image" in said
    assert "gone.jpg is not there" in said
    found = pd.read_csv(tmp_path / "out" / "p.csv")
    assert {Path(path).name for path in found["path"]} == {
        "grey.png",
        "sixteen.png",
        "rgba.png",
        "one.fits",
        "three.fits.gz",
    }
    np.testing.assert_allclose(found[["elliptical", "spiral"]].sum(axis=1), 1)
    assert set(found.columns) == {
        "id",
        "path",
        "elliptical",
        "spiral",
        "class",
        "confidence",
        "classes",
        "ood_distance",
        "ood",
    }

    status, said = ask(run, tmp_path / "mine", "--out", tmp_path / "q.csv", "--on-error", "stop")
    assert status == 1
    assert "An image cannot be read: " in said
    assert not (tmp_path / "q.csv").exists()
    pattern = str(tmp_path / "mine" / "*" / "*.png")
    assert ask(run, pattern, "--out", tmp_path / "q.csv")[0] == 0
    assert len(pd.read_csv(tmp_path / "q.csv")) == 3


def test_what_cannot_be_predicted_is_told(run: Path, ask: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    (tmp_path / "blank.csv").write_text("path,b\nx.jpg,1\n,2\n")
    (tmp_path / "bad.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    cases = [
        (["nothing/*.jpg"], "p.csv", 2, r"No file matches 'nothing/\*\.jpg'"),
        (["empty"], "p.csv", 2, "empty: the folder holds no images"),
        (["list.csv"], "p.csv", 1, r"list\.csv has no column path, image, file or filename; it has a, b"),
        (["blank.csv"], "p.csv", 1, r"blank\.csv, line 3: path is empty"),
        (["gone.csv"], "p.csv", 2, r"gone\.csv is missing"),
        (["gone.jpg"], "p.csv", 1, "The image cannot be read: gone.jpg is not there"),
        (["bad.h5"], "p.csv", 1, r"bad\.h5 cannot be read as HDF5"),
        (["other.h5"], "p.csv", 1, r"other\.h5 has no images of shape \(N, H, W, C\), of numbers; it has x"),
        (["gone.jpg"], "p.txt", 2, r"--out p\.txt: it must end in \.csv, \.parquet, \.fits, \.vot or \.ecsv"),
    ]
    for paths, out, refusal, message in cases:
        status, said = ask(run, *paths, "--out", out)
        assert status == refusal
        assert re.search(message, said), said
        assert "Traceback" not in said
        assert not Path(out).exists()


def test_folders_that_are_no_runs_are_told(ask: Command, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    status, said = ask(tmp_path, tmp_path / "a.png", "--out", tmp_path / "p.csv")
    assert status == 2
    assert "is not the folder of a run" in said


def test_images_of_another_survey_are_predicted_and_look_stranger(
    run: Path, ask: Command, spirals_sky: Path, galaxy10_sky: Path, tmp_path: Path
) -> None:
    table = tmp_path / "p.parquet"
    assert ask(run, spirals_sky / "images", galaxy10_sky / "Galaxy10_DECals.h5", "--out", table)[0] == 0
    found = pd.read_parquet(table)
    decals = found["path"].str.contains("#")
    np.testing.assert_allclose(found[["elliptical", "spiral"]].sum(axis=1), 1)
    assert found.loc[decals, "ood_distance"].median() > found.loc[~decals, "ood_distance"].median()
    assert found.loc[decals, "ood"].mean() > found.loc[~decals, "ood"].mean()


def test_unlike_images_are_flagged(run: Path, ask: Command, spirals_sky: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "noise.png")
    shutil.copy(next((spirals_sky / "images").iterdir()), tmp_path / "galaxy.jpg")
    assert ask(run, tmp_path / "noise.png", tmp_path / "galaxy.jpg", "--out", tmp_path / "p.csv")[0] == 0
    noise, galaxy = pd.read_csv(tmp_path / "p.csv").to_dict("records")
    assert noise["ood"]
    assert noise["ood_distance"] > galaxy["ood_distance"]
