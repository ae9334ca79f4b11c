import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from galaxyml.data.source import Real
from galaxyml.data.splits import Folds, Holdout
from galaxyml.data.tables.labels import LabelTable, rare_notes
from galaxyml.kinds.classes import Classes
from galaxyml.kinds.numbers import Numbers
from galaxyml.runs.errors import DataError, UserError
from galaxyml.sky.images import KINDS
from galaxyml.tasks.images import Images

TREE = """\
title: Mine
column: "{name}_{answer}"
questions:
  - {name: shape, answers: [smooth, disk, other]}
  - {name: edge, after: shape_disk, answers: ["yes", "no"]}
"""


@pytest.fixture
def own(images_sky: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images_sky, tmp_path / "own"))


def data(folder: Path, labels: str = "labels.csv", **options: Any) -> Any:
    given = {"split": Holdout(val=0.15, test=0.15, folds=5), "separation": 3.0, **options}
    if "tree" not in given:  # as the command does, which has looked into the table before
        names = given.get("classes")
        given["kind"] = Classes(names) if names is not None else Numbers(given["columns"])
    return Images(
        labels=labels,
        source=Real("images", str(folder), own=True),
        cache_dir=str(folder.parent / "cache"),
        fold=0,
        seed=0,
        size=16,
        crop=1.0,
        margin=1.0,
        batch_size=8,
        workers=0,
        **given,
    )


classes = partial(data, columns=["kind"], classes=KINDS)
numbers = partial(data, columns=["r90", "axis_ratio"])


def changed(folder: Path, **columns: Any) -> pd.DataFrame:
    """The folder's table with other values, written in its place."""
    table = pd.read_csv(folder / "labels.csv").assign(**columns)
    table.to_csv(folder / "labels.csv", index=False)
    return table


def test_a_class_of_each_image_comes_with_its_id(own: Path) -> None:
    found = classes(own, properties=["redshift", "not there"])
    found.setup()
    table = pd.read_csv(own / "labels.csv").set_index("id")
    catalog = found.catalog.set_index("id")
    assert [KINDS[label] for label in catalog["label"]] == table.loc[catalog.index, "kind"].tolist()
    assert catalog["redshift"].tolist() == pytest.approx(table.loc[catalog.index, "redshift"].tolist())
    assert set(catalog["split"]) == {"train", "val", "test"}
    assert [step.after for step in found.steps] == [120, 120, 120]


def test_numbers_are_those_of_the_table(own: Path) -> None:
    found = numbers(own)
    found.setup()
    table = pd.read_csv(own / "labels.csv").set_index("id")
    expected = table.loc[found.catalog["id"], ["r90", "axis_ratio"]].to_numpy()
    np.testing.assert_allclose(found.targets.numpy(), expected, rtol=1e-6)


def test_fractions_are_checked_against_a_tree_of_ones_own(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    names = {"Class1.1": "shape_smooth", "Class1.2": "shape_disk", "Class1.3": "shape_other"}
    mine = table[["id", "path"]].join(table[[*names]].rename(columns=names))
    mine["edge_yes"], mine["edge_no"] = table["Class2.1"], table["Class2.2"]
    mine.to_csv(own / "labels.csv", index=False)
    (own / "tree.yaml").write_text(TREE)
    found = data(own, tree=str(own / "tree.yaml"))
    found.setup()
    assert found.kind.outputs == ["shape_smooth", "shape_disk", "shape_other", "edge_yes", "edge_no"]
    mine.assign(edge_yes=1.0, edge_no=1.0).to_csv(own / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"labels.csv, line 2, galaxy G00000: edge_yes to edge_no sum to 2.0000, but"):
        data(own, tree=str(own / "tree.yaml")).setup()


def test_what_lacks_a_label_or_an_image_is_left_out_and_counted(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    changed(own, kind=table["kind"].where(table.index >= 5))
    for name in table["path"][10:13]:
        (own / name).unlink()
    found = classes(own)
    found.setup()
    assert [(step.before, step.after) for step in found.steps] == [(120, 120), (120, 115), (115, 112)]
    assert not set(found.catalog["id"]) & set(table["id"][[0, 4, 10, 12]])
    assert any("images that are not there (3): images/G00010.jpg" in note for note in found.notes)


def test_a_split_of_ones_own_is_kept(own: Path) -> None:
    table = changed(own, split=np.where(np.arange(120) % 4, "train", "Test"))
    found = classes(own, split=Folds(5))
    found.setup()
    assert set(found.catalog.loc[found.catalog["split"] == "test", "id"]) == set(table["id"][table["split"] == "Test"])


def test_a_galaxy_does_not_come_into_two_parts(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    other = np.where(np.arange(120) % 2, np.arange(120) - 1, np.arange(120))  # each second one is where the first is
    changed(own, ra=table["ra"][other].to_numpy(), dec=table["dec"][other].to_numpy())
    found = classes(own)
    found.setup()
    split = found.catalog.set_index("id")["split"]
    assert all(split[f"G{at:05d}"] == split[f"G{at + 1:05d}"] for at in range(0, 120, 2))


def test_the_path_serves_where_there_is_no_id(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    table[["path", "kind"]].rename(columns={"path": "file"}).to_csv(own / "labels.csv", index=False)
    found = classes(own)
    found.setup()
    assert set(found.catalog["id"]) == set(table["path"])


def test_images_are_found_by_id_where_a_table_has_no_paths(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv").rename(columns={"id": "GalaxyID"}).drop(columns="path")
    table.loc[3, "GalaxyID"] = "G99999"
    table.to_csv(own / "labels.csv", index=False)
    found = classes(own)
    found.setup()
    first = str(table["GalaxyID"][0])
    assert f"labels.csv: images are found by GalaxyID: images/{first}.jpg." in found.notes
    assert "labels.csv: images that are not there (1): G99999." in found.notes
    assert (found.catalog["image"] == "images/" + found.catalog["id"] + ".jpg").all()
    assert len(found.catalog) == len(table) - 1
    (own / "labels.csv").write_text("GalaxyID,kind\n1,smooth\n2,spiral\n")
    for first, advice in (
        ("1", "give a column path, or ids"),
        ("5.877e17", r"lost the last digits .* \(pandas: dtype=str\)"),
    ):
        (own / "labels.csv").write_text(f"GalaxyID,kind\n{first},smooth\n2,spiral\n")
        words = rf"no image is called by its GalaxyID: the first is '{first}', an image is images/.*\.jpg; .*{advice}"
        with pytest.raises(DataError, match=words):
            classes(own).setup()


def test_classes_of_few_rows_are_told(own: Path) -> None:
    kinds = pd.read_csv(own / "labels.csv")["kind"]
    kinds[kinds[kinds == "spiral"].index[0]] = "sprial"
    changed(own, kind=kinds)
    found = classes(own, classes=[*KINDS, "sprial"])
    found.setup()
    (note,) = (note for note in found.notes if "too few" in note)
    assert note == (
        f"labels.csv: class sprial of kind has 1 row (of {len(kinds):,}), too few to learn and to judge; is it a "
        "misspelling of spiral?"
    )
    assert any(f"a class ({KINDS[0]}: {(kinds == KINDS[0]).sum()}, " in note for note in found.notes)
    notes = rare_notes(own / "a.csv", "kind", {"E": 2, "merger": 90})
    assert notes == [
        "a.csv: class E of kind has 2 rows (of 92), too few to learn and to judge; take such rows out, or add more."
    ]
    (note,) = rare_notes(own / "a.csv", "kind", {**dict.fromkeys("abcd", 1), "merger": 90})
    assert note == "a.csv: 4 of 5 classes of kind have fewer than 3 rows, too few to learn and to judge: a, b, c, d."


def test_a_folder_that_is_not_there_is_told_with_those_called_nearly_so(own: Path) -> None:
    with pytest.raises(DataError, match=rf"There is no folder {own.parent}/onw\. Did you mean {own}\? Give that of"):
        LabelTable.read(own.parent / "onw" / "labels.csv", own.parent / "onw")


def test_an_argument_that_there_is_not_is_told_with_the_nearest(own: Path) -> None:
    with pytest.raises(UserError, match=r"^Images has no argument 'label'\. Did you mean labels\?$"):
        Images(str(own), columns=["kind"], label="labels.csv")


def test_whole_numbers_that_are_taken_for_classes_are_told(own: Path) -> None:
    changed(own, kind=np.arange(120) % 3)
    found = classes(own, classes=[0, 1, 2])
    found.setup()
    assert any("its whole numbers are taken for classes; kind=numbers" in note for note in found.notes)
    assert sorted(set(found.catalog["label"])) == [0, 1, 2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"kind": "blob"},
            r"csv, line 2, galaxy G00000: kind is 'blob'; the classes are disk.*120 such places",
        ),
        ({"id": "same"}, "line 3: id same occurs a second time"),
        ({"path": "a.jpg"}, "line 3: path a.jpg occurs a second time"),
        ({"split": "valid"}, "line 2, galaxy G00000: split is 'valid'; it must be train or test"),
        ({"ra": "x"}, "line 2, galaxy G00000: ra is 'x'; it must be sexagesimal"),
    ],
)
def test_bad_rows_are_told_with_their_place(own: Path, spoil: dict[str, Any], message: str) -> None:
    changed(own, **spoil)
    with pytest.raises(DataError, match=message):
        classes(own).setup()


def test_numbers_must_be_numbers_that_vary(own: Path) -> None:
    changed(own, r90=["inf", *range(119)])
    with pytest.raises(DataError, match="line 2, galaxy G00000: r90 is 'inf'; it must be a finite number"):
        numbers(own).setup()
    changed(own, r90=3.5)
    with pytest.raises(DataError, match=r"r90 is 3\.5 in all rows; there is nothing to learn"):
        numbers(own).setup()


def test_a_catalogs_own_names_are_refused(own: Path) -> None:
    changed(own, fold=np.arange(120) % 7, label=np.arange(120) % 3)
    classes(own, columns=["label"], classes=["0", "1", "2"]).setup()
    with pytest.raises(UserError, match=r"columns=\[…\]: the name fold stands for something else"):
        numbers(own, columns=["r90", "fold"])
    with pytest.raises(UserError, match=r"properties=\[…\]: the name label stands for something else"):
        classes(own, properties=["label"])


def test_a_table_that_lies_elsewhere_is_known_by_its_digest(own: Path, tmp_path: Path) -> None:
    there = shutil.move(own / "labels.csv", tmp_path / "elsewhere.csv")
    found = classes(own, labels=str(there))
    found.setup()
    assert found.digests() == {"elsewhere.csv": hashlib.sha256(Path(there).read_bytes()).hexdigest()}


def test_cells_that_are_no_number_leave_their_row_out(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    changed(own, r90=table["r90"].where(table.index % 10 != 0, np.nan).astype(object).fillna("nan"))
    found = numbers(own)
    found.setup()
    assert len(found.catalog) == 108


def test_missing_files_and_columns_are_named(own: Path) -> None:
    with pytest.raises(DataError, match=r"missing columns \(1\): knd. .*Did you mean kind"):
        classes(own, columns=["knd"]).setup()
    with pytest.raises(DataError, match=r"nothing.csv is missing"):
        classes(own, labels="nothing.csv").setup()
    shutil.rmtree(own / "images")
    with pytest.raises(DataError, match=r"there is no image .*G00000.jpg, and none of the other 119 rows' either"):
        classes(own).setup()
    with pytest.raises(DataError, match="There is no folder"):
        classes(own.parent / "nowhere").setup()


def test_too_few_images_are_refused(own: Path) -> None:
    pd.read_csv(own / "labels.csv").head(9).to_csv(own / "labels.csv", index=False)
    with pytest.raises(DataError, match="9 rows are left, of 9; at least 10 are needed"):
        classes(own).setup()


# --- tables as people have them


def catalog(folder: Path, **options: Any) -> pd.DataFrame:
    """The catalog of a folder by the table alone, as the library reads it."""
    found = Images(str(folder), **options)
    found.check_folder(folder)
    rows = found.load_tables(folder)
    return rows.sort_values("image").reset_index(drop=True)


def test_tables_of_all_formats_give_one_catalog(own: Path) -> None:
    from astropy.table import Table

    table = pd.read_csv(own / "labels.csv")[["id", "path", "ra", "dec", "kind"]]
    expected = catalog(own, columns=["kind"])
    (own / "labels.csv").unlink()
    both = Table.from_pandas(table)
    for write in (
        lambda: table.to_csv(own / "labels.tsv", sep="\t", index=False),
        lambda: table.to_parquet(own / "labels.parquet"),
        lambda: both.write(own / "labels.fits"),
        lambda: both.write(own / "labels.ecsv"),
        lambda: both.write(own / "labels.vot", format="votable"),
    ):
        write()
        pd.testing.assert_frame_equal(catalog(own)[list(expected)[:6]], expected[list(expected)[:6]])
        (path,) = own.glob("labels.*")
        path.unlink()


def test_positions_under_other_names_keep_a_galaxy_in_one_part(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")[["path", "ra", "dec", "kind"]]
    table.rename(columns={"ra": "RAJ2000", "dec": "DEJ2000"}).to_csv(own / "labels.csv", index=False)
    found = catalog(own)
    np.testing.assert_allclose(found["ra"], table.sort_values("path")["ra"])
    np.testing.assert_allclose(found["dec"], table.sort_values("path")["dec"])


def test_a_missing_position_is_not_known(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    changed(own, ra=table["ra"].astype(object).where(table.index != 3, "--"))
    found = classes(own)
    found.setup()
    assert found.catalog["ra"].isna().sum() == 1


def test_missing_words_and_sentinels_are_left_out_and_counted(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    r90 = table["r90"].astype(object).where(table.index % 10 != 0, "N/A").where(table.index % 10 != 1, -999)
    changed(own, r90=r90)
    found = numbers(own, columns=["r90"], missing=[-999])
    found.setup()
    assert len(found.catalog) == 96
    assert found.catalog["r90"].min() > 0
    assert "labels.csv: r90 missing in 24 of 120 rows (N/A: 12, -999: 12), which are left out." in found.notes
    said = numbers(own, columns=["r90"])
    said.setup()
    assert any("r90 is -999 in 12 of 108 rows" in note and "missing=[-999]" in note for note in said.notes)


def test_joined_spellings_are_one_class(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    changed(own, kind=[name.upper() if row % 3 == 0 else f" {name}" for row, name in enumerate(table["kind"])])
    with pytest.raises(UserError, match=r"differ in case or spaces alone: .*join_spellings=true"):
        Images(str(own), columns=["kind"])
    found = catalog(own, columns=["kind"], join_spellings=True)
    known = {"classes": KINDS, "join_spellings": True, "columns": ["kind"]}
    names = Images(str(own), columns=["kind"], join_spellings=True).kind.classes
    expected = table.sort_values("path")["kind"].to_numpy()
    assert [names[label].lower() for label in found["label"]] == expected.tolist()
    assert [KINDS[label] for label in catalog(own, **known)["label"]] == expected.tolist()


def test_a_part_of_a_trees_columns_is_refused_in_words(command: Callable[..., tuple[int, str]], own: Path) -> None:
    status, said = command("task=images", f"data_dir={own}", "tree=kaggle", "columns=[Class1.1,Class1.2]", "name=part")
    assert status == 2
    assert "columns=[Class1.1,Class1.2] tree=kaggle: a tree has its own columns, which are all learnt. Leave" in said


SHARES = np.array([[0.7, 0.25, 0.05], [0.1, 0.9, 0.0], [0.333, 0.333, 0.333]])[np.arange(120) % 3]


def test_numbers_that_look_like_shares_are_pointed_out_with_their_tree(own: Path) -> None:
    changed(own, **dict(zip(("Smooth", "features", "artifact"), SHARES.T, strict=True)))
    for columns, is_said in ((["Smooth", "features", "artifact"], True), (["Smooth", "features"], False)):
        found = data(own, columns=columns)
        found.setup()
        notes = [note for note in found.notes if "sum to 1" in note]
        assert len(notes) == is_said
        if notes:
            (own / "tree.yaml").write_text(notes[0].partition("give tree=tree.yaml: ")[2])
    assert notes == []
    found = data(own, tree=str(own / "tree.yaml"))
    found.setup()
    assert found.kind.outputs == ["Smooth", "features", "artifact"]
    assert not [note for note in found.notes if "sum to 1" in note]


@pytest.mark.parametrize("ending", ["_fraction", "_count"])
def test_a_part_of_a_trees_questions_is_answered_with_their_tree(own: Path, ending: str) -> None:
    from galaxyml.trees import DecisionTree

    tree = DecisionTree.load("gz2")
    columns = {f"{name}{ending}": share for name, share in zip(tree.questions[0].columns, SHARES.T, strict=True)}
    others = {name + ending: 0.5 for name in tree.questions[2].columns}  # a bar, without what leads there
    table = changed(own, **columns, **others)
    table[[*columns, *others]] *= 1000 if ending == "_count" else 1
    table.to_csv(own / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"labels\.csv has the columns of 2 of the 11 questions of tree=gz2") as told:
        data(own, tree="gz2").setup()
    (own / "part.yaml").write_text(str(told.value).partition("give tree=part.yaml: ")[2])
    found = data(own, tree=str(own / "part.yaml"))
    found.setup()
    assert found.kind.outputs == [*tree.questions[0].columns, *tree.questions[2].columns]
    assert len(found.catalog) == 120
    np.testing.assert_allclose(found.catalog[found.kind.outputs[3:]], 0.5)


def test_counts_of_votes_become_fractions_of_a_ready_tree(own: Path) -> None:
    from galaxyml.trees import DecisionTree

    table, tree = pd.read_csv(own / "labels.csv")[["path"]], DecisionTree.load("gz_jwst")
    votes = pd.DataFrame(0, table.index, tree.columns)
    votes[list(tree.questions[0].columns)] = np.random.default_rng(0).multinomial(40, [0.7, 0.2, 0.1], len(table))
    votes.iloc[0] = 0
    pd.concat([table, votes], axis=1).to_csv(own / "labels.csv", index=False)
    found = Images(str(own), size=16, cache_dir=str(own.parent / "cache"))
    found.setup()
    assert found.catalog is not None
    assert found.kind.tree_name == "gz_jwst"
    assert len(found.catalog) == len(table) - 1  # nobody voted on the first
    first = list(tree.questions[0].columns)
    expected = votes.set_index(table["path"])[first] / 40
    np.testing.assert_allclose(found.catalog.set_index("id")[first], expected.loc[found.catalog["id"]])
    assert any("labels.csv: numbers of votes of tree=gz_jwst (Galaxy Zoo JWST)." in note for note in found.notes)
    assert any(note.startswith("labels.csv: learns 39 answers of tree=gz_jwst") for note in found.notes)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        ({"r90": ["lost", *range(119)]}, {"columns": ["r90"]}, "line 2: r90 is 'lost', which is no finite number"),
        ({"path": "gone.jpg"}, {"columns": ["kind"]}, "line 3: path gone.jpg occurs a second time"),
        ({"path": [f"gone{row}.jpg" for row in range(120)]}, {"columns": ["kind"]}, "there is no image .*gone0.jpg"),
        ({"split": "valid"}, {"columns": ["kind"]}, "split is 'valid'"),
    ],
)
def test_a_bad_table_shows_before_a_folder_is_made(
    own: Path, spoil: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    changed(own, **spoil)
    with pytest.raises(UserError, match=message):
        Images(str(own), **options).check_files()


@pytest.mark.parametrize("name", ["Ünï (2) [z=0.1]", 'a\'b "c"', "*?{x}"])
def test_folders_may_have_any_name(own: Path, name: str) -> None:
    there = own.rename(own.parent / name)
    assert len(catalog(there, columns=["kind"])) == 120
