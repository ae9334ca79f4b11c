"""What a net sees of images, and a decoder fitted to it."""

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from galaxyml import EncodingModule, UnlabelledImages, load
from galaxyml.data.images.views import symmetries
from galaxyml.evaluation.morphology import thumbnails
from galaxyml.kinds.fractions import Fractions
from galaxyml.models import build_model
from galaxyml.runs.errors import UserError
from galaxyml.training.quiet import quiet
from galaxyml.training.start import read_start


@pytest.fixture(scope="module")
def data(images_sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("encoding")
    shutil.copytree(images_sky, folder / "own")
    images = UnlabelledImages(folder / "own", size=64, workers=0, batch_size=16, cache_dir=str(folder / "cache"))
    images.setup()
    return images


def trainer(**options: Any) -> lightning.Trainer:
    quiet()
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return lightning.Trainer(**{**silent, "enable_model_summary": False, **options})


def predicted(module: EncodingModule, data: Any) -> dict[str, torch.Tensor]:
    batches: Any = trainer().predict(module, datamodule=data)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_a_decoder_of_a_fixed_net_learns_and_its_residual_is_what_it_leaves(data: Any) -> None:
    torch.manual_seed(0)
    module = EncodingModule.for_data(data, net="tiny", start="sky", lr=5e-3, tune="head", predict_views=2)
    backbone = {name: value.clone() for name, value in module.net.state_dict().items() if not name.startswith("head")}
    trainer(max_epochs=10).fit(module, datamodule=data)
    loss = trainer().validate(module, datamodule=data, verbose=False)[0]["val/loss"]
    val = data.targets[data.rows("val")].float()
    assert loss < 0.8 * (val - data.training_targets().float().mean(0)).square().mean()  # that of the mean image
    assert all(torch.equal(value, module.net.state_dict()[name]) for name, value in backbone.items())
    found = predicted(module, data)
    assert found["index"].tolist() == list(range(len(data.catalog)))
    net: Any = module.eval().net
    stored = data.store.gather(found["index"])
    with torch.no_grad():
        views = [net.features(seen) for seen in symmetries(stored, 64, 2)]
        decoded = net.head(views[0])
    image = next(symmetries(stored, 64, 1))
    residual = (decoded - thumbnails(image)).square().mean(1).sqrt()
    torch.testing.assert_close(found["residual"], residual, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["features"], sum(views) / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["brightness"], image.mean((1, 2, 3)))
    assert "odds" not in found  # weights that tell no kind of target


def test_both_halves_of_an_autoencoder_are_fitted(data: Any) -> None:
    torch.manual_seed(0)
    module = EncodingModule.for_data(data, net="tiny")
    before = {name: value.clone() for name, value in module.net.named_parameters()}
    trainer(max_epochs=1).fit(module, datamodule=data)
    assert not any(torch.equal(value, before[name]) for name, value in module.net.named_parameters())


def test_a_start_that_answers_whether_something_is_odd_goes_on_doing_so(data: Any, tmp_path: Path) -> None:
    module = EncodingModule.for_data(data, net="winner_small", start="sky", tune="head", predict_views=8)
    found = predicted(module, data)
    sky = load("sky")
    paths = [str(data.source.path / image) for image in data.catalog["image"]]
    odds = sky.kind.odds_of_odd(sky.predict(paths))
    assert odds is not None
    assert np.corrcoef(found["odds"].numpy(), odds)[0, 1] > 0.999
    np.testing.assert_allclose(found["odds"].numpy(), odds, atol=0.1)  # of one view there, or of the mean of eight

    fitted = trainer(max_epochs=1)
    fitted.fit(module, datamodule=data)
    after = predicted(module, data)
    torch.testing.assert_close(after["odds"], found["odds"])  # the decoder alone learns
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    again = EncodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert all(torch.equal(value, after[name]) for name, value in predicted(again, data).items())


def test_answers_of_a_net_that_changes_are_not_kept(data: Any) -> None:
    module = EncodingModule.for_data(data, net="winner_small", start="sky")
    assert module.answers is None


def test_a_net_without_a_head_of_its_own_is_refused(data: Any) -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1024))
    with pytest.raises(UserError, match="Sequential has no separate head"):
        EncodingModule.for_data(data, net=net)


def test_a_start_tells_the_kind_of_its_outputs(tmp_path: Path) -> None:
    kind = read_start("sky").kind
    assert isinstance(kind, Fractions)
    assert kind.says_odd
    kind.head()  # its tree is still there
    save_file(build_model("tiny", outputs=3).state_dict(), tmp_path / "weights.safetensors")
    assert read_start(tmp_path / "weights.safetensors").kind is None
