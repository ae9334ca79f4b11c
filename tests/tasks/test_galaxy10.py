import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxyml.data.source import Real
from galaxyml.data.splits import Folds, Holdout
from galaxyml.runs.errors import DataError, UserError
from galaxyml.sky.galaxy10 import CLASSES
from galaxyml.tasks.galaxy10 import DECALS, FILE, Galaxy10, read_file

NAMES = list(CLASSES)


def data(folder: Path, **options: Any) -> Galaxy10:
    """The task's data from a folder `<data_dir>/galaxy10`."""
    given: dict[str, Any] = {
        "classes": NAMES,
        "fold": 0,
        "split": Holdout(0.15, 0.15, 5),
        "seed": 0,
        "size": 16,
        "crop": 0.75,
        "margin": 1.0,
        "batch_size": 8,
        "separation": 3.0,
        "cache_dir": str(folder.parent / "cache"),
    } | options
    return Galaxy10(source=Real("galaxy10", str(folder.parent)), **given)


@pytest.fixture
def copy(galaxy10_sky: Path, tmp_path: Path) -> Path:
    """A copy of the small file that a test may spoil."""
    (tmp_path / "galaxy10").mkdir()
    shutil.copy(galaxy10_sky / FILE, tmp_path / "galaxy10" / FILE)
    return tmp_path / "galaxy10"


# --- what is read


def test_rows_images_and_labels_belong_together(galaxy10_sky: Path) -> None:
    found = data(galaxy10_sky)
    found.setup()
    assert found.catalog is not None
    with h5py.File(galaxy10_sky / FILE) as file:
        images, labels = file["images"][:], file["ans"][:]
    assert found.catalog["label"].tolist() == labels.tolist()
    for batch in found.val_dataloader():
        for row, image, target in zip(batch["index"], batch["image"], batch["target"], strict=True):
            np.testing.assert_array_equal(image.numpy(), found.framing.frame(images[row]))
            assert target == labels[row]


def test_the_default_split_is_70_15_15_of_each_class(galaxy10_sky: Path) -> None:
    parts = []
    for fold in range(5):
        found = data(galaxy10_sky, fold=fold)
        found.setup()
        assert found.catalog is not None
        parts.append(found.catalog["split"].to_numpy())
        for _, of_class in found.catalog.groupby("label"):
            shares = of_class["split"].value_counts()
            for split, share in (("train", 0.70), ("val", 0.15), ("test", 0.15)):
                assert abs(shares.get(split, 0) - share * len(of_class)) <= 2.5  # repeats stay together
    splits = np.stack(parts)
    assert (splits == "test").all(0).sum() == (splits[0] == "test").sum()  # all folds have the same test part
    assert ((splits == "val").sum(0) <= 1).all()  # and validation parts of their own


def test_galaxies_that_occur_twice_stay_in_one_part_and_are_told(galaxy10_sky: Path) -> None:
    truth = pd.read_csv(galaxy10_sky / "truth.csv")
    repeats = truth.dropna(subset=["repeat_of"])
    assert len(repeats)
    for fold in range(5):
        found = data(galaxy10_sky, fold=fold)
        found.setup()
        assert found.catalog is not None
        split = found.catalog["split"].to_numpy()
        assert (split[repeats["row"]] == split[repeats["repeat_of"].astype(int)]).all()
        pairs = np.sort(repeats[["row", "repeat_of"]].to_numpy(int), axis=1)
        again = found.catalog["duplicate_of"].to_numpy()[pairs[:, 1]]  # so that figures show each once
        assert (again == found.catalog["id"].astype(str).to_numpy()[pairs[:, 0]]).all()
    assert any(note.startswith("positions within 3 arcsec under several ids") for note in found.notes)


def test_folders_of_classes_are_read_as_the_file_is(galaxy10_sky: Path, tmp_path: Path) -> None:
    folder = tmp_path / "galaxy10"
    with h5py.File(galaxy10_sky / FILE) as file:
        for row, (pixels, label) in enumerate(zip(file["images"], file["ans"], strict=True)):
            path = folder / f"{label}_{NAMES[label].replace(' ', '_')}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    one, other = data(galaxy10_sky, split=Folds(5)), data(folder, split=Folds(5), cache_dir=str(tmp_path / "cache"))
    one.setup()
    other.setup()
    assert one.catalog is not None
    assert other.catalog is not None
    rows = other.catalog["id"].str.extract(r"/(\d+)\.png")[0].astype(int).to_numpy()
    assert sorted(rows) == list(range(len(one.catalog)))
    assert (one.catalog["label"].to_numpy()[rows] == other.catalog["label"].to_numpy()).all()
    assert torch.equal(one.store.pixels[torch.tensor(rows)], other.store.pixels)


def test_the_real_file_and_its_folders_are_read(real: Path, tmp_path: Path) -> None:
    found = data(real / "galaxy10", split=Folds(5), cache_dir=str(tmp_path))
    found.setup()
    assert found.catalog is not None
    assert np.bincount(found.catalog["label"]).tolist() == [5] * 10
    assert "Galaxy10_DECals.h5 holds 50 images; the published file holds 17,736." in found.notes


def test_a_changed_file_of_the_published_size_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from galaxyml.tasks import galaxy10

    assert DECALS.counts == [17736]
    monkeypatch.setitem(vars(DECALS), "counts", [160])
    found = data(copy)
    found.setup()
    assert any("another SHA-256: it was changed or cut" in note for note in found.notes)
    monkeypatch.setattr(galaxy10, "known_digest", lambda *_: DECALS.sha256)
    found = data(copy)
    found.setup()
    assert not any("SHA-256" in note for note in found.notes)


def test_balance_draws_classes_equally_often(galaxy10_sky: Path) -> None:
    found = data(galaxy10_sky, balance=1.0)
    found.setup()
    weights = found.row_weights(found.rows("train"))
    assert weights is not None
    labels = found.targets[found.rows("train")]
    totals = torch.zeros(10, dtype=torch.float64).index_add(0, labels, weights)
    torch.testing.assert_close(totals, torch.ones(10, dtype=torch.float64))
    assert data(galaxy10_sky).row_weights(found.rows("train")) is None
    with pytest.raises(UserError, match=r"balance=2: it must be a number in \[0, 1\]"):
        data(galaxy10_sky, balance=2)


# --- what is refused


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    with h5py.File(path) as file:
        found = {name: file[name][:] for name in file}
    change(found)
    with h5py.File(path, "w") as file:
        for name, values in found.items():
            file[name] = values


def put(name: str, values: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    def change(found: dict[str, np.ndarray]) -> None:
        found[name] = values(found[name])

    return change


def label(row: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(labels: np.ndarray) -> np.ndarray:
        changed = labels.astype(type(value))
        changed[row] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("ans"), r"missing keys: ans\. It has dec, images, pxscale, ra, redshift"),
        (lambda found: found.pop("images"), r"missing keys: images"),
        (put("images", lambda a: a[..., 0]), r"images is uint8 of shape \(160, 64, 64\); it must be uint8 of shape"),
        (put("images", lambda a: a.astype(np.float32)), r"images is float32 of shape \(160, 64, 64, 3\)"),
        (put("images", lambda a: a[:0]), r"one image or more"),
        (put("ans", lambda a: a[:-1]), r"ans has the shape \(159,\), but there are 160 images"),
        (put("ans", lambda a: a.astype("S1")), r"ans is \|S1; it must be numbers"),
        (put("ans", label(3, 10)), r"row 3: ans is 10; labels are whole numbers from 0 to 9"),
        (put("ans", label(4, -1)), r"row 4: ans is -1; labels are"),
        (put("ans", label(5, 2.5)), r"row 5: ans is 2\.5; labels are"),
        (put("ra", lambda a: a[:5]), r"ra has the shape \(5,\)"),
        (put("ra", lambda a: a[0]), r"ra has the shape \(\)"),
        (put("dec", label(2, 150.0)), r"row 2: dec is 150; it must be degrees from -90 to 90"),
        (put("ans", lambda a: a * 0), r"all 160 galaxies that are left are of the class 'Disturbed'"),
    ],
)
def test_bad_files_are_refused(copy: Path, change: Callable[..., Any], message: str) -> None:
    rewrite(copy / FILE, change)
    with pytest.raises(DataError, match=message):
        data(copy).setup()


def test_a_truncated_file_is_refused(copy: Path) -> None:
    content = (copy / FILE).read_bytes()
    for kept in (len(content) // 2, 100, 0):
        (copy / FILE).write_bytes(content[:kept])
        with pytest.raises(DataError, match=r"Galaxy10_DECals\.h5 cannot be read as HDF5 .*doi\.org/10\.5281/zenodo"):
            read_file(copy / FILE, NAMES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ([], "There is no folder"),
        (["galaxy10/x.txt"], r"has neither Galaxy10_DECals\.h5 nor folders such as 0_Disturbed/"),
        (["galaxy10/0_Disturbed/readme.txt"], r"the class folders \(1\) hold no images"),
        (["galaxy10/12_What/a.jpg"], "12 is no class; folders begin with 0 to 9"),
    ],
)
def test_folders_without_images_say_what_is_wanted(tmp_path: Path, make: list[str], message: str) -> None:
    for name in make:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=message):
        data(tmp_path / "galaxy10").setup()


# --- releases


def write(path: Path, side: int, **more: Any) -> Path:
    """A file of Galaxy10's form, 50 images."""
    count = 50
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["images"] = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype="u1")
        file["ans"] = np.arange(count) % 10
        for name, values in more.items():
            file[name] = values
    return path


# As astroNN's documentation of Galaxy10 SDSS names them.
SDSS = ["Disk, Face-on, No Spiral", "Smooth, Completely round", "Smooth, in-between round", "Smooth, Cigar shaped"]
SDSS += [f"Disk, Edge-on, {bulge} Bulge" for bulge in ("Rounded", "Boxy", "No")]
SDSS += [f"Disk, Face-on, {winding} Spiral" for winding in ("Tight", "Medium", "Loose")]


@pytest.mark.parametrize("name", ["Galaxy10.h5", "Galaxy10_DECals.h5", "mine.hdf5"])
def test_a_file_of_sdss_has_its_own_classes_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    from galaxyml.data.tables import galaxy10

    path = write(tmp_path / "galaxy10" / name, 69)
    found = Galaxy10(str(path.parent), size=16, cache_dir=str(tmp_path / "cache"))
    found.setup()
    assert found.kind.classes == SDSS
    assert any(f"{name} is Galaxy10 SDSS" in note for note in found.notes)
    assert galaxy10.settings({"data_dir": str(tmp_path)}) == {"classes": SDSS, "crop": "1.0", "margin": "1.0"}
    with pytest.raises(DataError, match=r"is Galaxy10 SDSS \(69 px, 21,785 images\), but the classes of this run are"):
        Galaxy10(str(path.parent), classes=NAMES).check_files()


def test_resized_files_of_decals_are_known_by_their_pixel_scale(tmp_path: Path) -> None:
    for side, more in ((256, {}), (69, {"pxscale": np.ones(50)}), (32, {"pxscale": np.ones(50)})):
        path = write(tmp_path / str(side) / "Galaxy10.h5", side, **more)
        found = Galaxy10(str(path.parent))
        assert found.kind.classes == NAMES
        found.check_files()


def test_a_file_of_neither_release_is_told_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "galaxy10" / "Galaxy10.h5", 48)
    message = r"50 images of 48 x 48 px: it is neither Galaxy10 DECaLS \(256 px.* nor Galaxy10 SDSS \(69 px.*release="
    with pytest.raises(DataError, match=message):
        Galaxy10(str(path.parent)).check_files()
    for release, names in (("decals", NAMES), ("sdss", SDSS)):
        found = Galaxy10(str(path.parent), release=release)
        found.check_files()
        assert found.kind.classes == names
    Galaxy10(str(path.parent), classes=[f"mine {number}" for number in range(10)]).check_files()
    with pytest.raises(UserError, match="release=hubble: no such release of Galaxy10"):
        Galaxy10(str(path.parent), release="hubble")
    write(tmp_path / "two" / "a.h5", 48)
    write(tmp_path / "two" / "b.h5", 48)
    with pytest.raises(DataError, match=r"has several HDF5 files: a\.h5, b\.h5"):
        Galaxy10(str(tmp_path / "two"))


def test_folders_called_after_sdss_classes_have_them(tmp_path: Path) -> None:
    for label, name in enumerate(SDSS):
        folder = tmp_path / f"{label}_{name.replace(', ', '_').replace(' ', '_')}"
        folder.mkdir()
        Image.new("RGB", (8, 8), (label, 0, 0)).save(folder / "a.png")
    assert Galaxy10(str(tmp_path)).kind.classes == SDSS
