import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky import population, writers
from galaxyml.sky.galaxyzoo import galaxy_ids, write_galaxyzoo
from galaxyml.trees import DecisionTree, violation

TREE = DecisionTree.load("kaggle")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "galaxyzoo"
    write_galaxyzoo(folder, 12, seed=1, test_galaxies=5, size=64)
    return folder


def test_the_folder_has_kaggles_layout(written):
    assert {path.name for path in written.iterdir()} == {
        "images_training_rev1",
        "images_test_rev1",
        "training_solutions_rev1.csv",
        "test_solutions_rev1.csv",
        "all_zeros_benchmark.csv",
        "truth.csv",
        "simulated.txt",
    }
    header = ["GalaxyID", *TREE.columns]
    for name, images, length in (
        ("training_solutions_rev1", "training", 12),
        ("test_solutions_rev1", "test", 5),
        ("all_zeros_benchmark", "test", 5),
    ):
        table = pd.read_csv(written / f"{name}.csv")
        assert list(table.columns) == header
        assert len(table) == length
        assert table.GalaxyID.is_monotonic_increasing
        assert {f"{number}.jpg" for number in table.GalaxyID} == {
            path.name for path in (written / f"images_{images}_rev1").iterdir()
        }


def test_the_benchmark_is_zero_as_kaggle_writes_it(written):
    lines = (written / "all_zeros_benchmark.csv").read_text().splitlines()
    assert all(line.split(",")[1:] == ["0"] * 37 for line in lines[1:])


def test_images_are_rgb_jpegs_of_the_size(written):
    for path in written.glob("images_*/*.jpg"):
        with Image.open(path) as opened:
            assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (64, 64))


@pytest.mark.parametrize("name", ["training_solutions_rev1", "test_solutions_rev1"])
def test_fractions_read_back_obey_the_tree(written, name):
    fractions = pd.read_csv(written / f"{name}.csv")[TREE.columns].to_numpy()
    assert violation(torch.from_numpy(fractions), TREE) < 1e-7


def test_the_truth_of_every_galaxy_is_kept(written):
    truth = pd.read_csv(written / "truth.csv", keep_default_na=False)
    parameters = set(population(1, 0).columns)
    assert parameters | {"GalaxyID", "split", "survey", "volunteers"} == set(truth.columns)
    assert (truth.split == "training").sum() == 12
    drawn = population(17, 1)
    assert sorted(truth.texture) == sorted(drawn.texture)


def test_the_same_seed_writes_the_same_files(written, tmp_path):
    write_galaxyzoo(tmp_path / "again", 12, seed=1, test_galaxies=5, size=64)
    for path in written.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(written)).read_bytes()


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    drawn: list[object] = []

    def interrupted(galaxy, size, seed, survey):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(galaxy)
        return Image.new("RGB", (size, size))

    monkeypatch.setattr(writers, "draw_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_galaxyzoo(tmp_path / "galaxyzoo", 12, seed=1, test_galaxies=5, size=64)
    assert list(tmp_path.iterdir()) == []


def test_galaxy_ids_have_six_digits_and_occur_once():
    ids = galaxy_ids(20_000, 0)
    assert len(np.unique(ids)) == 20_000
    assert ids.min() >= 100_000
    assert ids.max() <= 999_999
    assert not (np.diff(ids) > 0).all()


def test_more_galaxies_than_numbers_are_refused():
    with pytest.raises(UserError, match="at most 900000 galaxies; found 900001"):
        galaxy_ids(900_001, 0)
