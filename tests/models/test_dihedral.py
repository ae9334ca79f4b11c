"""Brute force: the input is turned, and what comes out must be what the group's action makes of the old output."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.dihedral import (
    FROM_IMAGES,
    FROM_MAPS,
    DihedralCNN,
    GroupBatchNorm,
    GroupConvolution,
    OrientationPool,
    SymmetricPool,
    relative,
    turned,
)

ALL = range(8)
SIDES = [(16, 16), (17, 17), (22, 31), (45, 45)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def composed(first: int, second: int) -> int:
    """The orientation of what is turned by `second` and then by `first`, found by trying all on an image."""
    image = torch.arange(4).view(2, 2)
    expected = turned(turned(image, second), first)
    (found,) = [orientation for orientation in ALL if torch.equal(turned(image, orientation), expected)]
    return found


def acted(maps: Tensor, orientation: int) -> Tensor:
    """What the maps become when the image is turned: turned themselves, and moved to the turned orientations."""
    parts = turned(maps, orientation).chunk(8, dim=1)
    moved = {composed(orientation, own): part for own, part in zip(ALL, parts, strict=True)}
    return torch.cat([moved[own] for own in ALL], dim=1)


def randomised(net: nn.Module) -> nn.Module:
    """The net with batch norms that do something in eval mode."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return net


def spread(net: nn.Module, images: Tensor) -> float:
    """Largest difference between the scores of an image's 8 views, relative to the standard deviation over images."""
    with torch.no_grad():
        views = torch.stack([net(turned(images, orientation)) for orientation in ALL])
    return float(((views - views[0]).abs() / views[0].std(dim=0)).max())


def random_images(size: tuple[int, int]) -> Tensor:
    """Random patterns that are coarser than a pixel, shape (6, 3, *size)."""
    return nn.functional.interpolate(torch.rand(6, 3, 5, 5), size, mode="bilinear")


def test_the_eight_orientations_are_a_group() -> None:
    table = [[composed(first, second) for second in ALL] for first in ALL]
    for row in (*table, *zip(*table, strict=True)):
        assert sorted(row) == list(ALL)
    assert all(composed(first, relative(first, second)) == second for first in ALL for second in ALL)


def test_a_filter_has_eight_copies() -> None:
    layer = GroupConvolution(3, 2, FROM_IMAGES)
    for orientation, copy in zip(ALL, layer.filters().chunk(8), strict=True):
        assert torch.equal(copy, turned(layer.weight, orientation))


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("size", SIDES)
def test_lifting_is_equivariant(size: tuple[int, int], orientation: int) -> None:
    layer = GroupConvolution(3, 4, FROM_IMAGES).double()
    images = torch.rand(2, 3, *size, dtype=torch.double)
    torch.testing.assert_close(layer(turned(images, orientation)), acted(layer(images), orientation))


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize(
    "layer",
    [GroupConvolution(3, 4, FROM_MAPS), GroupBatchNorm(3), GroupBatchNorm(3).eval(), SymmetricPool()],
    ids=["convolution", "norm in training", "norm", "pool"],
)
def test_each_layer_is_equivariant(layer: nn.Module, size: tuple[int, int], orientation: int) -> None:
    layer = randomised(layer).double()
    maps = torch.randn(2, 24, *size, dtype=torch.double)
    torch.testing.assert_close(layer(acted(maps, orientation)), acted(layer(maps), orientation))


def test_an_ordinary_convolution_is_not_equivariant() -> None:
    layer = nn.Conv2d(24, 32, 3, padding=1).double()
    maps = torch.randn(2, 24, 16, 16, dtype=torch.double)
    for orientation in ALL[1:]:
        assert not torch.allclose(layer(acted(maps, orientation)), acted(layer(maps), orientation))


def test_the_orientation_pool_leaves_turned_maps() -> None:
    maps = torch.randn(2, 24, 6, 9)
    for orientation in ALL:
        assert torch.equal(OrientationPool()(acted(maps, orientation)), turned(OrientationPool()(maps), orientation))


def test_the_norm_is_batch_norm_over_all_orientations() -> None:
    maps = torch.randn(4, 24, 5, 7)
    shared, plain = GroupBatchNorm(3), nn.BatchNorm3d(3)
    expected = plain(maps.unflatten(1, (8, 3)).transpose(1, 2)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(shared(maps), expected)
    torch.testing.assert_close(shared.running_var, plain.running_var)


def test_even_sides_are_pooled_the_ordinary_way() -> None:
    maps = torch.randn(2, 8, 12, 18)
    assert torch.equal(SymmetricPool()(maps), nn.functional.max_pool2d(maps, 2))


def test_an_ordinary_pool_breaks_the_symmetry_of_odd_sides() -> None:
    maps = torch.randn(1, 1, 5, 5)
    assert not torch.equal(nn.functional.max_pool2d(maps.flip(-1), 2), nn.functional.max_pool2d(maps, 2).flip(-1))
    assert torch.equal(SymmetricPool()(maps.flip(-1)), SymmetricPool()(maps).flip(-1))


@pytest.mark.parametrize("size", SIDES)
def test_all_views_get_the_same_scores(size: tuple[int, int]) -> None:
    net = randomised(DihedralCNN()).eval()
    images = random_images(size)
    assert spread(net, images) < 1e-4
    assert spread(net.double(), images.double()) < 1e-10


def test_views_of_another_net_get_other_scores() -> None:
    assert spread(randomised(AstroCNN()).eval(), random_images((32, 32))) > 0.1


def test_every_side_from_16_on_works() -> None:
    net = randomised(DihedralCNN(4, channels=(3, 4, 4, 4, 6), hidden=8)).double().eval()
    for side in range(16, 50):
        assert spread(net, random_images((side, side)).double()) < 1e-9, side


def test_training_sees_no_orientation_either() -> None:
    net = DihedralCNN(dropout=0).double()
    images = torch.rand(8, 3, 20, 20, dtype=torch.double)
    each_its_own = torch.stack([turned(image, orientation) for orientation, image in zip(ALL, images, strict=True)])
    gradients = []
    for views in (images, each_its_own):
        net.zero_grad()
        scores = net(views)
        scores.square().sum().backward()
        gradients.append([scores.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    assert len(gradients[0]) == 1 + len(list(net.parameters()))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_channels_last_changes_nothing() -> None:
    net: nn.Module = DihedralCNN(3, channels=(2, 3, 4), hidden=8).double().eval()
    images = torch.rand(2, 3, 32, 32, dtype=torch.double)
    expected = net(images)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(images.contiguous(memory_format=torch.channels_last)), expected)


def test_size_is_that_of_the_baseline() -> None:
    channels = (8, 16, 32, 48, 64)
    convolutions = 27 * 8 + sum(72 * before * after for before, after in pairwise(channels))
    expected = convolutions + 2 * sum(channels) + (64 * 128 + 128) + (128 * 10 + 10)
    assert sum(p.numel() for p in DihedralCNN().parameters()) == expected == 388_018


def test_it_learns_what_does_not_depend_on_orientation() -> None:
    net: nn.Module = DihedralCNN(2, channels=(2, 4, 4), hidden=16, dropout=0)
    net = net.to(memory_format=torch.channels_last)
    labels = torch.arange(32) % 2
    images = 0.1 * torch.rand(32, 3, 16, 16)
    images[labels == 1, :, 4:12, 6:8] += 0.5  # a bar
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        assert (net(images.rot90(1, (-2, -1))).argmax(1) == labels).all()
