from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from galaxyml.data.images.store import Framing, ImageStore, open_store
from galaxyml.data.images.views import dihedral
from galaxyml.models.backbones import timm_net
from galaxyml.training import frozen_features
from galaxyml.training.frozen_features import open_features

CPU = torch.device("cpu")


def backbone(**options: Any) -> Any:
    return timm_net("test_resnet", outputs=2, **options)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    rng = np.random.default_rng(0)
    for number in range(37):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"{number}.png")
    return open_store(tmp_path, [f"{number}.png" for number in range(37)], Framing(32), tmp_path / "cache")


def test_features_of_each_view_are_the_nets(store: ImageStore, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = backbone().eval()
    features = open_features(store, net, 32, 8, tmp_path, CPU, "32-true")
    assert features.shape[:2] == (37, 8)
    with torch.no_grad():
        for view in (0, 5):
            images = dihedral(store.pixels, 32, torch.full((37,), view))
            torch.testing.assert_close(features[:, view], net.features(images), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(net.head(features[:, view]), net(images), atol=1e-5, rtol=1e-4)


def test_they_are_computed_once(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = backbone().eval()
    first = open_features(store, net, 32, 2, tmp_path, CPU, "32-true")
    monkeypatch.setattr(frozen_features, "in_parts", lambda *_: pytest.fail("computed again"))
    torch.nn.init.ones_(net.head.weight)  # another head has the same features
    assert torch.equal(first, open_features(store, net, 32, 2, tmp_path, CPU, "32-true"))


def test_another_normalisation_has_others_and_another_head_has_not(store: ImageStore, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = backbone().eval()
    first = open_features(store, net, 32, 1, tmp_path, CPU, "32-true")
    deeper = backbone(hidden=5).eval()
    deeper.net.load_state_dict(net.net.state_dict(), strict=False)
    open_features(store, deeper, 32, 1, tmp_path, CPU, "32-true")
    assert len(list((tmp_path / "features").iterdir())) == 1
    net.mean += 0.1  # which is in no state dict
    assert not torch.equal(first, open_features(store, net, 32, 1, tmp_path, CPU, "32-true"))


@pytest.mark.parametrize("change", ["weights", "statistics", "views", "precision"])
def test_another_backbone_has_others(store: ImageStore, tmp_path: Path, change: str) -> None:
    torch.manual_seed(0)
    net = backbone().eval()
    open_features(store, net, 32, 1, tmp_path, CPU, "32-true")
    if change == "weights":
        next(net.net.parameters()).data += 0.1
    if change == "statistics":
        next(net.net.buffers()).data += 0.1
    open_features(
        store, net, 32, 2 if change == "views" else 1, tmp_path, CPU, "bf16" if change == "precision" else "32-true"
    )
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_an_interrupted_computation_leaves_nothing(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frozen_features, "in_parts", stop)
    with pytest.raises(KeyboardInterrupt):
        open_features(store, backbone(), 32, 1, tmp_path, CPU, "32-true")
    assert not list((tmp_path / "features").iterdir())
