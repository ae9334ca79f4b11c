import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxyml.data.catalog import Step
from galaxyml.data.source import Auto, Real
from galaxyml.data.splits import Folds
from galaxyml.runs.errors import DataError, UserError
from galaxyml.tasks.galaxyzoo import GalaxyZoo, read_votes
from galaxyml.trees import DecisionTree

Command = Callable[..., tuple[int, str]]
TREE = DecisionTree.load("kaggle")
SOLUTIONS = "training_solutions_rev1.csv"


def data(folder: Path, **options: Any) -> GalaxyZoo:
    """The task's data from a folder `<data_dir>/galaxyzoo`."""
    given: dict[str, Any] = {
        "fold": 0,
        "split": Folds(5),
        "seed": 0,
        "size": 16,
        "crop": 0.5,
        "margin": 1.0,
        "batch_size": 8,
    } | options
    source = Real("galaxyzoo", str(folder.parent))
    return GalaxyZoo(source=source, cache_dir=str(folder.parent / "cache"), **given)


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Changes a table of text cells."""
    table = pd.read_csv(path, dtype=str)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, index=False)


def put(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return change


# --- what is read


def test_catalog_holds_every_galaxy_once(sky: Path) -> None:
    found = data(sky)
    found.setup()
    assert found.catalog is not None
    counts = found.catalog["split"].value_counts()
    assert counts["train"] + counts["val"] == 60
    assert counts["test"] == 12
    assert found.catalog["id"].is_unique
    solutions = pd.read_csv(sky / SOLUTIONS).set_index("GalaxyID")
    labelled = found.catalog[found.catalog["split"] != "test"].set_index("id")
    np.testing.assert_allclose(labelled[TREE.columns], solutions.loc[labelled.index, TREE.columns])
    benchmark = pd.read_csv(sky / "all_zeros_benchmark.csv")["GalaxyID"].tolist()
    assert found.catalog.loc[found.catalog["split"] == "test", "id"].tolist() == benchmark


def test_folds_hold_each_galaxy_out_once(sky: Path) -> None:
    held_out: list[int] = []
    for fold in range(5):
        found = data(sky, fold=fold)
        found.setup()
        assert found.catalog is not None
        held_out += found.catalog.loc[found.catalog["split"] == "val", "id"].tolist()
    assert sorted(held_out) == sorted(pd.read_csv(sky / SOLUTIONS)["GalaxyID"])


def test_batches_pair_images_with_their_votes(sky: Path) -> None:
    found = data(sky)
    found.setup()
    assert found.catalog is not None
    for batch in found.val_dataloader():
        for index, image, target in zip(batch["index"], batch["image"], batch["target"], strict=True):
            row = found.catalog.iloc[int(index)]
            np.testing.assert_array_equal(image.numpy(), found.framing.read(sky / row["image"]))
            np.testing.assert_allclose(target.numpy(), row[TREE.columns].to_numpy(float), atol=1e-6)


def test_limit_keeps_some_and_says_so(sky: Path) -> None:
    found = data(sky, limit=20)
    found.setup()
    assert found.catalog is not None
    assert (found.catalog["split"] != "test").sum() == 20
    assert "limit=20: 32 of 72 objects used." in found.notes


def test_fewer_training_objects_are_a_part_of_more_and_judged_by_the_same(sky: Path) -> None:
    catalogs = {}
    for count in (5, 20, None):
        found = data(sky, train_limit=count)
        found.setup()
        assert found.catalog is not None
        catalogs[count] = found.catalog
    parts = {count: set(catalog.loc[catalog["split"] == "train", "id"]) for count, catalog in catalogs.items()}
    assert [len(parts[count]) for count in (5, 20)] == [5, 20]
    assert parts[5] < parts[20] < parts[None]
    for split in ("val", "test"):
        ids = [set(catalog.loc[catalog["split"] == split, "id"]) for catalog in catalogs.values()]
        assert ids[0] == ids[1] == ids[2]
    with pytest.raises(UserError, match="train_limit=0: it must be a whole number, 1 or more"):
        data(sky, train_limit=0)


def test_a_sweep_over_their_number_is_a_learning_curve(command: Command, tmp_path: Path) -> None:
    status, said = command("epochs=1", "name=curve", "-m", "train_limit=8,40", "fold=0,1")
    assert status == 0, said
    assert "train_limit=8: 8 of " in said
    sweep = tmp_path / "multirun" / "galaxyzoo" / "curve"
    table = pd.read_csv(sweep / "sweep.csv")
    assert sorted(table["train_limit"]) == [8, 8, 40, 40]
    report = (sweep / "fold-0_train_limit-8" / "report.md").read_text()
    assert "| trained on | 8 |" in report
    assert "| left out | " in report


def test_without_a_benchmark_there_is_no_test_split(files: Path) -> None:
    (files / "all_zeros_benchmark.csv").unlink()
    found = data(files)
    found.setup()
    assert found.catalog is not None
    assert "test" not in set(found.catalog["split"])
    assert "no submission is written" in found.notes[0]


def test_real_files_are_read_and_their_twin_is_told(real: Path, tmp_path: Path) -> None:
    found = data(real / "galaxyzoo")
    found.cache = tmp_path
    found.setup()
    assert found.catalog is not None
    assert (found.catalog["split"] != "test").sum() == 403
    assert (found.catalog["split"] == "test").sum() == 204
    told = " ".join(found.notes)
    assert "1254170 = 102223" in told
    assert "in 60 of 4,433 groups the answers do not sum to their parent question (largest gap 0.020" in told


def test_lines_are_counted_past_blank_ones(files: Path) -> None:
    path = files / SOLUTIONS
    header, first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, first, "", "", "x" + second, *rest]))
    with pytest.raises(DataError, match=r"line 5: GalaxyID is 'x\d+'"):
        read_votes(path, TREE, [])
    path.write_text("\n".join([header, first, "", second, *rest, "", ""]))
    assert len(read_votes(path, TREE, [])) == 60


def test_commas_at_the_ends_of_rows_do_no_harm(files: Path) -> None:
    path = files / SOLUTIONS
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row + "," for row in rows)]))
    assert (read_votes(path, TREE, [])["id"] > 99_999).all()


def test_upper_case_suffixes_are_found(files: Path) -> None:
    for path in (files / "images_test_rev1").iterdir():
        path.rename(path.with_suffix(".JPG"))
    data(files).setup()


def test_a_byte_order_mark_does_no_harm(files: Path) -> None:
    path = files / SOLUTIONS
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert len(read_votes(path, TREE, [])) == 60


# --- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put(3, "Class3.1", "1.7"),
            r"training_solutions_rev1.csv, line 5, galaxy \d+: Class3.1 is 1.7; fractions lie in \[0, 1\]",
        ),
        (put(3, "Class3.1", "-0.2"), r"line 5, galaxy \d+: Class3.1 is -0.2; fractions lie"),
        (put(4, "Class1.1", "inf"), r"line 6, galaxy \d+: Class1.1 is inf; fractions lie"),
        (put(0, "Class6.1", None), r"line 2, galaxy \d+: Class6.1 is empty or nan; it must be a number"),
        (put(0, "Class6.1", "nan"), r"line 2, galaxy \d+: Class6.1 is empty or nan; it must be a number"),
        (put(0, "Class6.1", "half"), r"line 2, galaxy \d+: Class6.1 is 'half'; it must be a number"),
        (put(7, "GalaxyID", "12.5"), r"line 9: GalaxyID is '12.5'; it must be a whole number"),
        (put(7, "GalaxyID", "abc"), r"line 9: GalaxyID is 'abc'; it must be a whole number"),
        (lambda t: put(7, "GalaxyID", t["GalaxyID"][2])(t), r"line 9, galaxy \d+ has a row already, in line"),
        (lambda t: t.drop(columns="Class5.2"), r"missing columns \(1\): Class5.2"),
        (
            lambda t: t.rename(columns={"Class5.2": "Class5_2"}),
            r"missing columns \(1\): Class5.2.*has Class5_2.*Did you mean Class5_2",
        ),
        (lambda t: t.rename(columns={"GalaxyID": "id"}), r"missing columns \(1\): GalaxyID"),
        (lambda t: t.iloc[:0], r"has a header and no rows"),
    ],
)
def test_bad_tables_are_refused_with_their_place(files: Path, change: Callable[..., Any], message: str) -> None:
    edit(files / SOLUTIONS, change)
    with pytest.raises(DataError, match=message):
        data(files).setup()


def test_sums_far_from_their_parent_are_refused(files: Path) -> None:
    def skew(table: pd.DataFrame) -> None:
        table.loc[2, ["Class1.1", "Class1.2", "Class1.3"]] = ["0.2", "0.7", "0.2"]

    edit(files / SOLUTIONS, skew)
    with pytest.raises(
        DataError, match=r"line 4, galaxy \d+: Class1.1 to Class1.3 sum to 1.1000, but the whole is 1.0000; .* by 0.05"
    ):
        data(files).setup()


def test_sums_off_by_rounding_are_counted(files: Path) -> None:
    path = files / SOLUTIONS
    table = pd.read_csv(path)
    table["Class7.1"] += 0.01
    table.to_csv(path, index=False)
    notes: list[str] = []
    read_votes(path, TREE, notes)
    assert "groups the answers do not sum to their parent question (largest gap 0.0" in notes[0]


def test_images_without_a_row_are_told(files: Path) -> None:
    first = next((files / "images_training_rev1").iterdir())
    shutil.copy(first, first.with_name("999999999.jpg"))
    (first.parent / "Thumbs.db").write_text("not a galaxy")
    found = data(files)
    found.setup()
    assert any("left out (1): 999999999" in note for note in found.notes)


def test_the_same_image_in_training_and_test_is_told(files: Path) -> None:
    train = sorted((files / "images_training_rev1").iterdir())[0]
    test = sorted((files / "images_test_rev1").iterdir())[0]
    shutil.copy(train, test)
    found = data(files)
    found.setup()
    assert f"images that are in training and in test at once (1): {train.stem} = {test.stem}." in found.notes


def test_rows_without_an_image_are_refused(files: Path) -> None:
    gone = sorted((files / "images_training_rev1").iterdir())[3]
    gone.unlink()
    with pytest.raises(DataError, match=rf"galaxies of {SOLUTIONS} without an image here \(1 of 60\): {gone.name}"):
        data(files).setup()


def test_benchmark_ids_without_an_image_are_refused(files: Path) -> None:
    shutil.rmtree(files / "images_test_rev1")
    with pytest.raises(DataError, match=r"galaxies of all_zeros_benchmark.csv without an image here \(12 of 12\)"):
        data(files).setup()


def test_an_id_that_is_trained_on_and_tested_is_refused(files: Path) -> None:
    labelled = pd.read_csv(files / SOLUTIONS)["GalaxyID"][0]
    edit(files / "all_zeros_benchmark.csv", put(0, "GalaxyID", str(labelled)))
    with pytest.raises(DataError, match=rf"ids that are in {SOLUTIONS} too \(1\): {labelled}"):
        data(files).setup()


def test_a_galaxy_whose_image_is_cut_off_is_named_and_left_out(files: Path) -> None:
    whole = data(files)
    whole.setup()
    path = sorted((files / "images_training_rev1").iterdir())[3]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for _ in range(2):  # decoded, and from the store
        left = data(files)
        left.setup()
        (note,) = (note for note in left.notes if "left out" in note)
        assert note.startswith(f"1 of 72 left out, as their images cannot be read: images_training_rev1/{path.name}: ")
        assert whole.catalog is not None
        assert left.catalog is not None
        assert left.steps[-1] == Step("its image can be read", 72, 71)
        kept = whole.catalog["id"].astype(str) != path.stem
        assert left.catalog["id"].tolist() == whole.catalog["id"][kept].tolist()
        rows = torch.from_numpy(np.flatnonzero(kept))
        assert torch.equal(left.images[torch.arange(71)]["image"], whole.images[rows]["image"])
        assert torch.equal(left.targets, whole.targets[rows])


def test_an_image_that_is_none_is_named(files: Path) -> None:
    path = sorted((files / "images_test_rev1").iterdir())[0]
    path.write_text("<html>404</html>")
    with pytest.raises(DataError, match=rf"images_test_rev1/{path.name} is not an image"):
        data(files).setup()


def test_a_table_that_is_none_is_named(files: Path) -> None:
    Image.new("RGB", (9, 9)).save(files / "x.png")
    (files / "x.png").rename(files / SOLUTIONS)
    with pytest.raises(DataError, match=rf"{SOLUTIONS} is not a CSV table that can be read"):
        data(files).setup()


@pytest.mark.parametrize("state", ["missing", "empty", "half"])
def test_folders_without_the_files_say_what_and_where_from(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "data" / "galaxyzoo"
    if state != "missing":
        folder.mkdir(parents=True)
    if state == "half":
        (folder / "images_training_rev1").mkdir()
    with pytest.raises(DataError, match=r"kaggle\.com/c/galaxy-zoo.*source=simulated") as error:
        data(folder).setup()
    told = {"missing": "There is no folder", "empty": "is empty", "half": f"has no {SOLUTIONS}"}
    assert told[state] in str(error.value)


@pytest.mark.parametrize("fold", [9, -1, "seven", 1.5, True])
def test_impossible_folds_are_refused(sky: Path, fold: object) -> None:
    with pytest.raises(UserError, match=rf"fold={fold}: with folds=5 it must be a whole number from 0 to 4"):
        data(sky, fold=fold)


def test_without_real_files_the_sky_is_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sky:
        name, path = "the simulated sky", tmp_path / "sky"

        def folder(self) -> Path:
            return tmp_path / "sky"

    monkeypatch.chdir(tmp_path)
    there, sky = Real("galaxyzoo", None), cast("Any", Sky())
    assert Auto(there, sky, None).folder() == tmp_path / "sky"
    assert Auto(there, sky, "given").folder() == Path("data/galaxyzoo")
    (tmp_path / "data" / "galaxyzoo").mkdir(parents=True)
    assert Auto(there, sky, None).folder() == Path("data/galaxyzoo")
