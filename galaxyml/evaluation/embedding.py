"""Many dimensions laid out in the plane."""

import warnings
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 15  # that UMAP looks at, its default


def embedding(latents: np.ndarray, seed: int, most: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Latents laid out in the plane with near neighbours kept near: UMAP (McInnes et al. 2018, arXiv:1802.03426).

    Distances within the plane mean little, and those between groups nothing. Up to 15 objects, too few for its
    neighbourhoods, are projected on their two principal axes.

    Args:
        latents: Finite, shape (N, D).
        seed: Of the choice of objects and of the layout.
        most: How many objects are laid out; 2,000 take 2 s, 20,000 a quarter of a minute, after 5 s of compiling the
            first time on a machine.

    Returns:
        Rows of the latents that were laid out, int64 of shape (n,) in rising order, and their places, shape (n, 2).
    """
    count = len(latents)
    rows = np.arange(count)
    if count > most:
        rows = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    chosen = np.asarray(latents, np.float32)[rows]
    if len(rows) <= NEIGHBOURS:
        return rows, _principal(chosen)
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow, which is not needed, and of groups that are far apart
        # Neighbours that UMAP looks for itself would have it compile for seconds more; from 4,096 objects on it also
        # leaves some out.
        distances, nearest = NearestNeighbors(n_neighbors=NEIGHBOURS, n_jobs=-1).fit(chosen).kneighbors(chosen)
        # With a seed it runs on one core, and warns if it was not told to.
        points = _umap()(
            n_neighbors=NEIGHBOURS,
            precomputed_knn=(nearest, distances.astype(np.float32)),
            random_state=seed,
            n_jobs=1,
        ).fit_transform(chosen)
    torch.set_num_threads(threads)  # numba changes how many there are, and sums then come out a little different
    return rows, points


@cache
def _umap() -> Any:
    """UMAP's class; what it compiles is kept beside it, or in the user's cache, for the processes that come after."""
    from umap import UMAP, layouts, umap_

    for module, name in (
        (umap_, "smooth_knn_dist"),
        (umap_, "compute_membership_strengths"),
        (layouts, "_nb_optimize_layout_euclidean_single_epoch"),
    ):
        with suppress(AttributeError, RuntimeError):  # another version's name; no folder that it may write to
            getattr(module, name).enable_caching()
    return UMAP


def _principal(latents: np.ndarray) -> np.ndarray:
    """Objects on their two principal axes, (n, D) -> (n, 2); zeros along an axis that is not there."""
    left, lengths, _ = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    along = (left * lengths)[:, :2]
    return np.pad(along, ((0, 0), (0, 2 - along.shape[1])))
