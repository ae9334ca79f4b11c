import math
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from torch import nn

from galaxyml.kinds.fractions.metrics import FractionMetrics
from galaxyml.kinds.losses import MSELoss
from galaxyml.runs.seeds import derive, generator, seed_all
from galaxyml.training.hardware import best_precision
from galaxyml.training.quiet import quiet
from galaxyml.training.schedules import warmup_cosine
from galaxyml.training.supervised import SupervisedModule


def test_learning_rate_rises_and_falls_as_a_cosine() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=100, warmup=0.1, final=0.2)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    halfway = 2 * (0.2 + 0.8 * (1 + math.cos(math.pi / 2)) / 2)
    assert rates[55] == pytest.approx(halfway)
    assert rates[100] == pytest.approx(0.4)


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1)


def module() -> SupervisedModule:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return SupervisedModule(
        net, MSELoss(), FractionMetrics(["a", "b"]), lambda groups: torch.optim.SGD(groups, lr=0.1), None
    )


def test_only_weights_decay() -> None:
    model = module()
    optimizer = model.configure_optimizers()
    decayed, free = optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    assert free["weight_decay"] == 0
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_a_step_is_the_optimizers_own() -> None:
    torch.manual_seed(0)
    model, alone = module(), module().net
    alone.load_state_dict(model.net.state_dict())
    images, targets = torch.rand(8, 3, 9, 9), torch.rand(8, 2)
    data = [{"index": torch.arange(8), "image": images, "target": targets}]
    quiet()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches: Any = torch.utils.data.DataLoader(data, batch_size=None)  # type: ignore[arg-type] # a list serves
    trainer.fit(model, batches, batches)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.1)
    nn.functional.mse_loss(alone(images), targets).backward()
    optimizer.step()
    for one, other in zip(model.net.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_outputs_are_single_precision() -> None:
    model = module().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.rand(2, 3, 9, 9)).dtype == torch.float32


def test_seeds_differ_by_purpose() -> None:
    assert len({derive(seed, purpose, epoch) for seed in (0, 1) for purpose in "ab" for epoch in range(50)}) == 200
    assert torch.equal(torch.rand(3, generator=generator(5, "x")), torch.rand(3, generator=generator(5, "x")))
    seed_all(0, "epoch", 1)
    first = torch.rand(3)
    seed_all(0, "epoch", 1)
    assert torch.equal(torch.rand(3), first)


def test_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_precision("cpu") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has_bf16, expected in ((True, "bf16-mixed"), (False, "16-mixed")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has_bf16=has_bf16: has_bf16)
        assert best_precision("auto") == expected
    assert best_precision("cpu") == "32-true"
