"""Views of an image, and nets that answer by the mean over them."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from galaxyml.data.images.views import Augment, dihedral, plain, resample, scaled
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.models.galaxycnn import GalaxyCNN
from galaxyml.models.symmetry import Symmetric, Symmetries, Views, ViewSet, view_set
from galaxyml.models.winner import DielemanNet
from galaxyml.runs.errors import UserError
from galaxyml.training.prediction_module import PredictionModule, PredictionModules

SIDE, SIZE = 30, 20


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (5, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class AnyNet(nn.Module):
    """Pixels' sums, weighted so that each view has others."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0].mul(torch.linspace(-1, 1, SIZE)).sum((1, 2)), images.mean((1, 2, 3))], dim=1)


def square_group(image: np.ndarray) -> list[np.ndarray]:
    turns = [np.rot90(image, quarter, axes=(-2, -1)) for quarter in range(4)]
    return [*turns, *(turn[..., ::-1] for turn in turns)]


@pytest.mark.parametrize("views", [Symmetries(8), Views(rotations=4, mirrored=True)])
def test_all_eight_symmetries_are_seen_once_as_exact_copies(views: Any, pixels: torch.Tensor) -> None:
    found = list(views.see(scaled(pixels), SIZE))
    assert len(found) == len(views) == 8
    assert torch.equal(found[0], plain(pixels, SIZE))
    expected = square_group(plain(pixels, SIZE).numpy())
    for one in expected:
        assert sum(np.array_equal(one, view.numpy()) for view in found) == 1


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("count", [3, 8])
def test_views_of_stored_images_are_those_of_training_to_the_last_bit(channels: int, count: int) -> None:
    pixels = torch.randint(0, 256, (4, SIDE, SIDE, channels), dtype=torch.uint8)
    views = list(Symmetries(count).see_stored(pixels, SIZE))
    assert len(views) == count
    for number, view in enumerate(views):
        assert torch.equal(view, dihedral(pixels, SIZE, torch.full((4,), number)))


def test_the_winners_sixty_views() -> None:
    views = Views(rotations=10, mirrored=True, zooms=[1, 1 / 1.2, 1.2])
    assert len(views) == 60
    assert len(list(views.see(torch.rand(1, 3, SIDE, SIDE), SIZE))) == 60


def test_views_compose_turn_zoom_shift_and_mirror_as_scipy_does() -> None:
    y, x = np.mgrid[:60, :60] - 29.5
    blob = np.exp(-((x - 5) ** 2 / 90 + (y + 4) ** 2 / 30))
    images = torch.tensor(blob, dtype=torch.float32).expand(1, 3, 60, 60)
    size = 36
    for angle, zoom, shift, mirrored in itertools.product((0, 30, 90), (1.0, 1.25), ((0, 0), (0.1, -0.05)), (0, 1)):
        views = Views(rotations=[angle], mirrored=True, zooms=[zoom], shifts=[shift])
        found = list(views.see(images, size))[mirrored][0, 0].numpy()
        # The view's pixel (row, column) shows the image at the turned, shrunk and shifted place.
        rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
        columns = -columns if mirrored else columns
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        at_x = (cos * columns + sin * rows) / zoom + shift[0] * size + 29.5
        at_y = (-sin * columns + cos * rows) / zoom + shift[1] * size + 29.5
        expected = ndimage.map_coordinates(blob, [at_y, at_x], order=1, mode="nearest")
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=f"{angle} {zoom} {shift} {mirrored}")


def test_quarter_turns_by_copy_are_those_by_resampling(pixels: torch.Tensor) -> None:
    images = scaled(pixels)
    copied = list(Views(rotations=4, mirrored=True).see(images, SIZE))
    resampled = list(Views(rotations=4, mirrored=True, shifts=[(1e-9, 0)]).see(images, SIZE))
    for one, other in zip(copied, resampled, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_turned_views_show_the_true_rim(pixels: torch.Tensor) -> None:
    turned = next(Views(rotations=[45]).see(scaled(pixels), SIZE))
    cos = math.cos(math.pi / 4)
    matrix = torch.tensor([[[cos, cos, 0], [-cos, cos, 0]]], dtype=torch.float32).expand(5, 2, 3)
    torch.testing.assert_close(turned, resample(pixels, SIZE, matrix), atol=1e-5, rtol=0)
    cropped = next(Views(rotations=[45]).see(plain(pixels, SIZE), SIZE))
    assert (turned - cropped)[:, :, 0, 0].abs().max() > 0.01  # where there is no rim, the last pixel is repeated


def test_an_images_view_does_not_depend_on_its_neighbours(pixels: torch.Tensor) -> None:
    views = Views(rotations=3, zooms=[0.9])
    together = list(views.see(scaled(pixels), SIZE))
    for row in range(5):
        for one, other in zip(views.see(scaled(pixels[row : row + 1]), SIZE), together, strict=True):
            assert torch.equal(one[0], other[row])


@pytest.mark.parametrize("views", [Symmetries(8), Views(rotations=4, mirrored=True)])
def test_a_symmetric_net_says_the_same_however_an_image_lies(views: Any) -> None:
    torch.manual_seed(0)
    net = Symmetric(GalaxyCNN(4, channels=(4, 8, 8, 8), hidden=16), views).eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        alone = [net.net(torch.from_numpy(one.copy())) for one in square_group(image.numpy())]
        said = [net(torch.from_numpy(one.copy())) for one in square_group(image.numpy())]
    assert torch.cat(alone).std(0).max() > 1e-4
    for one in said:
        torch.testing.assert_close(one, said[0], atol=1e-6, rtol=1e-5)


def test_a_symmetric_net_learns_through_all_views() -> None:
    torch.manual_seed(0)
    inner = GalaxyCNN(1, channels=(4, 8, 8, 8), hidden=16, dropout=0.0)
    net = Symmetric(inner, Symmetries(8))
    images = torch.rand(2, 3, 16, 16)
    net(images).sum().backward()
    by_wrapper = [parameter.grad.clone() for parameter in inner.features.parameters()]
    inner.zero_grad()
    views = list(Symmetries(8).see(images, 16))
    inner.head(sum(inner.features(view) for view in views) / 8).sum().backward()
    for one, parameter in zip(by_wrapper, inner.features.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_a_frame_leaves_room_for_turns() -> None:
    net = Symmetric(GalaxyCNN(2, channels=(4, 4, 4, 4), hidden=8), Views(rotations=8, frame=0.7)).eval()
    seen: list[int] = []
    net.net.features.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    net(torch.rand(1, 3, 40, 40))
    assert seen == [28] * 8


def test_only_a_net_that_has_a_head_can_be_symmetric() -> None:
    with pytest.raises(UserError, match="symmetry: Linear has no separate head"):
        Symmetric(nn.Linear(2, 2), Symmetries(8))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0, "predict_views=0: it must be a whole number from 1"),
        (9, "from 1 .plain. to 8"),
        (True, "predict_views=True"),
        ("many", "predict_views=many"),
        ({"rotation": 3}, "predict_views.rotation: there is no such key. Did you mean rotations"),
        ({"zooms": [0]}, r"predict_views.zooms=\[0\]: of views it must be factors above 0"),
        ({"zooms": 1.2}, "zooms=1.2: of views it must be factors"),
        ({"shifts": [1]}, "predict_views.shifts=.*must be pairs of fractions"),
        ({"shifts": [["a", "b"]]}, "must be pairs of fractions"),
        ({"frame": 1.5}, "frame=1.5: of views it must be a fraction"),
        ({"mirrored": 3}, "mirrored=3: of views it must be true or false"),
        ({"rotations": 0}, "predict_views.rotations=0: of views it must be a number of turns"),
        ({"rotations": 2.5}, "rotations=2.5"),
        ({"rotations": "foo"}, "rotations=foo"),
        ({"rotations": ["a"]}, "must be a number of turns"),
        ({"rotations": 700, "mirrored": True}, "these are 1,400 views of an image; 1,000 are the most"),
    ],
)
def test_what_are_no_views_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        view_set(given)


def test_numbers_and_mappings_name_views() -> None:
    assert view_set(8) == Symmetries(8)
    assert view_set({"rotations": 3, "mirrored": True}) == Views(3, mirrored=True)
    assert len(view_set({"rotations": [0, 45]})) == 2


def test_augmentation_and_views_zoom_the_same_way(pixels: torch.Tensor) -> None:
    torch.manual_seed(0)
    drawn = Augment(flip=False, rotate=False, zoom=1.3)._draw(1)[0]
    zoom = 1 / float(drawn[0, 0])
    view = next(Views(zooms=[zoom]).see(scaled(pixels), SIZE))
    torch.testing.assert_close(view, resample(pixels, SIZE, drawn.expand(5, 2, 3)), atol=1e-5, rtol=0)


def test_one_turned_view_is_cut_from_the_stored_image_and_features_stay_the_plain_views(pixels: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = GalaxyCNN(2, channels=(4, 4, 4, 4), hidden=8)
    predictor = PredictionModule(net, predict_views={"rotations": [45]}).eval()
    batch = {"index": torch.arange(5), "image": plain(pixels, SIZE), "pixels": pixels}
    with torch.no_grad():
        said = predictor.predict_step(batch, 0)
        turned = next(Views(rotations=[45]).see(scaled(pixels), SIZE))
        torch.testing.assert_close(said["output"], predictor(turned), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(said["feature"], net.features(batch["image"]), atol=1e-6, rtol=1e-5)
    assert "spread" not in said


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("views", [Symmetries(8), Symmetries(3), Views(rotations=3, mirrored=True)])
def test_models_that_share_their_views_say_the_mean_over_what_each_sees(
    pixels: torch.Tensor, count: int, views: ViewSet
) -> None:
    torch.manual_seed(0)
    nets = [
        GalaxyCNN(2, channels=(4, 4, 4, 4), hidden=8),
        DielemanNet(2, SIZE, channels=[4], kernels=[3], pools=[4], hidden=[8]),  # need not see the symmetries
        AnyNet(),
    ]
    models = [PredictionModule(net, nn.Sigmoid(), predict_views=views, size=SIZE).eval() for net in nets]
    models[0].gives_features = models[1].gives_features = True
    pixels = pixels[:count]
    with torch.no_grad():
        said = PredictionModules(models).predict_step({"index": torch.arange(count), "pixels": pixels}, 0)
        for number, net in enumerate(nets):
            seen = [net(view) for view in views.see(scaled(pixels), SIZE)]
            outputs = torch.stack(seen).sigmoid()
            torch.testing.assert_close(said[f"output/{number}"], outputs.mean(0), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(said[f"spread/{number}"], outputs.std(0, correction=0), atol=1e-5, rtol=1e-4)
            if isinstance(net, BackboneWithHead):
                features = torch.stack([net.features(view) for view in views.see(scaled(pixels), SIZE)]).mean(0)
                torch.testing.assert_close(said[f"features/{number}"], features, atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(said[f"feature/{number}"], net.features(plain(pixels, SIZE)))
    assert "feature/2" not in said
