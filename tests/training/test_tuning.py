"""A head tuned alone, double weighting, and what TensorBoard and checkpoints hold of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics import Metric

from galaxyml.data.images.views import plain
from galaxyml.kinds.classes.losses import CrossEntropyLoss
from galaxyml.kinds.classes.metrics import ClassMetrics
from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.backbone_with_head import in_parts
from galaxyml.models.backbones import timm_net
from galaxyml.runs.errors import UserError
from galaxyml.training.supervised import SupervisedModule

Command = Callable[..., tuple[int, str]]


def module(net: nn.Module, tune: str = "head") -> SupervisedModule:
    metrics: Metric = ClassMetrics(["a", "b"])
    return SupervisedModule(
        net, CrossEntropyLoss(), metrics, lambda groups: torch.optim.SGD(groups, lr=0.1), None, tune=tune
    )


@pytest.mark.parametrize(
    ("options", "tensors", "numbers"),
    [({}, 2, 512 * 2 + 2), ({"hidden": 64}, 4, 512 * 64 + 64 + 64 * 2 + 2)],
)
def test_the_head_alone_is_trained(options: dict[str, Any], tensors: int, numbers: int) -> None:
    model = module(timm_net("resnet18", outputs=2, **options))
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert (len(tuned), sum(parameter.numel() for parameter in tuned)) == (tensors, numbers)
    groups = model.configure_optimizers().param_groups
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == numbers
    whole = module(timm_net("resnet18", outputs=2, **options), tune="all")
    assert all(parameter.requires_grad for parameter in whole.parameters())


def test_a_frozen_backbone_does_not_adapt_its_statistics() -> None:
    net: Any = AstroCNN(2)
    model = module(net).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert net.head.training
    features = net.features(torch.rand(8, 3, 32, 32))
    model.loss(model.classify(features), torch.randint(2, (8,))).backward()
    model.configure_optimizers().step()
    after = model.net.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all(key.startswith("head.") for key in changed)


def test_a_net_without_a_head_of_its_own_is_refused() -> None:
    with pytest.raises(UserError, match="tune=head: Linear has no separate head"):
        module(nn.Linear(3, 2))
    with pytest.raises(UserError, match="tune=tail: it must be all, head or lora"):
        module(AstroCNN(2), tune="tail")


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s", "dla34", "efficientformerv2_s0"])
def test_nets_with_other_heads_are_trained_whole(name: str) -> None:
    net = timm_net(name, outputs=3, size=224).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 224, 224)).shape == (1, 3)
    with pytest.raises(UserError, match="tune=head: Normalised has no separate head"):
        module(net)
    with pytest.raises(UserError, match=rf"model.hidden=8: the last layer of {name} is not a single linear one"):
        timm_net(name, outputs=3, size=224, hidden=8)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_heads_of_timms_families_take_their_features(name: str) -> None:
    net: Any = timm_net(name, outputs=3).eval()
    images = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(net.head(net.features(images)), net.net((images - net.mean) / net.std))


def test_parts_give_each_row_the_same_bits_whatever_its_company() -> None:
    torch.manual_seed(0)
    net = timm_net("test_resnet", outputs=3).eval()
    images = torch.rand(70, 3, 48, 48)
    with torch.no_grad():
        outputs = in_parts(net, images)
        for rows in ([0], [69, 3, 41], list(range(30, 70))):
            assert torch.equal(in_parts(net, images[rows]), outputs[rows])
        torch.testing.assert_close(outputs, net(images))


def test_predictions_average_the_views_asked_for() -> None:
    torch.manual_seed(0)
    model = SupervisedModule(
        AstroCNN(2),
        CrossEntropyLoss(),
        ClassMetrics(["a", "b"]),
        lambda groups: torch.optim.SGD(groups),
        predict_views=8,
    ).eval()
    pixels = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    images = pixels.permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        predicted, turned = (
            model.predict_step({"index": torch.arange(5), "image": plain(view, 32), "pixels": view}, 0)
            for view in (pixels, pixels.rot90(1, (1, 2)))
        )
        views = [view.rot90(k, (2, 3)) for view in (images, images.flip(2)) for k in range(4)]
        expected = torch.stack([model.net(view) for view in views]).mean(0)
    torch.testing.assert_close(predicted["output"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned["output"], predicted["output"], atol=1e-5, rtol=1e-5)


def test_a_tuned_head_resumes_as_an_unbroken_run(
    command: Command, spirals_sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("task=spirals", "model=test_resnet", "tune=head", "views=3", "epochs=4")
    assert command(*line, "name=unbroken")[0] == 0
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("INTERRUPT_WITH", "SIGINT")
    stop = "callbacks={stop:{_target_:interrupting.InterruptAt,epoch:2}}"
    assert command(*line, stop, "name=broken")[0] == 130
    monkeypatch.delenv("INTERRUPT_WITH")
    assert command(*line, stop, "name=broken")[0] == 0
    runs = [tmp_path / "multirun" / "spirals" / name / "fold-0" for name in ("unbroken", "broken")]
    weights = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    tables = [pd.read_parquet(run / "predictions" / "test.parquet") for run in runs]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)


def test_the_best_epochs_are_kept_and_figures_drawn(command: Command, galaxy10_sky: Path, tmp_path: Path) -> None:
    assert command("task=galaxy10", "model=astrocnn", "epochs=4", "top_k=2", "figures=true", "name=top")[0] == 0
    run = tmp_path / "multirun" / "galaxy10" / "top" / "fold-0"
    history = pd.read_csv(run / "history.csv")
    names = sorted(path.stem for path in (run / "checkpoints" / "top").iterdir())
    values = [float(name.split("_")[1]) for name in names]
    assert sorted(values) == pytest.approx(sorted(history["val/macro_f1"])[-2:], abs=1e-4)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == history["val/macro_f1"].to_numpy().argmax()

    events = EventAccumulator(str(run / "tensorboard"), {"images": 0})
    events.Reload()
    for title in ("val/confusion", "val/f1 by class", "val/reliability", "val/objects"):
        assert len(events.Images(title)) == 1  # at the end of the few epochs
    assert len(events.Scalars("val/f1/Merging")) == 4


def test_rare_classes_do_not_count_twice(command: Command, galaxy10_sky: Path) -> None:
    line = (
        "task=galaxy10",
        "model=astrocnn",
        "epochs=1",
        "balance=1",
        "loss=focal",
        "loss.alpha=balanced",
        "name=twice",
    )
    status, printed = command(*line)
    assert status == 2
    assert "they count twice" in printed
    assert "recall 0.90 at precision 0.23" in printed
    assert "loss.alpha=null; allow_double_weighting=true insists" in printed
    assert command(*line, "allow_double_weighting=true")[0] == 0
    for one in (["balance=1"], ["balance=0.5", "loss=focal"], ["loss=focal", "loss.alpha=balanced"]):
        config = ["task=galaxy10", "model=astrocnn", "epochs=1", *one, f"name={len(one)}{one[0][-1]}"]
        assert command(*config)[0] == 0


def test_balanced_weights_are_those_of_the_training_split(command: Command, galaxy10_sky: Path, tmp_path: Path) -> None:
    line = ("task=galaxy10", "model=astrocnn", "epochs=1", "loss=cross_entropy", "loss.weights=balanced", "name=w")
    assert command(*line)[0] == 0
    run = tmp_path / "multirun" / "galaxy10" / "w" / "fold-0"
    labels = pd.read_parquet(run / "catalog.parquet").query("split == 'train'")["label"]
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]["loss.class_weights"]
    np.testing.assert_allclose(weights, len(labels) / (10 * np.bincount(labels)), rtol=1e-6)
