"""Images without labels: what a folder, a table or a stack gives, and what is learnt from."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from galaxyml import UnlabelledImages
from galaxyml.runs.errors import DataError


@pytest.fixture
def own(images_sky: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images_sky, tmp_path / "own"))


def data(source: Path, **options: Any) -> UnlabelledImages:
    given = {"size": 32, "crop": 1.0, "margin": 1.0, "batch_size": 16, "workers": 0, **options}
    return UnlabelledImages(source, cache_dir=str(source.parent / "cache"), **given)


def ready(source: Path, **options: Any) -> Any:
    images = data(source, **options)
    images.setup()
    return images


def test_all_images_of_a_folder_are_ranked_and_all_but_a_fold_are_learnt_from(own: Path) -> None:
    images = ready(own / "images")
    names = sorted(path.name for path in (own / "images").iterdir())
    assert images.catalog["id"].tolist() == names
    assert set(images.catalog["split"]) == {"survey"}
    assert images.rows("survey").tolist() == list(range(len(names)))
    train, val = (set(images.rows(part).tolist()) for part in ("train", "val"))
    assert not train & val
    assert train | val == set(range(len(names)))
    assert len(val) == pytest.approx(len(names) / 5, abs=1)
    assert not images.catalog[["unknown", "known"]].any(axis=None)
    assert images.describe()["objects"] == {"train": len(train), "val": len(val), "test": 0, "survey": len(names)}


def test_folds_hold_out_each_image_once_and_equal_ones_together(own: Path) -> None:
    first, *_ = sorted((own / "images").iterdir())
    for number in range(3):
        shutil.copy(first, own / "images" / f"copy{number}.jpg")
    held = [set(ready(own / "images", fold=fold).rows("val").tolist()) for fold in range(5)]
    count = len(list((own / "images").iterdir()))
    assert sorted(row for rows in held for row in rows) == list(range(count))
    copies = {row for row, name in enumerate(ready(own / "images").catalog["id"]) if name in (first.name, *_copies())}
    assert any(copies <= rows for rows in held)


def _copies() -> list[str]:
    return [f"copy{number}.jpg" for number in range(3)]


def test_a_table_tells_which_are_odd_and_nothing_learns_from_them_if_they_are_kept_out(own: Path) -> None:
    table = pd.read_csv(own / "labels.csv").set_index("id")
    hidden = ready(own, truth={"column": "kind", "odd": ["merger"]})
    catalog = hidden.catalog.set_index("id")
    mergers = (table.loc[catalog.index, "kind"] == "merger").to_numpy()
    assert (catalog["unknown"].to_numpy() == mergers).all()
    assert (catalog["known"].to_numpy() == ~mergers).all()
    assert catalog["name"].tolist() == table.loc[catalog.index, "kind"].tolist()
    assert catalog["learnt"].all()
    assert set(np.flatnonzero(mergers)) & {*hidden.rows("train").tolist(), *hidden.rows("val").tolist()}
    apart = ready(own, truth={"column": "kind", "odd": ["merger"]}, keep_out=True)
    learnt = {*apart.rows("train").tolist(), *apart.rows("val").tolist()}
    assert learnt == set(np.flatnonzero(~mergers))
    assert (apart.catalog["learnt"].to_numpy() == ~mergers).all()
    assert (apart.catalog["split"] == "survey").all()
    assert (apart.catalog.loc[mergers, "fold"] == -1).all()


def test_a_stack_and_the_images_inside_a_parquet_file_are_taken(own: Path, tmp_path: Path) -> None:
    table = pd.read_csv(own / "labels.csv")
    pixels = np.stack([np.asarray(Image.open(own / path)) for path in table["path"]])
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["images"] = pixels
    stack = ready(tmp_path / "stack.h5")
    assert stack.catalog["id"].tolist() == [f"stack.h5#{row}" for row in range(len(table))]
    files = [(own / path).read_bytes() for path in table["path"]]
    inside = pd.DataFrame({"id": table["id"], "image": files, "odd": table["kind"] == "merger"})
    (tmp_path / "inside").mkdir()
    inside.to_parquet(tmp_path / "inside" / "labels.parquet")
    parquet = ready(tmp_path / "inside")
    assert parquet.catalog["id"].tolist() == table["id"].tolist()
    assert parquet.catalog["unknown"].tolist() == inside["odd"].tolist()
    assert torch.equal(parquet.targets, ready(own, truth={"column": "kind", "odd": ["merger"]}).targets)


def test_what_is_decoded_is_the_small_grey_image_of_what_is_seen(own: Path) -> None:
    images = ready(own, crop=0.5, margin=1.5)
    rows = torch.arange(4)
    batch = images.on_after_batch_transfer(images.images[rows], 0)
    small = interpolate(batch["image"].mean(1, keepdim=True), size=(32, 32), mode="bilinear", antialias=True)[:, 0]
    rim = torch.cat([small[:, 0], small[:, -1], small[:, :, 0], small[:, :, -1]], dim=1).median(1).values
    expected = (small - rim[:, None, None]).flatten(1)
    torch.testing.assert_close(batch["target"], expected)
    torch.testing.assert_close(images.targets[rows].float(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": "mine.csv"}, "labels=mine.csv: there is no such table"),
        ({"keep_out": True}, "keep_out=true: .* says of no image that it is odd"),
        ({"truth": {"column": "kinds"}}, "truth.column=kinds: .*has no such column. Did you mean kind"),
        ({"truth": {"column": "kind", "odd": ["rings"]}}, "truth.odd=rings: .*has no such class in kind"),
    ],
)
def test_what_does_not_fit_is_refused(own: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ready(own, **options)


def test_folders_without_images_or_with_few_are_refused(own: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in (("empty", "is empty"), ("none", "There is no folder")):
        with pytest.raises(DataError, match=said):
            data(tmp_path / folder).check_files()
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((own / "images").iterdir())[:24]:
        shutil.copy(path, few)
    with pytest.raises(DataError, match="24 images are too few to say what is usual"):
        ready(few)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("nothing")
    with pytest.raises(DataError, match="the folder holds no images"):
        ready(tmp_path / "texts")
