import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky import galaxy10, population, render
from galaxyml.sky.galaxy10 import CLASSES, FILE, RECIPES, members, perceived, write_galaxy10
from galaxyml.sky.survey import DECALS
from galaxyml.sky.writers import allot

N, SIZE = 120, 32


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "galaxy10"
    write_galaxy10(folder, N, seed=1, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def truth(written):
    return pd.read_csv(written / "truth.csv")


def test_the_file_has_the_keys_types_and_shapes_of_the_original(written):
    assert {path.name for path in written.iterdir()} == {FILE, "truth.csv", "simulated.txt"}
    with h5py.File(written / FILE) as file:
        assert {name: (found.dtype.str, found.shape) for name, found in file.items()} == {
            "images": ("|u1", (N, SIZE, SIZE, 3)),
            "ans": ("|u1", (N,)),
            "ra": ("<f8", (N,)),
            "dec": ("<f8", (N,)),
            "redshift": ("<f8", (N,)),
            "pxscale": ("<f8", (N,)),
        }
        assert file["images"].chunks is not None
        assert np.all(file["pxscale"][:] * SIZE == 0.262 * 256)
        assert file["dec"][:].min() >= -18
        assert file["dec"][:].max() <= 34
        known = file["redshift"][:][~np.isnan(file["redshift"][:])]
        assert 0 < len(known) < N
        assert 0 < known.min() < known.max() < 0.5


def test_every_row_has_its_image(written, truth):
    with h5py.File(written / FILE) as file:
        some = [0, 57, N - 1]
        drawn = truth.iloc[some].assign(blemish="")
        expected = render(drawn, SIZE, 1, DECALS).numpy()
        np.testing.assert_array_equal(np.stack([file["images"][row] for row in some]), expected)


def test_the_truth_of_every_row_is_kept(written, truth):
    assert list(truth.row) == list(range(N))
    assert set(population(1, 0).columns) <= set(truth.columns)
    with h5py.File(written / FILE) as file:
        assert list(truth.ans) == list(file["ans"][:])


def test_there_are_as_many_of_each_class_as_in_the_original():
    drawn = galaxy10.objects(sum(CLASSES.values()), 0)
    assert drawn.ans.value_counts().sort_index().tolist() == list(CLASSES.values())
    few = galaxy10.objects(1000, 0)
    expected = 1000 * np.array(list(CLASSES.values())) / 17_736
    assert np.abs(few.ans.value_counts().sort_index() - expected).max() < 1
    assert not few.ans.is_monotonic_increasing


def test_ten_objects_are_enough_for_all_classes():
    assert sorted(galaxy10.objects(10, 4).ans) == list(range(10))


def test_parts_sum_to_the_total_and_are_within_one_of_their_share():
    for total in (0, 1, 7, 1000):
        parts = allot(total, [5, 1, 3, 0.5])
        assert parts.sum() == total
        assert np.abs(parts - total * np.array([5, 1, 3, 0.5]) / 9.5).max() < 1


def test_a_few_labels_are_mistaken_for_neighbouring_ones():
    drawn, names = galaxy10.objects(4000, 2), list(CLASSES)
    wrong = drawn[drawn.ans != drawn.label]
    assert 0.02 < len(wrong) / 4000 < 0.06
    for answer, label in zip(wrong.ans, wrong.label, strict=True):
        assert names[label] in RECIPES[names[answer]]["mistaken_for"]


def test_repeats_are_the_pairs_within_an_arcsecond(written, truth):
    repeated = {(int(row), int(source)) for row, source in zip(truth.row, truth.repeat_of, strict=True) if source >= 0}
    with h5py.File(written / FILE) as file:
        ra, dec, images = file["ra"][:], file["dec"][:], file["images"][:].astype(int)
    east = (ra[:, None] - ra) * np.cos(np.radians(dec))
    close = np.hypot(east, dec[:, None] - dec) * 3600 < 1
    found = {tuple(sorted(pair)) for pair in np.argwhere(close).tolist() if pair[0] != pair[1]}
    assert found == {tuple(sorted(pair)) for pair in repeated}
    assert found
    for one, other in found:
        assert np.abs(images[one] - images[other]).mean() < 2
        assert truth.ans[one] == truth.ans[other]


def test_half_a_percent_of_a_large_file_is_repeated():
    drawn = galaxy10.objects(2000, 5)
    copies = drawn[drawn.repeat_of.notna()]
    assert len(copies) == 10
    assert not set(copies.row) & set(copies.repeat_of)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_bright_enough_members_of_its_kinds(name):
    found = members(name, 30, 3)
    assert len(found) == 30
    assert set(found.kind) <= {kind for _, kind, _ in RECIPES[name]["made_of"]}
    assert found.magnitude.max() < 17.77


def test_classes_differ_in_what_tells_them_apart():
    bar = {name: np.median(members(name, 60, 1).bar) for name in CLASSES}
    assert bar["Barred Spiral"] > 0.1 > bar["Unbarred Tight Spiral"] + bar["Unbarred Loose Spiral"]
    pitch = {name: np.median(np.abs(members(name, 60, 1).pitch)) for name in CLASSES}
    assert pitch["Unbarred Tight Spiral"] < 17 < pitch["Unbarred Loose Spiral"]
    bulge = {name: np.median(members(name, 60, 1).bulge) for name in CLASSES}
    assert bulge["Edge-on without Bulge"] < 0.24 < bulge["Edge-on with Bulge"]


def test_how_the_first_galaxies_are_perceived_does_not_depend_on_the_others():
    galaxies = population(50, 0, "spiral")
    pd.testing.assert_frame_equal(perceived(galaxies, 1).head(10), perceived(galaxies.head(10), 1))


def test_the_same_seed_writes_the_same_file(tmp_path):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        write_galaxy10(tmp_path / name, 11, seed=seed, size=16)
    one, same, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "same", "other")
    )
    assert one == same
    assert one[FILE] != other[FILE]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    drawn: list[object] = []

    def interrupted(galaxy, size, seed, survey):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(galaxy)
        return Image.new("RGB", (size, size))

    monkeypatch.setattr(galaxy10, "draw_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_galaxy10(tmp_path / "galaxy10", 12, seed=1, size=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0, 0, 64), "simulate.count=0"), ((5, -1, 64), "simulate.seed=-1"), ((5, 0, 7), "simulate.size=7")],
)
def test_numbers_that_are_too_small_are_refused(tmp_path, numbers, message):
    with pytest.raises(UserError, match=message):
        write_galaxy10(tmp_path / "galaxy10", *numbers)
