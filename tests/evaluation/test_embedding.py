"""Many dimensions in the plane: near ones stay near, the same each time, with or without a folder to keep code in."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from galaxyml.evaluation import embedding
from galaxyml.evaluation.embedding import NEIGHBOURS


@pytest.fixture(scope="module")
def groups() -> np.ndarray:
    """300 objects in six groups of twelve dimensions."""
    rng = np.random.default_rng(0)
    return 4 * rng.normal(size=(6, 12))[np.arange(300) % 6] + rng.normal(size=(300, 12))


def test_near_objects_stay_near_and_groups_apart_the_same_each_time(groups: np.ndarray) -> None:
    rows, points = embedding.embedding(groups, seed=1)
    assert rows.tolist() == list(range(300))
    assert trustworthiness(groups, points, n_neighbors=NEIGHBOURS) > 0.9
    nearest = np.linalg.norm(points[:, None] - points, axis=2).argsort(axis=1)[:, 1]
    assert (nearest % 6 == np.arange(300) % 6).mean() > 0.99
    assert np.array_equal(embedding.embedding(groups, seed=1)[1], points)


def test_of_many_objects_some_are_drawn(groups: np.ndarray) -> None:
    rows, points = embedding.embedding(groups, seed=1, most=100)
    assert len(points) == len(rows) == len(np.unique(rows)) == 100
    assert (np.diff(rows) > 0).all()


def test_it_works_where_what_it_compiles_cannot_be_kept(groups: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: object) -> None:
        raise RuntimeError("cannot cache function: no locator available for file")

    from numba.core.dispatcher import Dispatcher

    monkeypatch.setattr(Dispatcher, "enable_caching", refuses)
    embedding._umap.cache_clear()
    assert np.isfinite(embedding.embedding(groups[:60], seed=1)[1]).all()
    embedding._umap.cache_clear()


def test_what_it_compiles_is_kept_for_other_processes() -> None:
    from umap import layouts

    embedding._umap()
    cache = Path(layouts._nb_optimize_layout_euclidean_single_epoch.stats.cache_path)
    assert cache.is_dir()
