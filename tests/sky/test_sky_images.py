import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky import write_images
from galaxyml.sky.images import KINDS, galaxies
from galaxyml.trees import DecisionTree, gaps


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "images"
    write_images(folder, count=40, seed=2, size=48)
    return folder


def test_each_row_has_its_image_and_each_image_its_row(written):
    table = pd.read_csv(written / "labels.csv")
    assert {path.relative_to(written).as_posix() for path in written.glob("*/*")} == set(table["path"])
    assert table["id"].is_unique
    assert set(table["kind"]) <= set(KINDS)
    with Image.open(written / table["path"][0]) as opened:
        assert (opened.format, opened.size, opened.mode) == ("JPEG", (48, 48), "RGB")


def test_numbers_and_fractions_are_possible(written):
    table = pd.read_csv(written / "labels.csv")
    assert table["axis_ratio"].between(0, 1).all()
    assert (table["r90"] > 0).all()
    tree = DecisionTree.load("kaggle")
    assert gaps(torch.tensor(table[tree.columns].to_numpy()), tree).abs().max() < 1e-7


def test_large_galaxies_look_large(written, tmp_path):
    # Of images with one field of view, the light of large galaxies reaches farther out.
    table = pd.read_csv(written / "labels.csv").sort_values("r90")
    table = table[table["kind"] == "smooth"]

    def extent(path):
        light = np.asarray(Image.open(written / path).convert("L"), float)
        return (light > 0.3 * light.max()).mean()

    sizes = [extent(path) for path in table["path"]]
    assert np.corrcoef(np.log(table["r90"]), np.log(sizes))[0, 1] > 0.6


def test_more_galaxies_do_not_change_the_first():
    pd.testing.assert_frame_equal(galaxies(10, 3), galaxies(30, 3).head(10))


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"simulate.count=0"):
        write_images(tmp_path / "a", count=0, seed=0)
