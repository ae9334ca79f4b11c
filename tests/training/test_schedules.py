"""One cycle against its formula and a run that was broken off, and schedules as the configuration has them."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError
from galaxyml.training.schedules import one_cycle, warmup_cosine

STEPS = 100


def built(kind: Callable[..., Optimizer] = SGD, rates: tuple[float, ...] = (2.0,), **options: Any) -> Optimizer:
    return kind([{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates], **options)


def momentum(group: dict[str, Any]) -> float:
    momentum_now: float = group["betas"][0] if "betas" in group else group["momentum"]
    return momentum_now


def walked(optimizer: Optimizer, schedule: Any, steps: int) -> list[tuple[float, ...]]:
    """Learning rates of the groups at each step, each group's momentum after its rate."""
    walk = []
    for _ in range(steps):
        walk.append(tuple(value for group in optimizer.param_groups for value in (group["lr"], momentum(group))))
        optimizer.step()
        schedule.step()
    return walk


def between(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


@pytest.mark.parametrize(("kind", "options"), [(SGD, {"momentum": 0.9}), (AdamW, {"betas": (0.9, 0.98)})])
def test_one_cycle_is_two_halves_of_cosines_and_momentum_goes_the_other_way(kind: Any, options: Any) -> None:
    optimizer = built(kind, **options)
    walk = walked(optimizer, one_cycle(optimizer, STEPS, 0.25, 0.1, 1e-3, (0.8, 0.9)), STEPS)
    for step, (rate, inertia) in enumerate(walk):
        if step <= 24:
            expected = between(0.2, 2, step / 24), between(0.9, 0.8, step / 24)
        else:
            expected = between(2, 0.002, (step - 24) / 75), between(0.8, 0.9, (step - 24) / 75)
        assert (rate, inertia) == pytest.approx(expected, rel=1e-9), step
    assert walk[0] == pytest.approx((0.2, 0.9))
    assert walk[24] == pytest.approx((2, 0.8))
    assert walk[99] == pytest.approx((0.002, 0.9))
    assert optimizer.param_groups[0].get("betas", (0, 0.98))[1] == 0.98


def test_one_cycle_as_it_comes_is_torchs() -> None:
    ours, theirs = built(SGD, momentum=0.9), built(SGD, momentum=0.9)
    expected = walked(theirs, OneCycleLR(theirs, 2.0, STEPS), STEPS)
    for one, other in zip(walked(ours, one_cycle(ours, STEPS), STEPS), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_groups_keep_their_ratios() -> None:
    optimizer = built(AdamW, (1e-3, 1e-4, 0.0))
    for first, _, second, _, third, _ in walked(optimizer, one_cycle(optimizer, STEPS), STEPS):
        assert second == pytest.approx(0.1 * first)
        assert third == 0


@pytest.mark.parametrize("total", [3, 7, STEPS])
def test_steps_beyond_the_last_stay_at_the_end(total: int) -> None:
    optimizer = built(SGD, momentum=0.9)
    walk = walked(optimizer, one_cycle(optimizer, total), total + 6)
    end = (pytest.approx(2 * 4e-6), 0.95)
    assert all(step == end for step in walk[total - 1 :])


@pytest.mark.parametrize("total", range(13))
@pytest.mark.parametrize("rise", [0.01, 0.1, 0.25, 0.5, 0.75, 0.99])
def test_short_runs_rise_first_and_never_leave_their_range(total: int, rise: float) -> None:
    # torch's own divides by 0 at a rise of 0.1 of 10 steps.
    optimizer = built(SGD, momentum=0.9)
    rates = [rate for rate, _ in walked(optimizer, one_cycle(optimizer, total, rise), total + 3)]
    assert rates[0] == pytest.approx(0.08)
    assert all(2 * 4e-6 * (1 - 1e-9) <= rate <= 2 * (1 + 1e-9) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top >= min(total, 1)


def test_nothing_may_be_left_at_the_end() -> None:
    optimizer = built(SGD, momentum=0.9)
    assert walked(optimizer, one_cycle(optimizer, 10, final=0), 10)[-1][0] == 0


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        (SGD, {}, "momentum"),
        (RMSprop, {}, "momentum"),
        (Adam, {"betas": (0.0, 0.99)}, "betas"),
        (Adagrad, {}, "lr_decay"),
    ],
)
def test_optimizers_without_momentum_get_none(kind: Any, options: Any, key: str) -> None:
    optimizer = built(kind, **options)
    before = optimizer.param_groups[0][key]
    schedule = one_cycle(optimizer, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[0][key] == before
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(2)


@pytest.mark.parametrize("broken_off", [1, 30, 55, STEPS - 1, STEPS, STEPS + 2])
@pytest.mark.parametrize(("kind", "options"), [(SGD, {"momentum": 0.9}), (AdamW, {})])
def test_a_resumed_cycle_goes_on_as_an_uninterrupted_one(kind: Any, options: Any, broken_off: int) -> None:
    whole, first, second = (built(kind, (2.0, 0.5), **options) for _ in range(3))
    expected = walked(whole, one_cycle(whole, STEPS), STEPS + 5)
    schedule = one_cycle(first, STEPS)
    assert walked(first, schedule, broken_off) == expected[:broken_off]
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "schedule": schedule.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = one_cycle(second, STEPS)
    second.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(saved["schedule"])
    assert walked(second, resumed, STEPS + 5 - broken_off) == expected[broken_off:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rise": 0}, r"schedule\.rise=0: the rise is a fraction of the steps, above 0 and below 1"),
        ({"rise": 1.0}, r"schedule\.rise=1\.0: "),
        ({"rise": math.nan}, r"schedule\.rise=nan: "),
        ({"start": 0}, r"schedule\.start=0: the first learning rate is a fraction of optim\.lr, above 0"),
        ({"start": 25}, r"schedule\.start=25: "),
        ({"final": -1e-3}, r"schedule\.final=-0\.001: the last learning rate is a fraction of optim\.lr, 0 to 1"),
        ({"final": 1e4}, r"schedule\.final=10000\.0: "),
        ({"momentum": [0.9]}, r"schedule\.momentum=\[0\.9\]: give two numbers at least 0 and below 1"),
        ({"momentum": 0.9}, r"schedule\.momentum=0\.9: "),
        ({"momentum": [0.85, 1.0]}, r"schedule\.momentum=\[0\.85, 1\.0\]: "),
        ({"momentum": [-0.1, 0.9]}, r"schedule\.momentum=\[-0\.1, 0\.9\]: "),
    ],
)
def test_cycles_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        one_cycle(built(SGD, momentum=0.9), STEPS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": -0.1}, r"schedule\.warmup=-0\.1: the rise is a fraction of the steps, 0 to 1"),
        ({"warmup": 5}, r"schedule\.warmup=5: "),
        ({"final": -0.1}, r"schedule\.final=-0\.1: the last learning rate is a fraction of optim\.lr, 0 to 1"),
        ({"final": 1.5}, r"schedule\.final=1\.5: "),
    ],
)
def test_cosines_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        warmup_cosine(built(), STEPS, **options)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("total", [0, 1, 2, 10])
def test_cosines_of_short_runs_never_leave_their_range(total: int, warmup: float) -> None:
    optimizer = built(SGD, momentum=0.9)
    rates = [rate for rate, _ in walked(optimizer, warmup_cosine(optimizer, total, warmup), total + 3)]
    assert all(0 <= rate <= 2 for rate in rates)
    assert max(rates) == 2


class Line(lightning.LightningModule):
    """A line that is fitted by Lightning, and keeps the learning rates of its steps."""

    def __init__(self, schedule: Callable[..., Any]) -> None:
        super().__init__()
        self.layer, self.schedule = nn.Linear(2, 1), schedule
        self.rates: list[float] = []

    def training_step(self, batch: Tensor) -> Tensor:
        return self.layer(batch).square().mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.5, momentum=0.9)
        scheduler = self.schedule(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fitted(epochs: int, path: Path, resume: Path | None = None) -> list[float]:
    module = Line(lambda optimizer, total_steps: one_cycle(optimizer, 4 * 5))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
    )
    loader: Any = DataLoader(torch.ones(20, 2), batch_size=4)  # type: ignore[arg-type]
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(path / f"{epochs}.ckpt")
    return module.rates


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on loggers and workers
def test_lightning_takes_the_cycle_to_its_end_and_resumes_it(tmp_path: Path) -> None:
    rates = fitted(4, tmp_path)
    assert len(rates) == 20
    assert rates[0] == pytest.approx(0.02)
    assert rates[5] == max(rates) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(2e-6)
    first = fitted(2, tmp_path)
    assert first == rates[:10]
    assert fitted(4, tmp_path, tmp_path / "2.ckpt") == rates[10:]


def configured(name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose("config", [f"schedule={name}", *overrides]).schedule)


def test_the_configured_schedules_are_those_by_default() -> None:
    for name, default, steps in (("cosine", warmup_cosine, 40), ("one_cycle", one_cycle, 40)):
        ours, theirs = built(SGD, momentum=0.9), built(SGD, momentum=0.9)
        walk = walked(ours, configured(name)(ours, total_steps=steps), steps)
        assert walk == walked(theirs, default(theirs, steps), steps)
    assert configured("constant") is None


def test_keys_of_the_configuration_reach_the_cycle() -> None:
    optimizer = built(SGD, momentum=0.9)
    schedule = configured("one_cycle", "schedule.momentum=[0.5,0.6]", "schedule.start=0.5", "schedule.rise=0.5")
    walk = walked(optimizer, schedule(optimizer, total_steps=20), 20)
    assert walk[0] == (pytest.approx(1), pytest.approx(0.6))
    assert walk[9] == (pytest.approx(2), pytest.approx(0.5))
