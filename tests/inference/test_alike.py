"""`galaxyml alike` finds what brute force finds, in any set, and says in a sentence what it cannot do."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from galaxyml.inference import bundle, load, predict
from galaxyml.inference.alike import command, searched
from galaxyml.inference.alike.searched import InFolder, InMemory, open_set
from galaxyml.inference.alike.sheet import ACROSS, Answer, sheet
from galaxyml.inference.embedded import Embedded, embed
from galaxyml.inference.galleries import Gallery
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.runs.run_dir import RunDir

Ask = Callable[..., tuple[int, str]]
Make = Callable[[str], Path]


@pytest.fixture
def ask(apart: None, in_process: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs `galaxyml alike` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(in_process, command.main)


@pytest.fixture
def run(page_run: Make) -> Path:
    return page_run("galaxyzoo")


@pytest.fixture
def images(sky: Path, tmp_path: Path) -> Path:
    """A folder of thirty images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((sky / "images_training_rev1").glob("*.jpg"))[:30]:
        shutil.copy(path, folder)
    return folder


def by_brute_force(features: np.ndarray, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(features.astype(np.float64))
    brute = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute")
    distances, rows = brute.fit(scaler.transform(features.astype(np.float64))).kneighbors(
        scaler.transform(query.astype(np.float64))
    )
    return rows, 1 - distances


def pixels_of(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_nearest_of_a_folder_are_those_of_brute_force(
    run: Path, ask: Ask, images: Path, galaxies: list[Path]
) -> None:
    status, said = ask(run, galaxies[0], galaxies[1], "--among", images, "--count", 5, "--out", "found.csv")
    assert status == 0, said
    predictor = load(run)
    among = embed(predictor, run, [str(images)])
    asked = embed(predictor, run, [str(galaxies[0]), str(galaxies[1])])
    rows, similarities = by_brute_force(among.features, asked.features, 5)
    table = pd.read_csv("found.csv")
    assert list(table)[:5] == ["query", "rank", "similarity", "id", "path"]
    assert "Class1.1" in table
    assert table["query"].tolist() == [asked.ids[0]] * 5 + [asked.ids[1]] * 5
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert table["id"].tolist() == [among.ids[row] for row in rows.ravel()]
    np.testing.assert_allclose(table["similarity"], similarities.ravel(), atol=1e-9)
    assert pixels_of("found.png").shape[1] > 5 * 100
    assert "the nearest to 2 objects among the 30 of" in said
    assert said.rstrip().endswith("found.csv, found.png")


def test_a_folder_of_predictions_gives_what_its_images_give(
    run: Path, ask: Ask, images: Path, galaxies: list[Path]
) -> None:
    predict.main([str(run), str(images), "--out", "many/", "--features", "--interval", "all", "--shard-rows", "7"])
    assert ask(run, galaxies[0], "--among", images, "--out", "one.parquet")[0] == 0
    status, said = ask(run, galaxies[0], "--among", "many/", "--out", "two.parquet")
    assert status == 0, said
    one, two = pd.read_parquet("one.parquet"), pd.read_parquet("two.parquet")
    pd.testing.assert_frame_equal(one, two, rtol=1e-12, check_dtype=False)
    np.testing.assert_array_equal(pixels_of("one.png"), pixels_of("two.png"))
    assert len(one) == 10


def test_the_same_image_is_first_and_called_the_same(run: Path, ask: Ask, images: Path) -> None:
    first = min(images.iterdir())
    shutil.copy(first, images / "zzz.jpg")
    status, said = ask(run, first, "--among", images, "--count", 3, "--out", "found.parquet")
    assert status == 0, said
    table = pd.read_parquet("found.parquet")
    assert table["id"].tolist()[:2] == [first.name, "zzz.jpg"]
    assert table["similarity"].tolist()[:2] == pytest.approx([1, 1], abs=1e-9)
    assert said.count("1.000, the same") == 2
    assert table["similarity"].iloc[2] < 1


def test_an_object_of_the_set_is_left_out_of_its_own_answer(run: Path, ask: Ask, images: Path) -> None:
    first = min(images.iterdir())
    shutil.copy(first, images / "zzz.jpg")
    assert ask(run, first, "--among", images, "--count", 31, "--out", "all.parquet")[0] == 0
    status, said = ask(run, "--id", first.name, "--among", images, "--count", 5, "--out", "others.parquet")
    assert status == 0, said
    every, others = pd.read_parquet("all.parquet"), pd.read_parquet("others.parquet")
    expected = every[every["id"] != first.name].head(5).reset_index(drop=True)
    assert others["id"].iloc[0] == "zzz.jpg"
    assert others["rank"].tolist() == [1, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(others.drop(columns="rank"), expected.drop(columns="rank"))
    assert len(every) == 31


def test_columns_of_a_table_stay_beside_the_answer(run: Path, ask: Ask, images: Path, galaxies: list[Path]) -> None:
    names = sorted(path.name for path in images.iterdir())
    table = pd.DataFrame({"id": [f"g{name[:-4]}" for name in names], "path": [f"images/{name}" for name in names]})
    table.assign(rank=7, z=0.5).to_csv("list.csv", index=False)
    status, said = ask(run, galaxies[0], "--among", "list.csv", "--count", 2, "--out", "found.csv")
    assert status == 0, said
    found = pd.read_csv("found.csv")
    assert found["rank"].tolist() == [1, 2]
    assert found["rank_given"].tolist() == [7, 7]
    assert found["z"].tolist() == [0.5, 0.5]
    assert found["id"].str.startswith("g").all()


@pytest.mark.parametrize("ending", [".fits", ".vot", ".ecsv"])
def test_other_tables_can_be_written(
    run: Path, ask: Ask, images: Path, galaxies: list[Path], ending: str, tmp_path: Path
) -> None:
    from astropy.table import Table

    status, said = ask(run, galaxies[0], "--among", images, "--count", 3, "--out", f"found{ending}")
    assert status == 0, said
    assert len(Table.read(f"found{ending}")) == 3


def test_without_a_set_it_is_what_the_run_has_learnt_from(run: Path, ask: Ask, sky: Path) -> None:
    net = RunDir(run).nets()[0]
    train = net.catalog().query("split == 'train'")
    chosen = train.iloc[3]
    status, said = ask(run, sky / chosen["image"], "--count", 4, "--out", "found.csv")
    assert status == 0, said
    table = pd.read_csv("found.csv", dtype={"id": str})
    assert table["id"].iloc[0] == str(chosen["id"])
    assert set(table["id"]) <= set(train["id"].astype(str))
    assert table["similarity"].iloc[0] == pytest.approx(1, abs=1e-9)
    assert f"among the {len(train):,} of its training set" in said
    assert "known" in said
    assert table["known"].str.len().gt(0).all()


def test_light_curves_are_asked_for_by_id_and_as_tables(
    page_run: Make, ask: Ask, plasticc_sky: Path, tmp_path: Path
) -> None:
    run = page_run("plasticc")
    predictor = load(run)
    assert isinstance(predictor, LightCurvePredictor)
    among = embed(predictor, run, [str(plasticc_sky)])
    status, said = ask(run, among.ids[5], "--among", plasticc_sky, "--count", 4, "--out", "found.csv")
    assert status == 0, said
    rows, similarities = by_brute_force(among.features, among.features[[5]], 5)
    table = pd.read_csv("found.csv")
    assert table["object_id"].astype(str).tolist() == [among.ids[row] for row in rows[0] if row != 5]
    np.testing.assert_allclose(table["similarity"], similarities[0, 1:], atol=1e-6)
    assert "by latents" in said
    night = tmp_path / "night"
    night.mkdir()
    for end in ("", "_metadata"):
        one = pd.read_csv(plasticc_sky / f"test_set{end}.csv").query(f"object_id == {among.ids[5]}")
        one.to_csv(night / f"test_set{end}.csv", index=False)
    status, said = ask(run, night, "--among", plasticc_sky, "--count", 3, "--sheet", "curves.png")
    assert status == 0, said
    assert "1.000, the same" in said
    assert pixels_of("curves.png").shape[1] > 4 * 100
    status, said = ask(run, among.ids[5], "--count", 2, "--out", "learnt.csv")
    assert status == 2
    train = RunDir(run).nets()[0].catalog().query("split == 'train'")["id"].astype(str)
    assert "There is no object" in said
    status, said = ask(run, train.iloc[0], "--count", 2, "--out", "learnt.csv")
    assert status == 0, said
    assert set(pd.read_csv("learnt.csv")["object_id"].astype(str)) <= set(train) - {train.iloc[0]}


def test_many_objects_fit_on_a_sheet(run: Path, ask: Ask, images: Path, galaxies: list[Path]) -> None:
    status, said = ask(run, *galaxies[:7], "--among", images, "--count", 30, "--sheet", "sheet.png")
    assert status == 0, said
    assert "and of 2 more objects" in said
    status, said = ask(run, images, images, "--among", images, "--count", 25, "--sheet", "sheet.png")
    assert status == 0, said
    assert "the sheet has room for 10 of the nearest of 30 objects" in said


def test_a_sheet_has_the_query_at_the_left_and_its_nearest_in_order() -> None:
    class Colours(Gallery):
        def picture(self, row: int, side: int) -> Image.Image:
            return Image.new("RGB", (side, side), (row, 100, 100))

    ids = [str(number) for number in range(60)]
    colours = InMemory("colours", Embedded(ids, np.eye(60, 2), pd.DataFrame({"id": ids}), "colour", Colours()))
    rows = np.arange(40, 40 + ACROSS + 2)
    names = [f"folder/of/a/long/name/{row}.jpg" for row in rows]
    answer = Answer("query", lambda side: Image.new("RGB", (side, side), (1, 2, 3)), rows, rows / 100, names)
    drawn = np.asarray(sheet([answer], colours))
    seen = [tuple(drawn[60, x]) for x in range(20, drawn.shape[1], 20)]
    reds = [int(red) for red, green, _ in seen if green == 100]
    assert seen[0] == (1, 2, 3)
    assert list(dict.fromkeys(reds)) == rows[:ACROSS].tolist()


def test_what_cannot_be_done_is_told(
    run: Path, page_run: Make, ask: Ask, images: Path, galaxies: list[Path], tmp_path: Path
) -> None:
    image = galaxies[0]

    def refused(*words: object, status: int = 2) -> str:
        got, said = ask(*words)
        assert got == status, said
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        return line

    assert "gone is not there. Give the folder of a finished run" in refused("gone", image, "--among", images)
    assert "The order is RUN IMAGES" in refused("gone", run, "--among", images)
    assert "--count 0: it must be a whole number, 1 or more" in refused(run, image, "--count", 0)
    assert "There is nothing to search for" in refused(run, "--among", images)
    assert "it must end in .csv" in refused(run, image, "--among", images, "--out", "found.txt")
    assert "--sheet a.jpg: it must end in .png" in refused(run, image, "--among", images, "--sheet", "a.jpg")
    assert "has no option --amonk" in refused(run, image, "--amonk", images)
    assert "No file matches 'none/*.jpg'" in refused(run, image, "--among", "none/*.jpg")
    (tmp_path / "empty").mkdir()
    assert "the folder holds no images" in refused(run, image, "--among", "empty")
    Path("bad.jpg").write_text("<html>")
    assert "The image cannot be read: bad.jpg" in refused(run, "bad.jpg", "--among", images, status=1)
    assert "The image cannot be read: gone.jpg is not there" in refused(run, "gone.jpg", "--among", images, status=1)
    assert "There is no object nobody; there are" in refused(run, "--id", "nobody", "--among", images)
    predict.main([str(run), str(images), "--out", "plain/"])
    assert "plain has predictions without features" in refused(run, image, "--among", "plain")
    predict.main([str(run), str(images), "--out", "many/", "--features"])
    assert "many has no object nobody; it has" in refused(run, "--id", "nobody", "--among", "many")
    other = page_run("spirals")
    assert "many has features of another run" in refused(other, image, "--among", "many")
    bundle.write(run, tmp_path / "model.zip")
    assert "model.zip came as one file, without the images" in refused("model.zip", image)
    assert "is no bundle" in refused("bad.jpg", image, "--among", images)
    curves = page_run("plasticc")
    assert "whose predictions have no features: give their tables" in refused(curves, "1", "--among", "many")
    assert "is a run of light curves: give" in refused(curves, "1", "--among", "gone.csv")


def test_some_images_that_cannot_be_read_are_named(run: Path, ask: Ask, images: Path, galaxies: list[Path]) -> None:
    (images / "bad.jpg").write_text("<html>")
    for _ in range(2):  # the second time from what was kept
        status, said = ask(run, galaxies[0], images / "bad.jpg", "--among", images, "--count", 2)
        assert status == 0, said
        assert f"1 of 2 images cannot be read: {images}/bad.jpg" in said
        assert f"1 of 31 images of the set cannot be read: {images}/bad.jpg" in said


def test_where_the_training_images_are_gone_a_set_is_asked_for(
    run: Path, ask: Ask, galaxies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = RunDir.provenance
    gone = {"folder": str(tmp_path / "gone")}
    monkeypatch.setattr(RunDir, "provenance", lambda run: made(run) | {"data": made(run)["data"] | gone})
    status, said = ask(run, galaxies[0])
    assert status == 2
    assert "is not there any more. Say among which objects to search: --among FOLDER" in said


@pytest.fixture
def many(run: Path, ask: Ask, images: Path) -> Path:
    predict.main([str(run), str(images), "--out", "many/", "--features", "--shard-rows", "7"])
    return Path("many")


def test_more_than_a_million_need_an_index_or_patience(
    run: Path, ask: Ask, many: Path, galaxies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(searched, "MOST", 20)
    status, said = ask(run, galaxies[0], "--among", many)
    assert status == 2
    assert "pip install 'galaxyml[index]'. --exact compares all of them without one." in said
    status, said = ask(run, galaxies[0], "--among", many, "--exact")
    assert status == 0, said


def test_an_index_lies_beside_the_predictions_and_gives_the_same(
    run: Path, ask: Ask, many: Path, galaxies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="the index needs FAISS: pip install 'galaxyml[index]'")
    assert ask(run, galaxies[0], "--among", many, "--count", 6, "--out", "one.parquet")[0] == 0
    monkeypatch.setattr(searched, "MOST", 20)
    status, said = ask(run, galaxies[0], "--among", many, "--count", 6, "--out", "two.parquet")
    assert status == 0, said
    assert "Making an index of the features, once" in said
    pd.testing.assert_frame_equal(pd.read_parquet("one.parquet"), pd.read_parquet("two.parquet"), rtol=1e-12)
    assert [path.suffix for path in sorted((many / "nearest").glob("[!.]*"))] == [".faiss", ".npz"]
    status, said = ask(run, galaxies[0], "--among", many, "--count", 6)
    assert "Making an index" not in said
    (many / "predictions" / "part-00000.parquet").unlink()
    status, said = ask(run, galaxies[0], "--among", many, "--count", 6)
    assert status == 0, said
    assert "Making an index" in said
    assert "among the 23 of" in said


def test_a_folder_stays_on_disk(run: Path, ask: Ask, many: Path) -> None:
    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    opened = open_set(predictor, run, [str(many)])
    assert isinstance(opened, InFolder)
    whole = embed(predictor, run, [str(many)])
    rows = np.array([29, 0, 7, 6, 7])
    np.testing.assert_array_equal(opened.features(rows), whole.features[rows])
    pd.testing.assert_frame_equal(opened.table(rows), whole.table.iloc[rows].reset_index(drop=True))
    assert opened.row(whole.ids[13]) == 13
