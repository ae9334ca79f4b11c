import numpy as np
import torch
from sklearn.decomposition import PCA

from galaxyml.training.projector import AXES, MOST, SIDE, drawn, principal, sparks, thumbnails


def test_all_of_few_and_some_of_many_are_drawn() -> None:
    assert drawn(7).tolist() == list(range(7))
    some = drawn(10 * MOST)
    assert len(some) == len(set(some.tolist())) == MOST
    assert some.tolist() == sorted(some.tolist())
    assert some.max() > 5 * MOST


def test_components_are_those_of_scikit_learn() -> None:
    features = torch.randn(60, 80, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 5, 80) + 3
    components = principal(features).numpy()
    expected = PCA(AXES, svd_solver="full").fit_transform(features.numpy())
    np.testing.assert_allclose(np.abs(components), np.abs(expected), atol=1e-2)  # signs are free


def test_short_features_are_only_centred() -> None:
    features = torch.randn(5, 3)
    torch.testing.assert_close(principal(features), features - features.mean(0))


def test_a_thumbnail_keeps_colours() -> None:
    pixels = torch.zeros(2, 100, 100, 3, dtype=torch.uint8)
    pixels[0, ..., 0] = 255
    small = thumbnails(pixels)
    assert small.shape == (2, 3, SIDE, SIDE)
    torch.testing.assert_close(small[0].mean((1, 2)), torch.tensor([1.0, 0.0, 0.0]))


def test_a_rising_light_curve_rises_to_the_right() -> None:
    time = torch.linspace(0, 100, 40).repeat(2, 1)
    batch = {"time": time, "flux": time * 3 - 7, "band": torch.full((2, 40), 2), "mask": torch.ones(2, 40) > 0}
    batch["mask"][1] = False
    rising, none = sparks(batch)
    assert (none == 1).all()
    rows, columns = (rising.min(0).values < 1).nonzero(as_tuple=True)
    assert np.corrcoef(rows, columns)[0, 1] < -0.99  # rows count downwards
    assert columns.min() == 0
    assert columns.max() == SIDE - 1
