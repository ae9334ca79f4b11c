"""Nearest neighbours are scikit-learn's, whatever the blocks; an index finds nearly all of them."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from galaxyml.evaluation import nearest
from galaxyml.evaluation.nearest import Nearest, Standardisation, in_blocks
from galaxyml.inference.nearest_index import NearestIndex
from galaxyml.runs.errors import DataError, UsageError, UserError


def expected(features: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and similarities by scikit-learn."""
    scaler = StandardScaler().fit(features.astype(np.float64))
    brute = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute")
    brute.fit(scaler.transform(features.astype(np.float64)))
    distances, rows = brute.kneighbors(scaler.transform(queries.astype(np.float64)))
    return rows, 1 - distances


def clustered(count: int, width: int, clusters: int, seed: int = 0) -> np.ndarray:
    """Rows around random centres, some features on other scales than others."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, width))
    rows = centres[rng.integers(clusters, size=count)] + 0.5 * rng.normal(size=(count, width))
    return (rows * rng.lognormal(sigma=2, size=width) + rng.normal(scale=10, size=width)).astype(np.float32)


@pytest.mark.parametrize(("count", "width", "queries"), [(500, 96, 7), (3000, 5, 300), (40, 1000, 1)])
def test_the_nearest_are_those_of_scikit_learn(count: int, width: int, queries: int) -> None:
    features = clustered(count, width, 20)
    asked = clustered(queries, width, 20, seed=1)
    rows, similarities = Nearest(features).query(asked, 12)
    of_sklearn, their_similarities = expected(features, asked, 12)
    np.testing.assert_array_equal(rows, of_sklearn)
    np.testing.assert_allclose(similarities, their_similarities, atol=1e-9)


@pytest.mark.parametrize("block", [1, 3, 64, 999, 1000, 5000])
def test_blocks_of_any_size_give_the_same(block: int) -> None:
    features, asked = clustered(1000, 30, 10), clustered(20, 30, 10, seed=1)
    rows, similarities = Nearest(features).query(asked, 15)
    for blocks in (Nearest(features, block), Nearest(partial(in_blocks, features, block))):
        found = blocks.query(asked, 15)
        np.testing.assert_array_equal(found[0], rows)
        np.testing.assert_allclose(found[1], similarities, atol=1e-12)


@pytest.mark.parametrize("block", [7, 100, None])
def test_equal_rows_come_in_their_order(block: int | None) -> None:
    features = clustered(400, 37, 400)
    same = np.array([391, 3, 57, 200, 101, 58])
    features[same] = features[200]
    rows, similarities = Nearest(features, block).query(features[[200]], 9)
    assert rows[0, :6].tolist() == sorted(same)
    assert (similarities[0, :6] == similarities[0, 0]).all()
    assert similarities[0, 0] == pytest.approx(1, abs=1e-12)
    assert similarities[0, 0] >= nearest.SAME > similarities[0, 6]


def test_features_far_from_zero_keep_their_digits() -> None:
    features = clustered(300, 16, 300) * 1e-3 + np.float32(1000)
    rows, similarities = Nearest(features).query(features[:9], 5)
    of_sklearn, their_similarities = expected(features, features[:9], 5)
    np.testing.assert_array_equal(rows, of_sklearn)
    np.testing.assert_allclose(similarities, their_similarities, atol=1e-7)


def test_near_ties_are_told_apart_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    features = np.tile(rng.normal(size=512), (200, 1)) + 1e-5 * rng.normal(size=(200, 512))
    features = np.concatenate([features, -features]).astype(np.float32)
    rows, _ = Nearest(features, 33).query(features[:5], 50)
    np.testing.assert_array_equal(rows, expected(features, features[:5], 50)[0])


def test_doubles_are_taken_in_single_precision() -> None:
    features = clustered(50, 8, 5).astype(np.float64) + 1e-12
    single = Nearest(features.astype(np.float32)).query(features[:2], 3)
    np.testing.assert_array_equal(Nearest(features).query(features[:2], 3)[0], single[0])


def test_sets_without_a_spread_have_their_like() -> None:
    one = np.array([[0.1, 0.2, 0.3]])
    assert [values.tolist() for values in Nearest(one).query(one, 4)] == [[[0]], [[1.0]]]
    assert Nearest(one).query(one + 1, 4)[1].tolist() == [[0.0]]
    same = np.full((5, 3), 0.1, np.float32)
    rows, similarities = Nearest(same, 2).query(same[:1], 3)
    assert (rows.tolist(), similarities.tolist()) == ([[0, 1, 2]], [[1.0, 1.0, 1.0]])
    with_constant = np.concatenate([clustered(30, 4, 3), np.full((30, 1), 0.1, np.float32)], axis=1)
    rows, _ = Nearest(with_constant).query(with_constant[:3], 5)
    np.testing.assert_array_equal(rows, expected(with_constant, with_constant[:3], 5)[0])


def test_no_more_are_found_than_there_are() -> None:
    features = clustered(6, 4, 3)
    rows, similarities = Nearest(features).query(features[:2], 100)
    assert rows.shape == similarities.shape == (2, 6)
    assert Nearest(features).query(features[:0], 2)[0].shape == (0, 2)


def test_what_cannot_be_compared_is_told() -> None:
    features = clustered(600, 4, 3)
    with pytest.raises(UserError, match="count=0: it must be a whole number"):
        Nearest(features).query(features, 0)
    with pytest.raises(UserError, match="each needs a row of 4 features"):
        Nearest(features).query(features[:, :3], 1)
    with pytest.raises(DataError, match="has no object"):
        Nearest(features[:0])
    with pytest.raises(DataError, match="Query 1 has features that are not finite"):
        Nearest(features).query(np.array([[0.0] * 4, [np.nan] * 4]), 1)
    features[517, 2] = np.inf
    with pytest.raises(DataError, match="Row 517 of the features is not finite"):
        Nearest(features, 100)


def test_mean_and_spread_are_those_of_all_rows() -> None:
    features = clustered(1000, 6, 10)
    found = Standardisation.fit(in_blocks(features, 77))
    np.testing.assert_allclose(found.mean, features.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.spread, features.astype(np.float64).std(axis=0), rtol=1e-12)


def blocks_of(path: Path) -> Iterator[np.ndarray]:
    """Features in a file, which another process reads."""
    return in_blocks(np.load(path, mmap_mode="r"), 5000)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[np.ndarray, partial[Iterator[np.ndarray]]]:
    """Rows, and what reads them."""
    features = clustered(30_000, 48, 300)
    np.save(tmp_path / "features.npy", features[:-200])
    return features, partial(blocks_of, tmp_path / "features.npy")


def test_an_index_finds_nearly_all_of_the_nearest(
    stored: tuple[np.ndarray, partial[Iterator[np.ndarray]]], tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="the index needs FAISS: pip install 'galaxyml[index]'")
    features, blocks = stored
    index = NearestIndex.open(tmp_path / "index", "now", blocks)
    features, asked = features[:-200], features[-200:]
    rows, _ = Nearest(features).query(asked, 10)
    found = index.query(asked, 10)
    recall = np.mean([len({*ours} & {*theirs}) / 10 for ours, theirs in zip(found, rows, strict=True)])
    assert recall >= 0.95
    assert index.query(asked[:1], 100_000).shape == (1, len(features))


def test_an_index_is_made_once_and_anew_when_features_have_changed(
    stored: tuple[np.ndarray, partial[Iterator[np.ndarray]]], tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="the index needs FAISS: pip install 'galaxyml[index]'")
    _, blocks = stored
    first = NearestIndex.open(tmp_path / "index", "first", blocks)
    made = first.file.stat().st_mtime_ns
    assert NearestIndex.open(tmp_path / "index", "first", blocks).file.stat().st_mtime_ns == made
    second = NearestIndex.open(tmp_path / "index", "second", blocks)
    assert second.file.is_file()
    assert not first.file.exists()


def test_without_faiss_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"pip install 'galaxyml\[index\]'"):
        NearestIndex.open(tmp_path, "now", partial(blocks_of, tmp_path))
