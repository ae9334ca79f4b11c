"""Data sets with their images inside: what belongs together, where it is read, and that little of it is held."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inside import CARD, parquet_of, write_parts
from PIL import Image

from galaxyml.data.images import inside
from galaxyml.data.images.decode import open_image, read_images
from galaxyml.data.images.inside import image_column, read_contents
from galaxyml.data.images.store import Framing, open_store
from galaxyml.data.source import Real
from galaxyml.data.tables.contents import settings
from galaxyml.data.tables.data_set import configurations, find_data_set
from galaxyml.data.tables.table_file import read_table_file
from galaxyml.runs.errors import DataError, UserError
from galaxyml.tasks.images import Images


@pytest.fixture
def table(images_sky: Path) -> pd.DataFrame:
    return pd.read_csv(images_sky / "labels.csv", dtype={"id": str})


@pytest.fixture
def hub(images_sky: Path, table: pd.DataFrame, tmp_path: Path) -> Path:
    """The images of `labels.csv` as a data set of the hub: 90 rows to train on in two parts, 30 to test on."""
    return write_parts(tmp_path / "hub", images_sky, table.rename(columns={"id": "id_str"}))


def data(folder: Path, **options: Any) -> Images:
    given: dict[str, Any] = {"columns": ["kind"], "size": 16, "crop": 1.0, "margin": 1.0, "workers": 0}
    given |= {"cache_dir": str(folder.parent / "cache")} | options
    return Images(Real("images", str(folder), own=True), **given)


# --- what belongs together


def test_the_default_configuration_is_read_and_another_by_its_name(hub: Path) -> None:
    assert (found := find_data_set(hub)) is not None
    assert found.parts == {
        "data/train-00000-of-00002.parquet": "train",
        "data/train-00001-of-00002.parquet": "train",
        "data/test-00000-of-00001.parquet": "test",
    }
    for path in (hub / "tiny", hub / "few"):  # a folder, and the name that the card has for it
        if path.name == "few":
            (hub / "README.md").write_text(CARD.replace("config_name: tiny", "config_name: few"), "utf-8")
        assert (tiny := find_data_set(path)) is not None
        assert [Path(part).name for part in tiny.parts] == [
            "train-00000-of-00001.parquet",
            "test-00000-of-00001.parquet",
        ]
        assert list(tiny.parts.values()) == ["train", "test"]


def test_without_a_card_folders_and_names_tell(hub: Path) -> None:
    with_card = find_data_set(hub)
    (hub / "README.md").unlink()
    assert with_card is not None
    assert find_data_set(hub) == with_card
    shutil.move(hub / "data", hub / "large")
    with pytest.raises(DataError, match=r"several configurations: large, tiny\. Choose one by its name, labels=NAME"):
        find_data_set(hub)


def test_a_configuration_that_is_not_there_is_named(hub: Path) -> None:
    with pytest.raises(DataError, match="holds no configuration small; it holds default, tiny"):
        find_data_set(hub / "small")


@pytest.mark.parametrize(
    "files",
    [
        "data/*",
        ["data/train-*", "data/test-*"],
        {"train": "data/train-*", "test": ["data/test-*"]},
        [{"split": "train", "path": ["data/train-*"]}, {"split": "test", "path": "data/test-*"}],
    ],
)
def test_a_card_may_name_its_files_in_every_form(files: Any) -> None:
    import yaml

    card = "---\n" + yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]}) + "---\n# Mine\n"
    names = ["data/train-0-of-1.parquet", "data/test-0-of-1.parquet", "data/notes.txt", "other/train.parquet"]
    assert configurations(card, names) == {"default": dict(zip(names[:2], ["train", "test"], strict=True))}


def test_what_is_lacking_and_what_validates_is_said(hub: Path) -> None:
    (hub / "data" / "train-00001-of-00002.parquet").unlink()
    (hub / "data" / "test-00000-of-00001.parquet").rename(hub / "data" / "validation-00000-of-00001.parquet")
    (hub / "README.md").unlink()
    assert (found := find_data_set(hub)) is not None
    assert set(found.parts.values()) == {"train"}
    assert "validation-00000-of-00001.parquet: trained on like the other parts" in found.notes[1]
    assert "2 of its 3 parts are here" in found.notes[2]


# --- the table


def test_only_columns_of_labels_are_read(hub: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    read = pq.ParquetFile.read

    def noted(self: Any, columns: list[str]) -> Any:
        asked.append(columns)
        return read(self, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read", noted)
    found = read_table_file(hub)
    assert asked
    assert not any("image" in columns for columns in asked)
    assert found.images == "image"
    assert found.frame["id_str"].tolist() == table["id"].tolist()
    assert found.frame["image"].iloc[[0, 45, 90]].tolist() == [
        "data/train-00000-of-00002.parquet#0",
        "data/train-00001-of-00002.parquet#0",
        "data/test-00000-of-00001.parquet#0",
    ]
    assert found.frame["split"].value_counts().to_dict() == {"train": 90, "test": 30}


def test_parts_of_other_columns_are_refused(hub: Path) -> None:
    path = hub / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns("kind"), path)
    with pytest.raises(DataError, match=r"test-00000-of-00001.parquet: its columns are not those of train.*: kind are"):
        read_table_file(hub)


def test_a_bad_cell_is_named_with_its_part_and_row(hub: Path) -> None:
    path = hub / "data" / "train-00001-of-00002.parquet"
    part = pq.read_table(path)
    cells = [str(value) for value in part["r90"].to_pylist()]
    cells[7] = "large"
    pq.write_table(part.set_column(part.column_names.index("r90"), "r90", pa.array(cells)), path)
    with pytest.raises(DataError, match=r"hub/data/train-00001-of-00002.parquet#7: r90 is 'large', which is no finite"):
        data(hub, columns=["r90"])


def test_the_command_leaves_to_a_data_set_what_it_leaves_to_a_table(hub: Path) -> None:
    found = settings({"data_dir": str(hub), "columns": ["kind"]})
    assert found["kind"] == "classes"
    assert found["split"] == "folds"
    assert found["channels"] == "3"


def test_one_file_of_images_is_a_table(hub: Path, tmp_path: Path) -> None:
    part = hub / "data" / "train-00000-of-00002.parquet"
    with pytest.raises(UserError, match=r"is a file: give its folder, data_dir=.*data labels=train-00000-of-00002"):
        settings({"data_dir": str(part)})
    found = data(hub, labels="data/train-00000-of-00002.parquet")
    found.setup()
    assert found.catalog is not None
    assert found.catalog["image"].tolist() == [f"data/train-00000-of-00002.parquet#{row}" for row in range(45)]
    elsewhere = data(hub.parent, labels=str(part), cache_dir=str(tmp_path / "c"))
    elsewhere.setup()
    np.testing.assert_array_equal(elsewhere.store.pixels.numpy(), found.store.pixels.numpy())


# --- images


def test_images_are_those_of_the_files_and_bad_ones_are_named(images_sky: Path, hub: Path, table: pd.DataFrame) -> None:
    for row, name in ((0, "train-00000-of-00002.parquet#0"), (89, "train-00001-of-00002.parquet#44")):
        np.testing.assert_array_equal(open_image(hub / "data" / name), open_image(images_sky / table["path"][row]))
    contents = [(images_sky / path).read_bytes() for path in table["path"][:30]]
    contents[3], contents[5], contents[6] = contents[3][:200], None, b"<html>"
    parquet_of(
        hub / "data" / "test-00000-of-00001.parquet",
        contents,
        table[90:].drop(columns="path").rename(columns={"id": "id_str"}),
    )
    bad = data(hub)
    bad.setup()
    assert bad.catalog is not None
    assert len(bad.catalog) == 117
    (note,) = (note for note in bad.notes if "left out, as" in note)
    for words in (
        "3 of 120 left out, as their images cannot be read: ",
        "data/test-00000-of-00001.parquet#3: ",
        "data/test-00000-of-00001.parquet#5: there is no image in this row",
        "data/test-00000-of-00001.parquet#6 is not an image: it is a web page",
    ):
        assert words in note


def test_images_may_lie_beside_the_file(images_sky: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    shutil.copy(images_sky / table["path"][0], tmp_path / "a.jpg")
    images = pa.array([{"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}])
    pq.write_table(
        pa.table({"image": images.cast(pa.struct({"bytes": pa.binary(), "path": pa.string()}))}), tmp_path / "t.parquet"
    )
    first, second = read_contents(tmp_path / "t.parquet", [0, 1])
    assert first == (tmp_path / "a.jpg").read_bytes()
    assert second == "t.parquet#1: its image b.jpg is not there"


def test_a_broken_file_is_named(hub: Path) -> None:
    path = hub / "data" / "train-00001-of-00002.parquet"
    broken = bytearray(path.read_bytes())
    broken[200 : len(broken) - 5000] = bytes(len(broken) - 5200)
    path.write_bytes(broken)
    rows = list(read_contents(path, range(45)))
    assert any("train-00001-of-00002.parquet cannot be read" in str(row) for row in rows)
    path.write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=r"train-00001-of-00002.parquet cannot be read, or holds no images. Fetch it again"
    ):
        read_table_file(hub)


@pytest.mark.parametrize("row_group", [7, 1000])
def test_rows_come_in_any_order_and_few_are_held(
    row_group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "AT_ONCE", 4)
    contents: list[bytes | None] = [bytes([row]) * 100 for row in range(30)]
    path = parquet_of(tmp_path / "many.parquet", contents, pd.DataFrame({"kind": range(30)}), row_group)
    sizes: list[int] = []

    def batches(self: Any, *given: Any, **options: Any) -> Iterator[Any]:
        for batch in reading(self, *given, **options):
            sizes.append(len(batch))
            yield batch

    reading = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", batches)
    for rows in (list(range(30)), [29, 3, 4, 17, 3, 0], list(range(29, -1, -1)), [5]):
        sizes.clear()
        assert list(read_contents(path, rows)) == [contents[row] for row in rows]
        assert max(sizes) <= 4
    sizes.clear()
    assert next(iter(read_contents(path, range(30)))) == contents[0]
    assert sizes == [4]  # what is not asked for is not read
    assert next(iter(read_contents(path, [31]))) == "many.parquet#31: the file has 30 images, from #0 on"


def test_no_more_than_a_batch_is_held_ahead(tmp_path: Path) -> None:
    """A reader that holds all would be far ahead of what is taken."""
    count = 2000
    path = parquet_of(tmp_path / "many.parquet", [bytes(50)] * count, pd.DataFrame({"kind": range(count)}), 100)
    names = [f"{path.name}#{row}" for row in range(count)]
    for batch in read_images(tmp_path, names):
        assert len(batch) <= 256


def test_the_store_is_in_the_order_asked_for_and_read_in_the_files(
    images_sky: Path, hub: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(45)
    framing = Framing(16)
    inside_file = open_store(
        hub, [f"data/train-00000-of-00002.parquet#{row}" for row in order], framing, tmp_path / "c"
    )
    files = open_store(images_sky, table["path"].iloc[order].tolist(), framing, tmp_path / "c")
    np.testing.assert_array_equal(inside_file.pixels.numpy(), files.pixels.numpy())
    np.testing.assert_array_equal(inside_file.digests, files.digests)


def test_plain_bytes_count_under_an_image_name() -> None:
    assert image_column(pa.schema({"thumbnail": pa.binary(), "image": pa.binary()})) == "image"
    assert image_column(pa.schema({"thumbnail": pa.binary(), "id": pa.string()})) is None


# --- HDF5


def test_parts_may_be_of_hdf5(images_sky: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    for name, rows in (("train", table[:90]), ("test", table[90:])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["rgb_image"] = np.stack([np.asarray(Image.open(images_sky / path)) for path in rows["path"]])
            file["kind"], file["object_id"] = rows["kind"].to_list(), rows["id"].to_list()
    found, files = data(tmp_path), data(images_sky, cache_dir=str(tmp_path / "c"))
    found.setup()
    files.setup()
    assert found.catalog is not None
    assert found.catalog["split"].isin(["test"]).sum() == 30
    assert found.catalog["id"].tolist() == table["id"].tolist()
    np.testing.assert_array_equal(found.store.pixels.numpy(), files.store.pixels.numpy())
