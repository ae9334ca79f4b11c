"""Parts are checked against scipy's turned images, sizes against the published net, the whole against its halves."""

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from galaxyml.data.images.views import symmetric
from galaxyml.models.backbone_with_head import BackboneWithHead, in_parts
from galaxyml.models.winner import DielemanNet, Maxout, Parts, turned_grid, view_side
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError
from galaxyml.trees import DecisionTree, TreeHead, normalise, violation

SMALL: dict[str, Any] = {
    "outputs": 37,
    "size": 36,
    "angles": [0, 45],
    "mirrored": True,
    "part": 0.65,
    "channels": [4, 6],
    "kernels": [3, 3],
    "pools": [2, 2],
    "padding": False,
    "batch_norm": False,
    "hidden": [16],
    "pieces": 2,
    "dropout": 0.0,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(**changes: Any) -> DielemanNet:
    return DielemanNet(**(SMALL | changes))


def configured(*given: str) -> DielemanNet:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        net = instantiate(compose("config", ["outputs=37", *given]).model)
    assert isinstance(net, DielemanNet)
    return net


def by_hand(image: np.ndarray, side: int, part: int) -> list[np.ndarray]:
    """The 16 parts of one channel, with the centre at the lower right: each corner cut out where it is, then turned."""
    found = []
    rim = (len(image) - side) // 2
    for angle in (0, 45):
        turned = scipy.ndimage.rotate(image, angle, reshape=False, order=1, mode="nearest")
        view = turned[rim : rim + side, rim : rim + side]
        for seen in (view, np.fliplr(view)):
            top_left, top_right = seen[:part, :part], seen[:part, -part:]
            bottom_left, bottom_right = seen[-part:, :part], seen[-part:, -part:]
            found += [top_left, np.rot90(top_right), np.rot90(bottom_right, 2), np.rot90(bottom_left, 3)]
    return found


@pytest.mark.parametrize("size", [40, 41])
def test_parts_are_those_cut_by_hand_from_images_turned_by_scipy(size: int) -> None:
    images = torch.rand(2, 3, size, size)
    parts = Parts(size, [0, 45], mirrored=True, part=45 / 69)
    found = parts(images).numpy()
    assert found.shape == (2, parts.count, 3, parts.side, parts.side) == (2, 16, 3, found.shape[-1], found.shape[-1])
    for number in range(2):
        for channel in range(3):
            expected = by_hand(images[number, channel].double().numpy(), parts.view_side, parts.side)
            np.testing.assert_allclose(found[number, :, channel], np.stack(expected), atol=2e-5)


@pytest.mark.parametrize("size", [98, 99])
def test_the_galaxys_centre_lies_in_the_same_place_of_all_parts(size: int) -> None:
    distance = torch.arange(size) - (size - 1) / 2
    galaxy = (-(distance[:, None] ** 2 + distance**2) / 200).exp().expand(1, 3, size, size)
    parts = Parts(size, [0, 45], mirrored=True, part=45 / 69)
    found = parts(galaxy)[0, :, 0]
    centre = (parts.view_side - 1) // 2
    assert parts.side > centre > parts.side / 2  # at the lower right, and in all parts
    for part in found:
        assert part[centre, centre] == part.max()
        torch.testing.assert_close(part, found[0], atol=3e-3, rtol=0)  # bilinear, where the light is curved
        assert part[0, 0] == part.min()


def test_quarter_turns_and_mirror_images_are_exact_copies() -> None:
    images = torch.rand(2, 3, 41, 41)
    parts = Parts(41, [0], mirrored=True, part=0.6)(images)
    assert parts.shape == (2, 8, 3, 25, 25)  # the whole image is seen where nothing is turned by other angles
    assert {value.item() for value in parts.unique()} <= {value.item() for value in images.unique()}
    torch.testing.assert_close(parts[:, 0], images[..., :25, :25], rtol=0, atol=0)


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("mirror", [False, True])
def test_turning_or_mirroring_the_image_permutes_the_parts(size: int, mirror: bool) -> None:
    images = torch.rand(1, 3, size, size)
    parts = Parts(size, [0, 45], mirrored=True, part=0.65)
    before, after = parts(images)[0], parts(images.flip(-1) if mirror else images.rot90(1, (-2, -1)))[0]
    apart = (before[:, None] - after).abs().amax((2, 3, 4))
    pairs = apart < 1e-4
    assert (pairs.sum(0) == 1).all()
    assert (pairs.sum(1) == 1).all()
    assert not pairs.diagonal().any()


def test_angles_besides_45_show_what_scipy_shows() -> None:
    image = torch.rand(1, 3, 50, 50)
    parts = Parts(50, [20], mirrored=False, part=1.0)
    turned = scipy.ndimage.rotate(image[0, 0].numpy(), 20, reshape=False, order=1, mode="nearest")
    rim = (50 - parts.view_side) // 2
    expected = turned[rim : rim + parts.view_side, rim : rim + parts.view_side]
    np.testing.assert_allclose(parts(image)[0, 0, 0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("angles", [[0], [0, 45], [0, 30, 60], [10]])
def test_views_are_the_largest_that_show_true_sky_alone(angles: list[float]) -> None:
    for size in range(8, 130):
        side = view_side(size, angles)
        assert (size - side) % 2 == 0
        reach = [turned_grid(size, side, angle).abs().max().item() for angle in angles]
        assert max(reach) <= 1 - 1 / size + 1e-6  # up to the centres of the outermost pixels
        larger = [np.deg2rad(angle) for angle in angles]
        assert max(abs(np.cos(one)) + abs(np.sin(one)) for one in larger) * (side + 2) > size


def test_the_original_has_its_published_size() -> None:
    net = configured("model=winner", "size=99")
    parts = net.features[0]
    assert (parts.count, parts.view_side, parts.side) == (16, 69, 45)
    convolutions = sum(
        kernel**2 * before * after + after
        for kernel, before, after in ((6, 3, 32), (5, 32, 64), (3, 64, 128), (3, 128, 128))
    )
    expected = convolutions + (8192 * 4096 + 4096) + (2048 * 4096 + 4096) + (2048 * 37 + 37)
    found = sum(parameter.numel() for parameter in net.parameters())
    assert found == expected
    assert abs(found / 42e6 - 1) < 0.05
    with torch.no_grad():
        assert net.features(torch.rand(1, 3, 99, 99)).shape == (1, 8192)
    assert sum(isinstance(layer, nn.Dropout) for layer in net.head.children()) == 3


@pytest.mark.parametrize("size", [64, 99, 128])
def test_the_small_one_takes_common_sizes(size: int) -> None:
    net = configured("model=winner_small", f"size={size}")
    assert sum(parameter.numel() for parameter in net.parameters()) < 2e6
    assert net(torch.rand(2, 3, size, size)).shape == (2, 37)


def test_one_net_sees_each_part_by_itself() -> None:
    net = small().double()
    images = torch.rand(3, 3, 36, 36, dtype=torch.double)
    parts, _, *layers, _, _ = net.features
    shared = nn.Sequential(*layers)
    expected = torch.cat([shared(parts(images)[:, number]) for number in range(16)], dim=1)
    torch.testing.assert_close(net.features(images), expected)


def test_turning_the_image_permutes_the_features() -> None:
    net = small(size=35).double()
    images = torch.rand(2, 3, 35, 35, dtype=torch.double)
    before = net.features(images).unflatten(1, (16, -1))
    after = net.features(images.rot90(1, (-2, -1))).unflatten(1, (16, -1))
    torch.testing.assert_close(before.sum(1), after.sum(1), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, after, atol=1e-2)


@pytest.mark.parametrize("size", [35, 36])
@pytest.mark.parametrize(
    ("changes", "known"), [({}, 8), ({"angles": [0]}, 8), ({"angles": [0, 30]}, 1), ({"mirrored": False}, 1)]
)
def test_features_of_turned_images_are_told_as_far_as_they_are_parts_of_the_image(
    size: int, changes: dict[str, Any], known: int
) -> None:
    net = small(size=size, **changes).double()
    assert net.known_symmetries == known
    images = torch.rand(2, 3, size, size, dtype=torch.double)
    features = net.features(images)
    for symmetry in range(known):
        expected = net.features(symmetric(images, symmetry))
        torch.testing.assert_close(net.symmetric_features(features, symmetry), expected, atol=1e-4, rtol=1e-4)
        if symmetry:
            assert not torch.allclose(features, expected, atol=1e-2)


def test_scores_are_the_heads_of_the_features() -> None:
    net = small()
    images = torch.rand(3, 3, 36, 36)
    assert isinstance(net, BackboneWithHead)
    assert torch.equal(net(images), net.head(net.features(images)))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_reach_all_parameters(batch_norm: bool) -> None:
    net = small(batch_norm=batch_norm, hidden=[16, 8], pieces=3)
    net(torch.rand(8, 3, 36, 36)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("shares", ["softmax", "divisive"])
def test_training_starts_near_equal_shares_and_learns_galaxies_by_heart(shares: str) -> None:
    tree = DecisionTree.load("kaggle")
    net = nn.Sequential(small(), TreeHead("kaggle", shares))
    images = torch.rand(12, 3, 36, 36)
    equal = normalise(torch.zeros(1, 37), tree)
    assert (net(images) - equal).abs().max() < 0.05
    assert net[0](images).min() > 0  # where rectified scores learn
    targets = normalise(torch.rand(12, 37) - 0.4, tree)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        loss = (net(images) - targets).square().mean()
        loss.backward()
        optimizer.step()
    spread = (targets - targets.mean(0)).square().mean()
    assert loss < 0.01 * spread
    assert violation(net(images), tree) < 1e-5


def test_maxout_is_the_largest_of_its_pieces_and_keeps_the_scale() -> None:
    layer = Maxout(400, 300, pieces=2)
    inputs = torch.randn(200, 400)
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    pieces = inputs.numpy() @ weight.T + bias
    expected = np.stack([pieces[:, 2 * unit : 2 * unit + 2].max(1) for unit in range(300)], axis=1)
    found = layer(inputs)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-4)
    assert abs(found.square().mean() - 1) < 0.02


def test_what_is_said_of_an_image_depends_on_no_other() -> None:
    net = configured("model=winner_small", "size=64").to(memory_format=torch.channels_last).eval()
    images = torch.rand(5, 3, 64, 64)
    with torch.no_grad():
        together = in_parts(net, images)
        assert torch.equal(in_parts(net, images[3:4]), together[3:4])
        assert torch.equal(in_parts(net, images.flip(0)).flip(0), together)


def test_channels_last_changes_nothing() -> None:
    net: nn.Module = small(batch_norm=True).double().eval()
    images = torch.rand(2, 3, 36, 36, dtype=torch.double)
    expected = net(images)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(images.contiguous(memory_format=torch.channels_last)), expected)


def test_checkpoints_hold_weights_alone() -> None:
    net = small()
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}
    small().load_state_dict(net.state_dict())


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("kernels", [[6, 5, 3], [3, 4, 3]])
def test_sizes_that_are_too_small_name_one_that_does(padding: bool, kernels: list[int]) -> None:
    layers: dict[str, Any] = {"channels": [2, 2, 2], "kernels": kernels, "pools": [2, 2, 3], "padding": padding}
    with pytest.raises(UserError, match=r"size=8: .*Choose size=\d+ or more") as error:
        small(size=8, **layers)
    enough = int(str(error.value).split("Choose size=")[1].split()[0])
    assert torch.isfinite(small(size=enough, **layers)(torch.rand(1, 3, enough, enough))).all()
    with pytest.raises(UserError, match=f"Choose size={enough} or more"):
        small(size=enough - 1, **layers)
    for size in range(enough + 1, enough + 40):  # the layers' own sizes are those that were reckoned with
        small(size=size, **layers)(torch.rand(1, 3, size, size))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"angles": [0, 90]}, r"model\.angles=\[0\.0, 90\.0\]: give angles from 0 up to below 90, each once"),
        ({"angles": [45, 45]}, "each once"),
        ({"angles": []}, "give angles"),
        ({"part": 0}, r"model\.part=0: .*above 0 and up to 1"),
        ({"part": 1.2}, r"model\.part=1\.2"),
        ({"kernels": [3, 3, 3]}, "have 2, 3 and 2 numbers"),
        ({"pools": [2, 0]}, "count from 1; found 0"),
        ({"pieces": 1}, r"model\.pieces=1: .*2 or more"),
    ],
)
def test_impossible_numbers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**changes)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"images of 36x36 px; found 40x36"):
        small()(torch.rand(1, 3, 40, 36))


def test_views_can_be_fewer() -> None:
    counts = {}
    for angles, mirrored in (([0], False), ([0], True), ([0, 45], False), ([0, 30, 60], True)):
        net = small(angles=angles, mirrored=mirrored)
        counts[len(angles), mirrored] = net.features[0].count
        found: Tensor = net(torch.rand(1, 3, 36, 36))
        assert found.shape == (1, 37)
    assert counts == {(1, False): 4, (1, True): 8, (2, False): 8, (3, True): 24}
